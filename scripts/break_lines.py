"""Whether the tests notice a guard that is gone: break lines one by one, and run the tests beside them.

    python scripts/break_lines.py                       # 20 lines over the rooms, seed 17
    python scripts/break_lines.py --seed 3 --lines 5
    python scripts/break_lines.py --list                # what would be broken

A guarded line is an `if` whose body ends by `raise`, or warns. In a copy of the tree its condition is made
one that is never true; then the tests of its room run, those of the module first, and `tests/whole` if all
pass. A failing test kills the line; a line that survives needs a test. Ends with 1 if one survives.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SAYS = {"warn", "say", "leave"}  # functions that tell the user something


class Guard(NamedTuple):
    """An `if` that refuses or warns: its module, its line, its condition as source text."""

    path: Path
    line: int
    condition: str
    where: tuple[int, int, int, int]  # first line, column, last line, column of the condition, from 1 and 0

    @property
    def room(self) -> str:
        return self.path.parent.name if self.path.parent.name != "lit_ft" else "ground"


def guards_of(path: Path) -> Iterator[Guard]:
    """Every guard of a module, from top to bottom."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and refuses(node.body):
            test = node.test
            where = test.lineno, test.col_offset, test.end_lineno or 0, test.end_col_offset or 0
            yield Guard(path, test.lineno, ast.get_source_segment(source, test) or "", where)


def refuses(body: list[ast.stmt]) -> bool:
    """Whether a body ends by raising, or tells the user something."""
    last = body[-1]
    if isinstance(last, ast.Raise):
        return True
    call = last.value if isinstance(last, ast.Expr) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") in SAYS


def chosen(tree: Path, seed: int, count: int) -> list[Guard]:
    """`count` guards of a tree, drawn over the rooms in turn, so that each room has as many as the others."""
    draw = random.Random(seed)
    rooms: dict[str, list[Guard]] = {}
    for path in sorted((tree / "lit_ft").rglob("*.py")):
        for guard in guards_of(path):
            rooms.setdefault(guard.room, []).append(guard)
    for guards in rooms.values():
        draw.shuffle(guards)
    order = sorted(rooms)
    found: list[Guard] = []
    while len(found) < count and any(rooms.values()):
        for room in order:
            if rooms[room] and len(found) < count:
                found.append(rooms[room].pop())
    return found


def broken(guard: Guard) -> str:
    """The module's text with the guard's condition never true; what it evaluates is still evaluated."""
    first, start, last, end = guard.where
    lines = guard.path.read_text(encoding="utf-8").encode().splitlines(keepends=True)  # columns are bytes
    before, after = lines[first - 1][:start], lines[last - 1][end:]
    text = b"".join([lines[first - 1][start:], *lines[first : last - 1], lines[last - 1][:end]])
    if first == last:
        text = lines[first - 1][start:end]
    lines[first - 1 : last] = [before + b"(" + text + b") and False" + after]
    return b"".join(lines).decode()


def test_files(guard: Guard, tree: Path) -> list[list[str]]:
    """The tests to run, one list after the other: the module's, the room's, and those of the whole."""
    folder = tree / "tests" / guard.room
    own = sorted(folder.glob(f"test_*{guard.path.stem}*.py"))
    others = [path for path in sorted(folder.glob("test_*.py")) if path not in own]
    whole = sorted((tree / "tests/whole").glob("test_*.py"))
    groups = [own, others, whole]
    return [[str(path.relative_to(tree)) for path in group] for group in groups if group]


def killed_by(guard: Guard, tree: Path) -> str | None:
    """The first test that fails with the guard broken, None if all pass."""
    sound = guard.path.read_text(encoding="utf-8")
    guard.path.write_text(broken(guard), encoding="utf-8")
    try:
        for files in test_files(guard, tree):
            workers = ["-n", "2", "--dist", "loadfile"] if len(files) > 1 else []
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *workers, *files],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree)},
                capture_output=True,
                text=True,
            )
            if done.returncode not in (0, 5):
                failed = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
                return failed[0].split(" ")[1] if failed else f"pytest, exit code {done.returncode}"
    finally:
        guard.path.write_text(sound, encoding="utf-8")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--list", action="store_true", help="print the lines, run nothing")
    options = parser.parse_args()
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"  # which nobody edits meanwhile
        ignore = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, tree, ignore=ignore)
        (tree / ".venv").symlink_to(ROOT / ".venv")  # scripts/dashboard.sh takes its Python
        guards = chosen(tree, options.seed, options.lines)
        for number, guard in enumerate(guards, 1):
            where = f"{guard.path.relative_to(tree)}:{guard.line}"
            print(f"{number:>3}  {where:<44} if {' '.join(guard.condition.split())[:70]}", flush=True)
            if options.list:
                continue
            begun = time.monotonic()
            test = killed_by(guard, tree)
            survivors += test is None
            seconds = time.monotonic() - begun
            print(f"     {seconds:4.0f} s  {'SURVIVES' if test is None else test}", flush=True)
    if not options.list:
        print(f"{len(guards) - survivors} of {len(guards)} killed (seed {options.seed})")
    return int(survivors > 0)


if __name__ == "__main__":
    raise SystemExit(main())
