"""Pictures that nobody looks at: they cost half a second per validation, more per report."""

from typing import Any
from unittest.mock import MagicMock

import pytest
from matplotlib.figure import Figure


class Blank(Figure):
    """Takes whatever is drawn, and is saved as an empty picture."""

    def subplots(self, *args: Any, **kwargs: Any) -> Any:
        return [MagicMock() for _ in range(args[0])] if args else MagicMock()

    def colorbar(self, *args: Any, **kwargs: Any) -> Any:
        return MagicMock()

    def legend(self, *args: Any, **kwargs: Any) -> Any:
        return MagicMock()


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Let `fit` and `test` save empty pictures."""
    patch.setattr("lit_ft.report.figures.Figure", Blank)
    patch.setattr("torch.utils.tensorboard.SummaryWriter.add_figure", lambda *args, **kwargs: None)
