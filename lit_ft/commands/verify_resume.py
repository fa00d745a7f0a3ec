"""`verify-resume`: does a killed and resumed run of this config equal an uninterrupted one?"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lit_ft import runs
from lit_ft.console import say
from lit_ft.errors import UserError
from lit_ft.settings.arguments import config_values
from lit_ft.settings.config_file import read_config
from lit_ft.settings.flags import run_name

INTRODUCTION = """\
usage: python -m lit_ft verify-resume [--config NAME_OR_FILE] [fit|sft] [--key value ...]

Prove on your own config that a killed and resumed run ends exactly like an uninterrupted one.

A shortened run of the config takes place twice: once without a stop, and once killed (SIGKILL), resumed,
stopped (SIGTERM) and resumed again. Then every weight, optimizer state, metric and point of TensorBoard's
curves is compared bit by bit. Prints `bit-identical` and returns 0, or prints where the two first differ and
returns 1.

Takes a config of fit or sft, and the flags of that command. Without the word fit or sft, sft is meant if a
config or a flag names a setting that only sft has, such as max_steps or logging_steps. For example:
  python -m lit_ft verify-resume --config yelp_local.yaml --data.train_path train.csv
"""
# Three epochs of eight batches with two validations each, so that stops fall within and between epochs.
FIT = {
    "baselines": "false",
    "trainer.max_epochs": "3",
    "trainer.max_steps": "-1",
    "trainer.limit_train_batches": "8",
    "trainer.limit_val_batches": "2",
    "trainer.val_check_interval": "0.5",
    "trainer.check_val_every_n_epoch": "1",
    "trainer.log_every_n_steps": "1",
    "trainer.enable_progress_bar": "false",
}
# With epochs of five steps a checkpoint falls on an epoch's last step, the kill and the stop within epochs.
SFT = {
    "max_steps": "16",
    "eval_steps": "4",
    "save_steps": "5",
    "logging_steps": "2",
    "save_total_limit": "9",
    "trainer_args.disable_tqdm": "true",
}
# Settings that fit does not have.
OF_SFT = {"num_train_epochs", "max_steps", "gradient_accumulation_steps", "precision", "logging_steps"}
OF_SFT |= {"eval_strategy", "eval_steps", "eval_on_start", "save_steps", "save_total_limit", "trainer_args"}
OF_SFT |= {"probes", "data.layout", "data.mask_probability", "data.whole_words"}
SFT_EPOCH_STEPS = 5


@dataclass
class Shortened:
    """The shortened run of a config, which can be started under several names.

    Attributes:
        command: `fit` or `sft`.
        args: The user's command line, with every config resolved to a file.
    """

    command: str
    args: list[str]

    def call(self, name: str, resume: bool = False, stop: tuple[int, int] | None = None) -> list[str]:
        """The command line.

        Args:
            name: The name of the run.
            resume: Whether it resumes from its last checkpoint.
            stop: A signal, and the number of optimizer steps after which the run sends it to itself.
        """
        flags = [f"--{key}={value}" for key, value in (FIT if self.command == "fit" else SFT).items()]
        if self.command == "sft":
            number, step = stop or (0, 0)
            trial = {"epoch_steps": SFT_EPOCH_STEPS, "signal": int(number), "step": step}
            flags.append(f"--trial={json.dumps(trial)}")
        elif stop is not None:
            arguments = {"number": int(stop[0]), "step": stop[1]}
            callback = {"class_path": "lit_ft.commands.signal_at.SignalAt", "init_args": arguments}
            flags.append(f"--trainer.callbacks+={json.dumps(callback)}")
        last = ["--ckpt_path", "last"] if resume else []
        return [sys.executable, "-m", "lit_ft", self.command, *self.args, *flags, *last, "--name", name]


def shortened(args: Sequence[str]) -> Shortened:
    """The shortened run for a command line, whose configs come first.

    Raises:
        UserError: The command line names a run or a checkpoint.
    """
    args, place = list(args), 2 * len(config_values(list(args)))
    command = args.pop(place) if args[place : place + 1] in (["fit"], ["sft"]) else None
    keys = {arg.partition("=")[0].removeprefix("--") for arg in args if arg.startswith("--")}
    if taken := keys & {"ckpt_path", "name", "estimate"}:
        raise UserError(f"verify-resume uses runs of its own; leave out --{taken.pop()}")
    for _, _, path in config_values(args):
        keys |= set(read_config(path).lines)
    of_sft = (keys | {key.partition(".")[0] for key in keys}) & OF_SFT
    return Shortened(command or ("sft" if of_sft else "fit"), args)


def run(call: Sequence[str], *expected: int, loud: bool = False) -> None:
    """Run a command to its end.

    Args:
        call: The command line.
        expected: The allowed exit codes.
        loud: Whether its standard error is shown even if it ends as expected.

    Raises:
        UserError: It ended with another exit code.
    """
    done = subprocess.run(
        call, stdout=subprocess.DEVNULL, stderr=None if loud else subprocess.PIPE, text=True
    )
    if done.returncode in expected:
        return
    sys.stderr.write(done.stderr or "")
    if done.returncode == 2:
        raise SystemExit(2)  # it has printed the reason
    raise UserError(f"verify-resume: expected exit code {expected[0]} of a run, found {done.returncode}")


def main(command: str, args: list[str]) -> int:
    """Run `verify-resume` and return the exit code: 0 if both runs are the same, 1 if they differ."""
    if any(arg in ("-h", "--help") for arg in args):
        sys.stdout.write(INTRODUCTION)
        return 0
    short = shortened(args)
    stem = run_name(None, args)
    whole, parts = f"{stem}-never-killed", f"{stem}-killed"
    for name in (whole, parts):
        shutil.rmtree(runs.RUNS / name, ignore_errors=True)  # left by an earlier verify-resume
    say(f"{short.command}, shortened: first without a stop")
    run(short.call(whole), 0, loud=True)
    from lit_ft.commands.compare_runs import compare_runs, num_steps

    one = runs.versions(whole)[0]
    steps = num_steps(one)
    kill, stop = steps * 2 // 5, steps * 4 // 5
    if kill < 2:
        raise UserError(f"verify-resume: expected at least 5 optimizer steps, found {steps}; use more texts")
    say(f"{steps} optimizer steps; again, killed (SIGKILL) after {kill}")
    run(short.call(parts, stop=(signal.SIGKILL, kill)), -signal.SIGKILL, 128 + signal.SIGKILL)
    say(f"resumed, stopped (SIGTERM) after {stop}")
    run(short.call(parts, resume=True, stop=(signal.SIGTERM, stop)), 128 + signal.SIGTERM)
    say("resumed to the end")
    run(short.call(parts, resume=True), 0)
    if len(runs.versions(parts)) > 1:
        raise UserError(f"verify-resume: no checkpoint was saved before step {kill}: nothing was resumed")
    other = runs.versions(parts)[0]
    compared = compare_runs(one, other)
    say(str(compared))
    if compared.differences:
        say(f"the runs are kept: {one}, {other}")
        return 1
    for name in (whole, parts):
        shutil.rmtree(runs.RUNS / name)
    return 0
