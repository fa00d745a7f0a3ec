"""`model/`: the best weights as a folder that `from_pretrained` and `pipeline` load."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.console import say
from lit_ft.data.tokens import Truncation
from lit_ft.runs import CHECKPOINTS, MODEL, REPORT

# Arguments of from_pretrained, some of which transformers 5.23 saves (tokenization_utils_base.py).
LOADING = {
    "cache_dir",
    "force_download",
    "is_local",
    "local_files_only",
    "name_or_path",
    "proxies",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
}


def export_model(
    run: Path,
    net: PreTrainedModel,
    state_dict: dict[str, torch.Tensor],
    tokenizer: Any,
    max_tokens: int,
    truncation: Truncation,
) -> Path:
    """Write a model folder, completely or not at all.

    Args:
        run: The run folder.
        net: A model of the same shape; its own weights are not changed.
        state_dict: The weights to write, under `net`'s names.
        tokenizer: Saved with the weights, so that a `pipeline` truncates as training did.
        max_tokens: `max_tokens` of the training.
        truncation: `truncation` of the training. A tokenizer folder knows only head and tail: for `head_tail`
            a pipeline keeps the head, and longer texts get other probabilities than from `predict`.

    Returns:
        The folder, `run/model`.
    """
    temporary, folder = run / f".{MODEL}", run / MODEL
    _remove(temporary)
    try:
        net.save_pretrained(temporary, state_dict=state_dict)
        _save_tokenizer(tokenizer, temporary, max_tokens, "left" if truncation == "tail" else "right")
        _same_modes(temporary)
        _remove(folder)
        temporary.rename(folder)
    except BaseException:
        _remove(temporary)
        raise
    return folder


def _same_modes(folder: Path) -> None:
    """Let those read the weights who may read the config: safetensors writes for the owner alone."""
    mode = stat.S_IMODE((folder / "config.json").stat().st_mode)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(mode)


def _remove(folder: Path) -> None:
    """Remove a folder, or a link but not its target, which may be shared or on another disk."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_tokens: int, side: str) -> None:
    tokenizer.save_pretrained(folder)
    # save_pretrained (transformers 5.23) writes the settings that the tokenizer was made with, not those set
    # later, such as truncation_side: set it in the file.
    path = folder / "tokenizer_config.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    # How it was loaded here (offline, from this folder) is of no use to others.
    settings = {key: value for key, value in written.items() if key not in LOADING}
    settings |= {"model_max_length": max_tokens, "truncation_side": side}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def say_where(run: Path, then: str) -> None:
    """Say where everything is: the last lines of a run that exported a model.

    Args:
        run: The run folder.
        then: The command to run next.
    """
    say(f"model:  {run / MODEL}")
    if (run / REPORT).is_file():
        say(f"report: {run / REPORT}")
    if spare := _spare(run):
        say(f"disk:   {spare} ({_size(spare)}), only to resume")
    say(f"next:   {then}")


def _spare(run: Path) -> Path | None:
    """What only a resume of a finished run reads: weights and optimizer state, 3 x the model."""
    best, last = (run / CHECKPOINTS / f"{name}.ckpt" for name in ("best", "last"))
    if best.is_file() and last.is_file():
        return last
    of_sft = not last.is_file() and any((run / CHECKPOINTS).glob("checkpoint-*"))
    return run / CHECKPOINTS if of_sft else None


def _size(path: Path) -> str:
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:,.1f} MB"


def weights_of(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Encoder and head weights of a classifier checkpoint, under `save_pretrained`'s names."""
    prefix = "net."
    return {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
