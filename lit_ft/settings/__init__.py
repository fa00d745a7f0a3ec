"""From a command line and YAML files to checked settings, or one line that says what is wrong.

Read `arguments` (which file `--config NAME` means), `config_file` (one YAML file and its line numbers),
`parser` with `keys` (jsonargparse's errors as one line), `flags` (the flags of a run), `bounds`, `shares`,
`secrets`, `space` (what a search may choose).
Imports the ground only; no torch.
"""
