"""`sft`: TRL's trainer with the model's own loss; the same file names as in `classifier`.

Read `settings`, `data`, `masking`, `trainer`; then `tracking`, `checkpoints`, `stopping`, `nonfinite`; then
`resume`, `candidates`, `gains`, `advice`, `results`, and `run`, which puts them together.
Imports everything but `classifier` and `commands`; no Lightning.
"""
