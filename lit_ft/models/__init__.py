"""What `--model.pretrained` means: found, checked, loaded, exported.

Read `names`, `load` (with `blueprint`, `heads`), `checks`, `inputs`, `export`.
Imports the ground, the service rooms and `data`.
"""
