"""Fuzzing: 200 cases in this process with a fixed seed, ten through the real command line.

scripts/fuzz.py runs more; what broke something is kept as a plain test beside the module that was mended.
"""

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import with_a_flipped_bit
from fresh import Fresh, command
from fuzz_cases import SECONDS, Case, Outcome, Workshop
from fuzz_checks import fault_of_files, fault_of_words
from fuzz_edits import BOMBS, smuggled
from fuzz_kinds import each, strategy

CASES = {"corpus": 70, "config": 80, "checkpoint": 50}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Sound runs to start from."""
    return Workshop(tmp_path_factory.mktemp("fuzz"), draws=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_each_ends_in_success_or_in_one_line(kind: str, shop: Workshop) -> None:
    outcomes: list[Outcome] = []
    broken: list[str] = []

    def run(case: Case) -> None:
        outcomes.append(shop.run(case))
        if outcomes[-1].fault is not None:
            broken.append(f"{case!r}\n{outcomes[-1].fault}")

    each(strategy(kind, shop), CASES[kind], 20_260_101, run)
    assert not broken, "\n\n".join(broken)
    codes = Counter(outcome.code for outcome in outcomes)
    assert codes[0] >= 5 and codes[2] >= 20 and codes.total() == CASES[kind], codes


def test_what_is_looked_for_is_found(tmp_path: Path, shop: Workshop) -> None:
    """The checks themselves: each kind of fault is one."""
    line = "lit_ft: error: expected a, found b\n"
    assert fault_of_words(0, "warning: x\n") is None and fault_of_words(2, "warning: x\n" + line) is None
    traceback = "Traceback (most recent call last):\n"
    for code, error in [
        (0, traceback),
        (2, line + traceback),
        (2, line * 2),
        (2, ""),
        (1, line),
        (None, ""),
        (-11, ""),
    ]:
        assert fault_of_words(code, error), (code, error)
    for error in (f"lit_ft: error: {'x' * 1001}\n", "lit_ft: error: \x1b[31m\n", "usage: lit_ft\n" + line):
        assert fault_of_words(2, error), error
    given = tmp_path / "train.csv"
    given.write_text("a")
    before = {given: b"a"}
    assert fault_of_files(tmp_path, before) is None
    whole = (shop.fitted / "checkpoints/best.ckpt").read_bytes()
    left = {
        "sentinel": b"",
        "x.ckpt": whole[: len(whole) // 2],
        ".x.ckpt.123": whole,
        "x.json": b'{"a": ',
        "x.yaml": b"a: [",
        "x.arrow": b"\0" * 9,
        "x.safetensors": b"\0" * 9,
        "x.html": b"<html>",
        "out.csv.part": b"",
        "tmpabc": b"",
    }
    for name, content in left.items():
        (tmp_path / name).write_bytes(content)
        assert fault_of_files(tmp_path, before), name
        (tmp_path / name).unlink()
    given.write_text("b")
    assert "changed train.csv" in (fault_of_files(tmp_path, before) or "")


def test_a_bug_of_ours_is_a_fault(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Case("corpus", ("fit", "--config", "fit.yaml"))
    monkeypatch.setattr("lit_ft.classifier.data.YelpDataModule.setup", lambda *_: {}["bug"])
    assert "KeyError: 'bug'" in (shop.run(fit).fault or "")
    monkeypatch.setattr("fuzz_cases.HANG_SECONDS", 1)
    monkeypatch.setattr("lit_ft.classifier.data.YelpDataModule.setup", lambda *_: time.sleep(20))
    assert "hangs" in (shop.run(fit).fault or "")


def real_cases(shop: Workshop) -> list[tuple[Case, int, str]]:
    """Ten command lines, and how each ends."""
    wide = f"label,text,{','.join(f'c{i}' for i in range(100_000))}\n1,a\n".encode()
    bomb = smuggled(
        BOMBS["os.system"](), "settings", {"settings": {}, "encoder_config": {}, "state_dict": {}}
    )
    surrogates = b'{"label": 1, "text": "\\ud83d"}\n{"label": 2, "text": "\\u0000"}\n' * 6
    flipped = with_a_flipped_bit(shop.fitted / "checkpoints/best.ckpt")
    deep = {"odd.yaml": b"data: &a [*a]\n"}
    code = {"odd.yaml": b"data: !!python/object/apply:os.system ['touch sentinel']\n"}
    fit, sft = ("fit", "--config", "fit.yaml"), ("sft", "--config", "sft.yaml")

    def case(args: tuple[str, ...], files: dict[str, bytes] | None = None) -> Case:
        return Case("real", args, files or {})

    return [
        (case((*fit, "--data.train_path=a.csv"), {"a.csv": wide}), 2, "line 2: expected 100002 values"),
        (case((*fit, "--data.train_path=a.jsonl"), {"a.jsonl": surrogates}), 0, ""),
        (case((*fit, "--ckpt_path=a.ckpt"), {"a.ckpt": flipped}), 2, "a.ckpt is damaged"),
        (case((*fit, "--ckpt_path=a.ckpt"), {"a.ckpt": bomb}), 2, "a.ckpt cannot be opened as weights alone"),
        (case((*sft, "--config", "odd.yaml"), deep), 2, "an anchor (&) inside itself"),
        (case((*sft, "--config", "odd.yaml"), code), 2, "odd.yaml"),
        (case((*sft, "--config", "odd.yaml"), {"odd.yaml": b"data: \xff\n"}), 2, "not UTF-8"),
        (case((*sft, "--data.batch_size", "\u202efour")), 2, "found '\\u202efour'"),
        (case(("report", "a"), {"a/metrics.json": b'{"a": 1'}), 2, "a/metrics.json cannot be used"),
        (case(("fti", "\x1b[31m")), 2, "unknown command 'fti'; did you mean fit?"),
    ]


def timed(args: list[str]) -> int:
    """`lit_ft ARGS`; its seconds of processor time lie beside its folder."""
    try:
        return command(args)
    finally:
        seconds = Path(f"{os.getcwd()}.seconds")
        seconds.write_text(str(time.process_time()))


@pytest.mark.slow
def test_in_a_process_of_its_own(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "LIT_FT_CACHE": str(shop.caches),
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
        "TMPDIR": str(shop.temporary),
    }
    for number, (case, code, message) in enumerate(real_cases(shop)):
        folder = tmp_path / str(number)
        shop.lay_out(case, folder)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        monkeypatch.chdir(folder)
        done = Fresh(timed, list(case.args), env=environment).end()
        fault = fault_of_files(folder, before)
        assert fault_of_words(done.code, done.err) is None, (case, done.err)
        assert (done.code, fault) == (code, None) and message in done.err, (case, fault, done.err)
        assert float(Path(f"{folder}.seconds").read_text()) < SECONDS, case
