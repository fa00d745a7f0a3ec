"""Which program started this process, and as which rank of a run. Standard library only.

Libraries read the environment, each by its own rules: Lightning 2.6.6 (accelerator_connector.py,
`_choose_and_init_cluster_environment`), accelerate 1.15 (state.py), torch. A stray variable, such as a
shell's `RANK=1`, means something to one and nothing to another. So it is removed before they read it.
"""

import importlib.util
import os

FIRST = "LIT_FT_FIRST_PROCESS"  # the process id of process 0, for those that Lightning starts from it
BY_LIGHTNING = ("fit", "validate", "test", "predict")
INTERACTIVE = ("bash", "interactive")  # SLURM job names that Lightning does not take for a start by srun
RENDEZVOUS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # all of them: started by hand
MPI = ("PMI", "OMPI_COMM_WORLD", "MV2_COMM_WORLD")
RANKS = [
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"),
    *(f"{name}_RANK" for name in MPI),
]
SIZES = ["WORLD_SIZE", "LOCAL_WORLD_SIZE", *(f"{name}_SIZE" for name in MPI)]
LOCAL = ("localhost", "127.0.0.1", "::1")


def started_by() -> tuple[str, str] | None:
    """What started this process as one of several, and the variable with its rank; None for a single one."""
    given = os.environ
    if "TORCHELASTIC_RUN_ID" in given:
        return "torchrun", "RANK"
    if all(given.get(name) for name in RENDEZVOUS) and number_of("WORLD_SIZE") > 1:
        return "hand", "RANK"
    if "SLURM_NTASKS" in given and given.get("SLURM_JOB_NAME") not in INTERACTIVE:
        return "srun", "SLURM_PROCID"
    if {"LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE"} <= given.keys():
        return "jsrun", "JSM_NAMESPACE_RANK"
    for name in MPI:
        if number_of(f"{name}_SIZE") > 1:
            return "mpirun", f"{name}_RANK"
    if FIRST in given:
        return "Lightning", "LOCAL_RANK"
    return None


def global_rank() -> int:
    """This process's rank among all processes of the run."""
    found = started_by()
    return 0 if found is None else max(0, number_of(found[1]))


def ignore_strays(command: str) -> str | None:
    """Remove the variables of launchers that did not start this process.

    Args:
        command: The command. `sft` supports neither srun nor jsrun: each of their tasks is a run of its own.

    Returns:
        A warning, if the variables would have had an effect.
    """
    found = started_by()
    by = found[0] if found else None
    if by in ("torchrun", "hand"):
        return None
    if by == "mpirun" and command in BY_LIGHTNING and importlib.util.find_spec("mpi4py") is None:
        by = None
    if by in ("srun", "jsrun") and command not in BY_LIGHTNING:
        by = None
    strays = {*RANKS, *SIZES, "MASTER_ADDR"}
    if FIRST in os.environ:  # then Lightning has set these
        strays -= {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"}
    if by is not None:
        strays -= {"MASTER_ADDR"}
    if by == "mpirun":
        strays -= {name for name in strays if name.startswith(MPI)}
    elif by in ("srun", "jsrun"):
        strays -= {"SLURM_PROCID", "JSM_NAMESPACE_RANK"}
    told = []
    for name in (*RANKS, *SIZES, "MASTER_ADDR"):
        if name in strays and (value := os.environ.pop(name, "")):
            harmless = LOCAL if name == "MASTER_ADDR" else ("1",) if name in SIZES else ("0",)
            told += [f"{name}={value}"] if value not in harmless else []
    if by is not None or not told:
        return None
    starters = "torchrun or srun" if command in BY_LIGHTNING else "torchrun"
    hand = f"; by hand, all of {', '.join(RENDEZVOUS)} are needed" if "WORLD_SIZE" in " ".join(told) else ""
    return f"ignoring {', '.join(told)}: this process was not started by {starters}{hand}"


def number_of(name: str) -> int:
    """The number in a variable, -1 without one."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else -1
