"""The proof that a refactor changes nothing: what it takes for the same, and what it sees."""

import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

from same_code import compare_units, read_units  # noqa: E402
from same_files import compare_folders  # noqa: E402

FLAT = {
    "runs.py": 'RUNS = "runs"\n\n\ndef read(path):\n    """Read it."""\n    return path + RUNS\n',
    "fit.py": (
        "from lit_ft import runs\nfrom lit_ft.runs import read as read_run\n\n\n"
        'class Fit:\n    """Fits."""\n\n    at = "lit_ft.signal_at.SignalAt"\n\n'
        "    def fit(self):\n        from lit_ft.runs import RUNS\n\n"
        "        return runs.read(RUNS), read_run(1)\n"
    ),
}
ROOMS = {  # the same, moved: other modules, other imports
    "ground/__init__.py": '"""The ground."""\n',
    "ground/folders.py": FLAT["runs.py"],
    "commands/fit.py": (
        "from lit_ft.ground import folders\nfrom lit_ft.ground.folders import RUNS\n\n\n"
        'class Fit:\n    """Fits."""\n\n    at = "lit_ft.commands.signal_at.SignalAt"\n\n'
        "    def fit(self):\n        return folders.read(RUNS), folders.read(1)\n"
    ),
}


def units_of(folder: Path, files: dict[str, str], without_docstrings: bool = False):
    for name, text in files.items():
        (folder / "lit_ft" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "lit_ft" / name).write_text(text)
    return read_units(folder / "lit_ft", without_docstrings)


def differences(tmp_path: Path, old: dict[str, str], new: dict[str, str], without_docstrings: bool = False):
    places = (tmp_path / "old", old), (tmp_path / "new", new)
    return compare_units(*(units_of(*place, without_docstrings) for place in places))


def test_what_only_moved_is_the_same(tmp_path):
    assert differences(tmp_path, FLAT, ROOMS) == []


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("return path + RUNS", "return RUNS + path", "read"),
        ('RUNS = "runs"', 'RUNS = "run"', "RUNS"),
        ("Read it.", "Read all.", "read"),
    ],
)
def test_what_changed_is_named_with_its_files(before, after, name, tmp_path):
    changed = FLAT["runs.py"].replace(before, after)
    found = differences(tmp_path, FLAT, {**ROOMS, "ground/folders.py": changed})
    assert found == [f"changed: {name} (lit_ft/runs.py -> lit_ft/ground/folders.py)"]


def test_a_method_is_named_with_its_class(tmp_path):
    changed = ROOMS["commands/fit.py"].replace("folders.read(1)", "folders.read(2)")
    found = differences(tmp_path, FLAT, {**ROOMS, "commands/fit.py": changed})
    assert found == ["changed: Fit.fit (lit_ft/fit.py -> lit_ft/commands/fit.py)"]


def test_what_appears_and_disappears(tmp_path):
    new = {**FLAT, "more.py": "def more():\n    return 1\n", "page.j2": "<p>"}
    new["fit.py"] = FLAT["fit.py"].partition("class")[0]
    found = differences(tmp_path, FLAT, new)
    assert found[0] == "disappeared: Fit (lit_ft/fit.py)"
    assert found[2:] == ["appeared: more (lit_ft/more.py)", "appeared: page.j2 (lit_ft/page.j2)"]


def test_without_docstrings_only_they_are_left_out(tmp_path):
    reworded = {name: text.replace("Read it.", "Reads.").replace("Fits.", "") for name, text in ROOMS.items()}
    assert differences(tmp_path / "words", FLAT, reworded, without_docstrings=True) == []
    reworded["ground/folders.py"] = reworded["ground/folders.py"].replace('"runs"', '"run"')
    found = differences(tmp_path / "values", FLAT, reworded, without_docstrings=True)
    assert found == ["changed: RUNS (lit_ft/runs.py -> lit_ft/ground/folders.py)"]


def test_two_runs_are_compared_but_for_the_clock(tmp_path):
    import torch

    for name, seconds in (("old", 1.5), ("new", 2.5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(f'{{"val/loss": NaN, "fit/seconds": {seconds}}}')
        torch.save({"state_dict": {"w": torch.zeros(3)}, "form": name}, tmp_path / name / "last.ckpt")
    assert compare_folders(tmp_path / "old", tmp_path / "new")[1] == []
    torch.save({"state_dict": {"w": torch.tensor([0, 0, -0.0])}, "form": ""}, tmp_path / "new/last.ckpt")
    (tmp_path / "new/loss.png").touch()
    found = compare_folders(tmp_path / "old", tmp_path / "new")[1]
    assert found == ["added: loss.png", "last.ckpt: 1 of 4 values, the first /state_dict/w: by 0 at most"]
