"""`report`: which runs it finds, where it writes, what it refuses."""

from pathlib import Path

import pytest

RUN = Path("runs/small/version_0")


def test_report_writes_the_same_page_again(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args)[0] == 0
    before = (RUN / "report.html").read_text()
    (RUN / "report.html").unlink()
    for name in ("small", str(RUN)):
        code, out, _ = lit_ft("report", name)
        assert code == 0 and out == f"report: {RUN / 'report.html'}\n"
        assert (RUN / "report.html").read_text() == before
    code, _, err = lit_ft("report", str(RUN), "--output", "page.html")
    assert code == 2 and "--output is for a comparison of several runs" in err


def test_a_comparison_replaces_comparisons_only(lit_ft, fit_args, work, monkeypatch):
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    monkeypatch.setenv("HOME", str(work / "home"))
    both = [str(RUN), str(RUN)]
    for _ in range(2):
        code, out, _ = lit_ft("report", *both, "--output", "~/out[1].html")
        assert code == 0 and out.endswith("report: home/out[1].html\n") and not Path("~").exists()
    (work / "link.html").symlink_to(RUN / "report.html")
    for name, said in {
        str(RUN / "report.html"): "exists, and is no comparison of runs; set --output",
        "link.html": "exists, and is no comparison of runs; set --output",
        "train.csv": "expected a .html for --output, found train.csv",
        "table.xlsx": "expected a .html for --output, found table.xlsx",
        "home": "found the folder home",
    }.items():
        before = Path(name).read_bytes() if Path(name).is_file() else None
        code, _, err = lit_ft("report", *both, "--output", name)
        assert code == 2 and said in err and err.count("\n") == 1, (name, err)
        assert before == (Path(name).read_bytes() if Path(name).is_file() else None)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "expected a finished run or a run's name, found 'nowhere'; there is none under runs"),
        (["runs/x/version_7"], "found 'runs/x/version_7'"),
        ([], "expected RUN, found none; usage: python -m lit_ft report RUN"),
        (["a", "--format", "pdf"], "unknown flag --format; the keys there are output"),
    ],
)
def test_mistakes_get_one_line(lit_ft, work, args, message):
    code, out, err = lit_ft("report", *args)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert not Path("runs").exists()
