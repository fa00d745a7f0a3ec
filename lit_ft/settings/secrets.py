"""Refuses tokens and passwords among the settings, which config.yaml and checkpoints would store."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from lit_ft.errors import UserError

# `hub_token`, but neither `max_tokens` nor a tokenizer's `pad_token`
NAME = re.compile(
    r"(^|[._])(?<!bos_)(?<!cls_)(?<!eos_)(?<!pad_)(?<!sep_)(?<!unk_)(?<!mask_)(token|password|secret|api_key)$",
    re.IGNORECASE,
)
# A token of the Hub; a password inside an address.
VALUE = re.compile(r"\bhf_[A-Za-z0-9]{30,}|\b[a-z][a-z+]*://[^\s/@:]*:[^\s/@]+@")


def refuse_secrets(settings: Any) -> None:
    """Refuse a secret in parsed settings, also in nested mappings and lists, without showing it.

    Raises:
        UserError: A key with a value is named like a secret, or a value looks like one.
    """
    for key, value in _leaves(settings, ""):
        if value not in (None, "") and (NAME.search(key) or VALUE.search(str(value))):
            raise UserError(
                f"{key or 'the command line'}: found a secret, which config.yaml, checkpoints and reports "
                "would store; remove it, and set the environment variable that its library reads, such as "
                "HF_TOKEN, WANDB_API_KEY or COMET_API_KEY"
            )


def refuse_secret_arguments(args: Sequence[str]) -> None:
    """Refuse a secret on a command line, before any message could repeat it."""
    for position, arg in enumerate(args):
        flag, equals, value = arg.partition("=") if arg.startswith("--") else ("", "", arg)
        if not flag and position and args[position - 1].startswith("--"):
            flag = args[position - 1].partition("=")[0]
        parsed: Any = value
        if value.lstrip().startswith(("{", "[")):
            try:
                parsed = yaml.safe_load(value)
            except (yaml.YAMLError, ValueError, RecursionError):
                pass  # the parser refuses it
        key = flag.removeprefix("--")
        # A flag named like a secret is left to the parser, which knows whether the setting exists.
        refuse_secrets({key: parsed} if isinstance(parsed, (dict, list)) or VALUE.search(value) else {})


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "as_dict"):  # jsonargparse's Namespace
        value = value.as_dict()
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value
