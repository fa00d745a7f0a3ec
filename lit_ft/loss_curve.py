"""Leaf: the picture of a run's losses, `loss.png`."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # figures go to files; the default backend needs a display on some machines
MOST_MARKED = 30  # points of a curve that are marked one by one; more would be a caterpillar


def draw_losses(
    path: Path, train: Sequence[dict[str, float]], validation: Sequence[dict[str, float]]
) -> None:
    """Write the picture of both losses over the epochs.

    Args:
        path: A .png file.
        train: Points with `epoch`, which may be a fraction, and `loss`.
        validation: Points with `epoch` and `val/loss`.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    for points, key, line, mark, label in (
        (train, "loss", "-", "o", "training"),
        (validation, "val/loss", "--", "s", "validation"),
    ):
        if points:
            marker = mark if len(points) <= MOST_MARKED else None
            epochs = [point["epoch"] for point in points]
            axes.plot(epochs, [point[key] for point in points], line, marker=marker, label=label)
    axes.set(title="Training loss", xlabel="Epoch", ylabel="Loss")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.savefig(path)
    plt.close(figure)
