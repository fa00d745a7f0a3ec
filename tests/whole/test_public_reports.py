"""What people reported of other trainers and readers; each test names its report and holds what is right."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import one_line, review, write_csv

RUN = Path("runs/small/version_0")


def warnings_of(err: str) -> str:
    return " ".join(line for line in err.splitlines() if line.startswith("warning: "))


def rows(labels: list[str], count: int = 60) -> list[tuple[str, str]]:
    """Texts of like kinds under these labels in turn: (label, text)."""
    return [(labels[i % len(labels)], review(i % 5 + 1, i // 5)) for i in range(count)]


def fitted(lit_ft, fit_args, *flags: str) -> tuple[str, str]:
    """Output and warnings of a fit that must succeed."""
    code, out, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1", *flags)
    assert code == 0, err
    return out, warnings_of(err)


def names_of(run: Path) -> list[str]:
    config = json.loads((run / "model" / "config.json").read_text())
    return [config["id2label"][str(i)] for i in range(len(config["id2label"]))]


# ---- labels --------------------------------------------------------------------------------------------


def test_a_class_is_doubled_by_its_case(lit_ft, fit_args, work):
    """huggingface/autotrain-advanced#71, wietsedv/bertje#19: 'Billing' and 'billing' are said, with a
    row of each."""
    write_csv(work / "train.csv", rows(["Billing", "refund", "billing", "other"]))
    _, warned = fitted(lit_ft, fit_args)
    assert "'Billing'" in warned and "'billing'" in warned and "row" in warned


def test_a_class_that_no_validation_row_has(lit_ft, fit_args, work):
    """huggingface/autotrain-advanced#71: 61 classes in training, 60 in validation. It trains on all of
    them."""
    write_csv(work / "train.csv", rows(["a", "b", "c"]))
    write_csv(work / "val.csv", rows(["a", "b"], 10))
    out, _ = fitted(lit_ft, fit_args, "--data.validation_path", "val.csv")
    assert "3 classes" in out and names_of(RUN) == ["a", "b", "c"]


def test_numbers_with_one_left_out(lit_ft, fit_args, work):
    """ThilinaRajapakse/simpletransformers#748, #208 (Target 13 is out of bounds): 0 to 11 and 13 are 13
    classes, said."""
    labels = [str(i) for i in (*range(12), 13)]
    write_csv(work / "train.csv", rows(labels, 78))
    out, warned = fitted(lit_ft, fit_args)
    assert names_of(RUN) == labels and "12" in out + warned


def test_a_class_with_one_row(lit_ft, fit_args, work):
    """embeddings-benchmark/mteb#519, v7labs/darwin-py#406 (the least populated class has only 1 member):
    it trains."""
    write_csv(work / "train.csv", [*rows(["a", "b"]), ("rare", review(1, 0) + " rare")])
    out, _ = fitted(lit_ft, fit_args)
    assert "3 classes" in out


def test_one_class_only(lit_ft, fit_args, work):
    """ahmedbesbes/character-based-cnn#7 (9826 rows and 1 labels): one line, before training."""
    write_csv(work / "train.csv", rows(["0"]))
    assert "at least two classes" in one_line(lit_ft("fit", *fit_args))
    assert not Path("runs").exists()


def test_a_list_in_the_label_column(lit_ft, fit_args, work):
    """huggingface/setfit#250, #101 (several labels a text): one line that names the column and the row."""
    lines = [json.dumps({"text": review(i % 5 + 1, i), "label": [i % 2, 1]}) for i in range(20)]
    (work / "train.jsonl").write_text("\n".join(lines))
    line = one_line(lit_ft("fit", *fit_args, "--data.train_path", "train.jsonl"))
    assert "'label'" in line and "row 1" in line


def test_several_labels_in_one_value(lit_ft, fit_args, work):
    """amaiya/ktrain#346 (the label column contains several labels): said, not silently classes of their
    own."""
    write_csv(work / "train.csv", rows(["toxic;insult", "clean", "insult;toxic", "toxic", "insult"]))
    _, warned = fitted(lit_ft, fit_args)
    assert "toxic;insult" in warned and "';'" in warned


def test_names_of_numbers_go_to_their_numbers(lit_ft, fit_args, work):
    """facebookresearch/fairseq#1082 (IMDB's classes inverted): 0 is neg and 1 is pos in every file that
    is left."""
    data = [("0", "the movie was terrible !"), ("1", "the film was wonderful !")] * 40
    write_csv(work / "train.csv", data)
    fitted(lit_ft, fit_args, "--data.label_names", "[neg,pos]", "--trainer.max_epochs", "4")
    assert names_of(RUN) == ["neg", "pos"]
    code, _, err = lit_ft("predict", "--name", "small", "--data.predict_path", "train.csv")
    assert code == 0, err
    found = list(csv.DictReader((RUN / "predictions.csv").open()))
    assert {(row["label"], row["predicted"]) for row in found} == {("0", "neg"), ("1", "pos")}


def test_declared_classes_give_their_names(lit_ft, fit_args, work):
    """IBM/fastfit#23 (banking77's labels are numbers of a ClassLabel): predictions and model/ bear the
    names."""
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["card", "transfer"])}
    )
    texts = [review(i % 5 + 1, i) for i in range(40)]
    table = datasets.Dataset.from_dict(
        {"text": texts, "label": [i % 2 for i in range(40)]}, features=features
    )
    table.to_parquet("train.parquet")
    fitted(lit_ft, fit_args, "--data.train_path", "train.parquet")
    assert names_of(RUN) == ["card", "transfer"]


# ---- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [" text", "\ufefftext", "text\u00a0"], ids=["space", "bom", "nbsp"])
def test_a_column_that_is_there_and_not_found(name, lit_ft, fit_args, work):
    """huggingface/autotrain-advanced#101 ('sentence' could not be found in: 'sentence','label'): it is
    found."""
    write_csv(work / "train.csv", [(text, label) for label, text in rows(["a", "b"])], (name, "label"))
    fitted(lit_ft, fit_args)


def test_a_header_with_a_space_behind_the_comma(lit_ft, fit_args, work):
    """amaiya/ktrain#66: `category, transcript`, as it is typed in the report, and found under both
    names."""
    lines = [f"{label}, {text.replace(',', '')}" for label, text in rows(["a", "b"])]
    (work / "train.csv").write_text("\n".join(["category, transcript", *lines]))
    columns = ["--data.label_column", "category", "--data.text_column", "transcript"]
    out, _ = fitted(lit_ft, fit_args, *columns)
    assert "2 classes" in out


def test_lines_that_are_one_quoted_value(lit_ft, fit_args, work):
    """huggingface/autotrain-advanced#121: each line of the csv in quotes, so that there is one column.
    Read or told."""
    lines = [f'"{text.replace(",", "")},{label}"' for label, text in rows(["a", "b"])]
    (work / "train.csv").write_text("\n".join(['"text,label"', *lines]))
    code, _, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")
    assert code == 0 or "quote" in one_line((code, "", err))


def test_one_line_with_more_values(lit_ft, fit_args, work):
    """appvision-ai/fast-bert#96, lukas/ml-class#54 (Expected 2 fields in line 7, saw 3): one line with
    that number."""
    lines = ["label,text", *(f"{i % 2},fine {i}" for i in range(5)), "1,great, really", "0,boring"]
    (work / "train.csv").write_text("\n".join(lines))
    assert "line 7" in one_line(lit_ft("fit", *fit_args))


def test_a_quote_that_never_closes(lit_ft, fit_args, work):
    """dennybritz/chatbot-retrieval#49 (EOF inside string starting at line N): the line where it opens,
    or all rows."""
    lines = [
        "label,text",
        *(f"{i % 2},fine {i}" for i in range(10)),
        '1,"great',
        *("0,boring" for _ in range(9)),
    ]
    (work / "train.csv").write_text("\n".join(lines) + "\n")
    code, out, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")
    assert "20 rows" in out if code == 0 else "line 12" in one_line((code, out, err))


def test_a_folder_with_one_file_of_no_split(lit_ft, fit_args, work):
    """huggingface/autotrain-advanced#948, #846: a local folder with one csv, names as labels."""
    (work / "mine").mkdir()
    write_csv(work / "mine" / "tickets.csv", rows(["a", "b"]))
    out, _ = fitted(lit_ft, fit_args, "--data.train_path", "null", "--data.source", "./mine")
    assert "2 classes, a, b" in out


def test_fasttext_lines(lit_ft, fit_args, work):
    """undertheseanlp/classification#6 (`__label__x text` a line): one line that says what is expected."""
    (work / "train.txt").write_text("\n".join(f"__label__{a} {text}" for a, text in rows(["a", "b"])))
    assert "'label'" in one_line(lit_ft("fit", *fit_args, "--data.train_path", "train.txt"))


def test_line_separators_within_a_text(lit_ft, sft_args, work):
    """huggingface/datasets#622 and others (str.splitlines): U+2028, U+0085, form feeds do not cut a line
    of a .txt."""
    from lit_ft.data.corpus import read_files

    (work / "odd.txt").write_text(
        "one\u2028still one\ntwo\x0cstill two\nthree\x85still three\n", encoding="utf-8"
    )
    assert read_files("odd.txt", flag="--data.train_path")["text"][:] == [
        "one\u2028still one",
        "two\x0cstill two",
        "three\x85still three",
    ]


# ---- texts ---------------------------------------------------------------------------------------------


def test_texts_that_the_tokenizer_does_not_know(lit_ft, fit_args, work):
    """google-research/bert#587, huggingface/tokenizers#450 (emojis are [UNK]): their share is said."""
    write_csv(
        work / "train.csv", [(str(i % 2), "\U0001f600 \U0001f622 \U0001f389 \u2665") for i in range(40)]
    )
    _, warned = fitted(lit_ft, fit_args)
    assert "[UNK]" in warned or "unknown" in warned


def test_texts_of_which_nothing_is_left(lit_ft, fit_args, work):
    """huggingface/transformers#1233, #568 (assert len(tokens) > 0): zero-width characters alone; it
    trains."""
    write_csv(work / "train.csv", [*rows(["a", "b"]), ("a", "\u200b\u200d"), ("b", "\ufe0f")])
    fitted(lit_ft, fit_args)


def test_sequences_joined_by_hand(lit_ft, fit_args, work):
    """huggingface/transformers#3456 (`a [SEP] b [SEP] c`): the special tokens in the texts are counted,
    with a row."""
    write_csv(work / "train.csv", [(label, f"{text} [SEP] {text}") for label, text in rows(["a", "b"])])
    _, warned = fitted(lit_ft, fit_args)
    assert "[SEP]" in warned and "of 60 texts" in warned and "rows 1, 2" in warned


# ---- predicting ----------------------------------------------------------------------------------------


def test_predictions_stand_beside_their_texts(lit_ft, fit_args, work):
    """fastai/fastai#975, zihangdai/xlnet#28: sorted by length inside, in the order of the file outside."""
    write_csv(work / "train.csv", [("0", "terrible"), ("1", "wonderful " * 30)] * 40)
    fitted(lit_ft, fit_args, "--trainer.max_epochs", "4")
    data = [(str(i), "wonderful " * 30 if i % 3 else "terrible") for i in range(200)]
    write_csv(work / "new.csv", data, ("id", "text"))
    code, _, err = lit_ft("predict", "--name", "small", "--data.predict_path", "new.csv")
    assert code == 0, err
    found = list(csv.DictReader((RUN / "predictions.csv").open()))
    assert [row["id"] for row in found] == [i for i, _ in data]
    assert [row["predicted"] for row in found] == ["1" if i % 3 else "0" for i in range(200)]


def test_no_labels_no_text(lit_ft, fit_args, work):
    """deeppavlov/DeepPavlov#1126 (no 'target' in test.csv), IBM/MAX-Toxic-Comment-Classifier#7 (an empty
    text gets probabilities): without a label column it predicts, and an empty text gets a row without
    a class."""
    fitted(lit_ft, fit_args)
    write_csv(work / "new.csv", [("fine",), ("",), ("great",)], ("text",))
    code, _, err = lit_ft("predict", "--name", "small", "--data.predict_path", "new.csv")
    assert code == 0 and "1 of 3 rows" in warnings_of(err)
    found = list(csv.DictReader((RUN / "predictions.csv").open()))
    assert [bool(row["predicted"]) for row in found] == [True, False, True]


def test_the_pipeline_answers_with_names(lit_ft, fit_args, work):
    """huggingface/transformers#13298, #553 (LABEL_0 on the Hub): the exported folder knows the classes."""
    from transformers import pipeline

    write_csv(work / "train.csv", rows(["negative", "positive"]))
    fitted(lit_ft, fit_args)
    pipe = pipeline("text-classification", model=str(RUN / "model"), device="cpu", top_k=None)
    assert {entry["label"] for entry in pipe(["the movie was fine"])[0]} == {"negative", "positive"}


# ---- models --------------------------------------------------------------------------------------------


def test_weights_of_tensorflow_only(lit_ft, fit_args, encoder, work):
    """asahi417/tner#44, TheophileBlard/french-sentiment-analysis-with-bert#39 (tf_model.h5): one line,
    no run."""
    shutil.copytree(encoder, work / "tf")
    (work / "tf" / "model.safetensors").rename(work / "tf" / "tf_model.h5")
    line = one_line(lit_ft("fit", *fit_args, "--model.pretrained", "./tf"))
    assert line.startswith("tf: ") and "tf_model.h5" in line and not Path("runs").exists()


def test_an_adapter_folder(lit_ft, fit_args, encoder, work):
    """huggingface/autotrain-advanced#166 (no config.json, adapter_config.json instead): told as what it
    is."""
    (work / "lora").mkdir()
    (work / "lora" / "adapter_config.json").write_text('{"base_model_name_or_path": "bert-base-cased"}')
    line = one_line(lit_ft("fit", *fit_args, "--model.pretrained", "./lora"))
    assert "adapter" in line and "bert-base-cased" in line


def test_a_folder_of_sentence_transformers(lit_ft, fit_args, encoder, work):
    """huggingface/sentence-transformers#997 (the encoder lies in 0_Transformer): it is named, or taken."""
    (work / "st").mkdir()
    shutil.copytree(encoder, work / "st" / "0_Transformer")
    (work / "st" / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "0_Transformer"}]')
    code, out, err = lit_ft("fit", *fit_args, "--model.pretrained", "./st", "--trainer.max_epochs", "1")
    assert code == 0 or "0_Transformer" in one_line((code, out, err))


def test_classes_of_the_config_that_contradict_each_other(lit_ft, fit_args, encoder, work):
    """huggingface/transformers#3093 (num_labels 3, id2label of 2): our classes are those of the data."""
    shutil.copytree(encoder, work / "odd")
    config = json.loads((work / "odd" / "config.json").read_text())
    config |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0}, "_num_labels": 3}
    (work / "odd" / "config.json").write_text(json.dumps(config))
    fitted(lit_ft, fit_args, "--model.pretrained", "./odd")
    assert names_of(RUN) == ["1", "2", "3", "4", "5"]


# ---- settings ------------------------------------------------------------------------------------------


def test_a_share_in_percent(lit_ft, fit_args):
    """v7labs/darwin-py#309 (is it 20 or 0.2?): the line says which."""
    line = one_line(lit_ft("fit", *fit_args, "--data.validation_share", "20"))
    assert "above 0 and below 1" in line and "20" in line


def test_more_epochs_for_a_run_that_has_ended(lit_ft, fit_args, work):
    """Lightning-AI/pytorch-lightning#2823, #19865: refused, with the way to go on from its weights."""
    fitted(lit_ft, fit_args)
    again = ("fit", *fit_args, "--trainer.max_epochs", "3", "--ckpt_path", "last")
    line = one_line(lit_ft(*again))
    assert "max_epochs=3 (there 1)" in line and "--model.pretrained=" in line


def test_a_group_from_a_file(lit_ft, fit_args, work):
    """Lightning-AI/pytorch-lightning#13094 (`--data data.yaml`): taken as the group's settings."""
    (work / "data.yaml").write_text(
        "train_path: train.csv\nvalidation_share: 0.3\nmax_tokens: 64\nbatch_size: 8\n"
    )
    out, _ = fitted(lit_ft, fit_args, "--data", "data.yaml")
    assert "validation_share=0.3" in out


def test_a_windows_path_in_double_quotes(lit_ft, work):
    """anidl/multi-downloader-nx#530 (invalid escape sequence \\\\U): one line with the file and the
    line."""
    (work / "my.yaml").write_text('data:\n  train_path: "C:\\Users\\me\\train.csv"\n')
    line = one_line(lit_ft("fit", "--config", "my.yaml"))
    assert "my.yaml, line 2" in line and "escape" in line


def test_a_strategy_as_a_list(lit_ft, fit_args, work):
    """Lightning-AI/pytorch-lightning#17254: one line that names the key."""
    (work / "s.yaml").write_text(
        "trainer:\n  strategy:\n    - class_path: lightning.pytorch.strategies.DDPStrategy\n"
    )
    assert "trainer.strategy" in one_line(lit_ft("fit", *fit_args, "--config", "s.yaml"))


# ---- masked LM -----------------------------------------------------------------------------------------


def test_texts_alone_are_enough(lit_ft, sft_args):
    """huggingface/transformers#12406 (MLM fails with no validation file): a part is held out, and said."""
    code, out, err = lit_ft("sft", *sft_args, "--max_steps", "2")
    assert code == 0, err
    assert "held out" in out and Path("runs/small/version_0/model/config.json").is_file()
