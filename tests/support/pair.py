"""Several commands in one pair of processes: importing the libraries is most of what a command costs.

A script, started by `run_pair`; Lightning's launcher starts it again for the second process.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
CALLS = "LIT_FT_TEST_CALLS"
MARK = re.compile(r"==== ended with (\d+)\n")


@dataclass
class Ended:
    """A command of a pair: the first process's exit code, what both wrote."""

    code: int
    out: str
    err: str


def run_pair(*calls: list[str], cwd: Path, timeout: float = 240) -> list[Ended]:
    """Run `lit_ft CALL` on two processes, one call after the other; a call may begin with `srun`."""
    from conftest import TEST_PATHS  # here: the two processes do without pytest

    environment = {**os.environ, "PYTHONPATH": TEST_PATHS, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__],
        cwd=cwd,
        env={**environment, CALLS: json.dumps([[*call, *DDP] for call in calls])},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outs, errs = MARK.split(done.stdout), MARK.split(done.stderr)
    return [Ended(int(c), o, e) for o, c, e in zip(outs[::2], outs[1::2], errs[::2], strict=False)]


def draw_nothing() -> None:
    import torch.utils.tensorboard

    torch.utils.tensorboard.SummaryWriter.add_figure = lambda *args, **kwargs: None


def main() -> None:
    import slurm
    import torch

    from lit_ft.__main__ import main as lit_ft

    for number, call in enumerate(json.loads(os.environ[CALLS])):
        if number:
            os.environ.pop("LIT_FT_RUN", None)  # of the call before; Lightning tells which folder it is
            draw_nothing()  # as in conftest.py: it has been seen to work
        if under_slurm := call[0] == "srun":
            call = call[1:]
            os.environ.update(slurm.variables(int(os.environ["LOCAL_RANK"]), tasks=2))
        try:
            code = lit_ft(call)
        except SystemExit as stop:
            code = stop.code
        for name in slurm.variables() if under_slurm else ():
            del os.environ[name]
        torch.distributed.barrier()  # what the other one wrote belongs to this call
        if os.environ["LOCAL_RANK"] == "0":
            for stream in (sys.stdout, sys.stderr):
                print(f"==== ended with {code}", file=stream, flush=True)


if __name__ == "__main__":
    main()
