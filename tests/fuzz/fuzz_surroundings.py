"""Fuzzing: what a case finds around it, and what is put back afterwards."""

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import datasets
import torch
from torch.utils.tensorboard import SummaryWriter

import lit_ft.commands.fit
import lit_ft.report.figures
from lit_ft.masked_lm.trainer import MaskedLMTrainer

EVALUATED_ROWS = 64  # of an sft, as fit.yaml's `limit_val_batches`: a text of 10 MB makes 40,000 blocks


class Hang(BaseException):
    """No `except Exception` of a library swallows it."""


@contextlib.contextmanager
def surroundings(folder: Path, caches: Path, temporary: Path, trains: bool, draws: bool) -> Iterator[None]:
    """The case's own folder, caches and signals; afterwards everything as it was."""
    environment, argv, here = dict(os.environ), list(sys.argv), Path.cwd()
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    }
    cache, fit, tempdir = (
        datasets.config.HF_DATASETS_CACHE,
        lit_ft.commands.fit.ReviewCLI.fit,
        tempfile.tempdir,
    )

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise Hang

    os.chdir(folder)
    os.environ["LIT_FT_CACHE"] = str(caches)
    os.environ["HOME"] = str(folder)  # no case writes into the user's
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.environ.pop("LIT_FT_RUN", None)
    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    add_figure = SummaryWriter.add_figure
    alarm = signal.signal(signal.SIGALRM, on_alarm)
    loader = MaskedLMTrainer.get_eval_dataloader

    def first_rows(trainer: MaskedLMTrainer, eval_dataset: Any = None) -> Any:
        rows = trainer.eval_dataset if eval_dataset is None else eval_dataset
        return loader(trainer, rows.select(range(min(len(rows), EVALUATED_ROWS))))

    MaskedLMTrainer.get_eval_dataloader = first_rows  # type: ignore[method-assign]
    if not draws:
        SummaryWriter.add_figure = lambda *args, **kwargs: None  # type: ignore[method-assign]
    if not trains:
        lit_ft.commands.fit.ReviewCLI.fit = lambda *args, **kwargs: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        MaskedLMTrainer.get_eval_dataloader = loader  # type: ignore[method-assign]
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[:] = argv
        datasets.config.HF_DATASETS_CACHE, lit_ft.commands.fit.ReviewCLI.fit = cache, fit  # type: ignore[method-assign]
        tempfile.tempdir = tempdir
        SummaryWriter.add_figure = add_figure  # type: ignore[method-assign]
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
