"""Fuzzing: what a case is, how it runs, and what must hold whatever it holds.

A case is a command line with the files that it finds in its folder. Whatever is in them, the command ends in
success or in one line and exit code 2, in time, and leaves no file half-written. The strategies are in
fuzz_corpora.py, fuzz_configs.py and fuzz_checkpoints.py; scripts/fuzz.py runs thousands of cases,
test_fuzz.py some.
"""

import os
import shutil
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlm_tiny
from fuzz_checks import fault_of_files, fault_of_words, temporary_left
from fuzz_surroundings import Hang, captured, surroundings

from lit_ft.__main__ import main

SECONDS = 10  # of processor time, which other jobs on the machine do not stretch
LARGE = 1 << 20  # bytes of a file, which alone takes most of the time: its run's pictures are not drawn
HANG_SECONDS = 120  # on the clock: a case that waits uses no processor time

TRAIN = "label,text\n" + "".join(
    f"{i % 2 + 1},the film was {'fine' if i % 2 else 'boring'}\n" for i in range(12)
)
FIT = """\
data:
  train_path: train.csv
  test_path: train.csv
  predict_path: train.csv
  validation_share: 0.3
  max_tokens: 16
  batch_size: 4
model:
  pretrained: {encoder}
trainer:
  max_epochs: 1
  limit_train_batches: 1
  limit_val_batches: 1
  accelerator: cpu
  devices: 1
  enable_progress_bar: false
"""
SFT = """\
data:
  train_path: train.csv
  validation_share: 0.3
  max_tokens: 16
  batch_size: 2
model:
  pretrained: {encoder}
max_steps: 1
eval_on_start: false
trainer_args:
  use_cpu: true
  disable_tqdm: true
"""


@dataclass(frozen=True)
class Case:
    """One command line and its files.

    Attributes:
        kind: `corpus`, `config` or `checkpoint`.
        args: After `python -m lit_ft`.
        files: Name -> content, beside `fit.yaml`, `sft.yaml`, `train.csv` and `good.ckpt`, which are sound.
        about: What is odd in it, for a person.
        trains: Whether the training itself runs; else everything up to it.
    """

    kind: str
    args: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    about: str = ""
    trains: bool = True

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name}: {content[:200]!r} of {len(content)}" for name, content in self.files.items()
        )
        return f"Case({self.kind}, {self.about}, {' '.join(map(repr, self.args))[:600]}, {{{sizes}}})"


@dataclass
class Outcome:
    """How a case ended: `fault` says what did not hold, with the traceback where there is one."""

    code: Any
    error: str
    seconds: float
    fault: str | None


class Workshop:
    """A folder with a tiny encoder, one finished run of `fit` and one of `sft`, and a place for the cases.

    Args:
        root: Of everything.
        draws: Whether runs draw their pictures, which takes 2 s each.
    """

    def __init__(self, root: Path, draws: bool = True) -> None:
        self.root, self.draws = root.resolve(), draws
        self.encoder = self.root / "encoder"
        self.caches = self.root / "lit_ft"
        self.temporary = self.root / "temporary"
        self.temporary.mkdir(parents=True)
        model, tokenizer = mlm_tiny.build("bert")
        model.save_pretrained(self.encoder)
        tokenizer.save_pretrained(self.encoder)
        self.good = self.root / "good"
        self.fitted = self.good / "runs/fit/version_0"
        self.adapted = self.good / "runs/sft/version_0"
        for command in ("sft", "fit"):
            outcome = self.run(
                Case("setup", (command, "--config", f"{command}.yaml", "--name", command)), self.good
            )
            assert outcome.code == 0 and outcome.fault is None, outcome

    def lay_out(self, case: Case, folder: Path) -> None:
        """Write the case's files and the sound ones that every case has."""
        folder.mkdir(parents=True, exist_ok=True)
        sound = {"fit.yaml": FIT, "sft.yaml": SFT, "train.csv": TRAIN}
        texts = {name: text.replace("{encoder}", str(self.encoder)).encode() for name, text in sound.items()}
        for name, content in {**texts, **case.files}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        if self.fitted.is_dir():
            os.link(next((self.fitted / "checkpoints").glob("best.ckpt")), folder / "good.ckpt")

    def run(self, case: Case, folder: Path | None = None) -> Outcome:
        """Run a case in this process, in a folder of its own, and look at what it said and left."""
        place = folder or Path(tempfile.mkdtemp(prefix="case-", dir=self.root))
        self.lay_out(case, place)
        before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        kept = {path for path in self.caches.rglob("*")}
        try:
            draws = self.draws and max(map(len, case.files.values()), default=0) < LARGE
            around = surroundings(place, self.caches, self.temporary, case.trains, draws)
            with around, captured(place) as output:
                outcome = _run(case)
            if case.args[:1] == ("check",) and outcome.code == 1:
                outcome.code = 0  # what `check --strict` says of data that it finds fault with
            outcome.error = output[1]
            outcome.fault = outcome.fault or fault_of_words(outcome.code, output[1])
            fresh = [path for path in self.caches.rglob("*") if path not in kept and path.is_file()]
            left = fault_of_files(place, before, fresh) or temporary_left(self.temporary)
            outcome.fault = outcome.fault or left
            return outcome
        finally:
            for path in self.caches.rglob("*.arrow"):
                path.unlink()
            if folder is None:
                shutil.rmtree(place)


def _run(case: Case) -> Outcome:
    code: Any = None
    fault = None
    begun = time.process_time()
    signal.alarm(HANG_SECONDS)
    try:
        code = main(list(case.args))
    except SystemExit as stop:
        code = stop.code
    except Hang:
        fault = "hangs: " + "".join(traceback.format_exc()[-1500:])
    except BaseException:  # also the panics of Rust's libraries, which are no Exception
        fault = traceback.format_exc()
    finally:
        signal.alarm(0)
    seconds = time.process_time() - begun
    if fault is None and seconds > SECONDS:
        fault = f"took {seconds:.1f} s of processor time"
    return Outcome(code, "", seconds, fault)
