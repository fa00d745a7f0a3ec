"""Every line that a wrong key, value or config file ends in, through a real LightningCLI."""

from pathlib import Path
from typing import Literal

import pytest
from jsonargparse import ArgumentParser
from jsonargparse.typing import ClosedUnitInterval
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lit_ft.errors import UserError
from lit_ft.settings.config_file import read_config
from lit_ft.settings.keys import type_words
from lit_ft.settings.parser import OneLineErrors


class Data(LightningDataModule):
    def __init__(
        self,
        batch_size: int = 32,
        truncation: Literal["head", "tail", "head_tail"] = "head",
        label_names: list[str] | None = None,
        validation_share: float | None = None,
        clean: bool = False,
        max_tokens: int | None = 256,
        hub_token: int | None = None,
    ) -> None:
        super().__init__()


class Model(LightningModule):
    def __init__(self, pretrained: str = "tiny", lr: float = 5e-4) -> None:
        super().__init__()


class NeedsPretrained(LightningModule):
    def __init__(self, pretrained: str) -> None:
        super().__init__()


class Parser(OneLineErrors, LightningArgumentParser):
    pass


class NoRun(Trainer):
    def fit(
        self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None
    ) -> None:
        """Fits a model."""


class CLI(LightningCLI):
    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        return {"fit": {"model", "datamodule"}}


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Returns a function: the line that `fit ARGS` ends in, with `yaml` as a.yaml and read as a config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit_ft"])

    def run(*args: str, yaml: str | bytes | None = None, model: type[LightningModule] = Model) -> str:
        if yaml is not None:
            Path("a.yaml").write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())
            args = ("--config", "a.yaml", *args)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            CLI(model, Data, trainer_class=NoRun, parser_class=Parser, args=["fit", *args])
        out, err = capfd.readouterr()
        assert stop.value.code == 2 and out == ""
        assert err.startswith("lit_ft: error: ") and err.count("\n") == 1, err
        return err.removeprefix("lit_ft: error: ").rstrip("\n")

    return run


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ("--modle.lr 3", "unknown flag --modle.lr; did you mean --model.lr?"),
        ("--data.bach_size=3", "unknown flag --data.bach_size; did you mean --data.batch_size?"),
        ("--lr 3", "unknown flag --lr; did you mean --model.lr?"),
        ("--data.lr 3", "unknown flag --data.lr; did you mean --model.lr?"),
        ("--trainer.max_epoch 3", "unknown flag --trainer.max_epoch; did you mean --trainer.max_epochs?"),
        ("--model.zzzz 3", "unknown flag --model.zzzz; the keys there are model.pretrained, model.lr"),
        ("data.batch_size=3", "unexpected argument 'data.batch_size=3'; write --data.batch_size=3"),
        ("extra", "unexpected argument 'extra'; settings are written --key=value"),
        ("--data.hub_tokn hf_1234", "unknown flag --data.hub_tokn; did you mean --data.hub_token?"),
        ("--data.batch_size forty", "data.batch_size: expected a whole number, found 'forty'"),
        ("--data.batch_size 3.5", "data.batch_size: expected a whole number, found 3.5"),
        ("--data.truncation hed", "data.truncation: expected one of head, tail, head_tail, found 'hed'"),
        ("--data.validation_share abc", "data.validation_share: expected a number or null, found 'abc'"),
        ("--data.clean maybe", "data.clean: expected true or false, found 'maybe'"),
        ("--data.label_names 3", "data.label_names: expected a list of texts or null, found 3"),
        (
            "--data.hub_token hf_1234",
            "data.hub_token: expected a whole number or null, found a value that is not shown",
        ),
        ("--data.max_tokens x", "data.max_tokens: expected a whole number or null, found 'x'"),
        ("--data 3", "data: expected settings or a YAML file, found 3"),
        ("--model.lr", "model.lr: expected a number, found none (write --model.lr=VALUE)"),
        ("--model.lr -1e-3", "model.lr: expected a number, found none (write --model.lr=VALUE)"),
        (
            "--trainer.callbacks=EarlyStopping --trainer.callbacks.monitr=x",
            "unknown flag --trainer.callbacks.monitr; did you mean --trainer.callbacks.monitor?",
        ),
        (
            "--trainer.callbacks=EarlyStoppin",
            "trainer.callbacks: there is no Callback 'EarlyStoppin'; did you mean EarlyStopping?",
        ),
        (
            "--trainer.callbacks.monitor=x",
            "trainer.callbacks: found settings without a class; name it first: --trainer.callbacks=NAME, ",
        ),
        (
            "--trainer.callbacks=no_such_module.Mine",
            "trainer.callbacks: no_such_module.Mine: No module named 'no_such_module'",
        ),
        (
            "--trainer.logger=CSVLogger",
            "trainer.logger.save_dir: expected a value, found none; set it below init_args or as a flag",
        ),
        (
            "--data.label_names=[no,yes]",
            "data.label_names: expected a list of texts or null, found no, which YAML reads as false; "
            "write it in quotes: 'no'",
        ),
        (
            "--data.max_tokens 010",
            "data.max_tokens: found 010, which YAML reads as 8; write 8 or the number that was meant, "
            "or '010' for a text",
        ),
    ],
)
def test_flags(fit, args: str, line: str) -> None:
    found = fit(*args.split())
    assert found.startswith(line) if line.endswith(" ") else found == line
    assert "hf_1234" not in found


@pytest.mark.parametrize(
    ("yaml", "line"),
    [
        (
            "data:\n  bach_size: 3",
            "unknown key data.bach_size in a.yaml, line 2; did you mean data.batch_size?",
        ),
        (
            "dta:\n  batch_size: 3",
            "unknown key dta.batch_size in a.yaml, line 2; did you mean data.batch_size?",
        ),
        (
            "trainer:\n  max_epoch: 3",
            "unknown key trainer.max_epoch in a.yaml, line 2; did you mean trainer.max_epochs?",
        ),
        (
            "trainer:\n  logger:\n    class_path: TensorBoardLogger\n    init_args:\n      save_dirr: x",
            "unknown key trainer.logger.save_dirr in a.yaml, line 5; did you mean trainer.logger.save_dir?",
        ),
        (
            "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args:\n"
            "      monitor: x\n      patience: abc",
            "trainer.callbacks.patience: expected a whole number, found 'abc' (a.yaml, line 6)",
        ),
        (
            "trainer:\n  callbacks:\n  - class_path: pytorch_lightning.callbacks.EarlyStopping",
            "trainer.callbacks: found pytorch_lightning.callbacks.EarlyStopping, which is from another "
            "package than the one in use; write lightning.pytorch.callbacks.EarlyStopping (a.yaml, line 2)",
        ),
        (
            "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    monitor: x",
            "trainer.callbacks: the settings of a class go below init_args: {class_path: EarlyStopping, "
            "init_args: {monitor: val/loss}} (a.yaml, line 2)",
        ),
        (
            "trainer:\n  callbacks:\n  - class_path: json.JSONDecoder",
            "trainer.callbacks: expected a Callback, found json.JSONDecoder, which is not one "
            "(a.yaml, line 2)",
        ),
        (
            "trainer:\n  callbacks: [EarlyStopping]",
            "trainer.callbacks.monitor: expected a value, found none; set it below init_args or as a flag "
            "(a.yaml, line 2)",
        ),
        *[
            (
                f"data:\n  label_names: [a, {written}]",
                f"data.label_names: expected a list of texts or null, found {written}{reads}; "
                f"write it in quotes: '{written}' (a.yaml, line 2)",
            )
            for written, reads in {
                "no": ", which YAML reads as false",
                "On": ", which YAML reads as true",
                "2024": "",
                "1.50": ", which YAML reads as 1.5",
                "~": ", which YAML reads as null",
                "1e5": "",
                "12:30": ", which YAML reads as 750",
                "010": ", which YAML reads as 8",
            }.items()
        ],
        (
            "data:\n  label_names: yes",
            "data.label_names: expected a list of texts or null, found 'yes' (a.yaml, line 2)",
        ),
        (
            "model:\n  lr: 1:30",
            "model.lr: found 1:30, which YAML reads as 90; write 90 or the number that was meant, or "
            "'1:30' for a text (a.yaml, line 2)",
        ),
        (
            "data:\n  batch_size: forty",
            "data.batch_size: expected a whole number, found 'forty' (a.yaml, line 2)",
        ),
        (
            "data:\n  hub_token: hf_12",
            "data.hub_token: expected a whole number or null, found a value that is not shown",
        ),
        (
            "data:\n\tbatch_size: 3",
            "a.yaml, line 2: not valid YAML: found character '\\t' that cannot start any token",
        ),
        ("data:\n  batch_size: 3\n bad: 3", "a.yaml, line 3: not valid YAML: "),
        ("data:\n  clean: !foo 3", "not valid YAML: could not determine a constructor for the tag '!foo'"),
        ("data:\n  clean: true\n  clean: false", "a.yaml, line 3: 'clean' is given twice (also in line 2)"),
        (bytes(range(256)), "a.yaml: expected a YAML file, found bytes that are not UTF-8 text"),
        ("data: \x01", "a.yaml: not valid YAML: unacceptable character #x0001"),
        ("", "a.yaml: expected settings such as 'data:', found an empty file"),
        ("# only a comment", "a.yaml: expected settings such as 'data:', found an empty file"),
        ("- 1\n- 2", "a.yaml: expected a mapping of settings such as 'data:', found a list"),
        ("hello", "a.yaml: expected a mapping of settings such as 'data:', found only 'hello'"),
        ("data: 3", "a.yaml, line 1: expected settings indented below 'data:', found 3"),
        (
            "model:\n  lr: 1\ndata:\n",
            "a.yaml, line 3: expected settings indented below 'data:', found nothing",
        ),
        ("config: b.yaml", "a.yaml, line 1: a config names no further config; give --config several times"),
        ("data:\n- 1", "a.yaml, line 1: expected settings indented below 'data:', found a list"),
    ],
)
def test_config_files(fit, yaml: str | bytes, line: str) -> None:
    found = fit(yaml=yaml)
    assert found.startswith(line)
    assert "hf_12" not in found and "<unicode string>" not in found


def test_a_wrong_flag_is_not_blamed_on_the_file(fit) -> None:
    assert fit("--data.batch_size=x", yaml="data:\n  batch_size: 3") == (
        "data.batch_size: expected a whole number, found 'x'"
    )


def test_missing_required_setting(fit) -> None:
    assert fit(model=NeedsPretrained) == (
        "expected a value for model.pretrained, found none; set --model.pretrained=VALUE"
    )


def test_a_right_command_line_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that fits only the second member of a Union, anchors, a list with repeated keys."""
    monkeypatch.setattr("sys.argv", ["lit_ft"])
    config = tmp_path / "ok.yaml"
    config.write_text(
        "data: &data\n  batch_size: 4\n  max_tokens: null\n"
        "trainer:\n  logger: false\n  callbacks:\n"
        "  - class_path: EarlyStopping\n    init_args: {monitor: a}\n"
        "  - class_path: EarlyStopping\n    init_args: {monitor: b}\n"
    )
    args = ["fit", "--config", str(config), "--data.batch_size", "8", "--model.lr=-1e-3"]
    cli = CLI(Model, Data, trainer_class=NoRun, parser_class=Parser, args=args)
    assert cli.config.fit.data.batch_size == 8 and cli.config.fit.data.max_tokens is None
    assert [c.init_args.monitor for c in cli.config.fit.trainer.callbacks] == ["a", "b"]
    assert cli.config.fit.model.lr == -1e-3


def test_plain_argument_parser(capfd: pytest.CaptureFixture[str]) -> None:
    class SftParser(OneLineErrors, ArgumentParser):
        pass

    parser = SftParser()
    parser.add_class_arguments(Data, "data")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--data.max_tok", "3"])
    assert capfd.readouterr().err == (
        "lit_ft: error: unknown flag --data.max_tok; did you mean --data.max_tokens?\n"
    )
    with pytest.raises(SystemExit, match="2"):
        parser.parse_object({"data": {"max_tok": 3}})  # as from a checkpoint: no flag, no file
    assert "unknown key data.max_tok; did you mean data.max_tokens?" in capfd.readouterr().err


def test_type_words() -> None:
    assert type_words(int | None) == "a whole number or null"
    assert type_words(list[float] | Literal["balanced"] | str) == "a list of numbers, text or balanced"
    assert type_words(dict[str, int]) == "a mapping"
    assert type_words(ClosedUnitInterval) == "a number ≥0 and ≤1"
    assert type_words(bool | int) == "true or false or a whole number"


def test_lines_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a:\n  b: 1\n  c:\n  - d: 2\n  - d: 3\n  e:\n    init_args:\n      f: 1\n")
    assert read_config(str(path)).lines == {"a": 1, "a.b": 2, "a.c": 3, "a.c.d": 0, "a.e": 6, "a.e.f": 8}
    path.write_text("---\na: 1\n---\nb: 1\n")
    with pytest.raises(UserError, match="line 3: not valid YAML: but found another document"):
        read_config(str(path))
