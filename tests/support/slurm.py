"""SLURM as a program in a job sees it: what `srun` sets, a `scontrol` that writes down what it is told."""

import os
from pathlib import Path

# The job, and the one place where no other run of this folder would begin with the checkpoint.
REQUEUED = ["requeue 4242", "./runs/parts/version_0/hpc_ckpt_1.ckpt"]


def variables(rank: int = 0, tasks: int = 1) -> dict[str, str]:
    """The environment of one task of job 4242, on one node."""
    values = {
        "JOB_ID": 4242,
        "JOB_NAME": "fit",
        "NTASKS": tasks,
        "NTASKS_PER_NODE": tasks,
        "NNODES": 1,
        "NODEID": 0,
        "LOCALID": rank,
        "PROCID": rank,
    }
    return {f"SLURM_{name}": str(value) for name, value in values.items()}


def scontrol(folder: Path) -> str:
    """Make the program; returns the `PATH` that finds it.

    It writes what it is told, and the plugin's checkpoint that is there by then, to `scontrol.txt` there.
    """
    program = folder / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n(echo "$@"; find . -name "hpc_*.ckpt") >> {folder}/scontrol.txt\n')
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"
