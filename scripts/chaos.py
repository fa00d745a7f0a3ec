"""Kills runs of `fit` and `sft` at random moments, resumes them, and compares them with uninterrupted ones.

    python scripts/chaos.py                       # 20 kills on the embedded reviews, some 30 minutes
    python scripts/chaos.py --kills 4 --seed 7

A moment is drawn from the time between a run's first file and its end: it may fall into a step, a validation,
the writing of a checkpoint, or the report. Prints a Markdown table, which docs/reliability.md keeps.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FIT = "fit --config sample.yaml --trainer.limit_train_batches 24 --trainer.limit_val_batches 4 "
FIT += "--trainer.val_check_interval 10 --trainer.log_every_n_steps 1 --trainer.enable_progress_bar false"
SFT = "sft --config sample_sft.yaml --max_steps 40 --eval_steps 10 --save_steps 7 "
SFT += "--logging_steps 3 --save_total_limit 9 --trainer_args.disable_tqdm true"
GROUPED = "--eval_strategy epoch --data.layout truncate --gradient_accumulation_steps 2"
RECIPES = {
    "fit": FIT,
    "sft, packed": f"{SFT} --eval_strategy steps",
    "fit, accumulation 2, 2 workers": f"{FIT} --trainer.accumulate_grad_batches 2 --data.num_workers 2",
    "sft, grouped, accumulation 2": f"{SFT} {GROUPED}",
}
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


@dataclass
class Whole:
    """An uninterrupted run: its folder, and the seconds from its first file to its end."""

    run: Path
    seconds: float


def start(recipe: str, name: str, *more: str) -> subprocess.Popen[bytes]:
    """Start a recipe as a user would, without its output."""
    call = [sys.executable, "-m", "lit_ft", *RECIPES[recipe].split(), "--name", name, *more]
    return subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_run(process: subprocess.Popen[bytes], name: str) -> None:
    """Wait for the first file of a run."""
    while process.poll() is None and not Path(f"runs/{name}/version_0/config.yaml").exists():
        time.sleep(0.02)


def leave_alone(recipe: str, name: str) -> Whole:
    """Run a recipe to its end."""
    process = start(recipe, name)
    wait_for_run(process, name)
    begun = time.monotonic()
    assert process.wait() == 0, f"{recipe} ended with exit code {process.returncode}"
    return Whole(Path(f"runs/{name}/version_0"), time.monotonic() - begun)


def kill_once(recipe: str, name: str, whole: Whole, number: int, moment: float) -> tuple[bool, list[object]]:
    """Kill a run at a moment, resume and compare it: whether it is the same, and its row of the table."""
    from lit_ft.commands.compare_runs import compare_runs

    while True:
        process = start(recipe, name)
        wait_for_run(process, name)
        time.sleep(moment * whole.seconds)
        if process.poll() is None:
            break
        moment /= 2  # it had ended: faster than the uninterrupted one
        shutil.rmtree(f"runs/{name}")
    process.send_signal(number)
    code = process.wait()
    sound = code in (-number, 128 + number, 0)  # 0: its results were written, it was about to end
    again = start(recipe, name, "--ckpt_path", "last").wait()
    newest = max(Path(f"runs/{name}").iterdir(), key=lambda path: int(path.name[8:]))
    result = str(compare_runs(whole.run, newest)) if again == 0 else f"exit code {again} of the resume"
    leftovers = [p.name for p in newest.rglob(".*.ckpt.*")]
    same = sound and result.startswith("bit-identical") and not leftovers
    begins = "from the start" if newest.name != "version_0" else "from its checkpoint"
    row = [recipe, signal.Signals(number).name, f"{moment:.0%}", code, begins, result.partition(":")[0]]
    return same, [*row[:-1], row[-1] if same else f"{result} {leftovers or ''}"]


def main() -> int:
    """Kill, resume, compare; the exit code is 1 if a run did not survive."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, root)
    folder = tempfile.mkdtemp(prefix="chaos-")
    os.chdir(folder)
    recipes = list(RECIPES)[: options.kills]
    wholes = {}
    for i, recipe in enumerate(recipes):
        print(f"uninterrupted: {recipe}", file=sys.stderr, flush=True)
        wholes[recipe] = leave_alone(recipe, f"whole-{i}")
    print("| run | signal | at | exit code | resumes | result |\n|---|---|---|---|---|---|", flush=True)
    survivors = 0
    for i in range(options.kills):
        recipe = recipes[i % len(recipes)]
        number, moment = rng.choice(SIGNALS), rng.random()
        same, row = kill_once(recipe, f"killed-{i}", wholes[recipe], number, moment)
        survivors += same
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(f"\n{survivors} of {options.kills} survived (seed {options.seed})")
    shutil.rmtree(folder) if survivors == options.kills else print(f"the runs are in {folder}")
    return 0 if survivors == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
