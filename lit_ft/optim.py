"""What AdamW decays, and the learning rate as a function of the step."""

from collections.abc import Callable

from torch import nn

NORM_NAMES = ("norm", "layernorm", "layer_norm", "ln")


def parameter_groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict]:
    """Split the trainable parameters into those that weight decay shrinks and those that it leaves.

    Biases and normalisation weights only shift and scale; decaying them pulls the network towards a
    constant without making it simpler, so BERT's authors leave them out (Devlin et al. 2019, appendix
    A.2 and the released optimization.py).

    Args:
        model: The network; its parameters keep the order of `model.parameters()` within each group.
        weight_decay: The decoupled weight decay of AdamW.
        decay_all: Decay every parameter, as `torch.optim.AdamW(model.parameters())` does.

    Returns:
        Parameter groups for a torch optimizer.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if decay_all:
        return [{"params": [p for _, p in trainable], "weight_decay": weight_decay}]
    norms = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm) or type(module).__name__.lower().endswith(NORM_NAMES)
    }
    kept = [p for name, p in trainable if name.endswith("bias") or name in norms]
    decayed = [p for name, p in trainable if not (name.endswith("bias") or name in norms)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def linear_decay(num_training_steps: int, num_warmup_steps: int) -> Callable[[int], float]:
    """The factor on the learning rate: up from 0 during the warm-up, then down to 0 at the last step.

    Without a warm-up this is the course's `1 - step / num_training_steps`.

    Args:
        num_training_steps: Optimizer steps of the whole run.
        num_warmup_steps: Optimizer steps of the warm-up, fewer than `num_training_steps`.

    Returns:
        A function from the number of optimizer steps taken to a factor in [0, 1], for `LambdaLR`.
    """
    assert 0 <= num_warmup_steps < max(num_training_steps, 1)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / num_warmup_steps
        return max(0.0, (num_training_steps - step) / (num_training_steps - num_warmup_steps))

    return factor
