"""What a model is like, asked of the model itself: built on torch's meta device, without a weight.

A list of families would always lack one. Where a model cannot be built like that, None is the answer.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

# A position table's module: `position_embeddings` (BERT), `embed_positions` (BART), `wpe` (GPT-2),
# `positions_embed` (GPT). Relative positions and those of boxes or entities limit no text.
TABLES, NO_TABLES = ("position", "wpe"), ("relative", "rel_", "entity")


def blueprint(config: PretrainedConfig, auto: Any = AutoModel) -> PreTrainedModel | None:
    """The model of a config without weights; None where it cannot be built so. Draws no random number.

    Args:
        config: Left as it is.
        auto: transformers' class that chooses the model's, such as `AutoModelForSequenceClassification`.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return auto.from_config(copy.deepcopy(config), trust_remote_code=False)
    except Exception:  # numpy tables in a constructor, a config that no model takes: loading will say which
        return None


def position_tables(net: torch.nn.Module) -> list[tuple[int, int]]:
    """Rows of each table of absolute positions, and how many of them come before the first token's."""
    found = []
    for name, module in net.named_modules():
        last = name.rpartition(".")[2].lower()
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.ndim != 2:
            continue
        if not any(part in last for part in TABLES) or any(part in name for part in NO_TABLES):
            continue
        # RoBERTa's family counts from the padding token's number, which is the table's padding too
        # (transformers, modeling_roberta.py, create_position_ids_from_input_ids).
        padding = getattr(module, "padding_idx", None)
        found.append((len(weight), 0 if padding is None else padding + 1))
    return found


def dropout_names(config: PretrainedConfig, candidates: Iterable[str], auto: Any) -> list[str] | None:
    """Those of the config's attributes that decide a dropout of the model; None where that cannot be told.

    Each candidate gets a value that nothing else has: which of them arrive in the model's modules?
    """
    painted = copy.deepcopy(config)
    values = {name: 0.1 + (i + 1) / 1009 for i, name in enumerate(candidates)}
    for name, value in values.items():
        setattr(painted, name, value)
    net = blueprint(painted, auto)
    if net is None:
        return None
    arrived = {value for module in net.modules() for value in vars(module).values() if type(value) is float}
    return [name for name, value in values.items() if value in arrived]


def output_weights(config: PretrainedConfig) -> list[str]:
    """Names of a classifier's weights that have a row for each class, such as `classifier.weight`.

    Those whose shape changes with the number of classes; none where that cannot be told.
    """
    shapes: list[dict[str, torch.Size]] = []
    for more in range(2):
        other = copy.deepcopy(config)
        other.num_labels = (config.num_labels or 0) + more
        net = blueprint(other, AutoModelForSequenceClassification)
        shapes.append({} if net is None else {name: p.shape for name, p in net.named_parameters()})
    return [name for name, shape in shapes[0].items() if shape[:1] != shapes[1].get(name, shape)[:1]]


def base_names(config: PretrainedConfig) -> set[str]:
    """Names of all weights and buffers of the bare model, without any head."""
    net = blueprint(config)
    return set() if net is None else set(net.state_dict())
