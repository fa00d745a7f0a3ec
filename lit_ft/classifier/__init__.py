"""`fit`: a LightningModule, its data, what goes along with training, and what a run leaves.

Read `data` (with `batch_settings`), `model`, `loss`, `metrics`, `slices`, `optim`; then `callbacks` with
`tracking`, `dashboard`, `per_text`, `checkpoints`, `stopping`, `nonfinite`; then `resume`, `predictions` with
`prediction_files`, `baselines` with `word_counts`, `results`.
Imports everything but `masked_lm` and `commands`.
"""
