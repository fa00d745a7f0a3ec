"""Properties of a model, read from the model itself: built on torch's meta device, without weights.

A list of model families would never be complete. A model that cannot be built like this gives None.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

# Names of position tables: `position_embeddings` (BERT), `embed_positions` (BART), `wpe` (GPT-2),
# `positions_embed` (GPT). Relative positions and those of boxes or entities do not limit a text.
TABLES, NO_TABLES = ("position", "wpe"), ("relative", "rel_", "entity")


def blueprint(config: PretrainedConfig, auto: Any = AutoModel) -> PreTrainedModel | None:
    """The model of a config, without weights and without random draws; None if it cannot be built.

    Args:
        config: The model's config, not changed.
        auto: transformers' class for the task, such as `AutoModelForSequenceClassification`.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return auto.from_config(copy.deepcopy(config), trust_remote_code=False)
    except Exception:  # numpy tables in a constructor, an invalid config: loading will report it
        return None


def position_tables(net: torch.nn.Module) -> list[tuple[int, int]]:
    """Rows of each table of absolute positions, and how many of them precede the first token's."""
    found = []
    for name, module in net.named_modules():
        last = name.rpartition(".")[2].lower()
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.ndim != 2:
            continue
        if not any(part in last for part in TABLES) or any(part in name for part in NO_TABLES):
            continue
        # RoBERTa's family counts positions from the padding token's id, which is also the table's padding
        # (transformers, modeling_roberta.py, create_position_ids_from_input_ids).
        padding = getattr(module, "padding_idx", None)
        found.append((len(weight), 0 if padding is None else padding + 1))
    return found


def dropout_names(config: PretrainedConfig, candidates: Iterable[str], auto: Any) -> list[str] | None:
    """The candidates that set a dropout of the model; None if the model cannot be built.

    Each candidate gets a unique value. Those whose value turns up in the model's modules are used.
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
    """Names of a classifier's weights with a row per class, such as `classifier.weight`.

    Their shape changes with the number of classes. Empty if the model cannot be built.
    """
    shapes: list[dict[str, torch.Size]] = []
    for more in range(2):
        other = copy.deepcopy(config)
        other.num_labels = (config.num_labels or 0) + more
        net = blueprint(other, AutoModelForSequenceClassification)
        shapes.append({} if net is None else {name: p.shape for name, p in net.named_parameters()})
    return [name for name, shape in shapes[0].items() if shape[:1] != shapes[1].get(name, shape)[:1]]


def base_names(config: PretrainedConfig) -> set[str]:
    """Names of all weights and buffers of the model without a head."""
    net = blueprint(config)
    return set() if net is None else set(net.state_dict())
