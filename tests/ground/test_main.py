"""The dispatcher: commands, config names, exit codes, and what it costs to start."""

import errno
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import lit_ft.__main__ as entry
from lit_ft.errors import UserError
from lit_ft.machine import ENVIRONMENT
from lit_ft.settings import arguments


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packaged configs sample.yaml, yelp.yaml and imdb.yaml, and an empty working folder."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    for name in ("sample", "yelp", "imdb"):
        (folder / f"{name}.yaml").write_text("data: {}\n")
    monkeypatch.setattr(arguments, "configs_dir", lambda: folder)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, list[str]], int]], None]:
    """Returns a function that puts `work` in the place of every command's module."""
    monkeypatch.setattr(sys, "argv", ["lit_ft"])
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "set by the test")

    def install(work: Callable[[str, list[str]], int]) -> None:
        module = types.SimpleNamespace(main=work, check=lambda command, args: None)
        monkeypatch.setattr(entry.importlib, "import_module", lambda name: module)

    return install


def failing(ex: BaseException) -> Callable[[str, list[str]], int]:
    def work(command: str, args: list[str]) -> int:
        raise ex

    return work


def python(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(Path(entry.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )


def test_usage_names_every_command_and_two_examples() -> None:
    for args in ([], ["--help"]):
        done = python("-X", "importtime", "-m", "lit_ft", *args)
        assert done.returncode == 0
        assert all(f"\n  {name}" in done.stdout for name in entry.COMMANDS)
        assert done.stdout.count("\n  python -m lit_ft ") == 2
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert not loaded & {
            "torch",
            "numpy",
            "lightning",
            "transformers",
            "datasets",
            "yaml",
            "jsonargparse",
        }


def test_version_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lit_ft {entry.__version__}\n"
    for typed, meant in {
        "fti": "fit",
        "fill_mask": "fill-mask",
        "tset": "test",
        "valdate": "validate",
    }.items():
        assert entry.main([typed]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"lit_ft: error: unknown command {typed!r}; did you mean {meant}?")
        assert err.count("\n") == 1
    assert entry.main(["--config", "sample.yaml"]) == 2
    assert "unknown command '--config'; the commands are fit," in capsys.readouterr().err


def test_find_config(configs: Path) -> None:
    for name in ("yelp.yaml", "yelp", "configs/yelp.yaml", "./yelp"):
        assert arguments.find_config(name) == configs / "yelp.yaml"
    Path("yelp").mkdir()  # a folder, such as a run's, does not hide the packaged config
    assert arguments.find_config("yelp") == configs / "yelp.yaml"
    Path("yelp.yaml").write_text("data: {}\n")
    assert arguments.find_config("yelp.yaml") == Path("yelp.yaml")
    assert arguments.find_config(str(configs / "imdb.yaml")) == configs / "imdb.yaml"
    with pytest.raises(
        UserError, match=r"'yalp.yaml' does not exist.*did you mean yelp.yaml.*imdb.yaml, sample"
    ):
        arguments.find_config("yalp.yaml")
    with pytest.raises(UserError, match="'elsewhere/yelp.yaml' does not exist"):
        arguments.find_config("elsewhere/yelp.yaml")
    Path("runs").mkdir()
    with pytest.raises(UserError, match="'runs' is a folder"):
        arguments.find_config("runs")


def test_configs_in_arguments(configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yelp, imdb = str(configs / "yelp.yaml"), str(configs / "imdb.yaml")
    args = ["--data.batch_size", "3", "--config=yelp", "-c", "imdb.yaml", "--name", "--config-x"]
    resolved = entry.resolve_configs("fit", args)
    assert resolved == ["--config", yelp, "--config", imdb, "--data.batch_size", "3", "--name", "--config-x"]
    assert arguments.first_config_stem(resolved) == arguments.first_config_stem(args) == "yelp"
    assert arguments.first_config_stem(["--name", "x"]) is None
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="--config: expected a config's name"):
        entry.resolve_configs("fit", ["--config"])


def test_a_command_without_some_of_its_flags() -> None:
    args = [
        "--config",
        "a.yaml",
        "--json",
        "--ckpt_path",
        "last",
        "--name",
        "-x",
        "--ckpt_path=best",
        "--strict",
    ]
    left = ["--config", "a.yaml", "--name", "-x"]
    assert arguments.without_flags(args, "--json", "--strict", "--ckpt_path") == left
    assert arguments.without_flags(["--estimate", "true", "--a", "b"], "--estimate") == ["--a", "b"]


def test_default_configs(configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = ["--config", str(configs / "sample.yaml")]
    assert entry.resolve_configs("fit", ["--model.lr", "1"]) == [*sample, "--model.lr", "1"]
    assert capsys.readouterr().err.startswith("lit_ft: no --config given, using sample.yaml (")
    assert entry.resolve_configs("fit", ["--ckpt_path", "last"]) == [*sample, "--ckpt_path", "last"]
    assert entry.resolve_configs("test", ["--ckpt_path=best"]) == [*sample, "--ckpt_path=best"]
    assert entry.resolve_configs("sft", []) == ["--config", str(configs / "imdb.yaml")]
    assert "using imdb.yaml" in capsys.readouterr().err
    as_they_are = [
        ("test", ["--data.test_path", "new.csv"]),  # of the run that `fit` with such flags calls `default`
        ("predict", ["--data.predict_path=new.csv", "--ckpt_path", "best"]),
        ("test", ["--ckpt_path", "a.ckpt"]),
        ("predict", ["--ckpt_path=a.ckpt"]),
        ("validate", ["--name", "yelp", "--ckpt_path", "best"]),
        ("fit", ["--help"]),
        ("fit", ["--trainer.logger.help=TensorBoardLogger"]),
        ("fill-mask", ["a [MASK]"]),
    ]
    for command, args in as_they_are:
        assert entry.resolve_configs(command, args) == args
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("flags", "own"),
    [
        (["--data.train_path", "mine.csv"], True),
        (["--model.pretrained=some/encoder", "--data.source", "sample"], True),
        (["--data.source", "some/texts"], True),
        (["--data.validation_path=dev.csv"], True),
        (["--data", "data.yaml"], True),
        (["--data.source", "sample", "--model.pretrained", "sample"], False),
        (["--data.train_path", "null", "--data.batch_size", "8"], False),
    ],
)
@pytest.mark.parametrize("command", ["fit", "check", "sft", "verify-resume"])
def test_own_data_or_model_takes_no_toys_settings(command, flags, own, configs, capsys):
    resolved = entry.resolve_configs(command, flags)
    assert resolved[-len(flags) :] == flags and (len(resolved) == len(flags)) == own
    told = capsys.readouterr().err
    default = entry.DEFAULT_CONFIGS[command][0]
    start = f"your own data or model with the defaults of `{command} --help`, not with {default}'s settings"
    assert told.startswith(
        f"lit_ft: no --config given: {start}\n" if own else "lit_ft: no --config given, using "
    )
    assert told.count("\n") == 1
    entry.resolve_configs(command, ["--config", "sample", *flags])
    entry.resolve_configs(command, [*flags, "--help"])
    assert capsys.readouterr().err == ""


def test_verify_resume_of_sft_takes_its_default(configs, capsys):
    assert entry.resolve_configs("verify-resume", ["sft"]) == ["--config", str(configs / "imdb.yaml"), "sft"]


def test_a_command_gets_its_arguments(configs: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    command(lambda name, args: seen.append((name, args)) or 7)
    monkeypatch.delenv("MPLBACKEND")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    assert entry.main(["fit", "-c", "yelp"]) == 7
    args = ["--config", str(configs / "yelp.yaml")]
    assert seen == [("fit", args)]
    assert sys.argv == ["lit_ft", "fit", *args]  # what Lightning starts the other ranks with
    assert os.environ["MPLBACKEND"] == "Agg" and os.environ["HF_HUB_DISABLE_TELEMETRY"] == "0"
    assert entry.main(["fill-mask", "--config"]) == 7  # its arguments are texts
    assert seen[1] == ("fill-mask", ["--config"])


def test_what_the_user_can_mend_is_one_line(command, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        (UserError("expected a\n  b, found c"), "lit_ft: error: expected a b, found c\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/d/f"),
            "lit_ft: error: No space left on device: /d/f\n",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/d"), "lit_ft: error: Permission denied: /d\n"),
        (OSError(errno.EROFS, "Read-only file system"), "lit_ft: error: Read-only file system, working in "),
        (
            RuntimeError("Error while serializing: No space left on device (os error 28)"),
            "lit_ft: error: No space",
        ),
    ]
    cases.append(  # escape sequences, marks that turn the writing round, half a surrogate pair
        (
            UserError("found 'a\x1b[31m\u202e\ud83d\0'"),
            "lit_ft: error: found 'a\\x1b[31m\\u202e\\ud83d\\x00'\n",
        )
    )
    cases.append(
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 10**6), "lit_ft: error: File name too")
    )
    for ex, line in cases:
        command(failing(ex))
        assert entry.main(["fill-mask", "x"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(line) and err.count("\n") == 1 and len(err) < 1000
    wrapped = RuntimeError("file write failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/d/g")
    command(failing(wrapped))
    assert entry.main(["fill-mask", "x"]) == 2
    assert capsys.readouterr().err == "lit_ft: error: No space left on device: /d/g\n"


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["lit_ft"])
    missing = ModuleNotFoundError("No module named 'trl'", name="trl")
    monkeypatch.setattr(entry.importlib, "import_module", lambda _: (_ for _ in ()).throw(missing))
    assert entry.main(["fill-mask", "x"]) == 2
    assert capsys.readouterr().err.startswith("lit_ft: error: the library 'trl' is not installed; run: pip ")
    ours = ModuleNotFoundError("No module named 'lit_ft.gone'", name="lit_ft.gone")
    monkeypatch.setattr(entry.importlib, "import_module", lambda _: (_ for _ in ()).throw(ours))
    with pytest.raises(ModuleNotFoundError):
        entry.main(["fill-mask", "x"])


def test_other_endings(command, capsys: pytest.CaptureFixture[str]) -> None:
    command(failing(KeyboardInterrupt()))
    assert entry.main(["fill-mask", "x"]) == 130
    assert capsys.readouterr().err == "\nlit_ft: interrupted\n"
    for ex in (SystemExit(143), KeyError("a bug of ours"), FileNotFoundError(errno.ENOENT, "x", "y")):
        command(failing(ex))
        with pytest.raises(type(ex)):
            entry.main(["fill-mask", "x"])


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_closed_pipe_is_quiet(lines: int) -> None:
    """Also when the text is so short that only the flush at the end meets the closed pipe."""
    code = (
        "import sys, time, types, lit_ft.__main__ as entry\n"
        "entry.importlib.import_module = lambda name: types.SimpleNamespace(main=work)\n"
        "def work(command, args):\n"
        "    sys.stdin.read()\n"  # ends when the reader has gone
        f"    for _ in range({lines}): print('line')\n"
        "    return 0\n"
        "sys.exit(entry.main(['fill-mask', 'x']))"
    )
    read_end, write_end = os.pipe()
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(entry.__file__).parents[1],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdin=subprocess.PIPE,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    os.close(read_end)
    assert started.communicate(timeout=60)[1] == ""
    assert started.returncode == 141


def test_public_names() -> None:
    """From the package, wherever their modules stand; nothing heavy until one is used."""
    import lit_ft

    code = "import sys, lit_ft; print('torch' in sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0 and done.stdout == "False\n", done.stderr
    for name in lit_ft.__all__:
        assert getattr(lit_ft, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'BertClassifer'"):
        lit_ft.BertClassifer  # noqa: B018


def test_both_ways_to_start_it() -> None:
    """`python -m` keeps a module spec, which is what Lightning's launcher needs to start the other ranks."""
    done = python("-m", "lit_ft", "fti")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
    script = (
        "import sys; sys.argv = ['/bin/lit-ft', '--version']; from lit_ft.__main__ import console; console()"
    )
    done = python("-c", script)
    assert done.returncode == 0 and done.stdout == f"lit_ft {entry.__version__}\n"
