"""The same numbers, sooner. Each file can be left out; results stay the same up to rounding.

Read `attention`, `first_token` and `host` for CPUs, `unpadded` with `varlen` for GPUs.
Imports the ground only, and neither Lightning nor another room.
"""
