"""The house: rooms in an order, imports that go down only, readable files, a start without torch."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "lit_ft"
# A room imports the ground, rooms of a floor below its own, and itself.
FLOORS = [
    {"settings", "sample", "speed", "reliability", "report"},
    {"data"},
    {"models"},
    {"classifier", "masked_lm"},
    {"commands"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS, 1) for room in rooms}
SERVICE = FLOORS[0]
HEAVY = {"torch", "transformers", "datasets", "lightning", "trl", "torchmetrics", "accelerate"}
MOST_LINES = 450


def modules() -> dict[str, Path]:
    """Dotted name in the package -> file, of every module but the rooms' `__init__`."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__init__.py"
    }


MODULES = modules()


def room_of(module: str) -> str:
    """The room of a module; `` for the ground."""
    room, _, rest = module.partition(".")
    return room if rest else ""


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports anywhere in it; a name out of a package may be a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path.name}, line {node.lineno}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> set[str]:
    """The modules of this package that one imports."""
    return {name.removeprefix("lit_ft.") for name in imported(MODULES[module])} & MODULES.keys() - {module}


def public_functions(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {n.name for n in body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}


def test_the_rooms_are_ten():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == FLOOR.keys()
    for room in rooms:
        body = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), f"{room}/__init__.py: a docstring alone"


def test_imports_go_down_only():
    upward = []
    for module in MODULES:
        room = room_of(module)
        for other in ours(module):
            there = room_of(other)
            entry = module == "__main__" and there == "settings"
            if there != room and FLOOR.get(there, 0) >= FLOOR.get(room, 0) and not entry:
                upward.append(f"{module} imports {other}")
            if other == "__main__":
                upward.append(f"{module} imports __main__")
    assert upward == []


def test_no_circle():
    try:
        TopologicalSorter({name: ours(name) for name in MODULES}).prepare()
    except CycleError as ex:
        pytest.fail(f"import cycle: {' <- '.join(ex.args[1])}")


def test_what_a_kind_of_label_means_stands_in_tasks_alone():
    """No other module compares the name of a task, or of its kind of report: they use what it gives."""
    from lit_ft.tasks import TASKS

    names = {*TASKS, *(task.report for task in TASKS.values())}
    comparing = []
    for module in MODULES.keys() - {"tasks"}:
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Compare, ast.MatchValue)):
                found = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                if names & {value for value in found if isinstance(value, str)}:
                    comparing.append(f"{module}, line {node.lineno}")
    assert comparing == []


@pytest.mark.slow
def test_only_fit_pays_for_lightning():
    """No room but `classifier` and `commands` imports it; and of the commands `sft` none that does."""
    for module, path in MODULES.items():
        if room_of(module) not in ("classifier", "commands"):
            assert not {n for n in imported(path) if n.partition(".")[0] == "lightning"}, module
    code = "import sys, lit_ft.commands.sft, lit_ft.masked_lm.run; print('lightning' in sys.modules)"
    assert output(code) == "False\n"


def test_starting_loads_no_torch():
    code = f"""import sys
import lit_ft.__main__ as entry, lit_ft.settings.parser
for args in ["--help"], ["fit", "--config", "missing"], ["sft", "--help"]:
    try:
        entry.main(args)
    except SystemExit:  # of the help
        pass
print("loaded", {HEAVY!r} & set(sys.modules))"""
    assert output(code).endswith("loaded set()\n")


def output(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_stay_readable():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}
    assert not {name for name in MODULES if name.rpartition(".")[2] in ("utils", "common", "helpers")}


def test_a_name_is_defined_once():
    """A function's name stands once in its room, and once in all the service rooms."""
    places = defaultdict(list)
    for module, path in MODULES.items():
        room = room_of(module)
        for name in public_functions(path):
            if room == "commands" and name in ("main", "make_parser"):
                continue
            places["the service rooms" if room in SERVICE else room, name].append(module)
    assert not {key: found for key, found in places.items() if len(found) > 1}
