"""The data module and the model as a library, without the command line."""

import numpy as np
import pytest
import torch
from conftest import review, write_csv
from lightning import Trainer

from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.data.source import TextSource
from lit_ft.errors import UserError


@pytest.fixture
def datamodule(encoder, work) -> YelpDataModule:
    return YelpDataModule(
        train_path="train.csv", test_path="test.csv", max_tokens=64, batch_size=8, tokenizer=str(encoder),
        validation_share=0.2,
    )  # fmt: skip


def test_batches_have_hugging_faces_keys_and_nothing_else(datamodule):
    datamodule.setup("fit")
    batch = next(iter(datamodule.train_dataloader()))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    assert batch["input_ids"].shape == batch["attention_mask"].shape and batch["labels"].shape == (8,)
    assert batch["input_ids"].shape[1] % 8 == 0
    assert set(batch["labels"].tolist()) <= set(range(5))
    validation = next(iter(datamodule.val_dataloader()))
    split = datamodule.splits["validation"]
    assert set(validation) == {*batch, "index"}  # to find the text of an outcome
    rows = [split.texts[i]["row"] for i in validation["index"].tolist()]
    assert set(rows) <= set(split.source_rows.tolist())


def test_split_is_stratified_seeded_and_disjoint(datamodule, encoder):
    datamodule.setup("fit")
    train, held_out = datamodule.splits["train"], datamodule.splits["validation"]
    assert np.bincount(held_out.labels).tolist() == [4] * 5
    assert not set(train.source_rows) & set(held_out.source_rows)
    assert len(train.source_rows) + len(held_out.source_rows) == 100
    again = YelpDataModule(**{**datamodule.hparams, "seed": 7})
    again.setup("fit")  # the run's seed does not move rows between the splits
    assert again.splits["validation"].source_rows.tolist() == held_out.source_rows.tolist()
    other = YelpDataModule(**{**datamodule.hparams, "split_seed": 7})
    other.setup("fit")
    assert other.splits["validation"].source_rows.tolist() != held_out.source_rows.tolist()


def test_padding_to_max_length(datamodule):
    fixed = YelpDataModule(**{**datamodule.hparams, "padding": "max_length"})
    fixed.setup("fit")
    assert {batch["input_ids"].shape[1] for batch in fixed.train_dataloader()} == {64}


def test_trains_and_reloads_without_the_command_line(datamodule, encoder, work):
    model = BertClassifier(str(encoder), learning_rate=1e-3)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", use_distributed_sampler=False, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, datamodule)
    trainer.save_checkpoint("model.ckpt")
    loaded = BertClassifier.load_from_checkpoint("model.ckpt", weights_only=True)
    for name, value in model.net.state_dict().items():
        assert torch.equal(value, loaded.net.state_dict()[name]), name
    assert loaded.net.config.id2label == {i: str(i + 1) for i in range(5)}


def test_where_each_split_comes_from():
    nothing = {f"{split}_path": None for split in ("train", "validation", "test", "predict")}
    hub = {**nothing, "source": "a/b", "train_split": "train", "validation_split": None, "test_split": "test"}
    assert [TextSource.of(hub).origin(s) for s in ("train", "validation", "test", "predict")] == [
        "source",
        None,
        "source",
        None,
    ]
    own = {**hub, "train_path": "mine.csv"}
    assert [TextSource.of(own).origin(s) for s in ("train", "validation", "test")] == ["files", None, None]
    assert TextSource.of({**hub, "test_path": "t.csv"}).origin("test") == "files"
    sample = {**hub, "source": "sample", "validation_split": "x"}
    assert [TextSource.of(sample).origin(s) for s in ("train", "validation", "test")] == [
        "sample",
        None,
        "sample",
    ]
    assert TextSource.of({**hub, "validation_split": "dev"}).origin("validation") == "source"


def test_no_data_named():
    with pytest.raises(UserError, match="set --data.train_path"):
        YelpDataModule().setup("fit")


def test_own_files_with_the_sample_config_use_the_embedded_encoder(lit_ft, work):
    """`--config sample.yaml --data.train_path mine.csv`: the user's texts, the sample's encoder."""
    write_csv(work / "mine.csv", [(i % 2, review(i % 2 * 4 + 1, i)) for i in range(60)])
    flags = ["--data.train_path", "mine.csv", "--trainer.max_epochs", "1"]
    code, out, err = lit_ft(
        "fit", "--config", "sample.yaml", *flags, "--trainer.enable_progress_bar", "false"
    )
    assert code == 0, err
    assert "rows of mine.csv" in out and "labels: 2 classes" in out
    code, _, err = lit_ft("test", "--config", "sample.yaml")
    assert code == 2 and "set --data.test_path" in err  # never the sample's test reviews
