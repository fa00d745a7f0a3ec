"""`report`: writes a run's report again, or compares several runs. Imports no torch for `--help`."""

import os
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from lit_ft import runs
from lit_ft.console import say
from lit_ft.errors import UserError, unusable
from lit_ft.settings.parser import OneLineErrors


def _parse(args: Sequence[str]) -> Namespace:
    parser = OneLineErrors(
        prog="python -m lit_ft report",
        usage="python -m lit_ft report RUN [RUN ...] [--output FILE]",
        description="Write the report.html of a run again; of several runs, one table that compares them.",
    )
    help_runs = (
        "a run folder such as runs/sample/version_0, a name for the newest run of that name, or the folder "
        "of a repeat or a search"
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help=help_runs)
    parser.add_argument("--output", help="the file of the comparison (default: runs/comparison.html)")
    return parser.parse_args(args)


def find_run(name: str) -> Path:
    """The run folder at a path, or the newest finished one of a name."""
    folder = Path(os.path.expanduser(name))
    if folder.is_dir() and (folder / runs.METRICS).is_file():
        return folder
    if runs.NAME.fullmatch(name):
        finished = [run for run in runs.versions(name) if (run / runs.METRICS).is_file()]
        if finished:
            return finished[0]
    for file, kind in ((runs.REPEAT, "repeat"), (runs.SEARCH, "search")):
        if (folder / file).is_file():
            of_it = min((path.parent for path in folder.rglob(runs.METRICS)), default=folder / "RUN")
            raise UserError(
                f"expected single runs to compare, found the {kind} {name}, which is shown alone; name runs "
                f"of it, such as {of_it}"
            )
    files = (f"version_*/{runs.METRICS}", f"repeat_*/{runs.REPEAT}", f"search_*/{runs.SEARCH}")
    known = [path for file in files for path in runs.RUNS.glob(f"*/{file}")]
    known.sort(key=lambda path: (-path.stat().st_mtime, path))
    newest, more = ", ".join(str(path.parent) for path in known[:5]), len(known) - 5
    listed = (
        f"the newest are {newest}{f' and {more} more' * (more > 0)}"
        if known
        else f"there is none under {runs.RUNS}"
    )
    raise UserError(f"expected a finished run or a run's name, found {name!r}; {listed}")


def _output(name: str) -> Path:
    """The file for a comparison; only an earlier comparison is replaced."""
    path = Path(os.path.expanduser(name))
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        found = f"the folder {path}" if path.is_dir() else str(path)
        raise UserError(f"expected a .html for --output, found {found}; set --output=comparison.html")
    if path.exists() and not path.is_file():
        raise UserError(f"expected a file for --output, found the device or pipe {path}; name a .html")
    if path.is_file() and b"runs compared</title>" not in path.read_bytes()[:10_000]:
        raise UserError(f"{path} exists, and is no comparison of runs; set --output to another file")
    return path.resolve()  # writes the target of a link, not the link


def _repeat_in(name: str) -> Path | None:
    """The folder of a `repeat`, if that is what is named."""
    folder = Path(os.path.expanduser(name))
    return folder if (folder / runs.REPEAT).is_file() else None


def _of_repeat(folder: Path, output: str | None) -> int:
    """Write the page of a repeat again."""
    from lit_ft.report.repeat_page import read_repeat, write_repeat

    if output:
        raise UserError(
            "report: --output is for a comparison of several runs; a repeat's page is in its folder"
        )
    with unusable(str(folder), "give the same `repeat` again, which writes it"):
        path = write_repeat(folder, read_repeat(folder))
    say(f"report: {path}")
    return 0


def _of_search(folder: Path, output: str | None) -> int:
    """Write the page of a search again."""
    from lit_ft.report.search_page import write_search

    if output:
        raise UserError(
            "report: --output is for a comparison of several runs; a search's page is in its folder"
        )
    advice = "give the same `search` again, which writes it"
    with unusable(str(folder), advice):
        path = write_search(folder, runs.read_values(folder / runs.SEARCH, advice))
    say(f"report: {path}")
    return 0


def main(command: str, args: list[str]) -> int:
    """Run `report` and return the exit code."""
    options = _parse(args)
    if len(options.runs) == 1 and (repeat := _repeat_in(options.runs[0])) is not None:
        return _of_repeat(repeat, options.output)
    search = Path(os.path.expanduser(options.runs[0]))
    if len(options.runs) == 1 and (search / runs.SEARCH).is_file():
        return _of_search(search, options.output)
    folders = [find_run(name) for name in options.runs]
    if len(folders) == 1:
        if options.output:
            raise UserError(
                "report: --output is for a comparison of several runs; one run's report is in its folder"
            )
        from lit_ft.report.page import read_run, write_report

        with unusable(f"the run {folders[0]}", "give another one, or train it again"):
            path = write_report(folders[0], *read_run(folders[0]))
        say(f"report: {path}")
        return 0
    from lit_ft.report.comparison import as_text, compare, write_comparison

    path = _output(options.output) if options.output else runs.RUNS / "comparison.html"
    with unusable(f"one of {', '.join(map(str, folders))}", "leave it out, or train it again"):
        compared = compare(folders)
        text = as_text(compared)
    say(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_comparison(compared, path)
    say(f"\nreport: {runs.shown(path)}")
    return 0
