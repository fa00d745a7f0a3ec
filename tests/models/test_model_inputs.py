"""Inputs of other model families: the pipeline's probabilities, whatever the batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import one_line, write_csv
from families import TYPED, family
from tokenizers import processors
from transformers import AutoConfig, pipeline

from lit_ft.classifier.batch_settings import padding_collator
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.trial import try_classifier
from lit_ft.commands.fill_mask import load
from lit_ft.data.batching import PaddingCollator
from lit_ft.data.tokens import template_of
from lit_ft.models.export import LOADING, export_model
from lit_ft.models.inputs import SEES_PADDING

TEXTS = [
    "fine",
    "the film was so very good",
    "bad",
    "the plot was fine and the film was bad",
    "so so good",
] * 3


@pytest.fixture
def texts(work: Path) -> list[str]:
    """15 texts of 1 to 9 words in `words.csv`."""
    write_csv(work / "words.csv", [(i % 3, text) for i, text in enumerate(TEXTS)])
    return TEXTS


def prepared(folder: Path, **settings) -> tuple[YelpDataModule, BertClassifier]:
    """Data and model as `fit` has them before its first step; the model in eval mode."""
    data = YelpDataModule(
        train_path="words.csv", validation_path="words.csv", tokenizer=str(folder), max_tokens=32, **settings
    )
    data.setup("fit")
    model = BertClassifier(str(folder))
    model.build(data.labels)
    try_classifier(model.net, data, "the model")
    assert all(module.training for module in model.modules())
    return data, model.eval()


def worst_difference(data: YelpDataModule, model: BertClassifier, texts: list[str]) -> float:
    """A batch of all texts against the pipeline on the exported folder, one text at a time."""
    rows = data.splits["train"].rows
    collate = padding_collator(data.hparams, data.tokenizer)
    with torch.no_grad():
        ours = model.logits_of(collate([rows[i] for i in range(len(rows))])).softmax(-1)
    Path("run").mkdir(exist_ok=True)
    folder = export_model(Path("run"), model.net, model.net.state_dict(), data.tokenizer, 32, "head")
    pipe = pipeline("text-classification", model=str(folder))
    theirs = [{s["label"]: s["score"] for s in pipe(text, truncation=True, top_k=None)} for text in texts]
    return max(
        abs(float(p) - scores[name])
        for row, scores in zip(ours, theirs, strict=True)
        for p, name in zip(row, data.labels.names, strict=True)
    )


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "xlm-roberta", "xlnet", "gpt2", "bart"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_says_of_a_text_what_the_pipeline_says(kind, side, tmp_path, texts):
    """Also if the tokenizer names token types that the model does not take, and pads on the wrong side."""
    names = ["input_ids", "attention_mask"] if kind == "gpt2" else TYPED
    data, model = prepared(family(kind, tmp_path / "m", side, names))
    assert worst_difference(data, model, texts) < 1e-5
    takes_types = kind in ("bert", "xlm-roberta", "xlnet")
    assert ("token_type_ids" in data.tokenizer.model_input_names) == takes_types
    settings = json.loads(Path("run/model/tokenizer_config.json").read_text())
    right = {"xlnet": "left", "gpt2": "right", "bert": "right", "distilbert": "right"}
    assert settings["padding_side"] == right.get(kind, settings["padding_side"])
    assert ("token_type_ids" in settings["model_input_names"]) == takes_types
    carried = json.loads(data.state_dict()["tokenizer"]["tokenizer_config.json"])
    carried = {key: value for key, value in carried.items() if key not in LOADING}
    assert settings == {**settings, **carried, "model_max_length": 32, "truncation_side": "right"}


def test_xlnet_has_its_own_token_types(tmp_path, texts):
    data, _ = prepared(family("xlnet", tmp_path / "m", "left"))
    rows = data.splits["train"].rows
    batch = padding_collator(data.hparams, data.tokenizer)([rows[0], rows[1]])
    assert batch["token_type_ids"].tolist() == [[0] * 7 + [2]] * 2
    assert batch["attention_mask"].tolist() == [[0] * 5 + [1] * 3, [1] * 8]
    assert (
        batch["input_ids"][:, -2:].tolist() == [data.tokenizer.convert_tokens_to_ids(["<sep>", "<cls>"])] * 2
    )


@pytest.mark.parametrize("kind", ["convbert", "fnet"])
def test_where_padding_tells_texts_of_equal_length_go_together(kind, tmp_path, texts, capfd):
    data, model = prepared(family(kind, tmp_path / "m"))
    assert "warning: padding changes the logits of the model" in capfd.readouterr().err
    assert worst_difference(data, model, texts) < 1e-5
    assert getattr(AutoConfig.from_pretrained("run/model"), SEES_PADDING) is True  # so `test` knows it, too
    # Without it the probabilities differ: the trial is needed.
    setattr(model.net.config, SEES_PADDING, False)
    assert worst_difference(data, model, texts) > 1e-3


def test_ordinary_models_are_padded_as_their_tokenizer_says_without_a_word(tmp_path, texts, capfd):
    data, model = prepared(family("bert", tmp_path / "m"))
    out, err = capfd.readouterr()
    assert "padding" not in out + err and not hasattr(model.net.config, SEES_PADDING)


def test_texts_that_are_all_cut_are_tried_with_padding_all_the_same(work, tmp_path):
    """All of 8 tokens: the trial makes a shorter one, and still finds the side."""
    write_csv(work / "words.csv", [(i % 3, "the film was so very good and fine") for i in range(12)])
    data = YelpDataModule(
        train_path="words.csv", validation_path="words.csv", max_tokens=8,
        tokenizer=str(family("bert", tmp_path / "m", "left")),
    )  # fmt: skip
    data.setup("fit")
    model = BertClassifier(str(tmp_path / "m"))
    model.build(data.labels)
    try_classifier(model.net, data, "the model")
    assert data.tokenizer.padding_side == "right"


def test_left_padding_by_hand():
    rows = [{"input_ids": np.array([7, 8, 9])}, {"input_ids": np.array([7])}]
    types = ([], 0, [2])
    batch = PaddingCollator(1, 4, 8, None, True, types=types, pad_type=3, padding_side="left")(rows)
    assert batch["input_ids"].tolist() == [[1, 7, 8, 9], [1, 1, 1, 7]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]
    assert batch["token_type_ids"].tolist() == [[3, 0, 0, 2], [3, 3, 3, 2]]


def test_xlnet_from_fit_to_predict(lit_ft, tmp_path, texts):
    """The class is read from the last position, computed once per text, whatever the batch."""
    folder = family("xlnet", tmp_path / "m", "left")
    flags = ["--config", "sample.yaml", "--name", "x", "--data.source", "null", "--data.max_tokens", "32"]
    code, _, err = lit_ft(
        "fit", *flags, "--data.train_path", "words.csv", "--model.pretrained", str(folder),
        "--data.validation_share", "0.2", "--trainer.max_epochs", "1",
        "--trainer.enable_progress_bar", "false",
    )  # fmt: skip
    assert code == 0, err
    predicted = []
    for batch in (["64"], ["1", "--data.pad_multiple", "1"]):
        code, _, err = lit_ft(
            "predict", "--name", "x", "--trainer.precision", "32-true", "--data.predict_path", "words.csv",
            "--data.predict_output", "p.csv", "--data.eval_batch_size", *batch,
        )  # fmt: skip
        assert code == 0, err
        lines = [line.rsplit(",", 3)[1:] for line in Path("p.csv").read_text().splitlines()[1:]]
        predicted.append(np.array(lines, dtype=float))
    assert np.abs(predicted[0] - predicted[1]).max() < 2e-6  # written with six digits
    pipe = pipeline("text-classification", model="runs/x/version_0/model")
    scores = [sorted(pipe(text, top_k=None), key=lambda score: score["label"]) for text in texts]
    theirs = np.array([[entry["score"] for entry in entries] for entries in scores])
    assert np.abs(predicted[0] - theirs).max() < 1e-5


def test_a_tokenizer_without_its_special_tokens_is_told(tmp_path, capfd):
    from families import BERT, family_tokenizer

    from lit_ft.models.load import Pretrained

    folder = family("bert", tmp_path / "m")
    Pretrained.of(str(folder)).tokenizer()
    assert "[CLS]" not in capfd.readouterr().err
    family_tokenizer(BERT, "$A").save_pretrained(folder)
    tokenizer = Pretrained.of(str(folder)).tokenizer()
    assert "has a [CLS] token but puts none into a text" in capfd.readouterr().err
    template = template_of(tokenizer)
    assert (template.before, template.after) == ([], [])  # as a pipeline does


def test_token_types_that_the_model_does_not_know_are_left_out(tmp_path):
    """A template of type 1, but embeddings of one type: otherwise an IndexError."""
    from families import ROBERTA, family_tokenizer

    from lit_ft.models.load import Pretrained

    folder = family("xlm-roberta", tmp_path / "m")
    family_tokenizer(ROBERTA, "<s>:0 $A:1 </s>:1").save_pretrained(folder)
    assert "token_type_ids" not in Pretrained.of(str(folder)).tokenizer().model_input_names


def test_fill_mask_leaves_them_out_too(tmp_path):
    """Embeddings of one type and a template of type 1."""
    from mlm_tiny import build

    model, tokenizer = build("bert")
    model.config.type_vocab_size = 1
    torch.manual_seed(0)
    type(model)(model.config).save_pretrained(tmp_path)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save_pretrained(tmp_path)
    assert len(load(str(tmp_path))("the [MASK] was great")) == 5


def test_bart_refuses_the_rows_that_hold_its_end_of_text(lit_ft, tmp_path, texts):
    """Its head reads the last </s> and needs the same number in all rows; other special tokens are read."""
    folder = family("bart", tmp_path / "m", names=["input_ids", "attention_mask"])
    flags = ["--config", "sample.yaml", "--name", "b", "--data.source", "null", "--data.max_tokens", "32"]
    flags += ["--model.pretrained", str(folder), "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    flags += ["--data.validation_share", "0.3", "--trainer.enable_progress_bar", "false"]
    rows = [(i % 3, text) for i, text in enumerate([*TEXTS, "the <pad> film"])]
    write_csv(Path("train.csv"), [*rows, (0, "the film </s> was good"), (1, "</s>")])
    refused = lit_ft("fit", *flags, "--data.train_path", "train.csv")
    line = one_line(refused)
    assert "cannot read '</s>' within a text (All examples must have the same number of <eos> tokens)" in line
    assert (
        "found in rows 17 and 18 of train.csv; remove it from the texts" in line and not Path("runs").exists()
    )
    write_csv(Path("train.csv"), rows)
    code, _, err = lit_ft("fit", *flags, "--data.train_path", "train.csv")
    assert code == 0 and "1 of 16 texts of train.csv hold special tokens" in err, err
    assert "such as '<pad>' in row 16" in err
    write_csv(Path("test.csv"), [(0, "fine"), (1, "bad"), (2, "so </s> good")])
    for command in (["test", "--data.test_path"], ["predict", "--data.predict_path"]):
        line = one_line(lit_ft(command[0], "--name", "b", command[1], "test.csv"))
        assert "found in row 3 of test.csv; remove it from the texts" in line
