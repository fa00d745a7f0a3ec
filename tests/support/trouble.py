"""Callbacks of the runs of a repeat, in processes of their own: what was trained on, and mishaps."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer
from pictures import draw_nothing

TROUBLE, SEEN = Path("trouble.json"), "seen.json"
MOST_SECONDS = 60.0


def fail() -> None:
    """A mistake in somebody's callback."""
    raise ValueError("no such column")


def kill() -> None:
    """As when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    """The command that waits for this run gets SIGTERM."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    os.kill(parent.pid, signal.SIGTERM)
    time.sleep(0.5)  # until the signal that it passes on is here: steps are faster


def meet() -> None:
    """Wait until two runs are here at the same time."""
    Path(f"here_{os.getpid()}").touch()
    until = time.monotonic() + MOST_SECONDS
    while len([*Path().glob("here_*")]) < 2:
        assert time.monotonic() < until, "the other run does not come"
        time.sleep(0.05)


MISHAPS = {"fail": fail, "kill": kill, "stop": stop, "meet": meet}


def plan_trouble(**mishaps: tuple[str, int]) -> None:
    """What happens: name of the run's folder -> one of `MISHAPS`, and before which step."""
    TROUBLE.write_text(json.dumps(mishaps))


class Watched(Callback):
    """Leaves the texts that were trained on in `seen.json`, as token ids; meets what `trouble.json` plans."""

    def __init__(self) -> None:
        if multiprocessing.parent_process() is not None:  # where no fixture reaches
            draw_nothing(pytest.MonkeyPatch())
        self.seen: set[tuple[int, ...]] = set()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, _: int) -> None:
        """Note the batch; then the trouble."""
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            self.seen.add(tuple(ids[mask == 1].tolist()))
        run = Path(trainer.default_root_dir).name
        planned = json.loads(TROUBLE.read_text()) if TROUBLE.is_file() else {}
        if run in planned and trainer.global_step == planned[run][1]:
            MISHAPS[planned[run][0]]()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them."""
        Path(trainer.default_root_dir, SEEN).write_text(json.dumps(sorted(self.seen)))
