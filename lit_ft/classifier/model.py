"""`BertClassifier`: an encoder with a classifier head, its steps and metrics, AdamW with linear decay.

B rows per batch, T tokens after padding, C classes.
"""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from transformers import AutoConfig, PreTrainedModel

from lit_ft.classifier.kinds import KINDS
from lit_ft.classifier.loss import mean_over_processes, weights_of
from lit_ft.classifier.metrics import Outcomes
from lit_ft.classifier.optim import linear_decay, num_training_steps, parameter_groups
from lit_ft.classifier.trial import try_classifier
from lit_ft.data.targets import Labels, labels_from_dict
from lit_ft.data.tokens import template_of
from lit_ft.errors import UserError, quoted
from lit_ft.models import heads
from lit_ft.models.checks import refuse_without_classifier, take_padding_token
from lit_ft.models.inputs import SEES_PADDING, by_length
from lit_ft.models.load import DROPOUTS, Pretrained, classifier_from_config, set_dropout
from lit_ft.models.names import needs_hub
from lit_ft.report.scores import scores_of_run
from lit_ft.settings.bounds import BOUNDS, FRACTION, check_bounds
from lit_ft.speed import host
from lit_ft.speed.attention import attend_in_pieces
from lit_ft.speed.first_token import compute_first_token_only
from lit_ft.speed.unpadded import ALIGNED, Logits, compiled_logits
from lit_ft.tasks import SINGLE_LABEL, Decision, Loss, Task

Batch = dict[str, torch.Tensor]
ADAMW_EPS, FLOAT16_EPS = 1e-8, 1e-4  # torch's default; one that float16 can hold


class BertClassifier(LightningModule):
    """A text classifier on top of a pretrained encoder.

    Args:
        pretrained: The encoder to start from: a Hub name such as `bert-base-cased` (`name@revision` pins
            it), a model folder, `sample` (a tiny BERT made on the spot), or `sft:NAME`, the model of the
            newest `sft` run of that name. Weights are kept in float32, whatever their dtype in the folder.
        allow_pickle: Read `pytorch_model.bin` if there is no `model.safetensors`. Only weights are read from
            it, by torch's restricted reader; still, use a pickle only from a source that you trust.
        learning_rate: AdamW's peak learning rate.
        weight_decay: AdamW's decoupled weight decay; it skips biases and normalisation weights.
        decay_all: Decay biases and normalisation weights, too.
        warmup_share: Share of all optimizer steps in which the learning rate rises from 0 to its peak. It
            then falls linearly to 0 at the last step.
        hidden_dropout: Dropout after the embeddings and in each layer; default: the encoder's own.
        attention_dropout: Dropout on attention weights; default: the encoder's own. 0 is faster.
        classifier_dropout: Dropout before the classifier head; default: the encoder's own.
        loss: What is minimised; by default what is usual for the kind of label. `val/loss` is always that.
        label_smoothing: Share of the target's probability that is spread evenly over all classes.
        class_weights: Weight of each class in the loss, in the order of the classes or by name, such as
            `{neg: 1, pos: 5}`; or `balanced` for weights that make every class count the same. Each text is
            weighted by its own label, with label_smoothing too.
        decide: How a class is chosen from the probabilities if the classes are steps of a scale
            (data.ordered), calibrated by the temperature: `mode` takes the likeliest; `median` the first up
            to which they add up to a half, which has the least expected distance from the label; `mean` the
            one nearest to the expected class number. Losses and weights do not depend on it. `val/accuracy`,
            `val/mae` and all other figures but the loss are those of these choices, so it matters to the
            choice of the best checkpoint only if monitor is one of them. test, validate and predict may
            choose otherwise.
        clip: The lowest and the highest number that is predicted with data.task=regression, such as
            `[1, 5]`; others are moved to the nearer one. For test, validate and predict only: training does
            not change, nor does the exported model.
        compile: Train a BERT on a GPU without padding, in one graph. torch.compile builds it in the first
            step, in about 20 s. Needs data.padding=none; evaluation does not change.
    """

    def __init__(
        self,
        pretrained: str = "sample",
        allow_pickle: bool = False,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.01,
        decay_all: bool = False,
        warmup_share: float = 0.1,
        hidden_dropout: float | None = None,
        attention_dropout: float | None = None,
        classifier_dropout: float | None = None,
        loss: str | None = None,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | list[float] | dict[str, float] | None = None,
        decide: Decision = "mode",
        clip: list[float] | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        own = {"model.label_smoothing": FRACTION, "model.classifier_dropout": FRACTION}
        check_bounds(self.hparams, {**BOUNDS, **own}, "model.")
        _check_clip(clip)
        self.pretrained: Pretrained | None = None  # the encoder to start from, once it was looked up
        self.net: PreTrainedModel | None = None
        self.task: Task = SINGLE_LABEL  # until the labels are known
        self.confusion: dict[str, list[list[int]] | None] = {}
        self.outcomes: dict[str, Outcomes] = {}  # "val", "fold", "test" -> the newest evaluation
        self.calibrate = False  # whether predict_step divides the logits by the temperature
        self._logits_to_train: Logits = self.logits_of
        self.step_tokens: int | None = None  # computed per training step, if padding does not decide it
        self.step_weight: float | None = None  # the loss of each step is divided by it; None: by its own rows
        self.from_hub = False  # whether the encoder came from the Hub: a folder may have the same name
        # Fitted at each validation, kept in the checkpoint; of classes the temperature, of labels thresholds
        self.temperature: float | None = None
        self.thresholds: list[float] | None = None  # (C,)

    # ---- building ------------------------------------------------------------------------------

    def start_from(self, pretrained: Pretrained, places: Mapping[str, str] | None = None) -> Pretrained:
        """Check an encoder's config and set the dropouts that were asked for in it; loads no weights.

        Args:
            pretrained: The encoder that `build` loads later.
            places: File and line of each setting that is no flag, such as `model.hidden_dropout`.

        Raises:
            UserError: The encoder takes no classifier head, or has no such dropout.
        """
        refuse_without_classifier(pretrained.config, pretrained.name)
        for name in DROPOUTS:
            if self.hparams[name] is not None:
                set_dropout(pretrained.config, name, self.hparams[name], (places or {}).get(f"model.{name}"))
        self.pretrained = pretrained
        return pretrained

    def build(
        self,
        labels: Labels,
        class_counts: Sequence[int] | None = None,
        num_rows: int | None = None,
        tokenizer: Any = None,
    ) -> None:
        """Load the encoder under a new head.

        Args:
            labels: The label object of training.
            class_counts: The number of training rows of each class, (C,), for `class_weights: balanced`.
            num_rows: All training rows; by default the sum of the counts.
            tokenizer: The tokenizer, whose padding token the batches contain.

        Raises:
            UserError: A setting has no meaning for this kind of label.
        """
        h, task = self.hparams, labels.task
        if h["clip"] is not None:
            raise UserError(
                f"model.clip={h['clip']} is applied after training: leave it out of fit, and give "
                "--model.clip to test, validate or predict"
            )
        self.check_settings(labels)
        encoder = self.pretrained or self.start_from(
            Pretrained.of(h["pretrained"], allow_pickle=h["allow_pickle"])
        )
        config = copy.deepcopy(encoder.config)
        if tokenizer is not None:
            take_padding_token(config, tokenizer, h["pretrained"])
        head = heads.plan(config, labels.names, task.keeps_head, task.problem_type)
        config.num_labels = labels.num_outputs
        config.id2label = dict(enumerate(labels.names))
        config.label2id = {name: i for i, name in enumerate(labels.names)}
        config.problem_type = task.problem_type
        KINDS[task.report].check(config, h["pretrained"])
        weights = weights_of(h["class_weights"], labels.names, class_counts, num_rows, task)
        self._assemble(encoder.classifier(config, head), weights, labels)
        self.from_hub = needs_hub(h["pretrained"])

    def check_settings(self, labels: Labels) -> None:
        """Refuse settings that have no meaning for this kind of label."""
        h, task = self.hparams, labels.task
        what = f"data.task {task.name} ({task.words})"
        if h["loss"] is not None and h["loss"] not in task.losses:
            known = ", ".join(task.losses)
            raise UserError(f"expected model.loss to be one of {known} for {what}, found {h['loss']!r}")
        if h["label_smoothing"] and not task.smooths:
            raise UserError(
                f"model.label_smoothing={h['label_smoothing']} has no meaning for {what}; set "
                "--model.label_smoothing=0"
            )
        if h["class_weights"] is not None and not task.weighted:
            raise UserError(
                f"model.class_weights={h['class_weights']} has no meaning for {what}; set "
                "--model.class_weights=null"
            )
        if h["decide"] != "mode" and not task.decisions:
            raise UserError(f"model.decide={h['decide']} has no meaning for {what}; set --model.decide=mode")
        if h["decide"] != "mode" and not labels.ordered:
            raise UserError(
                f"model.decide={h['decide']} expects classes that are steps of a scale, found "
                f"{quoted(labels.names, 5)} without an order; train with --data.ordered=true if they are "
                "one, or set --model.decide=mode"
            )

    def _assemble(self, net: PreTrainedModel, class_weights: torch.Tensor, labels: Labels) -> None:
        # from_pretrained returns a model in eval mode, and Lightning 2.6 does not change that: without this
        # line a run would train without dropout, and a resumed run with it.
        self.net = net.train()
        attend_in_pieces(net)
        compute_first_token_only(net)
        self.class_weights: torch.Tensor  # (C,)
        self.register_buffer("class_weights", class_weights)
        self.labels, self.task = labels, labels.task
        if self.hparams["clip"] is not None and not self.task.clips:
            raise UserError(
                f"model.clip={self.hparams['clip']} is about numbers, and has no meaning for data.task "
                f"{self.task.name} ({self.task.words}); leave it out"
            )
        self.ordered = labels.ordered
        self._loss: Loss = self.task.losses[self.hparams["loss"] or next(iter(self.task.losses))]
        self.kind = KINDS[self.task.report]
        self.scores = scores_of_run({"kind": self.task.report, **self.kind.facts(labels)})
        self.val_metrics = self.kind.metrics(self, "val/")
        self.test_metrics = self.kind.metrics(self, "test/")

    def configure_model(self) -> None:
        """Build the model from the trainer's data module, unless it is built already."""
        if self.net is None and self._trainer is not None:
            datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            labels, counts = datamodule.labels, datamodule.class_counts()
            num_rows = len(datamodule.splits["train"].rows)
            self.build(labels, counts, num_rows, datamodule.tokenizer)
            assert self.net is not None
            try_classifier(self.net, datamodule, self.hparams["pretrained"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the encoder's config, so that the model can be built from the checkpoint alone."""
        assert self.net is not None
        checkpoint["num_training_steps"] = num_training_steps(self.trainer)
        checkpoint["temperature"], checkpoint["thresholds"] = self.temperature, self.thresholds
        checkpoint["from_hub"] = self.from_hub
        checkpoint["encoder_config"] = json.loads(self.net.config.to_json_string(use_diff=False))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the encoder from the checkpoint's config; its weights are loaded next."""
        self.temperature, self.thresholds = checkpoint.get("temperature"), checkpoint.get("thresholds")
        self.from_hub = checkpoint.get("from_hub", False)
        if self.net is not None:
            return
        if "encoder_config" not in checkpoint:
            raise UserError("expected a checkpoint of a lit_ft classifier, found one without encoder_config")
        values = dict(checkpoint["encoder_config"])
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        labels = labels_from_dict(checkpoint["YelpDataModule"]["labels"])
        self.check_settings(labels)
        weights = torch.ones(len(config.id2label or ()))
        self._assemble(classifier_from_config(config), weights, labels)

    # ---- steps ---------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token ids, mask and types, (B, T) int64 -> logits (B, C)."""
        assert self.net is not None
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.net(input_ids=input_ids, attention_mask=attention_mask, **types).logits

    def logits_of(self, batch: Batch) -> torch.Tensor:
        """A batch -> logits (B, C)."""
        inputs = {key: value for key, value in batch.items() if key not in ("labels", "index")}
        assert self.net is not None
        if getattr(self.net.config, SEES_PADDING, False):
            return by_length(self.net, inputs)
        return self(**inputs)

    def on_fit_start(self) -> None:
        """Compute the weight of a mean batch, if batches differ in rows; prepare for the device."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        rows = datamodule.rows_per_train_batch()
        self.step_weight = None if rows is None else rows * self._mean_row_weight(datamodule)
        assert self.net is not None
        host.prepare(self.trainer.strategy.root_device)
        if self.hparams["compile"]:
            self._logits_to_train, self.step_tokens = compiled_steps(self.net, datamodule)

    def _mean_row_weight(self, datamodule: Any) -> float:
        """What a training row weighs in the loss on average: 1, unless each has the weight of its class."""
        classes = torch.arange(len(self.class_weights), device=self.class_weights.device)
        if not self.hparams["class_weights"]:
            return 1.0
        if (weights := self.task.row_weights(classes, self.class_weights)) is None:
            return 1.0
        counts = self.class_weights.new_tensor(datamodule.class_counts())  # (C,)
        return float((weights * counts).sum() / counts.sum())

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss to minimise, with class weights and label smoothing."""
        targets = batch["labels"]
        weights = self.class_weights if self.hparams["class_weights"] else None
        smoothing = self.hparams["label_smoothing"]
        world_size = 1 if self._trainer is None else self._trainer.world_size
        own_mean = world_size == 1 and self.step_weight is None
        logits = self._logits_to_train(batch)
        loss = self._loss(logits, targets, weights, smoothing, "mean" if own_mean else "sum")
        if not own_mean:
            row_weights = None if weights is None else self.task.row_weights(targets, weights)
            loss = mean_over_processes(loss, len(targets), row_weights, world_size, self.step_weight)
        self.log("train/loss", loss, batch_size=len(targets))
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate of the coming step."""
        # A tensor on the CPU: Lightning would copy a number to the GPU, and wait for it.
        self.log("train/learning_rate", torch.tensor(optimizer.param_groups[0]["lr"]))

    def _measure(self, batch: Batch, metrics: Any) -> None:
        # The plain loss, so that runs with other weights or smoothing stay comparable. A weighted mean of
        # batches would depend on which rows share a batch.
        logits = self.logits_of(batch)
        loss = self.task.loss(logits.float(), batch["labels"], None, 0.0, "mean")
        metrics.update(loss, logits, batch["labels"], batch["index"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._measure(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._measure(batch, self.test_metrics)

    def measure(self, prefix: str) -> None:
        """Make the tags of the next test start with `test` or `fold`."""
        self.test_metrics = self.kind.metrics(self, f"{prefix}/")

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics; the temperature, or the thresholds, are fitted during `fit` only."""
        known = getattr(self, self.kind.fitted)
        fits = self.trainer.state.fn == "fit" or known is None
        setattr(self, self.kind.fitted, self._log_metrics(self.val_metrics, None if fits else known))

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        fitted = self.kind.holding(self.labels, getattr(self, self.kind.fitted))
        self._log_metrics(self.test_metrics, fitted)

    def _log_metrics(self, metrics: Any, fitted: Any) -> Any:
        scalars, confusion, outcomes, fitted = metrics.compute(fitted)
        self.log_dict(scalars)
        self.confusion[f"{metrics.prefix}confusion_matrix"] = confusion
        self.outcomes[metrics.prefix.strip("/")] = outcomes
        metrics.reset()
        return fitted

    def answers(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) float32 -> what the model says of each text, on the CPU.

        A class of a scale is decided by calibrated probabilities, whether or not these are shown: if all are
        too flat, the median is drawn to the middle.
        """
        scale = 1.0 if self.hparams["decide"] == "mode" else self.temperature or 1.0
        probabilities = self.task.probabilities(logits / scale)
        return torch.from_numpy(self.task.decide(probabilities.cpu().numpy(), self.kind.rule(self)))

    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        """A batch with `index` (B,) -> `index`, what is `predicted`, `probabilities` (B, K) float32."""
        logits = self.logits_of(batch).float()
        probabilities = self.task.probabilities(logits)
        predicted = self.answers(logits)
        if self.calibrate:
            assert self.temperature is not None
            logits = logits / self.temperature
            probabilities = self.task.probabilities(logits)
        return {
            "index": batch["index"],
            "predicted": predicted,
            "probabilities": probabilities,
        }

    # ---- optimizer -----------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, and a linear LambdaLR that advances with every optimizer step."""
        h = self.hparams
        groups = parameter_groups(self, h["weight_decay"], h["decay_all"])
        # The fused kernel would unscale float16 gradients itself, after they were clipped (lightning 2.6.6,
        # plugins/precision/amp.py, clip_gradients).
        precision = self.trainer.precision
        fused = precision != "16-mixed"
        # 1e-8 is 0 in float16, and so is the square of a gradient below 2e-4: 0 / 0.
        eps = FLOAT16_EPS if precision == "16-true" else ADAMW_EPS
        optimizer = torch.optim.AdamW(groups, lr=h["learning_rate"], eps=eps, fused=fused)
        # Or Lightning would refuse to clip with the fused kernel, even in bf16-mixed, which scales nothing.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        total = num_training_steps(self.trainer)
        factor = linear_decay(total, min(int(total * h["warmup_share"]), max(total - 1, 0)))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Advance the schedule, which knows only the parameter groups of the first step."""
        if len(scheduler.optimizer.param_groups) != len(scheduler.base_lrs):
            raise UserError(
                "trainer.callbacks: a callback added weights to the optimizer in the middle of a run, and "
                "there is no schedule for them; let it freeze weights for the whole run, or none"
            )
        super().lr_scheduler_step(scheduler, metric)


def _check_clip(bounds: list[float] | None) -> None:
    if bounds is not None and not (len(bounds) == 2 and -math.inf < bounds[0] < bounds[1] < math.inf):
        raise UserError(
            f"expected model.clip as two numbers, the lower one first, found {bounds}; set "
            "--model.clip='[1, 5]', or '[0, 1e9]' for one end"
        )


def compiled_steps(net: PreTrainedModel, datamodule: Any) -> tuple[Logits, int]:
    """`compiled_logits` for the training batches of a YelpDataModule, and the tokens per step."""
    pairs = datamodule.hparams["pair_column"] is not None
    typed = template_of(datamodule.tokenizer, pairs).most_type
    if typed and "token_type_ids" in datamodule.tokenizer.model_input_names:
        raise UserError(
            "model.compile expects token types of 0, found a tokenizer that sets others; "
            "set --model.compile=false and --data.padding=longest"
        )
    most, rows = datamodule.unpadded_step()
    num_tokens = -(-most // ALIGNED) * ALIGNED
    return compiled_logits(net, num_tokens, rows, datamodule.hparams["max_tokens"]), num_tokens
