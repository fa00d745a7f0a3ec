"""What both wings need to end well: signals, non-finite steps, memory, processes, who owns a run.

Read `signals`, `nonfinite`, `memory`, `processes`, `checkpoints`, `run_owner`, `trial`.
Imports the ground only; no Lightning.
"""
