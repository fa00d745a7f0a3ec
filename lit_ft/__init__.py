"""lit_ft: fine-tune an encoder on your own texts with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_ft.classifier.data import YelpDataModule
    from lit_ft.classifier.model import BertClassifier
    from lit_ft.masked_lm.trainer import MaskedLMTrainer

__version__ = "0.1.0"
__all__ = ["BertClassifier", "MaskedLMTrainer", "YelpDataModule", "__version__"]
PLACES = {
    "YelpDataModule": "lit_ft.classifier.data",
    "BertClassifier": "lit_ft.classifier.model",
    "MaskedLMTrainer": "lit_ft.masked_lm.trainer",
}


def __getattr__(name: str) -> Any:
    """The public classes, imported when they are first used: `import lit_ft` loads no torch."""
    if name not in PLACES:
        raise AttributeError(f"module 'lit_ft' has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
