"""A trained classifier's head follows its class names or is initialised at random, which one line says."""

import json
from pathlib import Path

import pytest
import torch
from label_objects import classes
from mlm_tiny import word_tokenizer
from tiny_families import FAMILIES, tiny_config
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    pipeline,
)

from lit_ft.classifier.model import BertClassifier
from lit_ft.models.blueprint import output_weights

OURS = ["bad", "fine", "good"]
IDS = torch.tensor([[7, 8, 9, 2]])
MASK = torch.ones_like(IDS)


def classifier(
    folder: Path, names: list[str] | None, family: str = "bert", **more: object
) -> torch.nn.Module:
    """A folder with a head for these classes; without names it does not store their number either."""
    num_labels = len(names) if names else 3
    config = tiny_config(family, num_labels=num_labels, **more)
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
    torch.manual_seed(0)
    net = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for name in output_weights(net.config):
            net.get_parameter(name).normal_()
    net.save_pretrained(folder)
    if names is None:
        path = folder / "config.json"
        values = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in values.items() if k not in ("id2label", "label2id")}))
    return net


def built(folder: Path, names: list[str] = OURS) -> torch.nn.Module:
    model = BertClassifier(str(folder))
    torch.manual_seed(1)
    model.build(classes(names))
    model.net.eval()
    return model.net


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_follow_their_names(family, tmp_path, capfd):
    theirs = ["good", "bad", "fine"]
    source = classifier(tmp_path, theirs, family)
    net = built(tmp_path)
    assert f"head: kept from {tmp_path}, by its class names\n" in capfd.readouterr().out
    expected, found = (n(input_ids=IDS, attention_mask=MASK).logits[0] for n in (source, net))
    torch.testing.assert_close(found, expected[[theirs.index(name) for name in OURS]])
    assert net.config.id2label == dict(enumerate(OURS))


@pytest.mark.parametrize(
    ("theirs", "order", "words"),
    [
        (["GOOD", " Fine", "bad"], [2, 1, 0], "by its class names"),
        (
            ["LABEL_0", "LABEL_1", "LABEL_2"],
            [0, 1, 2],
            "by number, as its classes have no names: its class 0",
        ),
        (["LABEL_2", "LABEL_0", "LABEL_1"], [1, 2, 0], "by number"),
        (None, [0, 1, 2], "by number"),
    ],
)
def test_taken_over(theirs, order, words, tmp_path, capfd):
    weight = classifier(tmp_path, theirs).classifier.weight
    assert torch.equal(built(tmp_path).classifier.weight, weight[order])
    said = capfd.readouterr()
    assert f"head: kept from {tmp_path}, {words}" in said.out and said.err == ""


@pytest.mark.parametrize(
    ("theirs", "more", "words"),
    [
        (["x", "fine", "good"], {}, "for 'x', 'fine', 'good', not 'bad', 'fine', 'good'"),
        (["a", "A", "b"], {}, "for 'a', 'A', 'b', not"),
        (["good", "good", "bad"], {}, "for 'good', 'good', 'bad', not"),
        (["LABEL_0", "LABEL_1"], {}, "for another number of classes"),
        (["bad", "good"], {}, "for 'bad', 'good', not"),
        (["v", "w", "x", "y", "z"], {}, "for 'v', 'w', 'x' and 2 more, not"),
        (["score"], {"problem_type": "regression"}, "of regression"),
        (OURS, {"problem_type": "multi_label_classification"}, "of multi_label_classification"),
    ],
)
def test_drawn_anew(theirs, more, words, tmp_path, capfd):
    classifier(tmp_path / "m", theirs, **more)
    net = built(tmp_path / "m")
    said = capfd.readouterr()
    assert f"warning: the head of {tmp_path / 'm'} is {words}" in said.err and "head: taken" not in said.out
    assert said.err.count("\n") == 1 and "the output layer is initialised at random" in said.err
    assert float(net.classifier.weight.std()) < 0.1 and not net.classifier.bias.any()
    assert torch.equal(net.classifier.weight, built(tmp_path / "m").classifier.weight)  # same seed


def test_the_usual_beginning_says_nothing(tmp_path, capfd):
    for folder, source in (("bare", AutoModel), ("lm", AutoModelForMaskedLM)):
        source.from_config(tiny_config("bert", num_labels=3)).save_pretrained(tmp_path / folder)
        capfd.readouterr()
        built(tmp_path / folder)
        assert capfd.readouterr() == ("", "")


def test_a_head_for_tokens_is_none_for_texts(tmp_path, capfd):
    """Of the same name and shape."""
    AutoModelForTokenClassification.from_config(tiny_config("bert", num_labels=3)).save_pretrained(tmp_path)
    built(tmp_path)
    assert (
        "is of BertForTokenClassification: the output layer is initialised at random"
        in capfd.readouterr().err
    )


def test_names_of_ours_that_differ_in_case_only(tmp_path, capfd):
    weight = classifier(tmp_path, ["b", "B", "a"]).classifier.weight
    assert torch.equal(built(tmp_path, ["B", "a", "b"]).classifier.weight, weight[[1, 2, 0]])
    assert "by its class names" in capfd.readouterr().out


def test_through_the_command_line(lit_ft, fit_args, work):
    """Learning rate 0: the run's model gives the folder's probabilities."""
    tokenizer = word_tokenizer()
    names = ["3", "5", "1", "4", "2"]
    net = classifier(work / "m", names)
    net.resize_token_embeddings(len(tokenizer))
    net.save_pretrained("m")
    tokenizer.save_pretrained("m")
    args = ["--model.pretrained", "./m", "--model.learning_rate", "0", "--trainer.max_epochs", "1"]
    code, out, err = lit_ft("fit", *fit_args, *args)
    assert code == 0 and out.count("head: kept from ./m, by its class names") == 1, err
    assert "./m: the padding token '[PAD]' is number 0 in its tokenizer, 1 in its config.json; the" in err
    text = "the plot was great, i liked it!"
    expected, found = (
        {
            entry["label"]: entry["score"]
            for entry in pipeline("text-classification", m, top_k=None)([text])[0]
        }
        for m in ("m", "runs/small/version_0/model")
    )
    assert found == pytest.approx(expected, abs=1e-4)
    code, out, err = lit_ft("fit", *fit_args, *args[2:], "--model.pretrained", "runs/small/version_0/model")
    assert code == 0 and "by its class names" in out
