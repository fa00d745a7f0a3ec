"""Waiting threads and freed memory when training on CPUs."""

import os
import platform
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import REPOSITORY

from lit_ft import machine as environment
from lit_ft.speed import host as cpu_training

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BLOCKS = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no pages of 2 MB: their faults are too few to count
import torch
from lit_ft.speed import host as cpu_training
assert cpu_training.keep_freed_memory() is {kept}
for step in range(6):
    if step == 3:  # the first ones find their places
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.empty(3 << 22).fill_(1) for _ in range(8)]  # of 48 MiB
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, int]]:
    """What the C library's mallopt was asked; it answers yes."""
    made: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *call: made.append(call) or 1)
    monkeypatch.setattr(cpu_training.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cpu_training.os, "environ", {})
    return made


@pytest.mark.slow
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64",
    reason="torch's memory comes from glibc on Linux with x86-64",
)
def test_freed_blocks_are_reused_without_page_faults():
    given = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "LD_PRE"))}
    given |= {"PYTHONPATH": str(REPOSITORY), "GLIBC_TUNABLES": ""}
    own = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}  # glibc's own upper limit
    faults = {
        kept: int(subprocess.check_output([sys.executable, "-c", BLOCKS.format(kept=kept)], env=env))
        for kept, env in ((True, given), (False, given | own))
    }
    touched = 3 * 8 * (48 << 20) / resource.getpagesize()
    assert faults[False] > 0.9 * touched and faults[True] < 0.3 * touched, faults


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_only_training_on_cpus_is_changed(device, calls):
    cpu_training.prepare(device)
    assert calls == [(-1, -1), (-4, 0)] * (device == CPU)  # no trimming, no block of the system's own


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("LD_PRELOAD", "libjemalloc.so", False),
        ("LD_PRELOAD", "", True),
        ("MALLOC_ARENA_MAX", "2", False),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0", False),
        ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=2000", True),
        ("MALLOCS", "1", True),
    ],
)
def test_the_users_own_settings_win(name, value, changed, calls):
    os.environ[name] = value  # the fixture's
    assert cpu_training.keep_freed_memory() is changed and bool(calls) is changed


@pytest.mark.parametrize("surroundings", ["musl", "refused", "macOS"])
def test_without_glibc_nothing_fails(surroundings, calls, monkeypatch):
    if surroundings == "macOS":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        library = SimpleNamespace() if surroundings == "musl" else SimpleNamespace(mallopt=lambda *call: 0)
        monkeypatch.setattr(cpu_training.ctypes, "CDLL", lambda name: library)
    assert cpu_training.keep_freed_memory() is False and calls == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ("PASSIVE", "1000")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", None)),  # a count of spins would win over it
        ({"GOMP_SPINCOUNT": "7"}, ("PASSIVE", "7")),
    ],
)
def test_threads_wait_as_the_user_says_or_spin_for_a_moment(given, found, monkeypatch):
    values = dict(given)
    monkeypatch.setattr(environment, "os", SimpleNamespace(environ=values))
    environment.set_environment()
    assert (values["OMP_WAIT_POLICY"], values.get("GOMP_SPINCOUNT")) == found
    assert values["THP_MEM_ALLOC_ENABLE"] == "1"
