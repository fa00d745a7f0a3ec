"""Turns the results of a run into figures, pages, model cards and TensorBoard.

Read `scores` (which figures there are), `analysis` (what is computed from predictions), `figures` (the
pictures), `tables`, `slices`, `page`, `model_card`, `results` (all that a run leaves), `pairs` and
`comparison` (several runs), `tensorboard`.
Imports the ground only; no Lightning.
"""
