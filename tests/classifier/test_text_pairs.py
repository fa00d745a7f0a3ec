"""Pairs and joined columns in every command, the card, and their mistakes."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from conftest import one_line, write_csv
from families import family
from text_pairs import PAIRS, pairs, write_pairs
from tokenizers import processors
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from lit_ft.classifier.batch_settings import padding_collator
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier, compiled_steps
from lit_ft.classifier.trial import try_classifier
from lit_ft.errors import UserError
from lit_ft.masked_lm.data import prepare_rows
from lit_ft.masked_lm.settings import DataSettings
from lit_ft.report.pairs import read_per_text


def code_of_card(card: str) -> str:
    return card.partition("```python\n")[2].partition("```")[0]


def test_pairs_from_fit_to_the_card(lit_ft, fit_args, work):
    """One run: what it says, what `test` keeps of each pair, `predict` as the card's pipeline."""
    write_pairs(work / "train.csv", 90)
    write_pairs(work / "test.csv", 30)
    code, out, err = lit_ft("fit", *fit_args, *PAIRS, "--trainer.max_epochs", "1", "--data.max_tokens", "48")
    assert code == 0, err
    empty = "10 of 90 texts of train.csv have no second text in column 'second': it is read as an empty one"
    assert f"warning: {empty}\n" in err
    run = Path("runs/small/version_0")
    facts = json.loads((run / "report.json").read_text())
    assert facts["columns"] == {"pair": "second"}
    mistake = facts["evaluations"]["val"]["mistakes"][0]
    row = pairs(90)[mistake["row"] - 1]
    assert mistake["text"].startswith(row[1][:60]) and (" ‖ " in mistake["text"]) == bool(row[2])

    # `test` and `predict` know the columns from the checkpoint.
    code, out, err = lit_ft("test", "--name", "small", "--trainer.accelerator", "cpu")
    assert code == 0, err
    kept = parquet.read_table(run / "test_predictions.parquet")
    assert kept.column_names[:4] == ["row", "text_hash", "text", "pair"]
    assert list(zip(*(kept[name].to_pylist() for name in ("label", "text", "pair")), strict=True)) == pairs(
        30
    )
    said = read_per_text(run, "test", json.loads((run / "metrics.json").read_text()))
    assert not isinstance(said, str), said
    predict = ["predict", "--name", "small", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    code, out, err = lit_ft(*predict, "--data.predict_path", "test.csv")
    assert code == 0, err
    predicted = list(csv.DictReader((run / "predictions.csv").open(newline="")))
    assert [(r["label"], r["first"], r["second"]) for r in predicted] == pairs(30)
    assert {r["cut"] for r in predicted} == {"true", "false"}

    card = code_of_card((run / "model" / "README.md").read_text())
    assert (
        'classify({"text": "The soup was cold.", "text_pair": "Was the food warm?"}, truncation=True)' in card
    )
    spaces: dict = {}
    exec(card.replace("PATH_OR_NAME", str(run / "model")), spaces)
    for row in predicted:
        if row["second"]:  # a pipeline leaves an empty one out
            inputs = {"text": row["first"], "text_pair": row["second"]}
            theirs = {s["label"]: s["score"] for s in spaces["classify"](inputs, truncation=True)}
            ours = {name: float(row[f"probability_{name}"]) for name in ("same", "other")}
            assert theirs == pytest.approx(ours, abs=1e-5)

    # What cannot be predicted is one line.
    write_csv(work / "new.csv", [("good", "bad")], ("first", "secnd"))
    line = one_line(lit_ft(*predict, "--data.predict_path", "new.csv"))
    assert line == (
        "expected columns 'first' and 'second' in new.csv, found 'first', 'secnd'; set "
        "--data.pair_column=secnd"
    )
    named = ["--data.predict_path", "new.csv", "--data.pair_column", "secnd"]
    code, _, err = lit_ft(*predict, *named, "--data.predict_output", "named.csv")
    assert code == 0, err
    line = one_line(lit_ft(*predict, "--data.predict_path", "test.csv", "--data.pair_column", "null"))
    assert line == (
        "the checkpoint's model reads pairs (data.pair_column=second), found data.pair_column null; set "
        "--data.pair_column to the column of second texts"
    )
    write_csv(work / "none.csv", [], ("first", "second"))
    code, _, err = lit_ft(
        *predict, "--data.predict_path", "none.csv", "--data.predict_output", "none_out.csv"
    )
    assert code == 0 and len(Path("none_out.csv").read_text().splitlines()) == 1, err


def test_columns_from_fit_to_the_card(lit_ft, fit_args, work):
    """Joined with their names; `predict` refuses names that the model never saw."""
    rows = [(label, second, first) for label, first, second in pairs(60)]
    write_csv(work / "train.csv", [*rows, ("same", " ", "")], ("label", "subject", "body"))
    columns = ["--data.text_column", "[subject,body]", "--data.column_names", "true"]
    columns += ["--data.text_separator", "。\n"]
    code, out, err = lit_ft("fit", *fit_args, *columns, "--trainer.max_epochs", "1")
    assert code == 0, err
    assert "warning: 1 of 61 rows of train.csv have no text and are left out\n" in err
    run = Path("runs/small/version_0")
    joined = {"columns": ["subject", "body"], "separator": "。\n", "names": True}
    assert json.loads((run / "report.json").read_text())["columns"] == {"joined": joined}
    page = (run / "report.html").read_text()
    assert "joined of the columns <bdi>subject</bdi>, <bdi>body</bdi>, each after its name." in page
    card = (run / "model" / "README.md").read_text()
    assert (
        'a row\'s subject, body, each after its name ("subject: "), joined by "&#12290;&#92;n"; empty ones'
        in card
    )
    said = parquet.read_table(run / "val_predictions.parquet").to_pylist()[0]
    _, subject, body = rows[said["row"] - 1]
    assert said["text"] == (f"subject: {subject}。\nbody: {body}" if subject else f"body: {body}")

    predict = ["predict", "--name", "small", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    code, _, err = lit_ft(*predict, "--data.predict_path", "train.csv")
    assert code == 0, err
    last = (run / "predictions.csv").read_text().splitlines()[-1]
    assert last == "same, ,,,,,,,,"
    first = next(csv.DictReader((run / "predictions.csv").open(newline="")))
    classify = pipeline("text-classification", model=str(run / "model"), top_k=None)
    [[theirs, *_]] = [classify(f"subject: {first['subject']}。\nbody: {first['body']}")]
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    assert theirs["score"] == pytest.approx(float(first["confidence"]), abs=1e-5)
    line = one_line(lit_ft(*predict, "--data.predict_path", "train.csv", "--data.text_column", "[body]"))
    assert line == (
        "the checkpoint's model reads columns 'subject' and 'body', each with its name (data.column_names), "
        "found data.text_column ['body']; rename the file's columns and leave out --data.text_column"
    )
    line = one_line(lit_ft(*predict, "--data.predict_path", "train.csv", "--data.pair_column", "label"))
    assert line.startswith("the checkpoint's model reads single texts, found data.pair_column 'label'; leave")


MISTAKES = {
    "twice": (
        ["--data.text_column", "[first,first]"],
        "expected different columns in data.text_column, found 'first' twice; set --data.text_column=first",
    ),
    "missing": (
        ["--data.text_column", "[first,secnd]"],
        "expected columns 'label', 'first' and 'secnd' in train.csv, found 'label', 'first', 'second', "
        "'empty'; set --data.text_column='[first,second]'",
    ),
    "a list for a list": (
        ["--data.text_column", "first, second"],
        "expected columns 'label' and 'first, second' in train.csv, found 'label', 'first', 'second', "
        "'empty'; set --data.text_column='[first,second]'",
    ),
    "the same": (
        ["--data.text_column", "first", "--data.pair_column", "first"],
        "expected another column in data.pair_column than in data.text_column, found 'first' in both; set "
        "--data.pair_column to the column of the second text",
    ),
    "all empty": (
        ["--data.text_column", "first", "--data.pair_column", "empty"],
        "expected texts in column 'empty' of train.csv, found all 20 empty; set --data.pair_column to "
        "another column, or to null for single texts",
    ),
}


@pytest.mark.parametrize("flags, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(flags, message, lit_ft, fit_args, work):
    write_csv(work / "train.csv", [(*row, " ") for row in pairs(20)], ("label", "first", "second", "empty"))
    assert one_line(lit_ft("fit", *fit_args, *flags)) == message
    assert not Path("runs").exists()


def test_a_list_in_a_config_is_checked_when_the_file_is_read(lit_ft, fit_args, work):
    """The first look, before the libraries are loaded, does not keep lists: it must not refuse `text`."""
    write_pairs(work / "train.csv", 20)
    (work / "columns.yaml").write_text("data:\n  text_column:\n    - first\n    - secnd\n")
    message = one_line(lit_ft("fit", *fit_args, "--config", "columns.yaml"))
    assert message.endswith("set --data.text_column='[first,second]'")


def test_check_reads_both_texts(lit_ft, fit_args, work, encoder):
    rows = [("same", "fine film", "good"), ("other", "fine film", "bad"), ("other", "Fine film!", "good")] * 2
    write_csv(work / "train.csv", [*rows, ("same", "film", "so")], ("label", "first", "second"))
    flags = ["--data.test_path", "null", "--data.validation_path", "train.csv"]
    code, out, err = lit_ft("check", *fit_args, *PAIRS, *flags, "--json")
    assert code == 0, err
    found = json.loads(out)
    split = found["splits"]["train"]
    assert split["exact_duplicates"] == {"texts": 3, "surplus_rows": 3}
    assert found["conflicts"]["exact_texts"] == 0 and found["conflicts"]["normalised_texts"] == 1
    assert found["conflicts"]["examples"][0]["text"] == "Fine film! ‖ good"
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    lengths = [len(tokenizer(a, b)["input_ids"]) for _, a, b in [*rows, ("", "film", "so")]]
    assert split["tokens"]["mean"] == pytest.approx(np.mean(lengths))
    assert split["tokens"]["max"] == max(lengths)


def test_sft_joins_pairs(encoder, work, capsys):
    write_pairs(work / "train.csv", 20)
    settings = DataSettings(
        train_path="train.csv", text_column=["first"], pair_column="second", layout="truncate",
        max_tokens=24, validation_share=0.2,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    found = prepare_rows(settings, tokenizer)
    told = (
        "columns 'first' and 'second' are joined: a masked language model reads one text a row, and no pairs"
    )
    assert told in capsys.readouterr().out
    assert len(found.train) + len(found.validation) == 20
    whole = [tokenizer(f"{a}\n{b}" if b else a)["input_ids"] for _, a, b in pairs(20)]
    short = [ids for ids in whole if len(ids) <= 24]
    rows = [*found.train["input_ids"][:], *found.validation["input_ids"][:]]
    assert short and all(ids in rows for ids in short)


def pair_family(kind: str, folder: Path) -> Path:
    """`family`, whose tokenizer also puts special tokens between two texts."""
    family(kind, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    single, pair = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
    if kind in ("bert", "modernbert"):
        single, pair = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    tokens = [(t, tokenizer.convert_tokens_to_ids(t)) for t in tokenizer.all_special_tokens if t in pair]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=tokens
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["bert", "modernbert", "xlm-roberta", "bart"])
def test_a_batch_of_pairs_says_what_the_model_says_of_each(kind, tmp_path, work):
    """With the tokenizer's own call, one pair at a time; the empty second text, too."""
    texts = [
        ("the film", "so very good"),
        ("plot", ""),
        ("bad and fine film so very", "fine plot was bad"),
    ] * 4
    write_csv(work / "words.csv", [(i % 3, a, b) for i, (a, b) in enumerate(texts)], ("label", "a", "b"))
    data = YelpDataModule(
        train_path="words.csv", validation_path="words.csv", text_column="a", pair_column="b", max_tokens=9,
        tokenizer=str(pair_family(kind, tmp_path / "m")),
    )  # fmt: skip
    data.setup("fit")
    model = BertClassifier(str(tmp_path / "m"))
    model.build(data.labels)
    try_classifier(model.net, data, "the model")
    rows = data.splits["train"].rows
    batch = padding_collator(data.hparams, data.tokenizer)([rows[i] for i in range(12)])
    assert ("token_type_ids" in batch) == (kind in ("bert", "xlm-roberta"))
    model.eval()
    ours = model.logits_of(batch)
    for i, (a, b) in enumerate(texts):
        inputs = data.tokenizer([a], [b], truncation=True, max_length=9, return_tensors="pt")
        assert model.net(**inputs).logits[0].tolist() == pytest.approx(ours[i].tolist(), abs=1e-5)
    if kind == "bert":
        data.hparams["padding"] = "none"
        with pytest.raises(
            UserError, match="model.compile expects token types of 0, found a tokenizer that sets"
        ):
            compiled_steps(model.net, data)


def test_a_tokenizer_that_sets_no_texts_apart_is_refused(lit_ft, fit_args, work, tmp_path):
    write_pairs(work / "train.csv", 20)
    folder = family("xlm-roberta", tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"")  # read too late to be told
    line = one_line(lit_ft("fit", *fit_args, *PAIRS, "--model.pretrained", str(folder)))
    assert line == (
        "expected a tokenizer that sets two texts apart, for data.pair_column, found that the one of "
        f"{folder} puts nothing between them; set --model.pretrained to another model, or join the columns "
        "with --data.text_column=[FIRST,SECOND] --data.pair_column=null"
    )


def test_a_model_of_one_token_type_gets_none(lit_ft, fit_args, work, tmp_path):
    """Its tokenizer gives 1 to the second text, for which the model has no embedding."""
    write_pairs(work / "train.csv", 20)
    folder = pair_family("bert", tmp_path / "m")
    config = AutoConfig.from_pretrained(folder, type_vocab_size=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    flags = ["--model.pretrained", str(folder), "--trainer.max_epochs", "1"]
    code, _, err = lit_ft("fit", *fit_args, *PAIRS, *flags)
    assert code == 0, err
    assert f"warning: {folder} has no token type for a second text: only [SEP] tells where it begins\n" in err
    settings = json.loads(Path("runs/small/version_0/model/tokenizer_config.json").read_text())
    assert "token_type_ids" not in settings["model_input_names"]
