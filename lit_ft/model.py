"""`BertClassifier`: an encoder with a classifier head; one shared step, metrics, AdamW with linear decay.

B rows a batch, T tokens after padding, C classes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.nn import functional as F
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from lit_ft import cpu_training, heads
from lit_ft import pretrained as models
from lit_ft.attention import attend_in_pieces
from lit_ft.class_weights import weights_of
from lit_ft.errors import UserError
from lit_ft.first_token import compute_first_token_only
from lit_ft.metrics import ClassifierMetrics, Outcomes
from lit_ft.model_checks import refuse_without_classifier, take_padding_token
from lit_ft.optim import linear_decay, parameter_groups
from lit_ft.processes import mean_over_processes
from lit_ft.schedule import num_training_steps
from lit_ft.unpadded import Logits, compiled_steps

Batch = dict[str, torch.Tensor]


class BertClassifier(LightningModule):
    """A text classifier on top of a pretrained encoder.

    Args:
        pretrained: The encoder to start from: a Hub name such as `bert-base-cased` (`name@revision` pins
            it), a model folder, `sample` (a tiny BERT made on the spot), or `sft:NAME`, the model of the
            newest `sft` run of that name. Weights are held in float32 whatever the folder holds.
        allow_pickle: Take `pytorch_model.bin` where there is no `model.safetensors`. Only weights are read
            from it, by torch's own reader; still, take a pickle only from those whom you trust.
        learning_rate: AdamW's learning rate at its height.
        weight_decay: AdamW's decoupled weight decay; biases and normalisation weights are left out.
        decay_all: Decay biases and normalisation weights, too.
        warmup_share: Share of all optimizer steps in which the learning rate rises from 0 to its height,
            before it falls linearly to 0 at the last step.
        hidden_dropout: Dropout after the embeddings and in each layer; the encoder's own if not given.
        attention_dropout: Dropout on attention weights; the encoder's own if not given. 0 is faster.
        classifier_dropout: Dropout before the classifier head; the encoder's own if not given.
        label_smoothing: Share of the target's probability that is spread over all classes.
        class_weights: Weight of each class in the loss, lowest label first, or `balanced` for weights
            that make every class count the same.
        compile: Train a BERT on a GPU without padding, in one graph that torch.compile builds in the first
            step, in some 20 s. Goes with data.padding=none; evaluation stays as it is.
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
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | list[float] | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        for name in ("warmup_share", "label_smoothing", *models.DROPOUTS):
            value = self.hparams[name]
            if value is not None and not 0 <= value < 1:
                raise UserError(f"expected model.{name} in [0, 1), found {value}")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= self.hparams[name] < float("inf"):
                raise UserError(f"expected a finite model.{name} of at least 0, found {self.hparams[name]}")
        self.net: PreTrainedModel | None = None
        self.confusion: dict[str, list[list[int]]] = {}
        self.outcomes: dict[str, Outcomes] = {}  # of the newest evaluation: "val", "test"
        self.calibrate = False  # whether predict_step divides the logits by the temperature
        self._logits_to_train: Logits = self._logits
        self.step_tokens: int | None = None  # that each training step computes, where padding does not decide
        self.step_weight: float | None = None  # what each step's loss is divided by; None: its own rows
        self.temperature: float | None = None  # fitted at each validation, kept in the checkpoint

    # ---- building ------------------------------------------------------------------------------

    def encoder_config(self, places: Mapping[str, str] | None = None) -> PretrainedConfig:
        """The encoder's own config with the dropouts that were asked for; refuses one that it lacks.

        Args:
            places: Where settings are written that are no flags, such as `model.hidden_dropout`.
        """
        config = models.load_config(self.hparams["pretrained"])
        refuse_without_classifier(config, self.hparams["pretrained"])
        for name in models.DROPOUTS:
            if self.hparams[name] is not None:
                models.set_dropout(config, name, self.hparams[name], (places or {}).get(f"model.{name}"))
        return config

    def build(
        self, label_names: Sequence[str], class_counts: Sequence[int] | None = None, tokenizer: Any = None
    ) -> None:
        """Load the encoder under a new head.

        Args:
            label_names: Display names, lowest label first, (C,).
            class_counts: Training rows of each class, (C,), for `class_weights: balanced`.
            tokenizer: Whose padding token the batches hold.
        """
        h = self.hparams
        config = self.encoder_config()
        if tokenizer is not None:
            take_padding_token(config, tokenizer, h["pretrained"])
        head = heads.plan(config, label_names)
        config.num_labels = len(label_names)
        config.id2label = dict(enumerate(label_names))
        config.label2id = {name: i for i, name in enumerate(label_names)}
        config.problem_type = "single_label_classification"
        weights = weights_of(h["class_weights"], label_names, class_counts)
        self._assemble(models.load_classifier(h["pretrained"], config, h["allow_pickle"], head), weights)

    def _assemble(self, net: PreTrainedModel, class_weights: torch.Tensor) -> None:
        # from_pretrained returns a model in eval mode, and Lightning 2.6 leaves modes as they are: without
        # this line a run would train with no dropout, and its resumption with it.
        self.net = net.train()
        attend_in_pieces(net)
        compute_first_token_only(net)
        self.class_weights: torch.Tensor  # (C,)
        self.register_buffer("class_weights", class_weights)
        num_labels = len(class_weights)
        self.val_metrics = ClassifierMetrics(num_labels, "val/")
        self.test_metrics = ClassifierMetrics(num_labels, "test/")

    def configure_model(self) -> None:
        """Build from the trainer's data module, where nobody has built the model yet."""
        if self.net is None and self._trainer is not None:
            datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self.build(datamodule.labels.names, datamodule.class_counts(), datamodule.tokenizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the encoder's config, so that the checkpoint alone is enough to build the model."""
        assert self.net is not None
        checkpoint["num_training_steps"] = num_training_steps(self.trainer)
        checkpoint["temperature"] = self.temperature
        checkpoint["encoder_config"] = json.loads(self.net.config.to_json_string(use_diff=False))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the encoder from the checkpoint's config; its weights are loaded next."""
        self.temperature = checkpoint.get("temperature")
        if self.net is not None:
            return
        if "encoder_config" not in checkpoint:
            raise UserError("expected a checkpoint of a lit_ft classifier, found one without encoder_config")
        values = dict(checkpoint["encoder_config"])
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        self._assemble(models.classifier_from_config(config), torch.ones(len(config.id2label or ())))

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

    def _logits(self, batch: Batch) -> torch.Tensor:
        """A batch -> logits (B, C)."""
        return self(**{key: value for key, value in batch.items() if key not in ("labels", "index")})

    def on_fit_start(self) -> None:
        """Learn the weight of a mean batch, where batches differ in rows; prepare what the device decides."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        counts = self.class_weights.new_tensor(datamodule.class_counts())  # (C,)
        weights = self.class_weights if self.hparams["class_weights"] else torch.ones_like(counts)
        rows = datamodule.rows_per_train_batch()
        self.step_weight = None if rows is None else rows * float((weights * counts).sum() / counts.sum())
        assert self.net is not None
        cpu_training.prepare(self.net, self.trainer.strategy.root_device)
        if self.hparams["compile"]:
            self._logits_to_train, self.step_tokens = compiled_steps(self.net, datamodule)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss to minimise, with class weights and label smoothing."""
        labels = batch["labels"]
        weights = self.class_weights if self.hparams["class_weights"] else None
        smoothing = self.hparams["label_smoothing"]
        world_size = 1 if self._trainer is None else self._trainer.world_size
        own_mean = world_size == 1 and self.step_weight is None
        reduction = "mean" if own_mean else "sum"
        logits = self._logits_to_train(batch)
        loss = F.cross_entropy(logits, labels, weights, reduction=reduction, label_smoothing=smoothing)
        if not own_mean:
            loss = mean_over_processes(loss, labels, weights, world_size, self.step_weight)
        self.log("train/loss", loss, batch_size=len(labels))
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate that the coming step takes."""
        # As a tensor on the CPU: Lightning would take a number to the GPU, and wait for it.
        self.log("train/learning_rate", torch.tensor(optimizer.param_groups[0]["lr"]))

    def _measure(self, batch: Batch, metrics: ClassifierMetrics) -> None:
        # The plain cross-entropy: figures of runs with other weights or smoothing stay comparable, and a
        # weighted mean of batches would depend on who is in a batch with whom.
        logits = self._logits(batch)
        loss = F.cross_entropy(logits.float(), batch["labels"])
        metrics.update(loss, logits, batch["labels"], batch["index"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._measure(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._measure(batch, self.test_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics; what they are calibrated with is fitted while training only."""
        fits = self.trainer.state.fn == "fit" or self.temperature is None
        self.temperature = self._log_metrics(self.val_metrics, None if fits else self.temperature)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics(self.test_metrics, self.temperature or 1.0)

    def _log_metrics(self, metrics: ClassifierMetrics, temperature: float | None) -> float:
        scalars, confusion, outcomes, temperature = metrics.compute(temperature)
        self.log_dict(scalars)
        self.confusion[f"{metrics.prefix}confusion_matrix"] = confusion
        self.outcomes[metrics.prefix.strip("/")] = outcomes
        metrics.reset()
        return temperature

    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        """A batch with `index` (B,) -> `index` and `probabilities` (B, C) float32."""
        logits = self._logits(batch).float()
        if self.calibrate:
            assert self.temperature is not None
            logits = logits / self.temperature
        return {"index": batch["index"], "probabilities": logits.softmax(-1)}

    # ---- optimizer -----------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW and a linear LambdaLR that moves with every optimizer step."""
        h = self.hparams
        groups = parameter_groups(self, h["weight_decay"], h["decay_all"])
        # The fused kernel unscales gradients itself, which Lightning refuses together with clipping
        # under float16's loss scaling (plugins/precision/amp.py, clip_gradients).
        fused = self.trainer.precision != "16-mixed"
        optimizer = torch.optim.AdamW(groups, lr=h["learning_rate"], fused=fused)
        total = num_training_steps(self.trainer)
        factor = linear_decay(total, min(int(total * h["warmup_share"]), max(total - 1, 0)))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
