"""`YelpDataModule`: labelled texts -> token ids -> batches of Hugging Face's keys.

N rows of a split, B rows a batch, T tokens after padding, C classes.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule

from lit_ft.classifier import batch_settings
from lit_ft.classifier.optim import limit_in_words, limited
from lit_ft.classifier.slices import check_slices
from lit_ft.console import say, warn
from lit_ft.data import splits
from lit_ft.data.batching import ChosenBatches, GroupedBatchSampler, ResumableLoader
from lit_ft.data.columns import GROUPS, SLICES, Values, check_apart, columns_named
from lit_ft.data.division import (
    MARKS,
    check_division,
    check_same_parts,
    divide,
    divides,
    fold_in_words,
    groups_of,
    tell_division,
    warn_of_rare,
    warn_of_shared,
)
from lit_ft.data.duplicates import normalised_keys
from lit_ft.data.formats import columns_of, find_files
from lit_ft.data.groups import read_groups
from lit_ft.data.label_column import LabelType
from lit_ft.data.source import SplitName, TextSource
from lit_ft.data.splits import Split
from lit_ft.data.targets import LabelRules, Labels, labels_from_dict
from lit_ft.data.text_columns import pairs_of
from lit_ft.data.tokens import EncodedRows, Truncation
from lit_ft.errors import NoRows
from lit_ft.models.checks import check_max_tokens
from lit_ft.models.inputs import fit_pairs_to_model
from lit_ft.models.load import Pretrained, tokenizer_files, tokenizer_from_files

# Names in the Trainer's limits
KINDS: dict[SplitName, str] = {"validation": "val", "test": "test", "fold": "test"}


class YelpDataModule(LightningDataModule):
    """Labelled texts from the Hub, from files, or the embedded sample.

    Args:
        source: Where the splits come from: a dataset on the Hugging Face Hub such as
            `Yelp/yelp_review_full`, a local dataset folder, or `sample`, the embedded reviews. Not read
            if `train_path` is given.
        subset: Name of the Hub dataset's subset (its configuration), if it has several.
        train_split: Name of the Hub dataset's split to train on.
        validation_split: Name of the Hub dataset's split to validate on. Without one, a part of the training
            split is held out (`validation_share`).
        test_split: Name of the Hub dataset's split to test on.
        train_path: File or glob to train on: .csv, .tsv, .jsonl, .json or .parquet.
        validation_path: File or glob to validate on; by default a part of the training split is held out.
        test_path: File or glob to test on.
        predict_path: File or glob of texts to predict, with or without labels.
        predict_output: File that `predict` writes, .csv, .parquet or .jsonl; default `predictions.csv` in the
            run folder.
        predict_probabilities: Which probabilities `predict` writes beside those of the likeliest and the
            second class: those of all classes, or none.
        text_column: Name of the column that holds the text, or of several, `[subject, body]`, which are
            joined in this order into one text. If it is longer than `max_tokens`, tokens of the longest
            column are cut first, so that no body displaces a subject. Empty values are left out.
        text_separator: What stands between the values of several text columns. By default a line break: it
            adds no word of its own, and so it is how people write a subject and a body. BERT's tokenizers
            read it as a space. (`\\n` in a shell is a line break, too.)
        column_names: Put each text column's name before its value, `subject: ...`. The names are never cut.
        pair_column: Name of the column of second texts (the answer to a question, the hypothesis of a
            premise), which the tokenizer sets apart from the first with its own special tokens and token
            types. Too long a pair is cut like several columns; an empty second text stays an empty one.
        label_column: Name of the column that holds the label.
        label_columns: Names of columns of 0 and 1 (or true and false), one for each of several labels a text;
            `label_column` is not read then.
        label_separator: What stands between several labels of a text in one column; `;` by default, where
            `task` is `multi_label`. `predict` joins labels by it in a .csv.
        threshold: The probability from which on a text gets a label, between 0 and 1, for all labels the
            same. By default each has its own: that with the highest F1 on the validation texts, or 0.5
            where fewer than 10 of these have the label. Only for several labels a text.
        task: What a label is. `single_label`: one class a text. `multi_label`: any number of labels a text,
            in lists, joined in one column, or in columns of 0 and 1. `regression`: a number; the model learns
            it standardised by the training rows' mean and deviation, and gives it in its own unit. `auto`
            finds out where there is no doubt: lists, `label_columns` and `label_separator` mean several
            labels.
        group_column: Name of a column of what texts have in common, such as their author, thread or product.
            Texts of a group are never divided between training and validation, if that is held out; groups
            that given splits share are counted in a warning. One of several text columns may be it, as the
            query of pairs.
        slice_columns: Name or names of columns such as a language or a channel: validation and test figures
            are also given for each of their values, with intervals.
        label_type: What labels are. `numbers`: whole numbers, in numerical order; `names`: strings, in
            alphabetical order. `auto` chooses numbers only if every value is a whole number, and not if some
            are written like codes or versions (007; 1.0 beside 1.10).
        label_base: The lowest whole number that is a class, even if no row has it. By default the lowest one
            that occurs, and labels below 0 are refused, as -1 often means "not labelled".
        label_names: The labels in the order of their classes, also those that no row has; or, if labels are
            whole numbers or declared by the dataset, a name to show for each. A mapping from label to name
            shows these names whatever the labels are.
        ordered: Whether the classes are steps of a scale, as stars are: then the mean absolute error and
            kappa are measured, too. `auto` says yes to names that count (1 star, 2 stars), and to at most 11
            consecutive whole numbers in a column called stars, rating, score or the like.
        validation_share: Share of the training split held out for validation, stratified by label, if no
            validation data is given. Equal texts stay on one side.
        split_seed: Chooses the rows that are held out, and those that are measured if a limit of the trainer
            selects a part. It is separate from the run's seed, so that runs with different seeds are
            validated on the same rows. It makes the folds and the share of `train_share`, too.
        folds: Into how many folds the training split is divided, to leave one out: stratified by label;
            equal texts, and groups, stay together. The same `split_seed` makes the same folds.
        fold: Which of them is left out, from 1. It is not trained on, and it chooses nothing: `test` measures
            it. Validation, which chooses the checkpoint, is held out of the other folds, or given.
        train_share: Share of the rows that are left to train on, above 0 and at most 1, to see what more
            texts would bring. Stratified by label; a smaller share is contained in a larger one; fold,
            validation and test stay the same.
        unescape: Undo the escapes of `yelp_review_full`: a backslash and an n become a line break, a
            backslash and a quote become a quote.
        strip_html_breaks: Turn `<br />` into a line break.
        on_empty: What to do with rows without text: drop them (counted in a warning), or stop.
        max_tokens: Longest input in tokens, special tokens included; longer texts are cut.
        truncation: What is kept of a longer text: its head, its tail, or about a quarter of head and three
            quarters of tail.
        padding: Pad a batch to its longest text, or always to `max_tokens`. `none` is for training with
            `model.compile`: `token_budget` then counts the texts' own tokens, and `group_by_length` and
            `pad_multiple` only affect evaluation.
        pad_multiple: Pad a batch to a multiple of this many tokens.
        batch_size: Texts per training step and device; with `token_budget`, the maximum.
        eval_batch_size: Texts per step and device in validate, test and predict; with `token_budget`, the
            maximum.
        token_budget: Maximum tokens per step and device, padding included: fewer long or more short texts per
            step, each with the same weight in an epoch's gradients.
        group_by_length: Put texts of similar length into a batch, so that little padding is computed.
        num_workers: Processes that prepare batches during training; 0 prepares them in the training process.
        seed: Chooses the order of the training batches.
        tokenizer: Model folder or Hub name of the tokenizer.
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
        predict_probabilities: Literal["all", "none"] = "all",
        text_column: list[str] | str = "text",
        text_separator: str = "\n",
        column_names: bool = False,
        pair_column: str | None = None,
        label_column: str = "label",
        label_columns: list[str] | None = None,
        label_separator: str | None = None,
        threshold: float | None = None,
        task: Literal["auto", "single_label", "multi_label", "regression"] = "auto",
        group_column: str | None = None,
        slice_columns: list[str] | str | None = None,
        label_type: LabelType = "auto",
        label_base: int | None = None,
        label_names: list[str] | dict[str, str] | None = None,
        ordered: bool | Literal["auto"] = "auto",
        validation_share: float = 0.05,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int | None = None,
        train_share: float = 1.0,
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
        check_division(self.hparams)
        columns = text_column, pair_column, label_column
        if group_column is not None:
            check_apart(group_column, GROUPS, *columns)
        self.slice_columns = columns_named(slice_columns)
        for column in self.slice_columns:
            check_apart(column, SLICES, *columns)
        self.text_source = TextSource.of(self.hparams)
        self.label_rules = LabelRules(task, label_type, label_base, label_names, ordered, threshold)
        self.labels: Labels | None = None
        self._groups: Values | None = None  # of the training rows
        self.pretrained: Pretrained | None = None  # model of the tokenizer, if already looked up
        self.tokenizer: Any = None
        self.splits: dict[SplitName, Split] = {}
        self._tokenizer_files: dict[str, str] = {}
        self._fingerprint: str | None = None  # of the training data
        self._marks: dict[str, str | None] = dict.fromkeys(MARKS)  # of its parts
        self.tested: SplitName = "fold" if fold is not None else "test"  # what test_dataloader gives
        self.chosen: dict[SplitName, list[np.ndarray]] = {}  # batches in place of a split's plan
        self._parts_said: set[SplitName] = set()
        self._train_loader: ResumableLoader | None = None
        self._loader_state: dict[str, int] | None = None

    # ---- reading -------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read, check and tokenise the splits of a stage, once, and report on them.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            UserError: A mistake in the data or its settings, in one line.
        """
        if self.tokenizer is None:
            pretrained = self.pretrained or Pretrained.of(self.hparams["tokenizer"])
            tokenizer = pretrained.tokenizer()
            check_max_tokens(pretrained.config, self.hparams["max_tokens"], tokenizer)
            if self.hparams["pair_column"] is not None:
                fit_pairs_to_model(tokenizer, pretrained.config, pretrained.name)
            self.set_tokenizer(tokenizer)
        own_validation = self.text_source.origin("validation") is not None
        if stage == "fit" and "train" not in self.splits:
            self._setup_train(["train", "validation", "fold"], not own_validation)
            if own_validation:
                self.splits["validation"] = self._prepare("validation")
            splits.warn_of_copies(self.splits["train"], self.splits["validation"])
            if own_validation:
                warn_of_shared(self.splits, self._groups, self.hparams["validation_path"] or "validation")
        for split in self._read_by(stage):
            if split in self.splits:
                continue
            if split == "fold" or split == "validation" and not own_validation:
                self._setup_train([split], not own_validation)
            else:
                self.splits[split] = self._prepare(split)

    def tested_splits(self) -> list[SplitName]:
        """What `test` measures: the fold that was left out, if any, and the test data, if there is any."""
        if self.hparams["fold"] is None:
            return ["test"]
        return ["fold", "test"] if self.text_source.origin("test") is not None else ["fold"]

    def _read_by(self, stage: str) -> list[SplitName]:
        """What a stage reads; `train`, which has the others beside it, for `fit`."""
        measured: list[SplitName] = ["validation"] if stage == "validate" else self.tested_splits()
        return {"fit": ["train"], "predict": ["predict"]}.get(stage, measured)  # type: ignore[return-value]

    def _setup_train(self, parts: list[SplitName], holds_out: bool) -> None:
        """Read the training data, and divide it into what is trained on and what is measured.

        Args:
            parts: Those to keep; with `train`, what the others were held out of.
            holds_out: Whether validation is held out.
        """
        h, new = self.hparams, self._fingerprint is None  # else the labels and the rows are a checkpoint's
        read, where, trains = self._prepare("train"), h["train_path"] or h["source"], "train" in parts
        splits.check_same_train(self._fingerprint, read.fingerprint, trains, where)
        self._fingerprint = read.fingerprint
        if not holds_out and not divides(h):
            self.splits["train"] = read
            return
        assert read.labels is not None and self.labels is not None
        keys = normalised_keys(read.texts.data.column("text"), "comparing texts", pairs_of(read.texts))
        division = divide(self.labels.strata(read.labels), keys, h, self._groups, holds_out, where)
        tell_division(division, h, parts)
        if h["folds"] is not None and trains:
            noun = "label" if read.labels.ndim == 2 else "class"
            warn_of_rare(self.labels.balance(read.labels), h["folds"], noun)
        self._groups = groups_of(self._groups, division.train)
        if new:
            self.labels = self.labels.of_kept(read.labels[division.train])
            read.rows.labels = self.labels.targets(read.labels)  # type: ignore[arg-type]
        else:
            check_same_parts(self._marks, division.marks(), parts)
        self._marks = division.marks()
        for part, rows in division.parts().items():
            if part in parts and rows is not None:
                name = fold_in_words(h) if part == "fold" else ""
                self.splits[part] = replace(read.take(rows), part=name)

    def _prepare(self, split: SplitName) -> Split:
        h = self.hparams
        try:
            texts, self.labels = splits.read_texts(self.text_source, split, self.labels, self.label_rules)
        except NoRows:
            files = find_files([h["predict_path"]], "--data.predict_path") if split == "predict" else []
            if len(files) != 1:
                raise
            warn(f"{files[0]} has no rows: the predictions are its header alone")
            return splits.without_rows(columns_of(files[0]))
        if split == "train" and h["group_column"] is not None:
            self._groups = read_groups(texts.table, h["group_column"], texts.source_rows, texts.where)
        held_out = self.text_source.origin("validation") is None or h["fold"] is not None
        measured = split in KINDS or split == "train" and held_out
        slices = self.slice_columns if measured else ()
        check_slices(texts, slices)
        read = splits.encode_texts(texts, self.tokenizer, h["max_tokens"], h["truncation"])
        return replace(read, slices=slices)

    def reads_hub(self, stage: str) -> bool:
        """Whether `setup` of this stage accesses the Hub."""
        parts = ("validation", "fold")  # of train
        return any(self.text_source.asks_hub(s if s not in parts else "train") for s in self._read_by(stage))

    def class_counts(self) -> list[int]:
        """Training rows of each class, (C,)."""
        labels = self.splits["train"].labels
        assert labels is not None and self.labels is not None
        return self.labels.counts(labels).tolist()

    def num_train_batches(self, world_size: int | None = None) -> int:
        """Training batches per epoch and process; the same in every epoch."""
        return len(self._sampler("train", self.splits["train"].rows, True, world_size))

    def num_evaluation_batches(self, split: SplitName, world_size: int) -> int:
        """Batches per process of a split that is evaluated."""
        return len(self._sampler(split, self.splits[split].rows, False, world_size))

    def rows_per_train_batch(self) -> float | None:
        """Mean rows per training batch over all processes, with a `token_budget`; else None."""
        return self._sampler("train", self.splits["train"].rows, True).rows_per_batch

    def unpadded_step(self) -> tuple[int, int]:
        """Maximum tokens and texts per training step and process, with `padding: none`."""
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
        """How many batches of an evaluated split the Trainer will use."""
        kind = KINDS.get(split)
        if kind is None or self.trainer is None:
            return batches
        # For a limit of 0 Lightning only asks for a loader because of `num_sanity_val_steps`.
        return limited(batches, getattr(self.trainer, f"limit_{kind}_batches")) or batches

    def _say_part(self, split: SplitName, rows: int, whole: int) -> None:
        if split not in self._parts_said:  # once: a sanity check also asks for the loader
            self._parts_said.add(split)
            limit = limit_in_words(self.trainer, KINDS[split])
            say(f"{split}: measured on a random part, {rows:,} of {whole:,} texts ({limit})")

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, split: SplitName, train: bool) -> ResumableLoader:
        rows = self.splits[split].rows
        if not train:  # with `index`, which leads from an outcome to its text
            # In predict each process takes a contiguous part of the file, to write it in order.
            rank, world_size = self._process() if split == "predict" else (0, 1)
            share = np.array_split(np.arange(len(rows)), world_size)[rank]
            # A process without rows computes the first one, which its writer skips: for a loop without
            # batches Lightning 2.6.6 (prediction_loop.py, skip) calls no hooks, and the other processes would
            # wait in theirs.
            rows = rows.take(share if len(share) else np.arange(1), with_index=True)
        sampler = self._sampler(split, rows, train)
        if not train and (left := self._limited(split, len(sampler))) < len(sampler):
            whole, told_length = len(rows), len(sampler)
            rows = rows.take(sampler.random_rows(left), with_index=True)
            sampler = self._sampler(split, rows, train)
            sampler.told_length = told_length
            self._say_part(split, len(rows), whole)
        if split in self.chosen:
            sampler = ChosenBatches(self.chosen[split], *self._process())
        return ResumableLoader(
            rows,
            batch_sampler=sampler,
            collate_fn=batch_settings.padding_collator(self.hparams, self.tokenizer),
            num_workers=self.hparams["num_workers"],
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> ResumableLoader:
        """Batches of `labels` (B, ...), `input_ids`, `token_type_ids`, `attention_mask` (B, T), int64."""
        self._train_loader = self._loader("train", train=True)
        if self._loader_state:
            self._train_loader.load_state_dict(self._loader_state)
            self._loader_state = None
        return self._train_loader

    def val_dataloader(self) -> ResumableLoader:
        """As `train_dataloader`, in a fixed order, with `index`, the row's position in the split's texts."""
        return self._loader("validation", train=False)

    def test_dataloader(self) -> ResumableLoader:
        """As `val_dataloader`, of the split that is `tested`: `test`, or `fold`."""
        return self._loader(self.tested, train=False)

    def predict_dataloader(self) -> ResumableLoader:
        """As `val_dataloader`, without `labels`."""
        return self._loader("predict", train=False)

    # ---- what a checkpoint keeps -----------------------------------------------------------------

    def set_tokenizer(self, tokenizer: Any) -> None:
        """Set the tokenizer, and keep its present files for checkpoints."""
        self.tokenizer, self._tokenizer_files = tokenizer, tokenizer_files(tokenizer)

    def state_dict(self) -> dict[str, Any]:
        """The position in the epoch, the label mapping and the tokenizer, as plain values."""
        return {
            "loader": self._train_loader.state_dict() if self._train_loader else None,
            "labels": self.labels.as_dict() if self.labels else None,
            "tokenizer": self._tokenizer_files,
            "train": self._fingerprint,
            **self._marks,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict` before any loader is built; texts and labels are then read as in that run."""
        self._loader_state = state_dict["loader"]
        if self._fingerprint is None:
            self._fingerprint = state_dict["train"]
            self._marks = {name: state_dict.get(name) for name in MARKS}
        if self.labels is None and state_dict["labels"]:
            self.labels = labels_from_dict(state_dict["labels"])
        if self.tokenizer is None:
            self.set_tokenizer(tokenizer_from_files(state_dict["tokenizer"]))
