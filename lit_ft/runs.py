"""Run folders, `runs/<name>/version_<n>/`, and the cache folder. Standard library only."""

import contextlib
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from lit_ft.errors import UserError, unusable

RUNS = Path("runs")
CHECKPOINTS, MODEL, METRICS, CONFIG = "checkpoints", "model", "metrics.json", "config.yaml"
LOSS_CURVE, FACTS, REPORT, BASELINE = "loss.png", "report.json", "report.html", "baseline"
REPEAT, REPEAT_REPORT = "repeat.json", "repeat.html"  # in the folder of a `repeat`
SEARCH, SEARCH_REPORT = "search.json", "search.html"  # in the folder of a `search`
PER_TEXT = {  # by the prefix of the tags
    "test": "test_predictions.parquet",
    "fold": "fold_predictions.parquet",
    "val": "val_predictions.parquet",
}
NAME = re.compile(r"[\w][\w.+-]*")


def check_name(name: str) -> str:
    """Refuse a run name that would not be a single folder below `runs/`."""
    if not NAME.fullmatch(name):
        raise UserError(f"expected a run name of letters, digits, '_', '-', '.', found {name!r}; set --name")
    return name


def folders(name: str, kind: str) -> list[Path]:
    """The folders `<kind>_<n>` of a name, newest first."""
    found = [(int(p.name[len(kind) + 1 :]), p) for p in (RUNS / name).glob(f"{kind}_*") if _numbered(p, kind)]
    return [path for _, path in sorted(found, reverse=True)]


def _numbered(path: Path, kind: str) -> bool:
    return path.name[len(kind) + 1 :].isdigit()


def versions(name: str) -> list[Path]:
    """The run folders of a name, newest first."""
    return folders(name, "version")


def new_folder(name: str, kind: str) -> Path:
    """Make the next free `runs/<name>/<kind>_<n>/`; two processes that ask at once get different ones."""
    (RUNS / check_name(name)).mkdir(parents=True, exist_ok=True)
    newest = folders(name, kind)
    number = int(newest[0].name[len(kind) + 1 :]) + 1 if newest else 0
    while True:
        path = RUNS / name / f"{kind}_{number}"
        try:
            path.mkdir()  # atomic: fails if another process was faster
            return path
        except FileExistsError:
            number += 1


def new_run(name: str) -> Path:
    """Make the next free run folder of a name."""
    return new_folder(name, "version")


def discard_if_empty(run: Path) -> None:
    """Remove a run folder if nothing was written in it."""
    for folder in (run, run.parent, run.parent.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def is_readable(checkpoint: Path) -> bool:
    """Whether a checkpoint is a complete zip archive with right checksums (`torch.load` checks none)."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def checkpoints_of(run: Path, which: str) -> Iterator[Path]:
    """The checkpoint files of a run that `best` or `last` can mean, newest first.

    After `last`, which may be damaged, comes `best`, from which a run can resume as well.
    """
    for kind in ("last", "best") if which == "last" else (which,):
        files = (run / CHECKPOINTS).glob(f"{kind}*.ckpt")
        yield from sorted(files, key=lambda p: p.stat().st_mtime, reverse=True)


def find_checkpoint(
    name: str, which: str, among: list[Path] | None = None, newer_than: Path | None = None
) -> tuple[Path | None, list[Path]]:
    """The checkpoint `best` or `last` of the newest run with an intact one, and the damaged ones before it.

    Args:
        name: The name of the run.
        which: `best` or `last`.
        among: The run folders to search, newest first; by default all of that name.
        newer_than: A checkpoint; its run and older ones are not searched.
    """
    damaged: list[Path] = []
    for run in versions(name) if among is None else among:
        if newer_than is not None and newer_than.is_relative_to(run):
            break
        for path in checkpoints_of(run, which):
            if is_readable(path):
                return path, damaged
            damaged.append(path)
    return None, damaged


def is_run(folder: Path) -> bool:
    """Whether a folder is one that `fit` or `sft` made."""
    return (folder / CONFIG).is_file() and any(
        (folder / name).exists() for name in (CHECKPOINTS, METRICS, MODEL)
    )


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that contains a checkpoint file; None for a file elsewhere."""
    run = checkpoint.resolve().parent.parent
    in_run = checkpoint.resolve().parent.name == CHECKPOINTS and (run / CONFIG).is_file()
    if not in_run:
        return None
    return shown(run)


def shown(path: Path) -> Path:
    """A path as a person would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_metrics(run: Path) -> dict[str, Any]:
    """The run's `metrics.json`; {} if there is none."""
    return read_values(run / METRICS)


def add_metrics(
    run: Path, metrics: dict[str, Any], without: Callable[[str], bool] = lambda tag: False
) -> dict[str, Any]:
    """Merge values into the run's `metrics.json`, rounded, without the old tags that `without` names.

    Returns:
        What the file holds now.
    """
    return _merge(run / METRICS, {tag: rounded(value) for tag, value in metrics.items()}, without)


DIGITS = 6  # of a figure in metrics.json: beyond what any evaluation can tell apart


def rounded(value: Any) -> Any:
    """A number to 6 decimal places below 1, else to 6 significant digits; whole numbers stay whole."""
    if not isinstance(value, float) or not math.isfinite(value) or value.is_integer():
        return value
    return round(value, DIGITS) if abs(value) < 1 else float(f"{value:.{DIGITS}g}")


def read_facts(run: Path) -> dict[str, Any]:
    """The run's `report.json`; {} if there is none."""
    return read_values(run / FACTS)


def add_facts(run: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Merge into the run's `report.json` what a report shows beside the metrics; returns the whole."""
    return _merge(run / FACTS, facts)


def write(path: Path, text: str) -> None:
    """Write a file atomically: a reader never sees half of it."""
    with written_whole(path) as file:
        # File names can contain bytes that are not UTF-8, which Python reads as half of a surrogate pair.
        file.write(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file to write, then flushed and renamed to `path`; a failed write leaves nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_values(path: Path, advice: str = "replace it by an intact copy, or delete it") -> dict[str, Any]:
    """The plain values in a file; {} if there is none.

    Args:
        path: The file.
        advice: What to do if it is damaged.

    Raises:
        UserError: It is.
    """
    if not path.is_file():
        return {}
    with unusable(str(path), advice):
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, found {json.dumps(values)[:40]}")
        return values


def _merge(
    path: Path, values: dict[str, Any], without: Callable[[str], bool] = lambda tag: False
) -> dict[str, Any]:
    kept = {tag: value for tag, value in read_values(path).items() if not without(tag)}
    return write_values(path, dict(sorted({**kept, **values}.items())))


def write_values(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Write a file of plain values; returns them as they are read back, without NaN and infinity."""
    written: dict[str, Any] = _sound(values)
    # A list of plain values is one line, a matrix one line per row. Only a list begins with `[` and a line
    # break: in a string the break would be escaped.
    text = re.sub(r"\[\n[^][{}]*\]", _in_one_line, json.dumps(written, indent=2))
    write(path, text + "\n")
    return written


def _in_one_line(found: re.Match[str]) -> str:
    return found[0] if '"' in found[0] else f"[{' '.join(found[0][1:-1].split())}]"


def _sound(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {key: _sound(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sound(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cache_dir() -> Path:
    """`$LIT_FT_CACHE`, else `$XDG_CACHE_HOME/lit_ft`, else `~/.cache/lit_ft`. Safe to delete."""
    if own := os.environ.get("LIT_FT_CACHE"):
        return Path(os.path.expanduser(own))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lit_ft"


def make_cache(folder: Path) -> None:
    """Make a folder inside `cache_dir`.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"expected a writable cache folder, found {cache_dir()} ({error}); set the "
            "environment variable LIT_FT_CACHE=FOLDER to another one"
        ) from error
