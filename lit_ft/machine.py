"""The machine: what the libraries read from the environment, what a run ran on, and what it took.

Standard library only at the top: the environment is set before torch is imported.
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
    """Where a run will compute: `cpu`, `cuda` or `mps`.

    Args:
        accelerator: As `trainer.accelerator` says it: a name, or a class's settings.
    """
    import torch

    if "cpu" in str(accelerator).lower():
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.accelerator.is_available() else "cpu"


def peak_memory_gb(device: str | None = None) -> float:
    """The most memory that this process held so far, in 10^9 bytes: on the GPU where it computes there.

    Args:
        device: `device_type`; by default that of a run which nobody tells where to compute.
    """
    import torch

    on_gpu = (device or device_type()) == "cuda"
    return torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_host_memory_gb()


def peak_host_memory_gb() -> float:
    """The most of the machine's own memory that this process held so far, in 10^9 bytes."""
    # Not ru_maxrss where there is something else: on Linux it begins with what the starting process held.
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
    """The processors that a run computes on, in a few words.

    Args:
        device: `device_type`; by default that of a run which nobody tells where to compute.
        count: Of GPUs; by default all that this process sees.
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
    """Whether a device multiplies bfloat16 itself; None where nothing is known of the processor.

    Args:
        device: `device_type`; by default that of a run which nobody tells where to compute.
    """
    import torch

    device = device or device_type()
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_multiplies_bfloat16() if device == "cpu" else False  # Apple's GPUs compute it in float32


def cpu_multiplies_bfloat16() -> bool | None:
    """Whether the processor itself does; None where nothing is known of it."""
    lines = [line.partition(":")[2].split() for line in _lines(Path("/proc/cpuinfo"))]
    if not any(len(words) > 20 for words in lines):  # the line of flags; no such file outside Linux
        return None
    return any(word in words for words in lines for word in ("avx512_bf16", "amx_bf16", "bf16"))


def automatic_precision(device: str | None = None) -> Literal["32-true", "bf16-mixed"]:
    """The precision of a run that sets none: the faster one, with weights in float32 in either case."""
    return "bf16-mixed" if multiplies_bfloat16(device) else "32-true"


def bfloat16_advice(precision: str | None, flag: str, device: str | None = None) -> str | None:
    """One line where bfloat16 was asked for on a processor that does not multiply it; None where all is well.

    There a step of MiniLM took at least three times as long as in float32 (torch 2.13, AVX2).

    Args:
        precision: As set, such as `bf16-mixed`.
        flag: That sets it.
        device: `device_type`; by default that of a run which nobody tells where to compute.
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
    """Python, this program and the libraries that decide a result."""
    found = {"python": platform.python_version(), "lit_ft": __version__}
    return found | {name: _version(name) for name in LIBRARIES}


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # `fit` needs no TRL: a GPU machine may come without
        return "not installed"


def provenance(
    command: str, seed: int, device: str | None = None, count: int | None = None
) -> dict[str, Any]:
    """What a report says of how a run came about; device and count as `hardware` takes them."""
    finished = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    facts = {
        "command": command,
        "seed": seed,
        "hardware": hardware(device, count),
        "versions": library_versions(),
    }
    return {**facts, "finished": finished}


def command_line(args: Sequence[str], packaged: Path) -> str:
    """The command that was given, as one line for a shell; a packaged config by its name."""
    shown = [Path(arg).name if Path(arg).parent == packaged else arg for arg in args]
    return shlex.join(["python", "-m", "lit_ft", *shown])


ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # transformers, datasets and TRL count their uses at the Hub otherwise
    # transformers (safetensors_conversion.py) posts a pickled model's name and token to a Space
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # tensorboard imports tensorflow where it is installed, which logs a page
    "GRPC_VERBOSITY": "ERROR",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait make a busy machine many times slower
    # GNU's threads, those of torch's wheels for Linux, spin for a moment after all, on x86 for some 20 to 50
    # microseconds: waking one that sleeps takes longer, in thousands of calls a step (docs/performance.md).
    "GOMP_SPINCOUNT": "1000",
    "THP_MEM_ALLOC_ENABLE": "1",  # torch 2.13, on CPUs: pages of 2 MB, docs/performance.md
    "JSONARGPARSE_DEPRECATION_WARNINGS": "off",  # of Lightning 2.6's calls (cli.py), nothing of the user's
    "MPLBACKEND": "Agg",  # figures go to files; the default backend needs a display on some machines
}


def set_environment() -> None:
    """Set what the user has not."""
    chosen = set(os.environ)
    for name, value in ENVIRONMENT.items():
        if name == "GOMP_SPINCOUNT" and "OMP_WAIT_POLICY" in chosen:  # it would win over that
            continue
        os.environ.setdefault(name, value)
