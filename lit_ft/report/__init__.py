"""From the files of a run to figures, pages, model cards and TensorBoard.

Read `scores` (which figures there are), `analysis` (what is computed from predictions), `figures` (the
pictures), `tables`, `page`, `comparison`, `model_card`, `tensorboard`. Imports the ground only; no Lightning.
"""
