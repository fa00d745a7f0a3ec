"""`search`: trials of other settings, compared on the validation texts; then the best one with new seeds."""

import sys

from lit_ft.commands import early
from lit_ft.commands.search_options import check_search, search_options
from lit_ft.console import silence_libraries
from lit_ft.machine import command_line
from lit_ft.reliability import run_owner
from lit_ft.settings.arguments import asks_help, configs_dir
from lit_ft.settings.space import read_space

INTRODUCTION = """\
usage: python -m lit_ft search --space SPACE [--trials 20] [--config NAME_OR_FILE] [--key value ...]

Look for better settings: trains with some of the values in SPACE, and compares the runs by the validation
texts. Then the best settings and your own run again with new seeds, so that luck shows.

  --space    a YAML of ranges and lists under fit's own keys, or `default` for one that fits the task:
               model.learning_rate: {low: 1e-5, high: 3e-4, log: true}
               data.batch_size: [16, 32]
  --trials   how many runs, 20 by default; the first one has your own settings
  --jobs     how many run at once, 1 by default
  --seeds    how many new seeds the best and your own settings run again with, 3 by default; 0 for none

Everything is in runs/NAME/search_<n>/: each trial is an ordinary run, best.yaml is a config for fit, and
search.html shows what mattered. The same command continues a search that was stopped; more --trials
lengthen it. All other flags are those of fit (`fit --help`).
"""


def main(command: str, args: list[str]) -> int:
    """Run `search` and return the exit code."""
    if asks_help(args):
        sys.stdout.write(INTRODUCTION)
        return 0
    options = search_options(args)
    check_search(options)
    keys = early.known_keys("fit")
    if options.space != "default":
        read_space(options.space, keys)  # its mistakes are told before the libraries are loaded
    early.tell_loading(command, list(options.rest))
    silence_libraries()
    from lit_ft.commands.search_run import run_search

    try:
        given = command_line([command, *args], configs_dir())
        return run_search(options, keys, given)
    finally:
        run_owner.release()
