"""What an `sft` run leaves and says: the real command line on a tiny BERT without a masked-LM head."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from conftest import lasting, write_csv
from fresh import run_fresh
from mlm_tiny import build, texts
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_ft.masked_lm.candidates import fill_probes, table_of
from lit_ft.reliability import checkpoints as save_clock

RUN = Path("runs/small/version_0")
FIGURES = {"loss", "masked_accuracy", "perplexity"}


@pytest.fixture
def done(lit_ft, sft_args) -> str:
    code, out, err = lit_ft("sft", *sft_args)
    assert code == 0, err
    return out


def metrics(run: Path = RUN) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_exact_set_of_files(done):
    files = {str(p.relative_to(RUN)) for p in RUN.rglob("*") if p.is_file()}
    events = {f for f in files if f.startswith("events.out.tfevents")}
    assert len(events) == 1
    weights = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    state = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"}
    state.add("checksums.json")
    assert files - events == {
        "config.yaml",
        "metrics.json",
        "loss.png",
        "report.html",
        "report.json",
        *(f"model/{name}" for name in weights | {"README.md"}),
        *(f"checkpoints/checkpoint-20/{name}" for name in weights | state),
    }
    assert {path.stat().st_mode for path in (RUN / "model").iterdir()} == {
        (RUN / "config.yaml").stat().st_mode
    }
    assert (RUN / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((RUN / "model/config.json").read_text())["architectures"] == ["BertForMaskedLM"]


def test_learns_and_says_so(done):
    found = metrics()
    assert {f"val/{name}" for name in FIGURES} | {f"initial/{name}" for name in FIGURES} < found.keys()
    assert found["val/loss"] < 0.75 * found["initial/loss"] and found["step"] == 20
    assert f"val/perplexity       {found['val/perplexity']:.4f}   (before: " in done
    assert "validation: 24 texts held out of train (data.validation_share=0.2)" in done
    assert f"run: {RUN} (" in done and f"model:  {RUN / 'model'}\n" in done
    assert "lacks 6 weights of the masked-LM head" not in done  # that is a warning: on standard error
    lines = done.splitlines()
    start = lines.index("the [MASK] was great!")
    assert [line.startswith("Predicted token: ") for line in lines[start + 1 : start + 6]] == [True] * 5
    assert "[MASK] 1 of 2:" in lines[start + 6 :]


def test_tensorboard_holds_the_curves_and_the_probes(done):
    board = EventAccumulator(str(RUN))
    board.Reload()
    scalars = set(board.Tags()["scalars"])
    assert {f"{split}/{name}" for split in ("train", "val") for name in FIGURES} <= scalars
    assert {
        "train/learning_rate",
        "train/grad_norm",
        "train/tokens_seen",
        "train/tokens_per_second",
    } <= scalars
    assert all(tag.startswith(("train/", "val/")) for tag in scalars)
    assert [point.step for point in board.Scalars("val/loss")] == [0, 20]  # before and after
    assert [point.step for point in board.Scalars("train/loss")] == [5, 10, 15, 20]
    tags = sorted(tag for tag in board.Tags()["tensors"] if tag.startswith("probes/"))
    assert [tag.partition("/text_summary")[0] for tag in tags] == [
        "probes/1_the_MASK_was_great",
        "probes/2_the_plot_was_MASK_and_i_MASK_it",
    ]
    tables = [event.tensor_proto.string_val[0].decode() for event in board.Tensors(tags[1])]
    assert len(tables) == 2  # one an evaluation
    assert "| [MASK] 1 | [MASK] 2 |\n| --- | --- |\n| " in tables[0] and tables[0] != tables[1]


def test_config_yaml_is_the_run(done, lit_ft):
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["data"]["batch_size"] == 8 and config["name"] == "small" and "ckpt_path" not in config
    code, _, err = lit_ft("sft", "--config", str(RUN / "config.yaml"))
    assert code == 0, err
    again = Path("runs/small/version_1")
    assert lasting(metrics(again)) == lasting(metrics())
    assert (again / "config.yaml").read_text() == (RUN / "config.yaml").read_text()
    weights = [load_file(run / "model/model.safetensors") for run in (RUN, again)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_console_shows_what_fill_mask_will(done, lit_ft):
    probes = yaml.safe_load((RUN / "config.yaml").read_text())["probes"]
    code, out, _ = lit_ft("fill-mask", *probes)  # the default model is the newest run's
    assert code == 0 and f"\n\n{out}\nmodel:  " in done


def test_bfloat16_probes_are_those_of_the_saved_weights(lit_ft, sft_args):
    flags = ["--precision", "bf16-mixed", "--eval_strategy", "steps", "--eval_steps", "10"]
    code, out, err = lit_ft("sft", *sft_args, *flags)
    assert code == 0, err
    probes = yaml.safe_load((RUN / "config.yaml").read_text())["probes"]
    assert f"\n\n{lit_ft('fill-mask', *probes)[1]}\nmodel:  " in out


def test_probes_leave_the_model_as_it_was():
    model, tokenizer = build("bert", dropout=0.5)
    model.train()
    first = fill_probes(["the [MASK]"], model, tokenizer)
    assert model.training and fill_probes(["the [MASK]"], model, tokenizer) == first  # no dropout in them


def test_the_probes_table_shows_tokens_as_typed():
    masks = [[{"token": token, "id": 0, "confidence": 0.5}] for token in ("<unk>", "*|_")]
    text, _, heads, rule, row = table_of("a <b> [MASK] [MASK]", masks).split("\n")
    assert text == "a &#60;b&#62; &#91;MASK&#93; &#91;MASK&#93;"
    assert heads == "| [MASK] 1 | [MASK] 2 |" and rule == "| --- | --- |"
    assert row == "| &#60;unk&#62; (0.500) | &#42;&#124;&#95; (0.500) |"


def test_the_classifier_starts_from_the_adapted_encoder(done, lit_ft, fit_args):
    """Before its first step the classifier's encoder is the masked LM's, weight by weight."""
    adapted = load_file(RUN / "model/model.safetensors")
    start = {name: value for name, value in adapted.items() if name.startswith("bert.")}
    assert len(start) > 30
    flags = [
        *fit_args,
        "--trainer.max_epochs",
        "1",
        "--model.learning_rate",
        "0",
        "--model.weight_decay",
        "0",
    ]
    names = {}
    for name, pretrained in {"by_folder": str(RUN / "model"), "by_name": "sft:small"}.items():
        code, _, err = lit_ft("fit", *flags, "--model.pretrained", pretrained, "--name", name)
        assert code == 0, err
        names[name] = load_file(f"runs/{name}/version_0/model/model.safetensors")
        for key, value in start.items():
            assert names[name][key].equal(value), key
    code, _, err = lit_ft("fit", *flags, "--name", "without")
    assert code == 0, err
    without = load_file("runs/without/version_0/model/model.safetensors")
    word = "bert.embeddings.word_embeddings.weight"
    assert not without[word].equal(start[word])  # or the test would say nothing


def val_losses(run: Path) -> dict[int, float]:
    """Step -> validation loss, of the curve in TensorBoard."""
    points = EventAccumulator(str(run)).Reload().Scalars("val/loss")
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_one_evaluation_at_the_end(strategy, lit_ft, sft_args):
    flags = ["--eval_on_start", "false", "--eval_strategy", strategy, "--max_steps", "3"]
    code, out, err = lit_ft("sft", *sft_args, *flags)
    assert code == 0, err
    found = metrics()
    assert not [tag for tag in found if tag.startswith("initial/")] and found["step"] == 3
    assert f"val/loss             {found['val/loss']:.4f}\n" in out and "before" not in out
    assert list(val_losses(RUN)) == [3]
    page = (RUN / "report.html").read_text()
    assert "before</th>" not in page and "before\ntraining" not in page and "after</th>" in page
    assert "before training" not in (RUN / "model/README.md").read_text()


def test_the_best_checkpoint_is_exported_with_its_own_figures(lit_ft, sft_args):
    """Called best is the higher loss, so that it is an earlier one."""
    every = ["--eval_strategy", "steps", "--eval_steps", "2", "--save_steps", "2", "--max_steps", "4"]
    best = ["--trainer_args.load_best_model_at_end", "true", "--trainer_args.greater_is_better", "true"]
    flags = [*sft_args, *every, *best, "--eval_on_start", "true"]
    for more in ([], ["--ckpt_path", "last"]):  # also taken up when it had ended
        code, out, err = lit_ft("sft", *flags, *more)
        assert code == 0, err
        losses = val_losses(RUN)
        assert list(losses) == [0, 2, 4] and losses[2] > losses[4]
        assert metrics()["step"] == 2 and metrics()["val/loss"] == pytest.approx(losses[2], rel=1e-5)
        assert "held-out texts, after step 2 (" in out
        if not more:
            marked = [line.split()[0] for line in out.splitlines() if line.endswith("  best")]
            assert marked == ["2"]  # and not step 4, which is no better
        weights = [
            load_file(RUN / name / "model.safetensors") for name in ("model", "checkpoints/checkpoint-2")
        ]
        assert all(weights[1][name].equal(value) for name, value in weights[0].items())


SOURCES = {
    "csv": ("train.csv", []),
    "another column": ("other.csv", ["--data.text_column", "review"]),
    "own validation texts": ("texts.txt", ["--data.validation_path", "held_out.txt"]),
    "a text a row": ("texts.txt", ["--data.layout", "truncate"]),
    "whole words": ("texts.txt", ["--data.whole_words", "true"]),
    "accumulation": ("texts.txt", ["--gradient_accumulation_steps", "2", "--data.num_workers", "1"]),
}


@pytest.mark.parametrize("case", SOURCES)
def test_sources_and_layouts(case, lit_ft, sft_args):
    path, flags = SOURCES[case]
    write_csv(Path("other.csv"), [(text,) for text in texts(60)], ("review",))
    Path("held_out.txt").write_text("\n".join(texts(17, seed=5)))
    code, out, err = lit_ft("sft", *sft_args, "--data.train_path", path, "--max_steps", "2", *flags)
    assert code == 0, err
    assert ("17 texts of held_out.txt" in out) == (case == "own validation texts")
    assert ("packed into" in out) == (case != "a text a row")


def test_the_held_out_texts_follow_split_seed_alone(lit_ft, sft_args):
    """Evaluated are the same texts under the same masks, whatever the run's seed."""
    losses = {}
    for seed, split_seed in ((1, 0), (2, 0), (1, 5)):
        name = f"seeds_{seed}_{split_seed}"
        flags = ["--seed_everything", str(seed), "--data.split_seed", str(split_seed), "--name", name]
        model, tokenizer = build("bert")
        model.save_pretrained("headed")
        tokenizer.save_pretrained("headed")
        code, _, err = lit_ft("sft", *sft_args, *flags, "--model.pretrained", "headed", "--max_steps", "1")
        assert code == 0, err
        losses[seed, split_seed] = metrics(Path(f"runs/{name}/version_0"))["initial/loss"]
    assert losses[1, 0] == losses[2, 0] != losses[1, 5]


def test_dropout_and_cleaning_arrive(lit_ft, sft_args):
    write_csv(Path("dirty.csv"), [*((f"{text}<br />fine",) for text in texts(60)), (" ",)], ("text",))
    flags = ["--data.train_path", "dirty.csv", "--data.strip_html_breaks", "true", "--max_steps", "1"]
    dropouts = ["--model.hidden_dropout", "0.3", "--model.attention_dropout", "0.0"]
    code, _, err = lit_ft("sft", *sft_args, *flags, *dropouts)
    assert code == 0 and "1 of 61 rows of dirty.csv have no text and are left out" in err
    config = json.loads((RUN / "model/config.json").read_text())
    assert (config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]) == (0.3, 0.0)
    loss = metrics()["initial/loss"]
    flags[-3] = "false"
    assert lit_ft("sft", *sft_args, *flags)[0] == 0
    assert metrics(Path("runs/small/version_1"))["initial/loss"] != loss


@pytest.mark.slow
def test_the_packaged_sample_learns_in_a_minute(work):
    start = time.perf_counter()
    result = run_fresh("sft", "--config", "sample_sft.yaml")
    assert result.code == 0, result.err[-3000:]
    seconds = time.perf_counter() - start
    found = metrics(Path("runs/sample_sft/version_0"))
    assert found["val/loss"] < 1.5 < 6 < found["initial/loss"]
    assert "Predicted token: nights, Confidence:" in result.out  # "three [MASK] in December"
    assert seconds < (60 if os.getloadavg()[0] < 2 else 200)  # 35 s measured


@pytest.mark.parametrize("native, precision", [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_is_chosen_and_written_down(native, precision, lit_ft, sft_args, monkeypatch):
    monkeypatch.setattr("lit_ft.machine.multiplies_bfloat16", lambda device: native)
    assert lit_ft("sft", *sft_args, "--max_steps", "4")[0] == 0
    run = Path("runs/small/version_0")
    assert yaml.safe_load((run / "config.yaml").read_text())["precision"] == precision
    # On another kind of machine the run goes on as it began.
    monkeypatch.setattr("lit_ft.machine.multiplies_bfloat16", lambda device: not native)
    code, out, err = lit_ft("sft", *sft_args, "--max_steps", "4", "--ckpt_path", "last")
    assert code == 0 and "resuming at step 4 of 4" in out, err


def test_saves_by_the_clock(lit_ft, sft_args, monkeypatch):
    """Every step is due here; without the clock only the last one would be there."""
    monkeypatch.setattr(save_clock, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(save_clock, "MOST_SHARE", float("inf"))
    assert lit_ft("sft", *sft_args)[0] == 0
    kept = sorted(path.name for path in Path("runs/small/version_0/checkpoints").iterdir())
    assert kept == ["checkpoint-19", "checkpoint-20"]


def test_stray_variables_change_nothing(lit_ft, sft_args, monkeypatch):
    """accelerate reads each of them by itself."""
    for stray in ({"RANK": "1"}, {"LOCAL_RANK": "1"}, {"WORLD_SIZE": "2", "MASTER_ADDR": "host0"}):
        with monkeypatch.context() as patch:
            for name, value in stray.items():
                patch.setenv(name, value)
            code, out, err = lit_ft("sft", *sft_args, "--max_steps", "1")
        told = ", ".join(f"{name}={value}" for name, value in stray.items())
        assert code == 0 and "val/perplexity" in out, err
        assert err.startswith(f"warning: ignoring {told}: this process was not started by torchrun")
