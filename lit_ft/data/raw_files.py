"""The files behind a Hub dataset or a folder, by split, so that our reader reads them.

`datasets` finds which files belong to which split. Its own readers of csv and json turn `NA` into a missing
value and 007 into 7 (5.2: packaged_modules/csv/csv.py, by pandas).
"""

import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import datasets
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.text.text import Text

from lit_ft.console import warn
from lit_ft.data.formats import FORMATS
from lit_ft.errors import quoted, unusable
from lit_ft.runs import cache_dir

KINDS = {Csv: ".csv", Json: ".json", Text: ".txt"}
FOUND_BY_DATASETS = {
    "name",
    "version",
    "data_dir",
    "data_files",
    "description",
    "sep",
}  # not by a card
PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
CARDS = ("README.md", ".huggingface.yaml")


@dataclasses.dataclass(frozen=True)
class RawFiles:
    """Files of one format.

    Attributes:
        suffix: The suffix of the format.
        splits: Name of a split -> its files on this machine, in order.
    """

    suffix: str
    splits: dict[str, list[str]]


def raw_files(builder: datasets.DatasetBuilder) -> RawFiles | None:
    """The files of a csv, json or text builder, downloaded and unpacked; None for any other.

    Also None if the dataset's card declares column types or how to read its files; `datasets` then does.
    """
    suffix = next((suffix for kind, suffix in KINDS.items() if isinstance(builder, kind)), None)
    if suffix is None or builder.info.features is not None or _declared(builder.config):
        return None
    config = datasets.DownloadConfig(token=builder.token, storage_options=builder.storage_options)
    manager = datasets.DownloadManager(
        dataset_name=builder.dataset_name, download_config=config, base_path=builder.base_path
    )
    splits: dict[str, list[str]] = {}
    for split, names in builder.config.data_files.items():
        here = manager.download(list(names))
        for name, path in zip(names, here, strict=True):
            if name.endswith(PACKED):  # by name: a packed file called .csv is refused like any other
                with unusable(name, "pack it again, or unpack it"):
                    path = manager.extract(path)
            splits.setdefault(str(split), []).extend(manager.iter_files(path))
    return RawFiles(suffix, splits)


def _declared(config: Any) -> bool:
    """Whether a card says more than where the files are, such as the names of their columns."""
    fields = [field for field in dataclasses.fields(config) if field.name not in FOUND_BY_DATASETS]
    plain = type(config)()
    return any(getattr(config, field.name) != getattr(plain, field.name) for field in fields)


def remember(raw: RawFiles, *asked: str | None) -> None:
    """Store where a Hub dataset's files are: offline, `datasets` finds only what its own readers read."""
    place = _memory(asked)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(dataclasses.asdict(raw)), encoding="utf-8")
    unfinished.replace(place)


def remembered(*asked: str | None) -> RawFiles | None:
    """The files that `remember` stored, or None unless all of them still exist."""
    try:
        raw = RawFiles(**json.loads(_memory(asked).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return raw if all(map(os.path.exists, (p for paths in raw.splits.values() for p in paths))) else None


def _memory(asked: tuple[str | None, ...]) -> Path:
    key = hashlib.sha256(json.dumps([*asked, os.environ.get("HF_ENDPOINT")]).encode()).hexdigest()[:32]
    return cache_dir() / "hub" / f"{key}.json"


def saved_to_disk(folder: str) -> dict[str, list[str]] | None:
    """Split -> Arrow files if `Dataset.save_to_disk` wrote the folder, else None."""
    splits = {"train": Path(folder)}
    try:
        if (Path(folder) / "dataset_dict.json").is_file():
            names = json.loads((Path(folder) / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            splits = {name: Path(folder) / name for name in names}
        states = {split: json.loads((path / "state.json").read_text()) for split, path in splits.items()}
        return {
            split: [str(splits[split] / file["filename"]) for file in state["_data_files"]]
            for split, state in states.items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


@functools.cache  # called for each split
def warn_of_unread(folder: str, taken: frozenset[str]) -> None:
    """Warn of files in a folder that belong to no split; `datasets` ignores them silently."""
    if any((Path(folder) / card).is_file() for card in CARDS):
        return
    read = {os.path.realpath(path) for path in taken}
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in FORMATS)
    left = [str(path) for path in found if os.path.realpath(path) not in read and path.is_file()]
    if left:
        suffix = Path(left[0]).suffix
        warn(
            f"not read: {quoted(left, 3)}, whose name is no split's or whose format differs; set "
            f"--data.train_path, or rename them to train{suffix}, validation{suffix} and test{suffix}"
        )
