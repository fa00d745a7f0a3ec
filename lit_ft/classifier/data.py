"""`YelpDataModule`: labelled texts -> token ids -> batches of Hugging Face's keys.

N rows of a split, B rows a batch, T tokens after padding, C classes.
"""

from typing import Any, Literal, cast
from zlib import crc32

import numpy as np
import torch
from lightning import LightningDataModule

from lit_ft.classifier import batch_settings
from lit_ft.classifier.optim import limit_in_words, limited
from lit_ft.console import say
from lit_ft.data import splits
from lit_ft.data.batching import GroupedBatchSampler, ResumableLoader
from lit_ft.data.label_column import LabelType
from lit_ft.data.labels import LabelMapping
from lit_ft.data.splits import Split, SplitName, asks_hub, origin, prepare_split
from lit_ft.data.tokens import EncodedRows, Truncation
from lit_ft.models.checks import check_max_tokens
from lit_ft.models.load import load_config, load_tokenizer, tokenizer_files, tokenizer_from_files

KINDS: dict[SplitName, str] = {"validation": "val", "test": "test"}  # in the names of the Trainer's limits


class YelpDataModule(LightningDataModule):
    """Labelled texts from the Hub, from files, or the embedded sample.

    Args:
        source: Where the splits come from: a dataset on the Hugging Face Hub such as
            `Yelp/yelp_review_full`, a local dataset folder, or `sample`, the embedded reviews. Not
            read where `train_path` is given.
        subset: Name of the Hub dataset's subset (its configuration), if it has several.
        train_split: Name of the Hub dataset's split to train on.
        validation_split: Name of the Hub dataset's split to validate on. Without one, a part of the
            training split is held out (`validation_share`).
        test_split: Name of the Hub dataset's split to test on.
        train_path: File or glob to train on: .csv, .tsv, .jsonl, .json or .parquet.
        validation_path: File or glob to validate on; else a part of the training split is held out.
        test_path: File or glob to test on.
        predict_path: File or glob of texts to predict, with or without labels.
        predict_output: File that `predict` writes; default `predictions.csv` in the run folder.
        text_column: Name of the column that holds the text.
        label_column: Name of the column that holds the label.
        label_type: What labels are. `numbers`: whole numbers, in their order; `names`: as they are
            written, in alphabetical order. `auto` takes a column for numbers only if every value is a whole
            number, and not if digits are written as those of no number are (007; 1.0 beside 1.10).
        label_base: The lowest whole number that is a class, also if no row has it. By default the lowest that
            occurs, and labels below 0 are refused, as -1 often means "not labelled".
        label_names: The labels in the order of their classes, also those that no row has; or, for labels that
            are whole numbers or declared by the dataset, a name to show for each. A mapping from label to
            name shows these names whatever the labels are.
        validation_share: Share of the training split held out for validation, stratified by label,
            where no validation data is given. Equal texts stay on one side.
        split_seed: Chooses which rows are held out, and which part is measured where a limit of the trainer
            leaves a part. Kept apart from the run's seed, so that runs with different seeds are validated
            on the same rows.
        unescape: Undo the escapes of `yelp_review_full`: a backslash and an n become a line break, a
            backslash and a quote become a quote.
        strip_html_breaks: Turn `<br />` into a line break.
        on_empty: What to do with rows without text: drop them (counted in a warning), or stop.
        max_tokens: Longest input in tokens, special tokens included; longer texts are cut.
        truncation: What stays of a longer text: its head, its tail, or about a quarter of head and
            three quarters of tail.
        padding: Pad a batch to its longest text, or always to `max_tokens`; `none` is for training with
            `model.compile`: `token_budget` then counts the texts' own tokens, and `group_by_length` and
            `pad_multiple` matter to evaluation only.
        pad_multiple: A batch's padded length is a multiple of this many tokens.
        batch_size: Texts a training step, on each device; with `token_budget`, the most.
        eval_batch_size: Texts a step in validate, test and predict, on each device; with `token_budget`, the
            most.
        token_budget: The most tokens a step computes on each device, padding included: fewer long texts or
            more short ones a step, each with the same weight in an epoch's gradients.
        group_by_length: Put texts of like length into a batch, so that little padding is computed.
        num_workers: Processes that prepare batches during training; 0 prepares them in the training process.
        seed: Chooses the order of the training batches.
        tokenizer: Model folder or Hub name whose tokenizer is used.
    """

    def __init__(
        self,
        source: str | None = None,
        subset: str | None = None,
        train_split: str = "train",
        validation_split: str | None = None,
        test_split: str = "test",
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        predict_path: str | None = None,
        predict_output: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        label_type: LabelType = "auto",
        label_base: int | None = None,
        label_names: list[str] | dict[str, str] | None = None,
        validation_share: float = 0.05,
        split_seed: int = 0,
        unescape: bool = False,
        strip_html_breaks: bool = False,
        on_empty: Literal["drop", "stop"] = "drop",
        max_tokens: int = 512,
        truncation: Truncation = "head",
        padding: Literal["longest", "max_length", "none"] = "longest",
        pad_multiple: int = 8,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        token_budget: int | None = None,
        group_by_length: bool = True,
        num_workers: int = 0,
        seed: int = 42,
        tokenizer: str = "sample",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        batch_settings.check_batch_settings(self.hparams)
        self.labels: LabelMapping | None = None
        self.tokenizer: Any = None
        self.splits: dict[SplitName, Split] = {}
        self._tokenizer_files: dict[str, str] = {}
        self._fingerprint: str | None = None  # of the training data
        self._held_out: str | None = None  # of the rows of it that are held out
        self._parts_said: set[SplitName] = set()
        self._train_loader: ResumableLoader | None = None
        self._loader_state: dict[str, int] | None = None

    # ---- reading -------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read, check and tokenise what a stage needs, once; says what the user should know.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            UserError: A mistake in the data or its settings, in one line.
        """
        if self.tokenizer is None:
            config = load_config(self.hparams["tokenizer"])
            tokenizer = load_tokenizer(self.hparams["tokenizer"])
            check_max_tokens(config, self.hparams["max_tokens"], tokenizer)
            self.set_tokenizer(tokenizer)
        if stage == "fit" and "train" not in self.splits:
            self._setup_train_and_validation(keep_train=True)
        elif stage == "validate" and "validation" not in self.splits:
            self._setup_train_and_validation(keep_train=False)
        elif stage in ("test", "predict") and stage not in self.splits:
            split = cast(SplitName, stage)
            self.splits[split] = self._prepare(split)

    def _setup_train_and_validation(self, keep_train: bool) -> None:
        h, own_validation = self.hparams, origin(self.hparams, "validation") is not None
        if keep_train or not own_validation:
            train = self._prepare("train")
            where = h["train_path"] or h["source"]
            splits.check_same_train(self._fingerprint, train.fingerprint, keep_train, where)
            if not own_validation:
                train, validation = splits.hold_out(train, h["validation_share"], h["split_seed"])
                held_out = f"{crc32(validation.rows.positions.tobytes()):08x}"
                if self._fingerprint is not None:  # a checkpoint's
                    splits.check_same_held_out(self._held_out, held_out)
                self.splits["validation"], self._held_out = validation, held_out
            self._fingerprint = train.fingerprint
            if keep_train:
                self.splits["train"] = train
        if own_validation:
            self.splits["validation"] = self._prepare("validation")
        if keep_train:
            splits.warn_of_copies(self.splits["train"], self.splits["validation"])

    def _prepare(self, split: SplitName) -> Split:
        prepared, self.labels = prepare_split(self.hparams, split, self.tokenizer, self.labels)
        return prepared

    def reads_hub(self, stage: str) -> bool:
        """Whether `setup` of this stage asks the Hub."""
        return asks_hub(self.hparams, "train" if stage in ("fit", "validate") else cast(SplitName, stage))

    def class_counts(self) -> list[int]:
        """Training rows of each class, (C,)."""
        labels = self.splits["train"].labels
        assert labels is not None and self.labels is not None
        return np.bincount(labels, minlength=self.labels.num_labels).tolist()

    def num_train_batches(self, world_size: int | None = None) -> int:
        """Training batches an epoch, on each process; the same in every epoch."""
        return len(self._sampler("train", self.splits["train"].rows, True, world_size))

    def num_evaluation_batches(self, split: SplitName, world_size: int) -> int:
        """Batches of a split that is measured, on each process."""
        return len(self._sampler(split, self.splits[split].rows, False, world_size))

    def rows_per_train_batch(self) -> float | None:
        """Rows of a mean training batch, over all processes, where batches differ: with a `token_budget`."""
        return self._sampler("train", self.splits["train"].rows, True).rows_per_batch

    def unpadded_step(self) -> tuple[int, int]:
        """The most tokens and texts of a training step, on each process, where `padding` is `none`."""
        sampler = self._sampler("train", self.splits["train"].rows, True)
        return sampler.tokens_per_batch, sampler.most_rows  # type: ignore[attr-defined]

    # ---- loaders -------------------------------------------------------------------------------

    def _sampler(
        self, split: SplitName, rows: EncodedRows, train: bool, of: int | None = None
    ) -> GroupedBatchSampler:
        rank, world_size = (0, 1) if split == "predict" else self._process()  # predict: see _loader
        settings = self.hparams, rows.lengths, train, rank, of or world_size
        sampler = batch_settings.batch_sampler(*settings, near=split == "predict")
        sampler.repeats = train and bool(getattr(self.trainer, "overfit_batches", 0))
        return sampler

    def _limited(self, split: SplitName, batches: int) -> int:
        """How many batches of a split that is measured the Trainer will take."""
        kind = KINDS.get(split)
        if kind is None or self.trainer is None:
            return batches
        # Of no batches Lightning asks for no loader, but for `num_sanity_val_steps`.
        return limited(batches, getattr(self.trainer, f"limit_{kind}_batches")) or batches

    def _say_part(self, split: SplitName, rows: int, whole: int) -> None:
        if split not in self._parts_said:  # once, though a sanity check asks for the loader, too
            self._parts_said.add(split)
            limit = limit_in_words(self.trainer, KINDS[split])
            say(f"{split}: measured on a random part, {rows:,} of {whole:,} texts ({limit})")

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, split: SplitName, train: bool) -> ResumableLoader:
        rows = self.splits[split].rows
        if not train:  # what was said of a row is written beside its text
            # In predict each process takes a stretch of the file, so that it can write in order.
            rank, world_size = self._process() if split == "predict" else (0, 1)
            share = np.array_split(np.arange(len(rows)), world_size)[rank]
            # A process for which no row is left computes the first one, too, which its writer passes over:
            # of a loop without batches Lightning 2.6.6 (prediction_loop.py, skip) calls no hook, and the
            # other processes would wait in theirs.
            rows = rows.take(share if len(share) else np.arange(1), with_index=True)
        sampler = self._sampler(split, rows, train)
        if not train and (left := self._limited(split, len(sampler))) < len(sampler):
            whole, told_length = len(rows), len(sampler)
            rows = rows.take(sampler.random_rows(left), with_index=True)
            sampler = self._sampler(split, rows, train)
            sampler.told_length = told_length
            self._say_part(split, len(rows), whole)
        return ResumableLoader(
            rows,
            batch_sampler=sampler,
            collate_fn=batch_settings.padding_collator(self.hparams, self.tokenizer),
            num_workers=self.hparams["num_workers"],
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> ResumableLoader:
        """Batches of `labels` (B,), `input_ids`, `token_type_ids`, `attention_mask` (B, T), int64."""
        self._train_loader = self._loader("train", train=True)
        if self._loader_state:
            self._train_loader.load_state_dict(self._loader_state)
            self._loader_state = None
        return self._train_loader

    def val_dataloader(self) -> ResumableLoader:
        """As `train_dataloader`, in a fixed order, with `index`, the row's place in the split's table."""
        return self._loader("validation", train=False)

    def test_dataloader(self) -> ResumableLoader:
        """As `val_dataloader`."""
        return self._loader("test", train=False)

    def predict_dataloader(self) -> ResumableLoader:
        """As `val_dataloader`, without `labels`."""
        return self._loader("predict", train=False)

    # ---- what a checkpoint keeps -----------------------------------------------------------------

    def set_tokenizer(self, tokenizer: Any) -> None:
        """The tokenizer as it is now: a checkpoint carries it."""
        self.tokenizer, self._tokenizer_files = tokenizer, tokenizer_files(tokenizer)

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch, the label mapping and the tokenizer, as plain values."""
        return {
            "loader": self._train_loader.state_dict() if self._train_loader else None,
            "labels": self.labels.as_dict() if self.labels else None,
            "tokenizer": self._tokenizer_files,
            "train": self._fingerprint,
            "held_out": self._held_out,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave, before any loader is built; texts and labels are read as then."""
        self._loader_state = state_dict["loader"]
        if self._fingerprint is None:
            self._fingerprint, self._held_out = state_dict["train"], state_dict.get("held_out")
        if self.labels is None and state_dict["labels"]:
            self.labels = LabelMapping.from_dict(state_dict["labels"])
        if self.tokenizer is None:
            self.set_tokenizer(tokenizer_from_files(state_dict["tokenizer"]))
