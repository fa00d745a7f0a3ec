"""Which rank this process has: a launcher's variables count, stray ones are removed."""

import os

import pytest

from lit_ft.launcher import MPI, RANKS, RENDEZVOUS, SIZES, global_rank, ignore_strays, started_by

BY_HAND = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "host0", "MASTER_PORT": "29500"}
TORCHRUN = {**BY_HAND, "LOCAL_RANK": "1", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
SRUN = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
LIGHTNING = {"LIT_FT_FIRST_PROCESS": "12", "LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}
NAMES = {*RANKS, *SIZES, *RENDEZVOUS, *TORCHRUN, *SRUN, *LIGHTNING}


@pytest.fixture
def given(monkeypatch):
    """Have these variables, and no others of their kind."""

    def give(variables: dict[str, str]) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return give


LAUNCHED = {
    "torchrun": (TORCHRUN, "fit", 1),
    "torchrun in a job of SLURM": ({**SRUN, **TORCHRUN}, "fit", 1),
    "torchrun, sft": (TORCHRUN, "sft", 1),
    "by hand": ({**BY_HAND, "LOCAL_RANK": "1"}, "sft", 1),
    "srun": (SRUN, "test", 3),
    "srun, whose script exports the local rank": ({**SRUN, "LOCAL_RANK": "0"}, "fit", 3),
    "Lightning": (LIGHTNING, "predict", 1),
    "the first one of Lightning's": ({"LIT_FT_FIRST_PROCESS": "12"}, "fit", 0),
    "mpirun": ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, "sft", 2),
    "nobody": ({}, "fit", 0),
}


@pytest.mark.parametrize("variables, command, rank", LAUNCHED.values(), ids=LAUNCHED)
def test_a_launchers_variables_count(variables, command, rank, given):
    given(variables)
    assert ignore_strays(command) is None
    assert global_rank() == rank
    kept = {"LOCAL_RANK"} if "SLURM_NTASKS" in variables else set()  # Lightning asks srun there
    assert {name for name in variables if name not in os.environ} <= kept


STRAYS = {
    "a rank": ({"RANK": "1"}, "fit", "RANK=1"),
    "a local rank": ({"LOCAL_RANK": "1"}, "sft", "LOCAL_RANK=1"),
    "no number": ({"RANK": "one"}, "fit", "RANK=one"),
    "a node": (
        {"NODE_RANK": "1", "MASTER_ADDR": "far.example"},
        "fit",
        "NODE_RANK=1, MASTER_ADDR=far.example",
    ),
    "a size": ({"WORLD_SIZE": "2"}, "sft", "WORLD_SIZE=2"),
    "all but the port": (
        {k: v for k, v in BY_HAND.items() if k != "MASTER_PORT"},
        "sft",
        "RANK=1, WORLD_SIZE=2",
    ),
    "one of one": ({**BY_HAND, "WORLD_SIZE": "1"}, "fit", "RANK=1"),
    "SLURM's, outside a job": ({"SLURM_PROCID": "2"}, "fit", "SLURM_PROCID=2"),
    "an interactive job": ({**SRUN, "SLURM_JOB_NAME": "interactive"}, "fit", "SLURM_PROCID=3"),
    "srun does not start sft": (SRUN, "sft", "SLURM_PROCID=3"),
}


@pytest.mark.parametrize("variables, command, told", STRAYS.values(), ids=STRAYS)
def test_strays_are_removed_with_a_warning(variables, command, told, given):
    given(variables)
    line = ignore_strays(command)
    assert line is not None and line.startswith(f"ignoring {told}") and "\n" not in line
    assert ("MASTER_PORT are needed" in line) == ("WORLD_SIZE=2" in told)
    assert global_rank() == 0
    left = {name for name in (*RANKS, *SIZES) if name in os.environ}
    assert not left and ignore_strays(command) is None


def test_harmless_strays_are_removed_without_a_warning(given):
    given({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost"})
    assert ignore_strays("fit") is None and started_by() is None
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"} & os.environ.keys()


def test_mpi_without_its_library_is_nothing_to_lightning(given, monkeypatch):
    given({f"{MPI[0]}_RANK": "1", f"{MPI[0]}_SIZE": "2"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "PMI_RANK=1, PMI_SIZE=2" in ignore_strays("fit") and global_rank() == 0
