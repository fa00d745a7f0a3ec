"""What a finished run leaves in its folder: figures, facts, `model/`, its card, `loss.png`, `report.html`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lit_ft import runs
from lit_ft.report.figures import draw_losses
from lit_ft.report.model_card import write_model_card
from lit_ft.report.page import write_report

Points = Sequence[dict[str, float]]


def write_results(
    run: Path,
    metrics: dict[str, Any],
    facts: dict[str, Any],
    export: Callable[[], Any],
    train: Points,
    validation: Points,
    without: Callable[[str], bool] = lambda tag: False,
    more_facts: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Write the results of a `fit` or an `sft`.

    The figures come first, so that an export, a probe or a picture that fails costs none of them.

    Args:
        run: The run folder.
        metrics: For `metrics.json`, merged with what a run that was resumed has there.
        facts: For `report.json`, merged likewise.
        export: Writes `model/`.
        train: Points of the training loss, as `draw_losses` takes them.
        validation: Points of the validation loss.
        without: Tags for which it is true leave `metrics.json`.
        more_facts: Facts that take the model, such as its answers to probes.

    Returns:
        All facts.
    """
    metrics = runs.add_metrics(run, metrics, without)
    facts = runs.add_facts(run, facts)
    export()
    if more := more_facts():
        facts = runs.add_facts(run, more)
    write_model_card(run, metrics, facts)
    draw_losses(run / runs.LOSS_CURVE, train, validation)
    write_report(run, metrics, facts)
    return facts
