"""What a run ran on, and what is said of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_ft import machine
from lit_ft.machine import ENVIRONMENT

FLAGS = (
    "flags\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat fxsr sse sse2 ht avx avx2 fma"
)


@pytest.mark.parametrize(
    ("precision", "flags", "warns"),
    [
        ("bf16-mixed", FLAGS, True),
        ("bf16-true", FLAGS, True),
        ("bf16-mixed", FLAGS + " avx512_bf16", False),
        ("bf16-mixed", FLAGS + " amx_tile amx_bf16", False),
        ("32-true", FLAGS, False),
        (None, FLAGS, False),
        ("bf16-mixed", "", False),  # nothing is known of the processor
    ],
)
def test_bfloat16_where_it_is_slow(precision, flags, warns, monkeypatch):
    monkeypatch.setattr(machine, "_lines", lambda path: ["model name\t: A processor", flags])
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    advice = machine.bfloat16_advice(precision, "--trainer.precision")
    assert (advice is not None) == warns
    if advice:
        assert (
            str(precision) in advice and "set --trainer.precision=32-true" in advice and "leave out" in advice
        )


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        (FLAGS, "32-true"),
        (FLAGS + " avx512_bf16", "bf16-mixed"),
        (FLAGS + " amx_bf16 amx_tile", "bf16-mixed"),
        (FLAGS.replace("flags", "Features") + " i8mm bf16", "bf16-mixed"),  # of ARM
        ("", "32-true"),
    ],
)
def test_precision_of_a_processor(flags, precision, monkeypatch):
    monkeypatch.setattr(machine, "_lines", lambda path: ["model name\t: A processor", flags])
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert machine.automatic_precision() == precision


@pytest.mark.parametrize("native", [True, False])
def test_precision_of_a_gpu(native, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: native)
    assert machine.automatic_precision() == ("bf16-mixed" if native else "32-true")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU that multiplies bfloat16, and a processor that does not."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "A GPU")
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 5e12)
    monkeypatch.setattr(machine, "_lines", lambda path: ["model name\t: A processor", FLAGS])


@pytest.mark.parametrize(
    "accelerator", ["cpu", "CPU", {"class_path": "lightning.pytorch.accelerators.CPUAccelerator"}]
)
def test_a_run_on_the_processor_of_a_machine_with_a_gpu(accelerator, gpu):
    device = machine.device_type(accelerator)
    assert device == "cpu"
    assert machine.automatic_precision(device) == "32-true"
    assert "set --trainer.precision=32-true" in machine.bfloat16_advice(
        "bf16-mixed", "--trainer.precision", device
    )
    assert "A processor" in machine.hardware(device)
    assert "A processor" in machine.provenance("fit", 1, device, 1)["hardware"]
    assert machine.peak_memory_gb(device) < 100


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda", {"class_path": "CUDAAccelerator"}])
def test_a_run_on_the_gpu(accelerator, gpu):
    device = machine.device_type(accelerator)
    assert device == "cuda"
    assert machine.automatic_precision(device) == "bf16-mixed"
    assert machine.bfloat16_advice("bf16-mixed", "--trainer.precision", device) is None
    assert machine.hardware(device) == "8 x A GPU" and machine.hardware(device, 2) == "2 x A GPU"
    assert machine.peak_memory_gb(device) == 5000


def test_fit_takes_the_precision_of_where_it_computes(gpu, lit_ft, fit_args):
    code, _, err = lit_ft("fit", *fit_args, "--trainer.precision=null", "--trainer.max_epochs=1")
    assert code == 0, err
    run = Path("runs/small/version_0")
    assert "precision: 32-true" in (run / "config.yaml").read_text()
    assert "A processor" in (run / "report.json").read_text()
    assert json.loads((run / "metrics.json").read_text())["train/peak_memory_gb"] < 100


def test_packaged_configs_go_by_their_name():
    packaged = Path("/usr/lib/lit_ft/configs")
    args = [
        "fit",
        "--config",
        "/usr/lib/lit_ft/configs/yelp.yaml",
        "--name",
        "a b",
        "--config",
        "own/my.yaml",
    ]
    shown = machine.command_line(args, packaged)
    assert shown == "python -m lit_ft fit --config yelp.yaml --name 'a b' --config own/my.yaml"


def test_memory_is_counted_in_gigabytes():
    assert 0.01 < machine.peak_memory_gb() < 100


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource, torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.empty(1 << 26).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not LARGE_PAGES.is_file() or "[never]" in LARGE_PAGES.read_text(),
    reason="there are no pages of 2 MB",
)
def test_large_tensors_stand_on_large_pages():
    """256 MiB are 65,536 pages of 4 KiB; the environment asks for 128 of 2 MB."""
    asked = subprocess.check_output([sys.executable, "-c", FAULTS], env={**os.environ, **ENVIRONMENT})
    assert int(asked) < 20_000


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells it apart")
def test_memory_is_this_process_s_own_and_not_that_of_the_one_that_started_it():
    code = "from lit_ft.machine import peak_host_memory_gb; print(peak_host_memory_gb())"
    held = b"x" * 500_000_000
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout
    assert len(held) == 500_000_000 and float(out) < 0.1


def test_versions_of_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(machine, "LIBRARIES", ("torch", "no-such-library"))
    found = machine.library_versions()
    assert found["no-such-library"] == "not installed" and found["torch"][0].isdigit()


def test_memory_of_the_machine_and_of_a_container(monkeypatch):
    whole = machine.memory_gb("cpu")
    assert machine.peak_memory_gb("cpu") < whole < 1e5
    limit = {"/sys/fs/cgroup/memory.max": ["2000000000"]}
    monkeypatch.setattr(machine, "_lines", lambda path: limit.get(str(path), []))
    assert machine.memory_gb("cpu") == min(whole, 2.0)
    limit["/sys/fs/cgroup/memory.max"] = ["max"]
    assert machine.memory_gb("cpu") >= min(whole, 2.0)
