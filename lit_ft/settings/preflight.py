"""Before torch is imported: whether a fit needs what only the Hub has, and whether the Hub answers.

Without a network `fit --config yelp.yaml` would import, build and wait for many seconds before it could say
so. What is not certain here (a group given as a whole, a checkpoint, a config with mistakes) is left to the
command itself, which looks again.
"""

from pathlib import Path
from typing import Any

import yaml

from lit_ft import hub
from lit_ft.settings.arguments import config_values, flag_value
from lit_ft.settings.secrets import refuse_secret_arguments

SAMPLE_CONFIG = "sample.yaml"
UNSURE = ("--help", "-h", "--print_config", "--ckpt_path", "--data", "--model")


def check_hub(args: list[str]) -> None:
    """Refuse a fit whose model or data can only come from a Hub that does not answer.

    Args:
        args: The command line after `fit`, every config resolved to a file.

    Raises:
        UserError: The Hub does not answer, and the local cache has never seen the model or the dataset.
    """
    refuse_secret_arguments(args)
    if any(arg.partition("=")[0] in UNSURE or arg.endswith(".help") for arg in args):
        return
    settings = _settings(args)
    if settings is None or settings.get("ckpt_path"):
        return
    model, source = settings.get("model.pretrained"), settings.get("data.source")
    source = None if settings.get("data.train_path") else source
    wanted = {kind: name for kind, name in (("model", model), ("dataset", source)) if isinstance(name, str)}
    hub.check_cached(wanted, SAMPLE_CONFIG)


def _settings(args: list[str]) -> dict[str, Any] | None:
    """The few settings that matter here, under their flags; None where the parser will find a mistake."""
    found: dict[str, Any] = {}
    for _, _, path in config_values(args):
        try:
            config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except Exception:  # yaml 6 raises ValueError, RecursionError and others over odd values, too
            return None
        if not isinstance(config, dict):
            return None
        for key, value in config.items():
            if isinstance(value, dict):
                found |= {f"{key}.{name}": inner for name, inner in value.items()}
            else:
                found[key] = value
    if "data" in found or "model" in found:  # a file for the group
        return None
    for key in ("model.pretrained", "data.source", "data.train_path"):
        if (given := flag_value(args, f"--{key}")) is not None:
            found[key] = None if given == "null" else given
    return found
