"""Leaf, standard library only: what the libraries read from the environment while they are imported."""

import os

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
