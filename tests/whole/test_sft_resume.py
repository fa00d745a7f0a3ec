"""An `sft` that is stopped and resumed ends as one that was never stopped: the real command line."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TEST_PATHS, free_port, lasting, one_line
from fresh import Fresh, command, ranks, run_fresh
from safetensors.torch import load_file
from test_resume import curves

from lit_ft.masked_lm.resume import SUMS, step_of
from lit_ft.masked_lm.trainer import MaskedLMTrainer
from lit_ft.reliability import run_owner

CHECKPOINTS = Path("runs/parts/version_0/checkpoints")
EVERY = ["--save_steps", "6", "--eval_strategy", "steps", "--eval_steps", "7", "--num_train_epochs", "3"]
SETTINGS = {
    "plain": [],
    "bfloat16": ["--precision", "bf16-mixed"],
    "grouped": ["--data.layout", "truncate", "--data.num_workers", "1"],
    "accumulation": ["--gradient_accumulation_steps", "2", "--data.batch_size", "4"],
    "no first evaluation": ["--eval_on_start", "false", "--model.pretrained", "sample"],
}


@pytest.fixture
def at_step(monkeypatch):
    """Call something before an optimizer step: (step, what) -> None."""
    unharmed = MaskedLMTrainer.training_step

    def install(step: int, act) -> None:
        def training_step(trainer, *args, **kwargs):
            if trainer.state.global_step == step:
                act()
            return unharmed(trainer, *args, **kwargs)

        monkeypatch.setattr(MaskedLMTrainer, "training_step", training_step)

    return install


def killed() -> None:
    raise RuntimeError("killed")


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def history(run: Path) -> list:
    """What `loss.png` is drawn from: the figures of the last checkpoint."""
    path = max(run.glob("checkpoints/checkpoint-*"), key=step_of) / "trainer_state.json"
    return [(sorted(entry), lasting(entry)) for entry in json.loads(path.read_text())["log_history"]]


def assert_same_runs(one: str, other: str) -> None:
    """Weights, metrics, and every curve that TensorBoard or loss.png shows."""
    runs = [Path(f"runs/{name}/version_0") for name in (one, other)]
    figures = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert lasting(figures[0]) == lasting(figures[1])
    weights = [load_file(run / "model/model.safetensors") for run in runs]
    assert [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])] == []
    assert not runs[1].with_name("version_1").exists()
    assert curves(other) == curves(one)
    assert history(runs[1]) == history(runs[0])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_resume_is_bit_identical(settings, lit_ft, sft_args, at_step):
    args = [*sft_args, *EVERY, *settings]
    code, _, err = lit_ft("sft", *args, "--name", "whole")
    assert code == 0, err
    at_step(16, killed)
    with pytest.raises(RuntimeError, match="killed"):
        lit_ft("sft", *args, "--name", "parts")
    assert {p.name for p in CHECKPOINTS.iterdir()} == {"checkpoint-6", "checkpoint-12"}
    before = load_file(CHECKPOINTS / "checkpoint-12/model.safetensors")
    at_step(-1, killed)
    torch.rand(3)  # another process would have another random state
    code, out, err = lit_ft("sft", *args, "--name", "parts", "--ckpt_path", "last")
    assert code == 0, err
    assert out.startswith(f"resuming at step 12 of 20 from {CHECKPOINTS}/checkpoint-12\n")
    assert_same_runs("whole", "parts")
    after = load_file("runs/parts/version_0/model/model.safetensors")
    word = "bert.embeddings.word_embeddings.weight"
    assert (before[word] - after[word]).abs().max() > 1e-3  # or "identical" would mean nothing


@pytest.mark.parametrize(
    "settings",
    [["--data.batch_size", "16"], ["--data.layout", "truncate", "--gradient_accumulation_steps", "2"]],
    ids=["packed", "grouped, accumulation"],
)
def test_a_kill_in_an_epochs_evaluation(settings, lit_ft, sft_args, monkeypatch):
    """With a checkpoint a step: none is left of the epoch's last step, whose figures would be missing."""
    args = [*sft_args, "--save_steps", "1", "--save_total_limit", "99", "--logging_steps", "4", *settings]
    assert lit_ft("sft", *args, "--name", "whole")[0] == 0
    first = [step for step, _ in curves("whole")["val/loss"]][1]
    assert 1 < first < 20
    unharmed = MaskedLMTrainer.prediction_step

    def prediction_step(trainer, *inputs, **more):
        if trainer.state.global_step == first:
            killed()
        return unharmed(trainer, *inputs, **more)

    monkeypatch.setattr(MaskedLMTrainer, "prediction_step", prediction_step)
    with pytest.raises(RuntimeError, match="killed"):
        lit_ft("sft", *args, "--name", "parts")
    monkeypatch.setattr(MaskedLMTrainer, "prediction_step", unharmed)
    code, out, err = lit_ft("sft", *args, "--name", "parts", "--ckpt_path", "last")
    assert code == 0 and out.startswith(f"resuming at step {first - 1} of 20 "), err
    assert_same_runs("whole", "parts")
    for step in (first - 1, first):  # and the checkpoint of that very step is a good one
        shutil.rmtree("runs/parts")
        shutil.copytree("runs/whole", "runs/parts")
        for path in CHECKPOINTS.iterdir():
            if step_of(path) > step:
                shutil.rmtree(path)
        code, out, err = lit_ft("sft", *args, "--name", "parts", "--ckpt_path", "last")
        assert code == 0 and out.startswith(f"resuming at step {step} of 20 "), err
        assert_same_runs("whole", "parts")


@pytest.mark.parametrize(
    ("act", "exit_code", "every"), [(terminated, 143, "7"), (terminated, 143, "9"), (interrupted, 130, "7")]
)
def test_a_signal_saves_and_the_resume_is_bit_identical(act, exit_code, every, lit_ft, sft_args, at_step):
    """It stops at step 9, where an evaluation may be due: that one takes place."""
    args = [*sft_args, *EVERY, "--eval_steps", every]
    assert lit_ft("sft", *args, "--name", "whole")[0] == 0
    at_step(8, act)
    code, out, err = lit_ft("sft", *args, "--name", "parts")
    assert code == exit_code, err
    name = {143: "SIGTERM", 130: "SIGINT"}[exit_code]
    path = CHECKPOINTS / "checkpoint-9"
    told = f"stopped by {name} at step 9, saved in {path}; resume with the same command and --ckpt_path last"
    assert err.splitlines()[-1] == f"warning: {told}"
    assert not Path("runs/parts/version_0/metrics.json").exists()  # it ended at once
    at_step(-1, act)
    code, out, err = lit_ft("sft", *args, "--name", "parts", "--ckpt_path", str(path))
    assert code == 0 and out.startswith(f"resuming at step 9 of 20 from {path}\n"), err
    assert_same_runs("whole", "parts")


@pytest.mark.parametrize("step", [3, 8])
def test_a_second_signal_ends_at_once(step, lit_ft, sft_args, at_step):
    """The second Ctrl-C, while the step that the first one waits for is running."""

    def twice() -> None:
        terminated()
        interrupted()

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    at_step(step, twice)
    code, _, err = lit_ft("sft", *sft_args, *EVERY)
    left = "no checkpoint was saved yet"
    if step > 6:
        left = "resume from runs/small/version_0/checkpoints/checkpoint-6 with --ckpt_path last"
    assert code == 130 and err.endswith(f"warning: interrupted at step {step}; {left}\n")
    assert {number: signal.getsignal(number) for number in before} == before
    assert len(list(Path("runs/small/version_0/checkpoints").glob("*"))) == step // 6


def test_nothing_to_resume_starts_fresh_and_a_finished_run_stays_as_it_is(lit_ft, sft_args):
    code, out, _ = lit_ft("sft", *sft_args, "--ckpt_path", "last")
    assert code == 0 and out.startswith("no checkpoint 'last' in runs/small: starting fresh\n")
    run = Path("runs/small/version_0")
    before = (run / "model/model.safetensors").read_bytes()
    figures = lasting(json.loads((run / "metrics.json").read_text()))
    code, out, err = lit_ft("sft", *sft_args, "--ckpt_path", "last")
    assert code == 0, err
    assert out.startswith(f"resuming at step 20 of 20 from {run}/checkpoints/checkpoint-20\n")
    assert (run / "model/model.safetensors").read_bytes() == before
    assert lasting(json.loads((run / "metrics.json").read_text())) == figures


def test_a_checkpoint_that_a_kill_cut_off_is_skipped(lit_ft, sft_args):
    args = [*sft_args, "--save_steps", "8", "--save_total_limit", "5", "--name", "parts"]
    assert lit_ft("sft", *args)[0] == 0
    newest, middle = CHECKPOINTS / "checkpoint-20", CHECKPOINTS / "checkpoint-16"
    weights = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    (middle / "optimizer.pt").unlink()
    code, out, err = lit_ft("sft", *args, "--ckpt_path", "last")
    assert code == 0 and out.startswith("resuming at step 8 of 20"), err
    for path, what in ((newest, "damaged ("), (middle, "damaged (optimizer.pt is missing")):
        assert f"warning: {path}: {what}" in err and "it is skipped for the one before" in err
    faults = {"optimizer.pt": "damaged (optimizer.pt", SUMS: f"no {SUMS}", "trainer_state.json": "cut off"}
    for fault, message in faults.items():
        (newest / fault).unlink(missing_ok=True)
        code, _, err = lit_ft("sft", *args, "--ckpt_path", str(newest))
        assert code == 2 and message in err and err.count("\n") == 1
    shutil.copytree(CHECKPOINTS / "checkpoint-8", "elsewhere")
    code, _, err = lit_ft("sft", *args, "--ckpt_path", "elsewhere")
    assert code == 2 and "--model.pretrained=elsewhere" in err and err.count("\n") == 1


def test_a_flipped_bit_of_a_weight_is_named_and_skipped(lit_ft, sft_args):
    """safetensors takes it; the run ends the same from the checkpoint before."""
    args = [*sft_args, "--save_steps", "8", "--save_total_limit", "5"]
    assert lit_ft("sft", *args, "--name", "whole")[0] == 0
    shutil.copytree("runs/whole", "runs/parts")
    newest, middle = CHECKPOINTS / "checkpoint-20", CHECKPOINTS / "checkpoint-16"
    weights = bytearray((newest / "model.safetensors").read_bytes())
    weights[-1000] ^= 1
    (newest / "model.safetensors").write_bytes(weights)
    assert load_file(newest / "model.safetensors")
    (middle / SUMS).unlink()  # as a kill leaves it, right before the end of its saving
    code, out, err = lit_ft("sft", *args, "--name", "parts", "--ckpt_path", "last")
    assert code == 0 and out.startswith(f"resuming at step 8 of 20 from {CHECKPOINTS}/checkpoint-8"), err
    what = "damaged (model.safetensors is missing or its checksum does not match)"
    assert f"warning: {newest}: {what}; it is skipped for the one before" in err
    assert f"warning: {middle}: not a checkpoint, or cut off: it has no {SUMS}; it is skipped" in err
    assert_same_runs("whole", "parts")
    assert {p.name for p in CHECKPOINTS.iterdir()} == {"checkpoint-8", "checkpoint-16", "checkpoint-20"}
    for path in (newest, middle):
        assert (path / SUMS).is_file()  # written again


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.learning_rate", "1e-3"], "model.learning_rate=0.001 (there 0.01)"),
        (["--data.mask_probability", "0.2"], "data.mask_probability=0.2 (there 0.15)"),
        (["--max_steps", "30"], "max_steps=30 (there 20)"),
        (["--logging_steps", "6"], "logging_steps=6 (there 5)"),
        (["--trainer_args.optim", "sgd"], "trainer_args.optim=sgd (there None)"),
    ],
)
def test_other_settings_are_refused(flags, message, lit_ft, sft_args):
    assert lit_ft("sft", *sft_args)[0] == 0
    code, _, err = lit_ft("sft", *sft_args, "--ckpt_path", "last", *flags)
    assert code == 2 and message in err and err.count("\n") == 1
    harmless = ["--data.num_workers", "1", "--save_total_limit", "1", "--probes", '["a [MASK]"]']
    code, _, err = lit_ft("sft", *sft_args, "--ckpt_path", "last", *harmless)
    assert code == 0, err


def test_a_requeued_job_resumes_its_own_run(lit_ft, sft_args, at_step, monkeypatch):
    for job, seed in (("1", "1"), ("2", "2")):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        at_step(8, terminated)
        assert lit_ft("sft", *sft_args, "--seed_everything", seed)[0] == 143
    at_step(-1, terminated)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    for job, seed, run in (("1", "1", "version_0"), ("2", "2", "version_1")):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        code, out, err = lit_ft("sft", *sft_args, "--seed_everything", seed, "--save_total_limit", "1")
        assert code == 0 and out.startswith("resuming at step 9 of 20 from runs/small/" + run), err
    code, out, err = lit_ft("sft", *sft_args, "--seed_everything", "1")
    assert code == 0, err
    assert out.startswith("no checkpoint of SLURM job 2 with these settings in runs/small: starting fresh\n")


def test_a_run_that_is_being_written_is_refused(lit_ft, sft_args, monkeypatch):
    assert lit_ft("sft", *sft_args, "--max_steps", "2")[0] == 0
    run = Path("runs/small/version_0")
    assert not (run / run_owner.LOCK).exists()
    monkeypatch.setattr(run_owner, "PATIENCE_SECONDS", 0.0)
    with (run / run_owner.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        line = one_line(lit_ft("sft", *sft_args, "--max_steps", "2", "--ckpt_path", "last"))
        assert line.startswith(f"{run} is being written by another process; wait until it ends")
    assert lit_ft("sft", *sft_args, "--max_steps", "2", "--ckpt_path", "last")[0] == 0


def run_killed(args):
    """`lit_ft ARGS`, of which the second process, or the only one, is killed after KILL_AT steps."""
    step = MaskedLMTrainer.training_step

    def training_step(self, *args, **kwargs):
        here = self.state.global_step == int(os.environ["KILL_AT"]) and os.environ.get("RANK", "1") == "1"
        if here:
            Path("killed").touch()  # notes the time
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *args, **kwargs)

    MaskedLMTrainer.training_step = training_step
    return command(args)


@pytest.mark.slow
def test_resume_after_kill_9_in_a_new_process(lit_ft, sft_args, work):
    args = ["sft", *sft_args, *EVERY]
    assert lit_ft(*args, "--name", "whole")[0] == 0
    assert Fresh(run_killed, [*args, "--name", "parts"], env={"KILL_AT": "15"}).end().code == -9
    resumed = run_fresh(*args, "--name", "parts", "--ckpt_path", "last")
    assert resumed.code == 0, resumed.err[-3000:]
    assert resumed.out.startswith("resuming at step 12 of 20 from ")
    assert_same_runs("whole", "parts")


def torchrun(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    port = str(free_port())
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    environment = {**os.environ, "PYTHONPATH": TEST_PATHS, "OMP_NUM_THREADS": "1", **env}
    call = [sys.executable, *launch, *command]
    return subprocess.run(call, env=environment, capture_output=True, text=True, timeout=250)


@pytest.mark.slow
def test_two_processes_make_one_run_and_one_killed_ends_both(lit_ft, sft_args, work):
    """Two times 4 rows equal 8 in one process, in float32; SGD, no dropout, as AdamW magnifies rounding.

    Of 97 rows one is left for the epoch's last batch, step 13: one of the two has none.
    """
    args = [*sft_args, "--trainer_args.optim", "sgd", "--model.learning_rate", "0.3", "--max_steps", "15"]
    args += ["--model.hidden_dropout", "0", "--model.attention_dropout", "0", "--logging_steps", "1"]
    args += ["--data.max_tokens", "64", "--save_steps", "4", "--precision", "32-true"]
    args += ["--data.layout", "truncate", "--data.validation_share", "0.1917"]
    code, out, _ = lit_ft("sft", *args, "--name", "one")
    assert code == 0 and "validation: 23 texts" in out, out  # of 120
    two = ["sft", *args, "--data.batch_size", "4", "--name", "two"]
    (work / "kill.py").write_text("import sys, test_sft_resume as t; sys.exit(t.run_killed(sys.argv[1:]))")
    killed = torchrun("kill.py", *two, KILL_AT="6")  # the second of the two
    assert killed.returncode == 1
    assert time.time() - (work / "killed").stat().st_mtime < 60
    lines = killed.stderr.splitlines()
    (said,) = [line for line in lines if line.startswith("lit_ft: error: ")]
    assert said.startswith("lit_ft: error: another process no longer answers (")
    assert said.endswith(
        "so all processes end; run the same command again (fit and sft: with --ckpt_path last)"
    )
    assert any("exitcode  : -9" in line for line in lines)  # torchrun's report, which names the process
    assert "[rank0]: Traceback" not in lines  # of the other one
    code, _, err = lit_ft(*two, "--ckpt_path", "last")
    assert code == 2 and "expected 2 processes" in err
    pair = [Fresh(command, [*two, "--ckpt_path", "last"], env=env) for env in ranks(2)]
    resumed, other = [process.end() for process in pair]
    assert (resumed.code, other.code) == (0, 0), resumed.err[-3000:] + other.err[-3000:]
    assert resumed.out.startswith("resuming at step 4 of 15") and other.out == ""
    assert [p.name for p in Path("runs/two").iterdir()] == ["version_0"]
    assert resumed.out.count("val/perplexity") == 1
    assert "destroy_process_group" not in resumed.err + other.err
    figures = [json.loads(Path(f"runs/{n}/version_0/metrics.json").read_text()) for n in ("one", "two")]
    assert lasting(figures[0]) == pytest.approx(lasting(figures[1]), rel=1e-4)
    points = [curves(name)["train/tokens_seen"] for name in ("one", "two")]
    assert points[0] == points[1] and [step for step, _ in points[0]] == list(range(1, 16))
    weights = [load_file(f"runs/{n}/version_0/model/model.safetensors") for n in ("one", "two")]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=0, atol=1e-5, msg=key)
