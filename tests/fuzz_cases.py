"""Fuzzing: what a case is, how it runs, and what must hold whatever it holds.

A case is a command line with the files that it finds in its folder. Whatever is in them, the command ends in
success or in one line and exit code 2, in time, and leaves no file half-written. The strategies are in
fuzz_corpora.py, fuzz_configs.py and fuzz_checkpoints.py; scripts/fuzz.py runs thousands of cases,
test_fuzz.py some.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import datasets
import mlm_tiny
import pyarrow as pa
import torch
import yaml
from safetensors import safe_open

from lit_ft import runs
from lit_ft.__main__ import main

SECONDS = 10  # of processor time, which other jobs on the machine do not stretch
HANG_SECONDS = 120  # on the clock: a case that waits uses no processor time
LONGEST_LINE = 1000  # characters of an error that can still be read
SENTINEL = "sentinel"  # the file that code smuggled into a checkpoint or config would make
UNFINISHED = re.compile(r"^tmp|^\.|\.incomplete|\.part|\.\d+$")  # names of files that were to get another one

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


class Hang(BaseException):
    """No `except Exception` of a library swallows it."""


class Workshop:
    """A folder with a tiny encoder, one finished run of `fit` and one of `sft`, and a place for the cases."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
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
            with surroundings(self, place, case.trains), captured(place) as output:
                outcome = _run(case)
            outcome.error = output[1]
            outcome.fault = outcome.fault or fault_of_words(outcome.code, output[1])
            fresh = [path for path in self.caches.rglob("*") if path not in kept and path.is_file()]
            left = fault_of_files(place, before, fresh) or _temporary_left(self.temporary)
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


def fault_of_words(code: Any, error: str) -> str | None:
    """What is wrong with a command's exit code and standard error."""
    if "Traceback (most recent call last)" in error or "panicked at" in error:
        return f"a traceback on stderr: {error[-2000:]}"
    if code == 0:
        return None
    if code != 2:
        return f"exit code {code}: {error[-500:]}"
    lines = [
        line
        for line in error.split("\n")
        if line and not line.startswith(("warning: ", "lit_ft: no --config"))
    ]
    if len(lines) != 1 or not lines[0].startswith("lit_ft: error: "):
        return f"expected one line of error, found {len(lines)}: {error[:1500]}"
    if len(lines[0]) > LONGEST_LINE:
        return f"an error of {len(lines[0])} characters: {error[:300]} ..."
    if unprintable := [character for character in lines[0] if not character.isprintable()]:
        return f"unprintable characters {unprintable[:5]} in the error {lines[0]!r}"
    return None


def fault_of_files(folder: Path, before: dict[Path, bytes], caches: list[Path] = ()) -> str | None:
    """What is wrong with the files of a case's folder: half-written, changed, or made by smuggled code."""
    if (folder / SENTINEL).exists():
        return "code in the case's files was run"
    inputs = [path for path in before if "runs" not in path.parts]
    if changed := [path for path in inputs if not path.is_file() or path.read_bytes() != before[path]]:
        return f"changed {changed[0].name}, which it was given"
    for path in [*folder.rglob("*"), *caches]:
        if not path.is_file() or (path in before and path.read_bytes() == before[path]):
            continue
        if UNFINISHED.search(path.name) and path.suffix != ".lock" and "tfevents" not in path.name:
            return f"left the unfinished file {path}"
        try:
            _open_whole(path)
        except Exception as error:
            return f"left {path}, which cannot be read: {type(error).__name__}: {error}"
    return None


def _open_whole(path: Path) -> None:
    match path.suffix:
        case ".ckpt" | ".pt" | ".pth":
            assert runs.is_readable(path), "damaged"
        case ".json":
            json.loads(path.read_text(encoding="utf-8"))
        case ".yaml":
            assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), "no mapping"
        case ".arrow":
            with pa.memory_map(str(path)) as file:
                pa.ipc.open_stream(file).read_all()
        case ".safetensors":
            with safe_open(path, framework="numpy") as weights:
                weights.keys()
        case ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), "cut off"


def _temporary_left(folder: Path) -> str | None:
    left = list(folder.iterdir())
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return (
        f"left {', '.join(path.name for path in left[:5])} in the folder for temporary files"
        if left
        else None
    )


@contextlib.contextmanager
def surroundings(shop: Workshop, folder: Path, trains: bool) -> Iterator[None]:
    """The case's own folder, caches and signals; afterwards everything as it was."""
    import lit_ft.cli

    environment, argv, here = dict(os.environ), list(sys.argv), Path.cwd()
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    }
    cache, fit, temporary = datasets.config.HF_DATASETS_CACHE, lit_ft.cli.ReviewCLI.fit, tempfile.tempdir

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise Hang

    os.chdir(folder)
    os.environ["LIT_FT_CACHE"] = str(shop.caches)
    os.environ["HOME"] = str(folder)  # no case writes into the user's
    os.environ["TMPDIR"] = tempfile.tempdir = str(shop.temporary)
    os.environ.pop("LIT_FT_RUN", None)
    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    alarm = signal.signal(signal.SIGALRM, on_alarm)
    if not trains:
        lit_ft.cli.ReviewCLI.fit = lambda *args, **kwargs: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[:] = argv
        datasets.config.HF_DATASETS_CACHE, lit_ft.cli.ReviewCLI.fit = cache, fit  # type: ignore[method-assign]
        tempfile.tempdir = temporary
        for number, handler in {**handlers, signal.SIGALRM: alarm}.items():
            signal.signal(number, handler)
        torch.use_deterministic_algorithms(False)
        torch.autograd.set_detect_anomaly(False)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)


@contextlib.contextmanager
def captured(folder: Path) -> Iterator[list[str]]:
    """Standard output and error of this process, those of its C and Rust libraries too: filled at the end."""
    found: list[str] = []
    streams, saved, files = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2)), []
    for stream in streams:
        stream.flush()
    for number, errors in ((1, "strict"), (2, "backslashreplace")):  # as Python opens its own
        file = tempfile.TemporaryFile()
        os.dup2(file.fileno(), number)
        files.append(file)
        text = os.fdopen(os.dup(number), "w", encoding="utf-8", errors=errors, newline="")
        setattr(sys, "stdout" if number == 1 else "stderr", text)
    try:
        yield found
    finally:
        for text in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                text.flush()
        sys.stdout, sys.stderr = streams
        for number, descriptor, file in zip((1, 2), saved, files, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
            file.seek(0)
            found.append(file.read().decode("utf-8", "replace"))
            file.close()
