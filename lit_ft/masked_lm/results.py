"""What `sft` writes into the run folder, and prints at the end."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from lit_ft.console import say
from lit_ft.machine import peak_memory_gb
from lit_ft.masked_lm.advice import still_falling, too_few_texts, untrained_head
from lit_ft.masked_lm.candidates import Probes, fill_probes, print_candidates
from lit_ft.masked_lm.data import MaskedLMRows
from lit_ft.masked_lm.gains import words_gained
from lit_ft.masked_lm.resume import step_of
from lit_ft.masked_lm.settings import SftSettings
from lit_ft.masked_lm.trainer import MaskedLMTrainer
from lit_ft.models.export import export_model, say_where
from lit_ft.models.names import needs_hub, shown_name
from lit_ft.report.results import write_results
from lit_ft.report.scores import MASKED_LM, console


def leave_results(
    trainer: MaskedLMTrainer,
    settings: SftSettings,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    rows: MaskedLMRows,
    provenance: dict[str, Any],
    seconds: float,
    probes: Probes | None = None,
) -> None:
    """Evaluate, write `metrics.json`, `loss.png`, `model/` and `report.html`, and print the results.

    Args:
        trainer: The finished trainer.
        settings: The settings of the run.
        folder: The run folder.
        tokenizer: The tokenizer, saved with the model.
        rows: The rows that were trained and evaluated on.
        provenance: From `machine.provenance`.
        seconds: The time since the command started.
        probes: The probes and their history, if there are any.
    """
    evaluated = [entry["step"] for entry in trainer.state.log_history if "val/loss" in entry]
    if trainer.state.global_step not in evaluated[-1:]:
        trainer.evaluate()
    if not trainer.is_world_process_zero():
        return
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    log: list[dict[str, Any]] = trainer.state.log_history
    train = [entry for entry in log if "train/loss" in entry]
    validation = [entry for entry in log if "val/loss" in entry]
    step = _step_of_weights(trainer)
    final = [entry for entry in validation if entry["step"] == step][-1]
    metrics = {f"val/{score.name}": final[f"val/{score.name}"] for score in MASKED_LM}
    if validation[0]["step"] == 0:
        metrics |= {f"initial/{score.name}": validation[0][f"val/{score.name}"] for score in MASKED_LM}
    metrics |= {"step": step, "train/tokens_seen": trainer.state.num_input_tokens_seen}
    if train:
        speeds = sorted(entry["train/tokens_per_second"] for entry in train)
        metrics |= {
            "train/loss": train[-1]["train/loss"],
            "train/tokens_per_second": speeds[len(speeds) // 2],
        }
    device = trainer.args.device.type
    metrics |= {"sft/seconds": seconds, "train/peak_memory_gb": peak_memory_gb(device)}
    facts = {
        "kind": "masked_lm",
        "pretrained": shown_name(settings.model.pretrained),
        "from_hub": needs_hub(settings.model.pretrained),
        "splits": rows.facts,
        "notes": rows.notes,
        "probes": [],
        "probes_over_steps": probes.over_steps() if probes else {},
        "evaluations_over_steps": [
            {"step": entry["step"], **{score.name: entry[f"val/{score.name}"] for score in MASKED_LM}}
            for entry in validation
        ],
        "words_gained": words_gained(trainer.words.evaluations, step, tokenizer),
        "advice": _advice(trainer, settings, rows, validation),
        **provenance,
    }
    facts = write_results(
        folder,
        metrics,
        facts,
        lambda: export_model(
            folder, model, model.state_dict(), tokenizer, tokenizer.model_max_length, "head"
        ),
        [{"epoch": entry["epoch"], "loss": entry["train/loss"]} for entry in train],
        validation,
        more_facts=lambda: _answers(settings.probes, model, tokenizer),
    )
    _print_results(metrics)
    if settings.probes:
        say("")
        print_candidates(settings.probes, [probe["masks"] for probe in facts["probes"]])
    say("")
    say_where(folder, f"python -m lit_ft fit --config FILE --model.pretrained sft:{folder.parent.name}")


def _advice(
    trainer: MaskedLMTrainer, settings: SftSettings, rows: MaskedLMRows, validation: list[dict[str, Any]]
) -> list[str]:
    """What to know before the model is used, in sentences."""
    initial = validation[0]["val/loss"] if validation[0]["step"] == 0 else None
    vocabulary = trainer.accelerator.unwrap_model(trainer.model).config.vocab_size
    newest, texts = trainer.words.evaluations[-1], rows.facts["validation"]["texts"]
    found = (
        untrained_head(initial, vocabulary, shown_name(settings.model.pretrained)),
        too_few_texts(texts, newest.masked, newest.spread),
        still_falling(validation, settings),
    )
    return [sentence for sentence in found if sentence is not None]


def _answers(probes: list[str], model: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The probes with the model's candidates, for `report.json`."""
    filled = fill_probes(probes, model, tokenizer) if probes else []
    return {"probes": [{"text": text, "masks": masks} for text, masks in zip(probes, filled, strict=True)]}


def _step_of_weights(trainer: MaskedLMTrainer) -> int:
    """The last step, or that of the best checkpoint if its weights were loaded at the end.

    transformers 5.23 (trainer.py, _save_checkpoint): only a step that was evaluated and saved can be best.
    """
    best = trainer.state.best_model_checkpoint
    if trainer.args.load_best_model_at_end and best is not None:
        return step_of(Path(best))
    return trainer.state.global_step


def _print_results(metrics: dict[str, Any]) -> None:
    say(f"\nheld-out texts, after step {metrics['step']:,} (perplexity is of the masked tokens)")
    for score in console(MASKED_LM):
        tag, before = f"val/{score.name}", metrics.get(f"initial/{score.name}")
        was = "" if before is None else f"   (before: {before:.{score.digits}f})"
        say(f"  {tag:<20} {metrics[tag]:.{score.digits}f}{was}")
    speed = metrics.get("train/tokens_per_second")
    median = f", {speed:,.0f} per second (median)" if speed is not None else ""
    say(f"  tokens trained on    {metrics['train/tokens_seen']:,}{median}")
