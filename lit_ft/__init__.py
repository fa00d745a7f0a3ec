"""lit_ft: fine-tune an encoder on your own texts with PyTorch Lightning."""

__version__ = "0.1.0"
