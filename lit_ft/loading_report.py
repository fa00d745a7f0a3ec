"""Whether a folder's weights are the whole encoder: transformers draws at random whatever is not found."""

from collections.abc import Collection, Mapping
from typing import Any

from transformers import PreTrainedModel

from lit_ft.blueprint import base_names
from lit_ft.errors import UserError

# What older versions of transformers saved beside the weights, and newer ones compute.
BUFFERS = ("position_ids", "token_type_ids", "inv_freq", "masked_bias", "num_batches_tracked")
SHOWN = 2  # names of weights in a message


def check_report(
    net: PreTrainedModel, info: Mapping[str, Any], folder: str, task_head: bool = True
) -> list[str]:
    """Refuse weights that are not the whole encoder; only the head and a pooler may be new.

    Args:
        net: As loaded.
        info: The loading report, `output_loading_info` of `from_pretrained`.
        folder: The model's name.
        task_head: Whether weights of the head may have another shape: a classifier's for other classes.

    Returns:
        The head's weights that the folder lacks, sorted.

    Raises:
        UserError: Weights of the encoder are missing, left over or of another shape, with their names.
    """
    own, prefix = set(net.state_dict()), f"{net.base_model_prefix}."
    encoder = {key for key in own if key.startswith(prefix)} or own & base_names(net.config)

    def is_encoder(key: str) -> bool:
        return key in encoder and "pooler" not in key

    missing = sorted(filter(is_encoder, info["missing_keys"]))
    shapes = sorted(
        (key, tuple(found), tuple(expected))
        for key, found, expected in info["mismatched_keys"]
        if is_encoder(key) or not task_head
    )
    number = f"of {sum(map(is_encoder, own))} weights of the encoder"
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} {number} are not in its files ({_some(missing)}): they would start "
            f"untrained; {_mend(missing, info['unexpected_keys'])}"
        )
    if shapes:
        key, found, expected = shapes[0]
        raise UserError(
            f"{folder}: expected {key} of shape {expected} by its config.json, found {found} in its files"
            + (f", and {len(shapes) - 1} more like it" if len(shapes) > 1 else "")
            + "; save model and config again together, or set another model"
        )
    if left := _left_over(net, prefix, info["unexpected_keys"]):
        raise UserError(
            f"{folder}: its files hold {len(left)} weights of the encoder that its config.json has no place "
            f"for ({_some(left)}); save model and config again together, or set another model"
        )
    return sorted(key for key in info["missing_keys"] if key not in encoder)


def _left_over(net: PreTrainedModel, prefix: str, keys: Collection[str]) -> list[str]:
    """What the encoder would have taken; other tasks' heads are not, nor what the bare model has besides."""
    children = {name for name, _ in net.base_model.named_children()}
    found = [
        key
        for key in sorted(keys)
        if (key.startswith(prefix) or key.partition(".")[0] in children)  # a bare model's have no prefix
        and "pooler" not in key
        and key.rpartition(".")[2] not in BUFFERS
    ]
    known = base_names(net.config) if found else set()
    return [key for key in found if key.removeprefix(prefix) not in known]


def _mend(missing: Collection[str], unexpected: Collection[str]) -> str:
    """What to do; where all names only begin with something else, that is said."""
    for bare in (False, True):  # a bare model's names have no prefix of their own
        for name in missing:
            ending = name.partition(".")[2] if bare else name
            for key in unexpected:
                if ending and key.endswith(f".{ending}"):
                    return (
                        f"their names begin with '{key.removesuffix(ending)}' there: save the model that is "
                        "inside with its save_pretrained, or rename them"
                    )
    return "save the whole model again with save_pretrained, or set another model"


def _some(names: Collection[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:SHOWN]) + (", ..." if len(shown) > SHOWN else "")
