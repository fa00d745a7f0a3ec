"""The package's shape: imports go one way, files stay readable, and starting costs no torch."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from lit_ft.__main__ import COMMANDS

PACKAGE = Path(__file__).parents[1] / "lit_ft"
MODULES = {path.stem: path for path in PACKAGE.glob("*.py")}
HEAVY = {"torch", "transformers", "datasets", "lightning", "trl", "torchmetrics", "accelerate"}
COMMAND_MODULES = {module for module, _ in COMMANDS.values()}
MOST_LINES = 450


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports; a name taken out of `lit_ft` counts as a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: relative import"
            assert node.module is not None
            found |= {f"lit_ft.{a.name}" for a in node.names} if node.module == "lit_ft" else {node.module}
    return found


def ours(name: str) -> set[str]:
    """The modules of this package that module `name` imports, anywhere in it."""
    return {found.split(".")[1] for found in imports(MODULES[name]) if found.startswith("lit_ft.")} & set(
        MODULES
    )


def test_imports_go_one_way() -> None:
    """No cycle. `__main__` imports its commands by name, so that what they take from it is none."""
    try:
        TopologicalSorter({name: ours(name) for name in MODULES}).prepare()
    except CycleError as ex:
        pytest.fail(f"import cycle: {' <- '.join(ex.args[1])}")


def test_nobody_imports_a_command() -> None:
    for name in MODULES:
        taken = ours(name) & COMMAND_MODULES
        assert not taken, f"{name} imports {taken}; what both need belongs in a module of its own"
    assert not ours("data") & {"model"} and not ours("model") & {"data"}, "they meet on the command line"


def test_starting_loads_no_torch() -> None:
    code = f"""import sys
import lit_ft.__main__ as entry, lit_ft.parser
for args in ["--help"], ["fit", "--config", "missing"], ["sft", "--help"]:
    try:
        entry.main(args)
    except SystemExit:  # of the help
        pass
print("loaded", {HEAVY!r} & set(sys.modules))"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=60
    )
    assert done.stdout.endswith("loaded set()\n"), done.stdout + done.stderr


def test_files_stay_readable() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.glob("*.py")}
    assert not {name: n for name, n in lines.items() if n > MOST_LINES}
    assert "utils" not in MODULES
