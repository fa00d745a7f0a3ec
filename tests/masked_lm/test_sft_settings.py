"""The settings of `sft`: every one is explained, checked, and arrives where it is used."""

import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from trl import SFTConfig

from lit_ft.commands.sft import make_parser, parse
from lit_ft.errors import UserError
from lit_ft.masked_lm.arguments import CAUSAL_ONLY, REQUIRED, training_arguments
from lit_ft.masked_lm.settings import (
    DECIDED,
    SHOWN,
    TRAINER_FIELDS,
    SftSettings,
    all_keys,
    trainer_settings,
    value_of,
)
from lit_ft.settings.arguments import configs_dir, resolve_configs

# Another value than the default for each setting that SFTConfig takes, and what it becomes there.
OTHER = {
    "data.batch_size": (3, 3),
    "data.eval_batch_size": (5, 5),
    "data.num_workers": (2, 2),
    "model.learning_rate": (0.25, 0.25),
    "model.weight_decay": (0.5, 0.5),
    "model.warmup_share": (0.25, 0.25),
    "seed_everything": (7, 7),
    "num_train_epochs": (2.5, 2.5),
    "max_steps": (11, 11),
    "gradient_accumulation_steps": (4, 4),
    "precision": ("bf16-mixed", True),
    "logging_steps": (6, 6),
    "eval_strategy": ("steps", "steps"),
    "eval_steps": (8, 8),
    "eval_on_start": (False, False),
    "save_steps": (9, 9),
    "save_total_limit": (10, 10),
}
# Settings that are no business of SFTConfig: tests/masked_lm/test_sft.py shows what each of them does.
ELSEWHERE = {f"data.{name}" for name in (
    "source subset train_split validation_split train_path validation_path text_column text_separator "
    "column_names pair_column validation_share split_seed group_column unescape strip_html_breaks on_empty "
    "layout max_tokens mask_probability whole_words"
).split()} | {"model.pretrained", "model.allow_pickle", "model.hidden_dropout", "model.attention_dropout"} | {
    "name", "ckpt_path", "probes", "trainer_args", "on_nonfinite", "on_full_disk",
}  # fmt: skip


def arguments(*flags: str) -> SFTConfig:
    settings, _ = parse(list(flags))
    return training_arguments("unused", trainer_settings(settings, resumed=False))


def test_no_setting_is_dropped():
    assert set(all_keys()) == TRAINER_FIELDS.keys() | ELSEWHERE
    assert not TRAINER_FIELDS.keys() & ELSEWHERE
    assert OTHER.keys() == TRAINER_FIELDS.keys()
    before = arguments()
    assert set(TRAINER_FIELDS.values()) <= {f.name for f in fields(SFTConfig)}
    after = arguments(*(f"--{key}={value}" for key, (value, _) in OTHER.items()))
    for key, (_, expected) in OTHER.items():
        name = TRAINER_FIELDS[key]
        assert getattr(after, name) == expected != getattr(before, name), key


def test_every_other_field_of_sft_config_is_reachable():
    """But for those that another setting decides, or that mean nothing to a masked LM."""
    closed = DECIDED.keys() | CAUSAL_ONLY | REQUIRED.keys()
    for field in fields(SFTConfig):
        if not field.init:
            continue
        settings = SftSettings(trainer_args={field.name: "a value"})
        if field.name in closed:
            with pytest.raises(UserError, match=f"trainer_args.{field.name}="):
                training_arguments("unused", trainer_settings(settings, resumed=False))
        else:
            assert trainer_settings(settings, resumed=False)[field.name] == "a value"
    found = arguments("--trainer_args.optim", "adafactor", "--trainer_args", '{"adam_beta1": 0.5}')
    assert found.adam_beta1 == 0.5
    found = arguments("--trainer_args.optim", "adafactor", "--trainer_args.max_grad_norm=0.5")
    assert (found.optim, found.max_grad_norm) == ("adafactor", 0.5)


def test_what_depends_on_other_settings():
    assert trainer_settings(SftSettings(), resumed=False)["eval_on_start"]
    assert not trainer_settings(SftSettings(), resumed=True)["eval_on_start"]
    assert arguments().train_sampling_strategy == "random"
    assert arguments("--data.layout=truncate").train_sampling_strategy == "group_by_length"
    assert not arguments().bf16


def test_values_arrive_in_their_types_and_metrics_under_transformers_name():
    flags = ["--trainer_args.adam_epsilon", "1e-7", "--trainer_args.max_grad_norm", "1"]
    found = arguments(*flags, "--trainer_args.metric_for_best_model", "val/perplexity")
    assert found.adam_epsilon == 1e-7 and found.max_grad_norm == 1.0
    assert (found.metric_for_best_model, found.greater_is_better) == ("eval_perplexity", False)
    found = arguments("--trainer_args.metric_for_best_model", "masked_accuracy")
    assert (found.metric_for_best_model, found.greater_is_better) == ("eval_masked_accuracy", True)


def test_every_setting_is_explained():
    actions = {action.dest: action for action in make_parser()._actions}
    for key in all_keys():
        assert key in actions and len(actions[key].help or "") > 15, key


def test_short_help(lit_ft):
    code, out, _ = lit_ft("sft", "--help")
    explained = re.findall(r"^  --([\w.]+)", out, flags=re.MULTILINE)
    assert code == 0 and set(explained) == {"config", "help_all", *SHOWN} and 25 <= len(SHOWN) <= 30
    assert out.endswith("--help_all explains every setting.\n")
    full = lit_ft("sft", "--help_all")[1]
    assert set(all_keys()) <= set(re.findall(r"^  --([\w.]+)", full, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.batch_siz", "3"], "unknown flag --data.batch_siz; did you mean --data.batch_size?"),
        (["--learning_rate", "3"], "unknown flag --learning_rate; did you mean --model.learning_rate?"),
        (["--data.batch_size", "x"], "data.batch_size: expected a whole number, found 'x'"),
        (["--data.layout", "packed"], "data.layout: expected one of pack, truncate, found 'packed'"),
        (["--eval_strategy", "never"], "eval_strategy: expected one of no, steps, epoch, found 'never'"),
        (["--config", "bare.yaml"], 'found false, as YAML reads a bare no; write it in quotes: "no"'),
        (["--precision", "16"], "precision: expected one of 32-true, bf16-mixed or null, found 16"),
        (["--config", "typo.yaml"], "unknown key data.batch_sise in typo.yaml, line 2; did you mean"),
        (["--data.mask_probability", "2"], "expected data.mask_probability above 0 and below 1, found 2.0"),
        (["--data.batch_size", "0"], "expected data.batch_size of at least 1, found 0"),
        (["--model.attention_dropout", "1"], "expected model.attention_dropout of at least 0 and below 1"),
        (["--max_steps", "0"], "expected max_steps of at least 1, or -1 for no limit, found 0"),
        (["--name", "a/b"], "expected a run name"),
        (["--trainer_args.optimm", "sgd"], "found 'optimm', did you mean 'optim'?"),
        (
            ["--trainer_args.dataloader_multiprocessing_context", "spawn"],
            "trainer settings: multiprocessing_context can only be used with",
        ),
        (
            ["--trainer_args.dataloader_persistent_workers", "true"],
            "persistent_workers option needs num_workers",
        ),
        (["--trainer_args.optim", "sgdd"], "trainer settings: sgdd is not a valid OptimizerNames"),
        (["--trainer_args.learning_rate", "1"], "has a setting of its own; use --model.learning_rate"),
        (["--trainer_args.max_length", "9"], "means nothing to masked-LM training; use --data.max_tokens"),
        (["--trainer_args.max_grad_norm", "abc"], "a number for trainer_args.max_grad_norm, found 'abc'"),
        (["--trainer_args.adam_beta1", "0,9"], "a number for trainer_args.adam_beta1, found '0,9'"),
        (["--trainer_args.bf16_full_eval", "perhaps"], "true or false for trainer_args.bf16_full_eval"),
        (["--trainer_args.adam_beta1", "5"], "trainer settings: Invalid beta parameter at index 0: 5"),
        (["--trainer_args.push_to_hub", "true"], "trainer_args.push_to_hub: nothing is sent anywhere"),
        (
            ["--trainer_args.hub_token", "hf_secret"],
            "trainer_args.hub_token: found a secret, which config.yaml",
        ),
        (["--trainer_args.deepspeed", "nope.json"], "remove trainer_args.deepspeed='nope.json'"),
        (["--trainer_args.optim", "adamw_bnb_8bit"], "change or remove trainer_args.optim='adamw_bnb_8bit'"),
        (["--trainer_args.lr_scheduler_kwargs", '{"min_lr": 1}'], "unexpected keyword argument 'min_lr'"),
        (["--trainer_args.metric_for_best_model", "val/accuracy"], "val/loss, val/masked_accuracy, val/perp"),
        (["--trainer_args.overwrite_output_dir", "true"], "every run has a folder of its own"),
    ],
)
def test_mistakes_are_one_line(flags, message, lit_ft, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("typo.yaml").write_text("data:\n  batch_sise: 3\n")
    Path("bare.yaml").write_text("eval_strategy: no\n")
    Path("own.yaml").write_text("data:\n  source: sample\n")
    code, _, err = lit_ft("sft", "--config", "own.yaml", *flags)
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert not Path("runs").exists()


def test_flags_win_over_files_and_later_files_over_earlier_ones(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("data: {max_tokens: 10, batch_size: 10}\nmax_steps: 10\n")
    two.write_text("data: {max_tokens: 20}\nmax_steps: 20\n")
    args = ["--max_steps", "30", "--config", str(one), "--config", str(two)]
    settings, resolved = parse(resolve_configs("sft", args))
    assert (settings.data.batch_size, settings.data.max_tokens, settings.max_steps) == (10, 20, 30)
    assert settings.name == "one"
    again = tmp_path / "again.yaml"
    again.write_text(resolved)
    assert parse(["--config", str(again)]) == (settings, resolved)


def test_the_packaged_configs(capsys):
    shipped = [p for p in configs_dir().glob("*.yaml") if "num_train_epochs" in p.read_text()]
    assert {p.name for p in shipped} == {"imdb.yaml", "imdb_local.yaml", "sample_sft.yaml"}
    for path in shipped:
        settings, _ = parse(["--config", str(path)])
        assert settings.probes and "python -m lit_ft sft" in path.read_text()
        lines = path.read_text().splitlines()
        assert lines[0].startswith("#") and max(map(len, lines)) <= 110
    course, _ = parse(["--config", str(configs_dir() / "imdb.yaml")])
    expected = {  # what the course's TrainingArguments say, under our names
        "data.source": "stanfordnlp/imdb",
        "data.train_split": "train",
        "data.text_column": "text",
        "data.batch_size": 2,
        "data.strip_html_breaks": True,
        "model.pretrained": "bert-base-cased",
        "model.learning_rate": 5e-5,
        "model.weight_decay": 0.0,
        "model.warmup_share": 0.0,
        "num_train_epochs": 1,
        "save_total_limit": 2,
        "logging_steps": 20,
        "eval_strategy": "no",
        "eval_on_start": False,
    }
    assert {key: value_of(course, key) for key in expected} == expected


def test_help_and_print_config_need_no_torch():
    code = (
        "import sys; from lit_ft.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ex: assert ex.code == 0\n"
        "assert not {'torch', 'transformers', 'datasets', 'lightning', 'numpy'} & set(sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    for args in (["--help"], ["--config", "imdb", "--max_steps=3", "--print_config"]):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, "sft", *args], capture_output=True, text=True, cwd=root
        )
        assert done.returncode == 0, done.stderr
        assert time.perf_counter() - start < 3  # 0.2 s on an idle machine
        assert "--data.mask_probability" in done.stdout or yaml.safe_load(done.stdout)["max_steps"] == 3
