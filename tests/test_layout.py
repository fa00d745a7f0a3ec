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
LIGHT = {
    "__init__",
    "__main__",
    "config_file",
    "environment",
    "errors",
    "hub",
    "parser",
    "preflight",
    "runs",
    "secret_values",
    "setting_keys",
}  # no HEAVY at the top level
LEAVES = {
    "audit",
    "token_budget",
    "errors",
    "optim",
    "runs",
    "sample_phrases",
    "config_file",
    "labels",
    "hub",
}
LEAVES |= {"text_keys", "analysis", "board", "figures", "markdown", "plain_parser", "setting_keys"}
LEAVES |= {"mlm_figures", "secret_values", "setting_types", "model_checks", "skips", "save_clock"}
LEAVES |= {"mlm_checkpoint_sums", "on_its_way", "dropout_mask", "environment"}
COMMAND_MODULES = {module for module, _ in COMMANDS.values()}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Full names of the modules that a file imports; a name taken out of `lit_ft` counts as a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
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


def test_who_may_import_whom() -> None:
    assert ours("__main__") == {"environment", "errors"}
    for name in LEAVES & set(MODULES):
        assert ours(name) <= {"errors"}, f"{name} is a leaf"
    for name in MODULES:
        taken = ours(name) & COMMAND_MODULES
        assert not taken, f"{name} imports {taken}; what both need belongs in a module of its own"
    assert not ours("data") & {"model"} and not ours("model") & {"data"}, "they meet on the command line"


def test_light_modules_import_nothing_heavy_at_the_top() -> None:
    for name in LIGHT & set(MODULES):
        roots = {found.split(".")[0] for found in imports(MODULES[name], top_level_only=True)}
        assert not roots & HEAVY, f"{name}.py imports {roots & HEAVY} at its top"
    for name in ("__main__", "environment"):
        standard = {found.split(".")[0] for found in imports(MODULES[name])} - {"lit_ft"}
        assert standard <= sys.stdlib_module_names


def test_starting_loads_no_torch() -> None:
    code = f"""import sys
import lit_ft.__main__ as entry, lit_ft.parser
entry.main(["--help"])
entry.main(["fit", "--config", "missing"])
print("loaded", {HEAVY!r} & set(sys.modules))"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=60
    )
    assert done.stdout.endswith("loaded set()\n"), done.stdout + done.stderr


def test_files_stay_readable() -> None:
    long = {path.name: n for path in PACKAGE.glob("*.py") if (n := len(path.read_text().splitlines())) > 250}
    assert not long, f"over 250 lines: {long}"
    assert "utils" not in MODULES
