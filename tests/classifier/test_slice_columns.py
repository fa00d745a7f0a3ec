"""The figures of slices from a fit and a test: in metrics.json, the report, and the texts' file."""

import json
import re
from pathlib import Path

import pyarrow.parquet
import pytest
from conftest import one_line, review, write_csv
from sklearn.metrics import accuracy_score, f1_score

RUN = Path("runs/small/version_0")
HEADER = ("label", "text", "language", "channel", "id")
LANGUAGES = ("en", "de", "en", "", "fr")


def rows(count: int, start: int = 0) -> list[tuple]:
    """German texts say nothing of their stars."""
    found = []
    for i in range(count):
        language, stars = LANGUAGES[i // 5 % 5], i % 5 + 1
        text = "the movie was so so" if language == "de" else review(stars, i)
        found.append((stars, f"{text} {start + i}", language, f"channel {i % 30}", start + i))
    return found


@pytest.fixture
def slices(work, fit_args) -> list[str]:
    write_csv(work / "train.csv", rows(250), HEADER)
    write_csv(work / "test.csv", rows(200, 1000), HEADER)
    return [*fit_args, "--baselines", "false", "--data.slice_columns", "[language, channel]"]


def metrics() -> dict:
    return json.loads((RUN / "metrics.json").read_text())


def test_every_figure_by_slice(lit_ft, slices):
    code, out, err = lit_ft("fit", *slices)
    assert code == 0 and "\n  by language: " in out and "\n  by channel: " in out, err
    assert sum(v for t, v in metrics().items() if re.match("val/slice/language=.*/rows", t)) == 50
    assert lit_ft("test", *slices)[0] == 0
    found = metrics()
    table = pyarrow.parquet.read_table(RUN / "test_predictions.parquet").to_pandas()
    assert table["slice_language"].isna().sum() == 40
    for language, part in table.fillna({"slice_language": "(none)"}).groupby("slice_language"):
        start = f"test/slice/language={language}/"
        given, said = part["label"], part["predicted"]
        assert found[f"{start}rows"] == len(part)
        assert found[f"{start}accuracy"] == pytest.approx(accuracy_score(given, said), abs=1e-6)
        assert found[f"{start}macro_f1"] == pytest.approx(f1_score(given, said, average="macro"), abs=1e-6)
        assert found[f"{start}loss"] == pytest.approx(part["loss"].mean(), rel=1e-5)
        low, value, high = (found[f"{start}accuracy{end}"] for end in ("_low", "", "_high"))
        assert low <= value <= high and low < high
    assert found["test/slice/channel=others (10 values)/rows"] > 0
    page = (RUN / "report.html").read_text()
    assert '<a href="#slices">' in page and "By <bdi>language</bdi>" in page
    assert re.search(r"<bdi>\(none\)</bdi></th><td class=\"n\">40</td>", page)

    code, _, err = lit_ft("test", *slices, "--data.slice_columns", "channel")  # one, by name; the others go
    assert code == 0, err
    assert not [tag for tag in metrics() if tag.startswith("test/slice/language")]
    assert [tag for tag in metrics() if tag.startswith("val/slice/language")]


@pytest.mark.parametrize(
    "value, message",
    [
        ("[lang]", "expected a column 'lang' in train.csv for data.slice_columns, found 'label', 'text'"),
        ("[language, text]", "found 'text', which is data.text_column; set --data.slice_columns"),
        ("[id]", "found 'id' of train.csv with another value in each of 250 rows; set --data.slice_columns"),
    ],
)
def test_columns_that_are_no_slices(lit_ft, slices, value, message):
    assert message in one_line(lit_ft("fit", *slices, "--data.slice_columns", value))
    if value != "[language, text]":
        assert message in one_line(lit_ft("check", *slices, "--data.slice_columns", value))
    assert not Path("runs").exists()
