"""`fit`: a LightningModule, its data, what goes along with training, and what a run leaves.

Read `data` (with `batch_settings`), `model`, `loss`, `optim`; `kinds` with `single_label` (and `metrics`),
`multi_label`, `regression`: what differs by the kind of label; `slices`; then `callbacks` with
`tracking`, `dashboard`, `per_text`, `checkpoints`, `stopping`, `nonfinite`; `pruning` (of a search); then
`resume`, `predictions` with `prediction_files`, `baselines` with `word_counts`, `results`.
Imports everything but `masked_lm` and `commands`.
"""
