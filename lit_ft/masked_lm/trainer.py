"""Masked-LM training with TRL's SFTTrainer, whose own loss is causal: labels shifted by one, no mask.

B rows, T tokens after padding, V vocabulary, M masked tokens of a batch.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from lit_ft.console import warn
from lit_ft.data.tokens import row_lengths
from lit_ft.masked_lm.arguments import REQUIRED, check_devices
from lit_ft.masked_lm.checkpoints import save_whole
from lit_ft.masked_lm.data import EpochSampler, EpochStart, ShareCollator, SharedBatches
from lit_ft.masked_lm.gains import WordLosses
from lit_ft.masked_lm.masking import IGNORED, MaskingCollator
from lit_ft.masked_lm.nonfinite import StepSoundness
from lit_ft.masked_lm.tracking import LogWindow, masked_figures
from lit_ft.reliability.memory import EVALUATION_FLAG, TRAINING_FLAG, LastBatch
from lit_ft.settings.flags import FullDiskPolicy, NonFinitePolicy

UNTOLD = ("_runtime", "_per_second", "_preparation_time")  # an evaluation's speed is not logged

# Private names of transformers' Trainer that are overridden or set here: without them nothing would fail.
PRIVATE_NAMES = {
    "_get_grad_norm": "the check for NaN",
    "_save_checkpoint": "writing complete checkpoints",
    "_get_train_sampler": "the order of the rows",
    "_loss_shifts_labels": "the number of masked tokens that a step's loss is divided by",
}


def check_private_names(trainer: SFTTrainer) -> None:
    """Warn before any step which of `PRIVATE_NAMES` this version of transformers lacks."""
    for name, purpose in PRIVATE_NAMES.items():
        if not (hasattr(SFTTrainer, name) or name in vars(trainer)):
            warn(
                f"transformers {transformers.__version__} has no Trainer.{name}, on which {purpose} depends; "
                "install the version of constraints.txt"
            )


class MaskedLMTrainer(SFTTrainer):
    """SFTTrainer with a masked LM's own loss, our figures and an exact resume.

    The loss is the mean over all masked tokens of an optimizer step, whatever the accumulation and the number
    of devices. It logs `train/...` and `val/...`; `evaluate` still returns transformers' `eval_...`.

    Args:
        model: A model of a ...ForMaskedLM class, in float32.
        args: The result of `training_arguments`.
        tokenizer: The tokenizer, which is saved with the checkpoints.
        collator: The collator of the training rows; evaluation uses its `fixed()` masks.
        train_dataset: Rows of `input_ids`.
        eval_dataset: Held-out rows of `input_ids`.
        callbacks: Callbacks of transformers.
        on_nonfinite: What to do at a non-finite loss or gradient.
    """

    on_full_disk: FullDiskPolicy = "stop"  # what to do if a checkpoint cannot be written
    loss_is_scaled_for_ga: Any = True  # compute_loss divides by the masked tokens of the whole step

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        tokenizer: PreTrainedTokenizerBase,
        collator: MaskingCollator,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        on_nonfinite: NonFinitePolicy = "stop",
    ) -> None:
        assert all(getattr(args, name) == value for name, value in REQUIRED.items()), (
            "use training_arguments()"
        )
        check_devices(args)
        self.masking = collator
        self.epoch_start = EpochStart(collator)
        self.window = LogWindow(args.device)
        self.words = WordLosses(model.config.vocab_size)
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            callbacks=[self.epoch_start, self.window, self.words, *callbacks],
        )
        # TRL 1.16 (trl/trainer/utils.py, add_fused_lm_head) wraps forward for its causal loss. Undo that.
        self.model.__dict__.pop("forward", None)
        check_private_names(self)
        # Have transformers count the masked tokens of a step, whatever the signature of the model's forward.
        self.model_accepts_loss_kwargs, self._loss_shifts_labels = True, False
        # Of an evaluation: negative log-likelihood, correct predictions, masked tokens.
        self._eval_sums = np.zeros(3)
        self.soundness = StepSoundness(on_nonfinite, args.device)
        self.memory = LastBatch()
        self.saved: tuple[Any, int] = (None, 0)  # the training, and the step of its last complete checkpoint
        self._positions: Tensor | None = None  # (B, T) bool: the positions that the head gets
        model.base_model.register_forward_hook(self._keep_masked)
        self.is_head_sparse = self._check_sparse_head(model)

    def _keep_masked(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Pass only the masked positions from the encoder to the head: (B, T, hidden) -> (M, hidden)."""
        if self._positions is not None:
            output.last_hidden_state = output.last_hidden_state[self._positions]
        return output

    @torch.no_grad()
    def _check_sparse_head(self, model: PreTrainedModel) -> bool:
        """Whether this architecture's head gives the same logits for the masked positions alone."""
        ids = torch.arange(8, device=self.args.device)[None] % model.config.vocab_size  # (1, 8)
        positions = ids % 3 == 1
        mode = model.training
        model.eval()
        try:
            whole = model(input_ids=ids).logits[positions]
            self._positions = positions
            part = model(input_ids=ids).logits
            return part.shape == whole.shape and torch.allclose(part.float(), whole.float(), atol=1e-3)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False  # the head needs the whole sequence: compute_loss then selects from the full logits
        finally:
            self._positions = None
            model.train(mode)

    def _masked_figures(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Of the M masked tokens: row number, negative log-likelihood, correctness; all (M,)."""
        if not len(inputs["labels"]):  # an empty share: the other processes still wait for its gradients of 0
            one = torch.ones(1, 2, dtype=torch.int64, device=inputs["labels"].device)
            inputs = {"input_ids": one, "attention_mask": one, "labels": one * IGNORED}
        positions = inputs["labels"] != IGNORED
        target = inputs["labels"][positions]
        self._positions = positions if self.is_head_sparse else None
        try:
            logits = model(**{k: v for k, v in inputs.items() if k != "labels"}).logits
        finally:
            self._positions = None
        logits = logits if self.is_head_sparse else logits[positions]  # (M, V)
        nll = F.cross_entropy(logits.float(), target, reduction="none")
        return positions.nonzero()[:, 0], nll, logits.argmax(-1) == target

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The summed loss of the masked tokens over their number in the whole optimizer step."""
        assert not return_outputs  # only compute_metrics needs them, and we pass none
        self.memory.note(inputs, TRAINING_FLAG)
        _, nll, correct = self._masked_figures(model, inputs)
        self.window.add(nll, correct, inputs)
        if num_items_in_batch is None:
            return nll.sum() / max(len(nll), 1)
        # The count is over all devices, and DDP then averages their gradients. Undo the average.
        return nll.sum() / torch.as_tensor(num_items_in_batch).clamp(min=1) * self.accelerator.num_processes

    def training_step(self, *args, **kwargs):
        """Add up the step's loss on its device."""
        self.window.begin()
        loss = super().training_step(*args, **kwargs)
        self.soundness.add(loss, self.state.global_step)
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        """Check the step; transformers calls this right before the optimizer."""
        norm = super()._get_grad_norm(model, grad_norm)
        self.soundness.check(self, float(norm))
        return norm

    def _save_checkpoint(self, model, trial):
        """Save a complete checkpoint or none."""
        save = super()._save_checkpoint
        save_whole(self, lambda: save(model, trial))

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Add one batch to the evaluation's sums."""
        self.memory.note(inputs, EVALUATION_FLAG)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            row, nll, correct = self._masked_figures(model, inputs)
        figures = torch.zeros(len(inputs["labels"]), 3, device=nll.device)  # by row, (B, 3)
        figures.index_add_(0, row, torch.stack([nll, correct.float(), torch.ones_like(nll)], dim=1))
        labels = inputs["labels"]
        losses = torch.zeros(labels.shape, dtype=torch.float32, device=nll.device)
        losses[labels != IGNORED] = nll
        tokens = torch.stack([labels.float(), losses], dim=-1)  # (B, T, 2); float32 holds any token id
        tokens = self.accelerator.pad_across_processes(tokens, dim=1, pad_index=IGNORED)
        # gather_for_metrics drops the rows that the loader repeats so that all devices have equally many.
        figures, tokens = self.accelerator.gather_for_metrics((figures, tokens))
        self._eval_sums += figures.cpu().double().sum(0).numpy()
        self.words.add(*tokens.cpu().unbind(-1))
        return None, None, None

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate with the mean over all masked tokens, not over batches."""
        self._eval_sums = np.zeros(3)
        self.words.begin()
        start = time.perf_counter()
        # A DataLoader draws a base seed from the global random state. Without the fork, an evaluation would
        # change the dropout of the training that follows.
        with torch.random.fork_rng(devices=[]):
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        assert output.metrics is not None
        figures, folder = masked_figures(*self._eval_sums), Path(str(self.args.output_dir))
        self.soundness.check_evaluation(figures["loss"], self.state.global_step, folder)
        output.metrics.update({f"{metric_key_prefix}_{k}": v for k, v in figures.items()})
        self.window.pause(time.perf_counter() - start)
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with our tags: `train/...` and `val/...`."""
        if "train_runtime" in logs:
            return  # transformers' closing summary: its loss is an average over the whole run
        if any(key.startswith("eval_") for key in logs):
            tags = {f"val/{k.removeprefix('eval_')}": v for k, v in logs.items() if not k.endswith(UNTOLD)}
        else:
            figures = logs | self.window.close(self.accelerator, self.state.num_input_tokens_seen)
            tags = {f"train/{k}": v for k, v in figures.items()}
        super(SFTTrainer, self).log(tags)  # not SFTTrainer's, which adds causal figures

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """A loader with the evaluation's fixed masks."""
        self.data_collator = self.masking.fixed()
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = self.masking

    def get_train_dataloader(self) -> DataLoader:
        """A loader whose batches, shared by several processes, are those of one with the total batch size."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        self.data_collator = ShareCollator(self.masking)
        try:
            loader = super().get_train_dataloader()
        finally:
            self.data_collator = self.masking
        sampler, shard = self.epoch_start.sampler, loader.batch_sampler  # accelerate's BatchSamplerShard
        assert sampler is not None and shard is not None
        sizes = self.args.train_batch_size, self.args.process_index, self.args.world_size
        shard.batch_sampler = SharedBatches(sampler, *sizes)  # type: ignore[attr-defined]
        # As transformers 5.23 does for a sampler that shares by itself (trainer.py, _get_dataloader).
        shard.batch_size, shard.num_processes, shard.process_index = None, 1, 0  # type: ignore[attr-defined]
        return loader

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        strategy = self.args.train_sampling_strategy
        if strategy not in ("random", "group_by_length"):
            return super()._get_train_sampler(train_dataset)
        total = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        sampler = EpochSampler(row_lengths(dataset), total, seed, strategy == "group_by_length")
        self.epoch_start.sampler = sampler
        return sampler

    def create_model_card(self, *args, **kwargs) -> None:
        """Write none: TRL's card shows how to generate text, which a masked LM does not do."""
