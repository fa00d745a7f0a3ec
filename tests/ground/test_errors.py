"""A mistake of the user's: one clear line with the value, exit code 2, and nothing left behind."""

import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import one_line, review, run_cli, with_a_flipped_bit, write_csv

from lit_ft.errors import as_written, shorten


def test_a_value_that_would_not_be_seen_is_in_quotes():
    written = [as_written(value) for value in ("\n", " / ", "", "plain", 3, None)]
    assert written == ["'\\n'", "' / '", "''", "plain", "3", "None"]


ROWS = [(i % 5 + 1, review(i % 5 + 1, i // 5)) for i in range(20)]


def lines_of(*rows: str) -> bytes:
    return "\n".join(rows).encode() + b"\n"


FILES = {
    "empty.csv": b"",
    "header.csv": b"label,text\n",
    "latin.csv": "label,text\n1,caf\xe9\n2,x\n".encode("latin-1"),
    "broken.jsonl": lines_of(
        '{"label": 1, "text": "a"}', '{"label": 2, "text": "b', '{"label": 3, "text": "c"}'
    ),
    "columns.csv": lines_of("stars,body", "1,a", "2,b"),
    "missing.csv": lines_of("label,text", "1,a", ",b", "2,c"),
    "mixed.csv": lines_of("label,text", "1,a", "good,b", "2,c"),
    "half.csv": lines_of("label,text", "1,a", "3.5,b", "2,c"),
    "one.csv": lines_of("label,text", "4,a", "4,b", "4,c"),
    "blank.csv": lines_of("label,text", "1,a", "2,", "3,   "),
    "ragged.csv": lines_of("label,text", "1,a", "2,b,c"),
    "reviews.xlsx": b"PK",
}
WRONG_DATA = [
    ("nowhere.csv", [], "nowhere.csv"),
    ("empty.csv", [], "empty"),
    ("header.csv", [], "header.csv"),
    ("latin.csv", [], "UTF-8"),
    ("broken.jsonl", [], "line 2"),
    ("columns.csv", [], "set --data.label_column=stars --data.text_column=body"),
    ("missing.csv", [], "row 2"),
    ("mixed.csv", [], "'good' in row 2"),
    ("half.csv", [], "3.5"),
    ("one.csv", [], "4"),
    ("blank.csv", ["--data.on_empty", "stop"], "row 2"),
    ("ragged.csv", [], "line 3"),
    ("reviews.xlsx", [], ".xlsx"),
    ("*.nothing", [], "*.nothing"),
]


@pytest.mark.parametrize("name, flags, message", WRONG_DATA, ids=[name for name, *_ in WRONG_DATA])
def test_training_data(name, flags, message, lit_ft, fit_args, work):
    if name in FILES:
        (work / name).write_bytes(FILES[name])
    line = one_line(lit_ft("fit", *fit_args, "--data.train_path", name, *flags))
    assert message in line and len(line) < 400
    assert not Path("runs").exists()


def test_labels_that_only_validation_has(lit_ft, fit_args, work):
    write_csv(work / "validation.csv", [*ROWS[:6], (9, "unseen")])
    line = one_line(lit_ft("fit", *fit_args, "--data.validation_path", "validation.csv"))
    assert "9" in line and "row 7" in line and "validation.csv" in line
    assert not Path("runs").exists()


def test_label_base_above_a_label(lit_ft, fit_args):
    assert "--data.label_base=1" in one_line(lit_ft("fit", *fit_args, "--data.label_base", "2"))


SETTINGS = [
    (["--data.max_tokens", "65"], "at most 64"),
    (["--data.max_tokens", "2"], "found 2"),
    (["--data.batch_size", "0"], "data.batch_size of at least 1, found 0"),
    (["--data.token_budget", "63"], "data.token_budget of at least 64 (data.max_tokens), found 63: "),
    (
        ["--data.token_budget", "64", "--data.group_by_length", "false"],
        "set --data.group_by_length=true, or --data.token_budget=null",
    ),
    (["--data.batch_size", "forty"], "data.batch_size: expected a whole number, found 'forty'"),
    (["--data.truncation", "hed"], "head_tail"),
    (["--data.n_trian", "3"], "data.n_trian"),
    (["--model.learning_rat", "1"], "model.learning_rate"),
    (["--trainer.max_epoch", "3"], "trainer.max_epochs"),
    (["--modle.learning_rate", "1"], "model.learning_rate"),
    (["--model.hidden_dropout", "1.5"], "found 1.5"),
    (["--model.pretrained", "./no_such_folder"], "./no_such_folder"),
    (["--model.class_weights", "[1, 2]"], "found 2: [1"),
    (["--monitor", "val/acuracy"], "'val/acuracy'"),
    (["--name", "../up"], "'../up'"),
    (["--trainer.devices", "x"], "found x; set --trainer.devices=1"),
    (["--trainer.accelerator", "warp"], "warp"),
    (["--trainer.max_epochs", "-1"], "set --trainer.max_epochs"),
    (["--config", "yelpp.yaml"], "did you mean yelp.yaml"),
    (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
    (["--trainer.val_check_interval", "50"], "at most 10, the batches of an epoch, found 50"),
    (["--seed_everything", "-1"], "found -1"),
    (["--trainer.max_epochs", "0"], "--trainer.max_epochs above 0, found 0"),
    (["--trainer.max_steps", "0"], "--trainer.max_steps above 0, found 0"),
    (["--trainer.limit_train_batches", "0"], "--trainer.limit_train_batches above 0, found 0"),
    (["--trainer.limit_train_batches", "0.05"], "leaves a batch, found 0.05"),
    (["--trainer.accumulate_grad_batches", "0"], "--trainer.accumulate_grad_batches above 0, found 0"),
    (["--trainer.val_check_interval", "00:00:00:05"], "found a time"),
    (["--model.learning_rate", ".inf"], "model.learning_rate of at least 0, and finite, found inf"),
    (["data.batch_size=3"], "write --data.batch_size=3"),
    (["--modle.lr", "3"], "did you mean --model.learning_rate?"),
    (["--modle.zzz", "3"], "the keys there are model.pretrained, model.allow_pickle, model.learning_rate"),
    (
        ["--data.label_names", '["bad", "so", "good"]'],
        "labels 1 to 3 in train.csv, one for each of the 3 names",
    ),
    (["--data.split_seed", "-1"], "data.split_seed of at least 0, found -1"),
    (["--trainer.devices", "90", "--trainer.accelerator", "cpu"], "found 80"),
]


@pytest.mark.parametrize("flags, message", SETTINGS, ids=["=".join(flags[:2]) for flags, _ in SETTINGS])
def test_settings(flags, message, lit_ft, fit_args):
    assert message in one_line(lit_ft("fit", *fit_args, *flags))
    assert not Path("runs").exists()


CONFIGS = [
    ("data: [1,\n  2", "line 2"),
    ("data:\n\tbatch_size: 3\n", "line 2"),
    ("data:\n  bach_size: 3\n", "data.batch_size"),
    ("data:\n  batch_size: many\n", "found 'many'"),
    ("- 1\n- 2\n", "a list"),
    ("", "empty"),
    ("trainer:\n  max_epoch: 3\n", "trainer.max_epochs"),
    ("trainr:\n  max_epochs: 3\n", "trainer"),
    ("data:\n  batch_size: !!float x\n", "not valid YAML: could not convert string to float: 'x'"),
    (
        "data:\n  max_tokens: null\n",
        "data.max_tokens: expected a whole number, found null (mine.yaml, line 2)",
    ),
    ("config: {data: 3}\n", "line 1: a config names no further config"),
    ("data: &a\n  source: *a\n", "an anchor (&) inside itself"),
    ("a: " + "[" * 5000, "nested deeper than can be read"),
]


@pytest.mark.parametrize("text, message", CONFIGS)
def test_config_files(text, message, lit_ft, fit_args):
    Path("mine.yaml").write_text(text)
    line = one_line(lit_ft("fit", *fit_args, "--config", "mine.yaml"))
    assert "mine.yaml" in line and message in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_no_run_to_evaluate(command, lit_ft, fit_args):
    line = one_line(lit_ft(command, *fit_args, "--ckpt_path", "last"))
    assert "runs/small" in line and "--ckpt_path" in line
    assert not Path("runs").exists()


@pytest.fixture
def checkpoint(lit_ft, fit_args) -> Path:
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    return Path("runs/small/version_0/checkpoints/best.ckpt")


def test_checkpoints_that_cannot_be_used(checkpoint, lit_ft, fit_args):
    import torch

    whole = checkpoint.read_bytes()
    Path("cut.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("flipped.ckpt").write_bytes(with_a_flipped_bit(checkpoint))
    torch.save({"state_dict": {}}, "foreign.ckpt")
    Path("text.ckpt").write_text("hello")
    found = {
        name: one_line(lit_ft("test", *fit_args, "--ckpt_path", f"{name}.ckpt"))
        for name in ("cut", "flipped", "foreign", "text", "nowhere")
    }
    assert "cut off" in found["cut"] and "damaged" in found["flipped"]
    assert "not a checkpoint of a lit_ft classifier" in found["foreign"]
    assert all(f"{name}.ckpt" in line for name, line in found.items())
    shutil.copytree("runs", "before")
    assert {p.name for p in Path("runs/small").iterdir()} == {"version_0"}


def test_a_folder_is_no_checkpoint(lit_ft, fit_args, encoder):
    line = one_line(lit_ft("test", *fit_args, "--ckpt_path", str(encoder)))
    assert f"found the folder {encoder} (--model.pretrained={encoder} starts a fit" in line
    line = one_line(lit_ft("test", *fit_args, "--ckpt_path", "."))
    assert "found the folder .; set --ckpt_path to best, last" in line


@pytest.mark.parametrize("folder", ["/proc/x", "train.csv"])
def test_cache_folder_that_cannot_be(folder, lit_ft, fit_args, monkeypatch):
    monkeypatch.setenv("LIT_FT_CACHE", folder)
    line = one_line(lit_ft("fit", *fit_args))
    assert f"expected a writable cache folder, found {folder}" in line and "LIT_FT_CACHE" in line
    assert not Path("runs").exists()


def test_own_texts_with_the_sample_encoder_are_warned_of(lit_ft, work):
    args = [
        "--data.train_path",
        "train.csv",
        "--trainer.fast_dev_run",
        "true",
        "--trainer.accelerator",
        "cpu",
    ]
    said = "warning: training `sample`, a tiny BERT with untrained weights"
    assert said in lit_ft("fit", "--config", "yelp_local.yaml", *args)[2]
    assert said not in lit_ft("fit", "--config", "yelp_local.yaml", *args, "--model.pretrained", "sample")[2]


def test_own_data_and_model_without_a_config(encoder, lit_ft, work):
    """The constructors' settings, not those of the embedded reviews; the later commands find the run."""
    flags = ["--model.pretrained", str(encoder), "--data.train_path", "train.csv", "--data.max_tokens", "64"]
    quick = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    code, _, err = lit_ft("fit", *flags, *quick)
    assert code == 0 and err.count("no --config given: your own data or model with the defaults") == 1
    config = yaml.safe_load(Path("runs/default/version_0/config.yaml").read_text())
    assert (config["model"]["learning_rate"], config["data"]["batch_size"]) == (5e-5, 32)
    assert config["trainer"]["gradient_clip_val"] is None and config["data"]["validation_share"] == 0.05
    assert lit_ft("test", "--data.test_path", "test.csv")[0] == 0
    assert lit_ft("predict", "--data.predict_path", "test.csv")[0] == 0
    assert "test/accuracy" in json.loads(Path("runs/default/version_0/metrics.json").read_text())
    assert "set --data.train_path" in one_line_after_notice(lit_ft("fit", *flags[:2], *flags[4:]))
    said = "warning: training `sample`, a tiny BERT with untrained weights"
    own = ["--data.train_path", "train.csv"]
    assert said in lit_ft("fit", *own, "--trainer.fast_dev_run", "true", *quick)[2]
    err = lit_ft("sft", *own, "--max_steps", "1", "--data.max_tokens", "32")[2]
    assert said in err and "not with imdb.yaml's settings" in err
    said = "warning: counting the tokens of `sample`"
    assert said in lit_ft("check", *own)[2]


def one_line_after_notice(result: tuple[int, str, str]) -> str:
    code, out, err = result
    notice, line = err.split("\n", 1)
    assert notice.startswith("lit_ft: no --config given")
    return one_line((code, out, line))


def test_a_checkpoint_of_another_model(checkpoint, lit_ft, fit_args, encoder):
    other = Path("other")
    shutil.copytree(encoder, other)
    line = one_line(
        lit_ft("test", *fit_args, "--model.pretrained", "./other", "--ckpt_path", str(checkpoint))
    )
    assert "another model" in line and "'./other'" in line
    line = one_line(lit_ft("predict", *fit_args, "--ckpt_path", "best"))
    assert "--data.predict_path" in line


def test_settings_that_a_checkpoint_decides(checkpoint, lit_ft, fit_args):
    names = '["a", "b", "c", "d", "e"]'
    assert "--data.label_names" in one_line(lit_ft("test", *fit_args, "--data.label_names", names))
    assert "--data.KEY=VALUE" in one_line(lit_ft("test", *fit_args, "--data", '{"max_tokens": 12}'))
    flags = ["--data.predict_path", "test.csv"]
    line = one_line(lit_ft("predict", *fit_args, *flags, "--trainer.limit_predict_batches", "1"))
    assert "limit_predict_batches" in line


def test_outputs_that_cannot_be(checkpoint, lit_ft, fit_args):
    flags = ["predict", *fit_args, "--data.predict_path", "test.csv", "--data.predict_output"]
    before = Path("test.csv").read_bytes()
    assert "is the input file" in one_line(lit_ft(*flags, "test.csv"))
    assert "test.csv is a file" in one_line(lit_ft(*flags, "test.csv/out.csv"))
    assert "the folder runs" in one_line(lit_ft(*flags, "runs"))
    os.mkfifo("pipe")
    assert "found the device or pipe pipe" in one_line(lit_ft(*flags, "pipe"))
    assert Path("test.csv").read_bytes() == before


def test_labels_of_the_test_file_are_held_to_the_checkpoints(checkpoint, lit_ft, fit_args):
    write_csv(Path("strange.csv"), [(1, "a"), (7, "b")])
    line = one_line(lit_ft("test", *fit_args, "--data.test_path", "strange.csv"))
    assert "7" in line and "row 2" in line
    assert "test/accuracy" not in json.loads(Path("runs/small/version_0/metrics.json").read_text())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(lit_ft, fit_args, work):
    Path("runs").mkdir(mode=0o500)
    assert "runs" in one_line(lit_ft("fit", *fit_args))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk(checkpoint, lit_ft, fit_args, monkeypatch):
    """Writing predictions to a full disk: one line, and no half file under the final name."""
    import lit_ft.classifier.predictions as predictions

    monkeypatch.setattr(predictions.PredictionWriter, "_part", lambda self, rank: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        flags = ["--data.predict_path", "test.csv", "--data.predict_output", name]
        assert "No space left" in one_line(lit_ft("predict", *fit_args, *flags))
        assert not Path(name).exists()


@pytest.mark.slow
def test_yelp_without_network_ends_within_ten_seconds(tmp_path):
    """The real command: no offline switch set, and an endpoint at which nobody listens."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run_cli(
        "fit", "--config", "yelp.yaml", cwd=tmp_path,
        HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "hub"),
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "--config sample.yaml" in result.stderr
    assert "127.0.0.1:9" in result.stderr
    assert not (tmp_path / "runs").exists()
    # Processor time, which another job on the machine does not stretch; waiting is the probe's 2 s at most.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 10


@pytest.mark.parametrize(
    "text, kept",
    [
        ("\u9152\u5e97\u5f88\u597d" * 3, "\u9152\u5e97\u5f88\u597d" * 2),
        ("\u304b\u3099" * 8, "\u304b\u3099" * 4),  # kana with a voiced mark of its own
        ("abcdef\u0e19\u0e49\u0e33 more", "abcdef"),  # Thai: a tone mark, and AM, which is a letter
        ("abcdef\u1793\u17d2\u1791 more", "abcdef"),  # Khmer: a letter below a letter
        ("abcde\U0001f469\u200d\U0001f680\U0001f3fd more", "abcde"),  # an emoji of several
        ("e" + "\u0301" * 50, "e" + "\u0301" * 7),  # no writing
        ("cafe latte e altro", "cafe lat"),
    ],
)
def test_a_text_is_shortened_between_characters_that_are_seen(text, kept):
    assert shorten(text, 11) == kept + "..."
    assert shorten(text, 99) == text
