"""What an installation gets: configs inside the wheel, and pins that satisfy the ranges."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]


def pins() -> dict[str, str]:
    """Constraint name -> version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(equals and re.fullmatch(r"[\w.]+", pinned) for _, equals, pinned in pairs), (
        "only NAME==VERSION"
    )
    assert len({canonicalize_name(name) for name, _, _ in pairs}) == len(pairs), "a package is pinned twice"
    return {canonicalize_name(name): pinned for name, _, pinned in pairs}


def test_pins_are_inside_the_ranges() -> None:
    pinned = pins()
    assert pinned["torch"] == "2.13.0"
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in REQUIREMENTS + [Requirement(r) for r in build]:
        found = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(found), f"{requirement} does not allow the pinned {found}"


def test_every_range_has_both_ends_and_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in REQUIREMENTS:
        assert {s.operator for s in requirement.specifier} == {">=", "<"}, str(requirement)
        line = next(line for line in text.splitlines() if line.lstrip().startswith(f'"{requirement.name}'))
        assert len(line.partition("#")[2].strip()) >= 4, f"no reason beside {requirement}"
    torch = next(r for r in REQUIREMENTS if r.name == "torch")
    assert torch.specifier.contains("2.11.0") and not torch.specifier.contains("2.10.1")


def test_pins_are_complete() -> None:
    """Everything that the requirements need, in the versions installed here, is pinned."""
    pinned, seen = pins(), set()
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in REQUIREMENTS]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in pinned, f"{name} is needed but not pinned"
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed here")
        for need in map(Requirement, needs):
            contexts = [{"extra": extra} for extra in extras or {""}]
            if need.marker is None or any(need.marker.evaluate(context) for context in contexts):
                todo.append((canonicalize_name(need.name), frozenset(need.extras)))


def test_installed_versions_are_the_pins() -> None:
    if not (ROOT / ".venv").is_dir() or Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not in the project's own .venv")
    for name, pinned in pins().items():
        assert version(name).partition("+")[0] == pinned, name


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree, unpacked; built from a copy, so that no build/ is left here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for pattern in ("pyproject.toml", "lit_ft/**/*.py", "lit_ft/report/templates/*", "configs/*.yaml"):
        for path in ROOT.glob(pattern):
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run([*build, "-w", str(folder), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_wheel_holds_modules_and_configs(unpacked: Path) -> None:
    found = {str(path.relative_to(unpacked)) for path in unpacked.glob("lit_ft/**/*") if path.is_file()}
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lit_ft").rglob("*.py")}
    expected |= {
        f"lit_ft/report/templates/{path.name}" for path in (ROOT / "lit_ft/report/templates").iterdir()
    }
    configs = {f"lit_ft/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert found == expected | configs and "lit_ft/report/templates/classifier.html.j2" in expected
    assert {"lit_ft/configs/sample.yaml", "lit_ft/configs/yelp.yaml"} <= configs
    entry_points = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    assert "lit-ft = lit_ft.__main__:console" in entry_points


def test_wheel_finds_its_configs_in_any_folder(unpacked: Path, tmp_path: Path) -> None:
    code = "from lit_ft.settings.arguments import find_config as f; print(f('yelp.yaml')); print(f('sample'))"
    env = os.environ | {"PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    folder = unpacked / "lit_ft" / "configs"
    assert done.stdout.split() == [str(folder / "yelp.yaml"), str(folder / "sample.yaml")], done.stderr
