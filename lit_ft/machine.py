"""The machine: the libraries' environment variables, the hardware and versions of a run, its memory.

Imports only the standard library at the top, because the environment is set before torch is imported.
"""

import os
import platform
import resource
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from lit_ft import __version__

LIBRARIES = ("torch", "lightning", "transformers", "tokenizers", "datasets", "trl", "torchmetrics")


def device_type(accelerator: Any = "auto") -> str:
    """The device that a run will use: `cpu`, `cuda` or `mps`.

    Args:
        accelerator: The value of `trainer.accelerator`: a name, or the settings of a class.
    """
    import torch

    if "cpu" in str(accelerator).lower():
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.accelerator.is_available() else "cpu"


def peak_memory_gb(device: str | None = None) -> float:
    """The peak memory of this process so far, in 10^9 bytes: of the GPU, if it computes there.

    Args:
        device: A `device_type`; by default the automatic one.
    """
    import torch

    on_gpu = (device or device_type()) == "cuda"
    return torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_host_memory_gb()


def memory_gb(device: str | None = None) -> float:
    """The memory of the device, in 10^9 bytes: of the first GPU, or what this process may use of the host's.

    Args:
        device: A `device_type`; by default the automatic one.
    """
    import torch

    if (device or device_type()) == "cuda":
        return torch.cuda.get_device_properties(0).total_memory / 1e9
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    found += [int(line) for line in _lines(Path("/sys/fs/cgroup/memory.max")) if line.isdigit()]
    return min(found) / 1e9


def free_memory_gb() -> float:
    """What is left of the host's memory for this process and new ones, in 10^9 bytes."""
    found = [memory_gb("cpu")]
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024 / 1e9)
    used = [int(line) for line in _lines(Path("/sys/fs/cgroup/memory.current")) if line.isdigit()]
    cached = [
        int(line.split()[1])
        for line in _lines(Path("/sys/fs/cgroup/memory.stat"))
        if line.startswith("inactive_file ")
    ]  # pages of files, which the system gives back when they are needed
    if used:
        found.append(memory_gb("cpu") - (used[0] - sum(cached)) / 1e9)
    return max(min(found), 0.0)


def peak_host_memory_gb() -> float:
    """The peak of this process's host memory so far, in 10^9 bytes."""
    # On Linux ru_maxrss starts from the memory of the parent process, so it is only the fallback.
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def speed_figures(
    seconds: float, samples: float, tokens: float, computed_tokens: float, device: str | None = None
) -> dict[str, float]:
    """Speed, share of the computed tokens that are real, and peak memory so far, under their tags' last part.

    Args:
        seconds: The time that the counts took.
        samples: Rows of the batches.
        tokens: Their real tokens.
        computed_tokens: The same with padding.
        device: `device_type`; by default that of a run which nobody tells where to compute.
    """
    seconds = max(seconds, 1e-9)
    return {
        "samples_per_second": samples / seconds,
        "tokens_per_second": tokens / seconds,
        "real_share": tokens / max(computed_tokens, 1),
        "peak_memory_gb": peak_memory_gb(device),
    }


def hardware(device: str | None = None, count: int | None = None) -> str:
    """The processors of a run, in a few words.

    Args:
        device: A `device_type`; by default the automatic one.
        count: The number of GPUs; by default all that this process sees.
    """
    import torch

    if (device or device_type()) == "cuda":
        return f"{count or torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    names = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores, {name}, {torch.get_num_threads()} threads"


def multiplies_bfloat16(device: str | None = None) -> bool | None:
    """Whether a device multiplies bfloat16 in hardware; None if nothing is known about the processor.

    Args:
        device: A `device_type`; by default the automatic one.
    """
    import torch

    device = device or device_type()
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_multiplies_bfloat16() if device == "cpu" else False  # Apple's GPUs compute it in float32


def cpu_multiplies_bfloat16() -> bool | None:
    """Whether the CPU multiplies bfloat16 in hardware; None if nothing is known about it."""
    lines = [line.partition(":")[2].split() for line in _lines(Path("/proc/cpuinfo"))]
    if not any(len(words) > 20 for words in lines):  # the line of flags; no such file outside Linux
        return None
    return any(word in words for words in lines for word in ("avx512_bf16", "amx_bf16", "bf16"))


def automatic_precision(device: str | None = None) -> Literal["32-true", "bf16-mixed"]:
    """The default precision: the faster one; the weights are in float32 in either case."""
    return "bf16-mixed" if multiplies_bfloat16(device) else "32-true"


def bfloat16_advice(precision: str | None, flag: str, device: str | None = None) -> str | None:
    """A warning if bfloat16 was set on a processor that does not multiply it in hardware, else None.

    On such a processor a step of MiniLM took at least three times as long as in float32 (torch 2.13, AVX2).

    Args:
        precision: The precision that was set, such as `bf16-mixed`.
        flag: The flag that sets it.
        device: A `device_type`; by default the automatic one.
    """
    device = device or device_type()
    if not str(precision).startswith("bf16") or device != "cpu" or multiplies_bfloat16(device) is not False:
        return None
    return (
        f"this processor does not multiply bfloat16 itself: {precision} is several times slower here than "
        f"float32; leave out {flag}, or set {flag}=32-true"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def library_versions() -> dict[str, str]:
    """The versions of Python, this program and the libraries that influence results."""
    found = {"python": platform.python_version(), "lit_ft": __version__}
    return found | {name: _version(name) for name in LIBRARIES}


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # `fit` does not need TRL, which may be missing
        return "not installed"


def provenance(
    command: str, seed: int, device: str | None = None, count: int | None = None
) -> dict[str, Any]:
    """What a report says about the origin of a run; device and count as for `hardware`."""
    finished = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    facts = {
        "command": command,
        "seed": seed,
        "hardware": hardware(device, count),
        "versions": library_versions(),
    }
    return {**facts, "finished": finished}


def command_line(args: Sequence[str], packaged: Path) -> str:
    """The command line for a shell; a packaged config appears by its name."""
    shown = [Path(arg).name if Path(arg).parent == packaged else arg for arg in args]
    return shlex.join(["python", "-m", "lit_ft", *shown])


ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # else transformers, datasets and TRL report their use to the Hub
    # transformers (safetensors_conversion.py) posts a pickled model's name and token to a Space
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # tensorboard imports tensorflow where it is installed, which logs a page
    "GRPC_VERBOSITY": "ERROR",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while waiting make a busy machine many times slower
    # GNU's threads, those of torch's wheels for Linux, spin for a moment after all, on x86 for some 20 to 50
    # microseconds: waking one that sleeps takes longer, in thousands of calls a step (docs/performance.md).
    "GOMP_SPINCOUNT": "1000",
    "THP_MEM_ALLOC_ENABLE": "1",  # torch 2.13, on CPUs: pages of 2 MB, docs/performance.md
    "JSONARGPARSE_DEPRECATION_WARNINGS": "off",  # about Lightning 2.6's calls (cli.py), not the user's
    "MPLBACKEND": "Agg",  # figures go to files; the default backend needs a display on some machines
}


def set_environment() -> None:
    """Set the variables that the user has not set."""
    chosen = set(os.environ)
    for name, value in ENVIRONMENT.items():
        if name == "GOMP_SPINCOUNT" and "OMP_WAIT_POLICY" in chosen:  # it would override that
            continue
        os.environ.setdefault(name, value)
