"""Leaf: whether the Hugging Face Hub can be reached, and its libraries' errors as one line.

Without a network the libraries try for 23 to 46 s before they say so; with their offline switch on they say
it at once, and what is in the local cache still loads.
"""

import contextlib
import importlib.util
import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlparse

from lit_ft.errors import UserError, chain, shorten

_offline_by_probe = False
UNREACHABLE = {
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "ConnectionError",
    "ConnectError",
    "TimeoutException",
    "TransportError",
    "gaierror",
}


def hub_reachable(timeout_seconds: float = 2.0) -> bool:
    """Whether a connection to the Hub (`HF_ENDPOINT` where set) opens in time; False if switched offline.

    Behind a proxy only a real request could tell, so that one is trusted and the answer is True.
    """
    if _switched_off():
        return False
    url = urlparse(_endpoint())
    host, port = url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
    proxies = urllib.request.getproxies()
    if (url.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
        return True
    opened = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout_seconds).close()
            opened.set()

    # in a thread, as the timeout covers neither the look-up of the name nor a host's several addresses
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    return opened.is_set()


def go_offline_if_unreachable(timeout_seconds: float = 2.0) -> bool:
    """Switches the Hub's libraries offline if the Hub does not answer; returns whether they are offline now.

    Works before and after their import: huggingface_hub 2.4 (constants.py) and datasets 5.2 (config.py) copy
    the variable once, when imported; transformers 5.23 asks huggingface_hub each time.
    """
    global _offline_by_probe
    if hub_reachable(timeout_seconds):
        return False
    _offline_by_probe = _offline_by_probe or not _switched_off()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "huggingface_hub.constants" in sys.modules:
        sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    if "datasets.config" in sys.modules:
        sys.modules["datasets.config"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        sys.modules["datasets.config"].HF_DATASETS_OFFLINE = True  # type: ignore[attr-defined]
    return True


def check_cached(wanted: dict[str, str], sample_config: str) -> None:
    """Refuses what only a Hub that does not answer could give, before any library is imported.

    Args:
        wanted: `model` or `dataset` -> name on the Hub, `name@revision` too; `sample` and folders pass.
        sample_config: as in `hub_errors`.

    Raises:
        UserError: The Hub does not answer, and the local cache has no folder for one of the names. Whether
            all of it is in that folder, only loading tells.
    """
    named = {kind: name for kind, name in wanted.items() if names_hub(name)}
    if named and go_offline_if_unreachable():
        for kind, name in named.items():
            if not _was_cached(kind, name.rpartition("@")[0] or name):
                raise UserError(unreachable(f"{kind} '{name}'", sample_config))


def names_hub(name: str) -> bool:
    """Whether a model's or dataset's name can only mean one on the Hub."""
    ours = name == "sample" or name.startswith(("sft:", ".", "/", "~")) or name.count("/") > 1
    return not ours and not os.path.exists(name)


def _was_cached(kind: str, name: str) -> bool:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{home}/huggingface"
    files = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    folders = [f"{files}/{kind}s--{name.replace('/', '--')}"]
    if kind == "dataset":
        prepared = os.environ.get("HF_DATASETS_CACHE") or f"{home}/datasets"
        folders.append(f"{prepared}/{name.replace('/', '___')}")
    return any(os.path.isdir(os.path.expandvars(os.path.expanduser(folder))) for folder in folders)


@contextlib.contextmanager
def hub_errors(what: str, sample_config: str) -> Iterator[None]:
    """Turns what the Hub's libraries raise inside into one `UserError`; a bug of ours passes unchanged.

    Args:
        what: what is being loaded, such as `dataset 'Yelp/yelp_review_full'`.
        sample_config: the config to name that needs no network, such as `sample.yaml`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = _explain(error, what, sample_config)
        if message is None:
            raise
        raise UserError(message) from None


def unreachable(what: str, sample_config: str) -> str:
    """The line for what the Hub alone has, while it does not answer or is switched off."""
    start, way_out = f"could not load {what}:", f"try --config {sample_config}"
    if _switched_off() and not _offline_by_probe:
        return f"{start} HF_HUB_OFFLINE is set and it is not in the local cache; unset it, or {way_out}"
    return (
        f"{start} the Hub at {_endpoint()} cannot be reached and it is not in the local cache; check the "
        f"network or {way_out}"
    )


def _explain(error: BaseException, what: str, sample_config: str) -> str | None:
    links = list(chain(error, suppressed=True))
    # by name: importing the classes here would import their libraries
    names = {cls.__name__ for link in links for cls in type(link).__mro__}
    texts = " ".join(str(link) for link in links)
    status = next((s for link in links if (s := _status(link)) is not None), 0)
    start, way_out = f"could not load {what}:", f"try --config {sample_config}"
    # datasets 5.2 (load.py) drops the cause and keeps only the text
    if "GatedRepoError" in names or "is a gated dataset on the Hub" in texts or status == 403:
        return (
            f"{start} it is gated, and access is given on its page at {_endpoint()}; then run "
            f"`hf auth login`, or {way_out}"
        )
    if "trust_remote_code" in texts:
        return f"{start} it needs code of its own, which is never run here; take a model that needs none"
    if "tiktoken" in texts:  # as transformers 5.23 (tokenization_utils_tokenizers.py) says of all such files
        if importlib.util.find_spec("sentencepiece") is None:
            return f"{start} it is read by a library that is not installed; run `pip install sentencepiece`"
        return (
            f"{start} its vocabulary, such as spm.model, cannot be read as a sentencepiece model; copy or "
            "save it again, with a tokenizer.json"
        )
    if "UnpicklingError" in names:
        return f"{start} its pickle holds more than weights (nothing of it was run); take another one"
    if "Dataset scripts are no longer supported" in texts:  # datasets 5.2, load.py
        return f"{start} it is read by a script of its own, which is never run here; take its data files"
    if "RevisionNotFoundError" in names:
        return f"{start} the Hub at {_endpoint()} has it, but not in that revision; check the part behind '@'"
    if "HFValidationError" in names or "Couldn't find any data file at" in texts:
        return f"{start} there is no such folder, and it cannot be a name on the Hub; check the path"
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return (
            f"{start} it is neither a local folder nor a name that the Hub at {_endpoint()} shows to you; "
            "check the spelling, or run `hf auth login` if it is private"
        )
    if status == 429 or status >= 500:
        return f"{start} the Hub at {_endpoint()} answers with status {status}; try again later, or {way_out}"
    if names & UNREACHABLE or "We couldn't connect to" in texts:
        return unreachable(what, sample_config)
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"{start} {error.strerror} ({error.filename}); check the disk, or set HF_HOME to another folder"
        )
    if names & {"OSError", "ValueError", "DatasetsError", "SafetensorError", "HTTPError"}:
        error = error.__cause__ or error if "DatasetGenerationError" in names else error
        line = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split()).rstrip(".")
        return f"{start} {shorten(line, 200)}; check it, or {way_out}"
    return None


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _switched_off() -> bool:
    flags = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(flag.upper() in {"1", "ON", "YES", "TRUE"} for flag in flags)
