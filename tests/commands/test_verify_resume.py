"""`verify-resume`: a killed run is compared with one that never was, and what differs is found."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from conftest import run_cli
from fresh import run_fresh

from lit_ft.commands import verify_resume
from lit_ft.commands.verify_resume import shortened
from lit_ft.errors import UserError


@pytest.fixture
def forked(monkeypatch):
    """The runs in processes that need not import the libraries."""

    def run(call: list[str], *expected: int, loud: bool = False) -> None:
        ended = run_fresh(*call[3:])  # without `python -m lit_ft`
        assert ended.code in expected, ended.err[-3000:]

    monkeypatch.setattr(verify_resume, "run", run)


def test_a_config_of_fit(lit_ft, fit_args, forked):
    code, out, err = lit_ft("verify-resume", *fit_args)
    assert code == 0, err[-3000:]
    lines = out.splitlines()
    assert lines[1] == "24 optimizer steps; again, killed (SIGKILL) after 9"
    assert lines[-1].startswith("bit-identical: ") and " points of curves, " in lines[-1]
    assert "Traceback" not in err
    assert not list(Path("runs").iterdir())


def test_a_config_of_sft(lit_ft, work, forked):
    code, out, err = lit_ft("verify-resume", "--config", "sample_sft.yaml")
    assert code == 0, err[-3000:]
    lines = out.splitlines()
    assert lines[1:3] == [
        "16 optimizer steps; again, killed (SIGKILL) after 6",
        "resumed, stopped (SIGTERM) after 12",
    ]
    assert lines[-1].startswith("bit-identical: ") and " points of curves, " in lines[-1]
    assert "Traceback" not in err and not list(Path("runs").iterdir())


def test_a_run_that_goes_on_otherwise(lit_ft, sft_args, monkeypatch):
    """In this process: the killed run is one of another seed."""
    from lit_ft.__main__ import main

    def run(call: list[str], *expected: int, loud: bool = False) -> None:
        name = call[-1]
        kills = any('"signal": 9' in part for part in call)
        call = [part for part in call if not part.startswith("--trial=")]  # this process is to live on
        if "--ckpt_path" not in call and not kills:
            assert main([*call[3:], "--max_steps=5"]) == 0
        elif "--ckpt_path" not in call:
            assert main([*call[3:], "--max_steps=5", "--seed_everything=2"]) == 0
        assert name in ("small-never-killed", "small-killed")

    monkeypatch.setattr(verify_resume, "run", run)
    code, out, err = lit_ft("verify-resume", *sft_args)
    assert code == 1, err
    assert "\nthey first differ in " in out and " (and " in out
    kept = "runs/small-never-killed/version_0, runs/small-killed/version_0"
    assert out.endswith(f"the runs are kept: {kept}\n") and len(list(Path("runs").iterdir())) == 2


def test_what_differs_is_found(lit_ft, fit_args):
    import torch

    from lit_ft.commands.compare_runs import compare_runs

    flags = ["--trainer.max_epochs", "1"]
    for name, seed in (("one", "1"), ("same", "1"), ("other", "2")):
        code, _, err = lit_ft("fit", *fit_args, *flags, "--name", name, "--seed_everything", seed)
        assert code == 0, err
    one, same, other = (Path(f"runs/{name}/version_0") for name in ("one", "same", "other"))
    equal = compare_runs(one, same)
    assert equal.differences == [] and all(equal.counts.values()) and len(equal.counts) == 4
    assert str(equal).startswith("bit-identical: ")
    differs = compare_runs(one, other)
    assert str(differs).startswith("they first differ in train/grad_norm at step 0: ")
    metrics = json.loads((same / "metrics.json").read_text())
    (same / "metrics.json").write_text(json.dumps(metrics | {"val/accuracy": 2.0, "train/seconds": 1e9}))
    (found,) = compare_runs(one, same).differences
    assert found.startswith("val/accuracy: 0.") and found.endswith(" against 2.0")
    (same / "metrics.json").write_text(json.dumps(metrics))
    path = same / "checkpoints/last.ckpt"  # what metrics.json rounds away
    checkpoint = torch.load(path, weights_only=True)
    (history,) = [state for name, state in checkpoint["callbacks"].items() if name.startswith("LossHistory")]
    history["validation"][0]["val/loss"] += 1e-9
    torch.save(checkpoint, path)
    (found,) = compare_runs(one, same).differences
    assert found.startswith("history.validation.0.val/loss: ")


def test_one_flipped_bit_of_a_weight_is_found(lit_ft, fit_args):
    import torch

    from lit_ft.commands.compare_runs import compare_runs

    for name in ("one", "other"):
        assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1", "--name", name)[0] == 0
    one, other = Path("runs/one/version_0"), Path("runs/other/version_0")
    path = other / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    key = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][key].view(torch.int32).view(-1)[3] ^= 1
    torch.save(checkpoint, path)
    (found,) = compare_runs(one, other).differences
    assert found.startswith(f"{key}: by ")


def test_two_masked_lm_runs(lit_ft, sft_args):
    from lit_ft.commands.compare_runs import compare_runs, num_steps

    flags = ["--max_steps", "4", "--logging_steps", "1"]
    for name, seed in (("one", "1"), ("same", "1"), ("other", "2")):
        assert lit_ft("sft", *sft_args, *flags, "--name", name, "--seed_everything", seed)[0] == 0
    one, same, other = (Path(f"runs/{name}/version_0") for name in ("one", "same", "other"))
    assert num_steps(one) == 4
    equal = compare_runs(one, same)
    assert equal.differences == [] and all(equal.counts.values())
    assert compare_runs(one, other).differences


def test_the_command_lines(fit_args, sft_args):
    sft = shortened([*sft_args, "--data.batch_size", "4"])  # small.yaml is the masked LM's now
    call = sft.call("a", resume=True, stop=(signal.SIGKILL, 5))
    assert call[:4] == [sys.executable, "-m", "lit_ft", "sft"]
    assert '--trial={"epoch_steps": 5, "signal": 9, "step": 5}' in call
    assert call[-4:] == ["--ckpt_path", "last", "--name", "a"] and "--max_steps=16" in call
    assert not any("eval_strategy" in part for part in call)  # that is the config's
    assert '--trial={"epoch_steps": 5, "signal": 0, "step": 0}' in sft.call("a")
    Path("fit.yaml").write_text("data:\n  source: sample\ntrainer:\n  max_steps: 9\n")
    fit = shortened(["--config", "fit.yaml"])
    assert fit.args == ["--config", "fit.yaml"]
    Path("either.yaml").write_text("data:\n  train_path: texts.txt\n")
    for more, command in (
        ([], "fit"),
        (["sft", "--data.max_tokens", "32"], "sft"),
        (["--data.layout", "pack"], "sft"),
        (["fit", "--max_steps", "3"], "fit"),
        (["--model.pretrained", "sft"], "fit"),
    ):
        found = shortened(["--config", "either.yaml", *more])
        kept = more[1:] if more[:1] in (["sft"], ["fit"]) else more
        assert (found.command, found.args) == (command, ["--config", "either.yaml", *kept])
    assert fit.call("b")[:4] == [sys.executable, "-m", "lit_ft", "fit"]
    assert not any("SignalAt" in part for part in fit.call("b"))
    (callback,) = [part for part in fit.call("b", stop=(signal.SIGTERM, 7)) if "SignalAt" in part]
    assert json.loads(callback.partition("+=")[2])["init_args"] == {"number": 15, "step": 7}


def test_signal_in_an_sft_and_short_epochs(lit_ft, sft_args):
    from test_resume import curves

    flags = ["--data.batch_size", "4", "--gradient_accumulation_steps", "2", "--max_steps", "8"]
    stop = {"epoch_steps": 3, "signal": int(signal.SIGTERM), "step": 4}
    code, _, err = lit_ft("sft", *sft_args, *flags, "--name", "short", "--trial", json.dumps(stop))
    assert code == 128 + signal.SIGTERM and "stopped by SIGTERM at step 5" in err, err
    trial = json.dumps({"epoch_steps": 3})
    code, _, err = lit_ft(
        "sft", *sft_args, *flags, "--name", "short", "--ckpt_path", "last", "--trial", trial
    )
    assert code == 0 and [step for step, _ in curves("short")["val/loss"]] == [0, 3, 6, 8], err
    assert "trial" not in Path("runs/short/version_0/config.yaml").read_text()


@pytest.mark.parametrize("flag", ["--name", "--ckpt_path=last"])
def test_runs_of_its_own(flag, lit_ft):
    code, _, err = lit_ft("verify-resume", "--config", "sample.yaml", flag, "x")
    assert code == 2 and f"leave out {flag.partition('=')[0]}" in err and err.count("\n") == 1


def test_a_run_that_was_never_resumed_proves_nothing(lit_ft, fit_args, monkeypatch):
    """It was killed before a checkpoint, and each command began anew."""
    calls = []

    def run(call: list[str], *expected: int, loud: bool = False) -> None:
        calls.append(call)
        Path("runs", call[-1], f"version_{len(calls)}").mkdir(parents=True)

    monkeypatch.setattr(verify_resume, "run", run)
    monkeypatch.setattr("lit_ft.commands.compare_runs.num_steps", lambda run: 10)
    code, _, err = lit_ft("verify-resume", *fit_args)
    assert code == 2 and len(calls) == 4
    assert "no checkpoint was saved before step 4: nothing was resumed" in err


def test_a_run_ends_as_expected_or_is_told(capfd):
    def python(code: str) -> list[str]:
        return [sys.executable, "-c", "import os, signal, sys; " + code]

    kill = python("os.kill(os.getpid(), signal.SIGKILL)")
    verify_resume.run(python("print('shown nowhere'); print('nor this', file=sys.stderr)"), 0)
    verify_resume.run(kill, -signal.SIGKILL, 128 + signal.SIGKILL)
    assert capfd.readouterr() == ("", "")
    verify_resume.run(python("print('shown', file=sys.stderr)"), 0, loud=True)
    assert capfd.readouterr() == ("", "shown\n")
    with pytest.raises(UserError, match="expected exit code 0 of a run, found -9"):
        verify_resume.run(kill, 0)
    with pytest.raises(SystemExit) as ended:
        verify_resume.run(python("print('the reason', file=sys.stderr); sys.exit(2)"), 0)
    assert ended.value.code == 2 and capfd.readouterr() == ("", "the reason\n")


def test_a_mistake_is_told_once(fit_args, work):
    done = run_cli("verify-resume", *fit_args, "--data.train_path", "nowhere.csv", cwd=work)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1 and "nowhere.csv" in errors[0]
    assert not Path("runs").exists() and os.listdir()
