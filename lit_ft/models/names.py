"""The folder or Hub name behind a model's name. Standard library only, so that typos are reported at once."""

import json
import os
from pathlib import Path
from typing import Any

from lit_ft import runs
from lit_ft.errors import UserError

OTHER_WEIGHTS = {".safetensors", ".gguf", ".ggml", ".onnx", ".h5", ".msgpack", ".bin", ".pt", ".pth", ".ckpt"}


def needs_hub(pretrained: str) -> bool:
    """Whether loading may have to access the Hub: the name is neither a folder nor one of our own."""
    ours = pretrained == "sample" or pretrained.startswith("sft:")
    return not ours and not Path(os.path.expanduser(pretrained)).is_dir()


def is_masked_lm(folder: Path) -> bool:
    """Whether a model folder holds a masked language model, as `sft` exports it."""
    config = folder / "config.json"
    if not config.is_file():
        return False
    try:
        architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
        return any(name.endswith("ForMaskedLM") for name in architectures)
    except (ValueError, TypeError, AttributeError, RecursionError):  # a damaged file
        return False


def newest_masked_lm(flag: str) -> Path:
    """The `model/` folder of the newest `sft` run of any name; `flag` could name another model."""
    found = [f for f in runs.RUNS.glob(f"*/version_*/{runs.MODEL}") if is_masked_lm(f)]
    if not found:
        raise UserError(
            f"expected a masked-LM run with a model/ folder under {runs.RUNS}, found none; "
            f"run `python -m lit_ft sft --config sample_sft.yaml` first or set {flag}"
        )
    return max(found, key=lambda folder: (folder / "config.json").stat().st_mtime)


def find_model(name: str, flag: str) -> str:
    """The folder or Hub name behind a model's name.

    Args:
        name: A model folder, `sft:NAME` for the model of the newest masked-LM run of that name, or a name
            on the Hub, which is returned unchanged.
        flag: The flag that gave it, for error messages.
    """
    if name.startswith("sft:"):
        folders = [run / runs.MODEL for run in runs.versions(name.removeprefix("sft:"))]
        for folder in folders:
            if is_masked_lm(folder):
                return str(folder)
        place = runs.RUNS / name.removeprefix("sft:")
        raise UserError(f"{flag}={name}: no run under {place} has a masked LM in model/; check the name")
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        refuse_adapter(folder, flag)
        if _has_config(folder):
            return str(folder)
        # In a run folder, or in an older sentence-transformers folder.
        inner = next((d for d in (folder / runs.MODEL, *sorted(folder.glob("0_*"))) if _has_config(d)), None)
        hint = f"; did you mean {flag}={inner}?" if inner else ""
        raise UserError(f"{flag}={name}: expected a model folder with a config.json, found none{hint}")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"{flag}={name}: there is no such folder; set {flag} to one, or to a Hub name")
    return name


def _has_config(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def refuse_adapter(folder: Path, flag: str) -> None:
    """Refuse an adapter such as LoRA's, which needs another model's weights.

    Beside a whole model it would be ignored, which is refused, too.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        return
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, TypeError, KeyError, RecursionError):
        base = "another model"
    raise UserError(
        f"{flag}={folder}: expected a whole model, found an adapter of {base} (adapter_config.json); merge "
        "it with peft's merge_and_unload and save_pretrained, or remove the adapter's files from the folder"
    )


def pretrained_arguments(name: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` for a folder or Hub name; `name@revision` pins a revision.

    `trust_remote_code` is given because transformers 5.23 (dynamic_module_utils.py) would otherwise ask on
    the terminal whether to run a model's own code. A folder's path may contain an @.

    Raises:
        UserError: The name or the revision is empty.
    """
    arguments: dict[str, Any] = {"trust_remote_code": False}
    if Path(name).is_dir() or "@" not in name:
        return {"pretrained_model_name_or_path": name, **arguments}
    plain, _, revision = name.rpartition("@")
    if not plain or not revision:
        raise UserError(f"expected name@revision, such as bert-base-cased@main, found '{name}'; fix the name")
    return {"pretrained_model_name_or_path": plain, "revision": revision, **arguments}


def check_weights(name: str, allow_pickle: bool, flag: str) -> None:
    """Refuse a model folder without weights or with only a pickle. A Hub name passes until it is loaded.

    Args:
        name: A folder or Hub name from `find_model`.
        allow_pickle: Whether a pickle is allowed.
        flag: The flag that allows it, such as `--model.allow_pickle true`.
    """
    folder = Path(name)
    whole = (folder / "model.safetensors", folder / "model.safetensors.index.json")
    if not folder.is_dir() or any(path.is_file() for path in whole):
        return
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin*"))
    readable = {"pytorch_model.bin", "pytorch_model.bin.index.json"} & set(pickled)
    if allow_pickle and readable:
        return
    if pickled and not allow_pickle:
        raise UserError(only_pickled(name, f"found only {pickled[0]}, a pickle", flag))
    others = sorted(path for path in folder.rglob("*") if path.suffix in OTHER_WEIGHTS)
    found = ", ".join(str(path.relative_to(folder)) for path in others[:3]) or "no weights"
    variant = next((path for path in others if path.suffix == ".safetensors" and path.parent == folder), None)
    advice = f"rename {variant.name} if it is the model" if variant else "use a model that has it"
    raise UserError(f"{name}: expected model.safetensors, found {found}; {advice}")


def only_pickled(where: str, found: str, flag: str) -> str:
    """The message about weights that are not in safetensors."""
    return f"{where}: expected model.safetensors, {found}; use another model, or set {flag}"


def shown_name(pretrained: str) -> str:
    """A model's name for reports: the path of a folder below the working directory, else only its name."""
    folder = Path(os.path.expanduser(pretrained))
    if not folder.is_dir():
        return pretrained
    here = Path.cwd()
    return str(folder.resolve().relative_to(here)) if folder.resolve().is_relative_to(here) else folder.name
