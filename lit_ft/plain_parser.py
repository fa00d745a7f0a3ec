"""Leaf: argparse for the commands without a config, its errors as one line."""

import argparse
from typing import NoReturn

from lit_ft.errors import UserError


class PlainParser(argparse.ArgumentParser):
    """A parser of `python -m lit_ft COMMAND`, whose errors name an example instead of the usage.

    Args:
        command: Of lit_ft.
        description: What it does.
        example: A command line that works.
    """

    def __init__(self, command: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"python -m lit_ft {command}", description=f"{description} For example: {example}"
        )
        self.command, self.example = command, example

    def error(self, message: str) -> NoReturn:
        """argparse would print the usage first."""
        raise UserError(f"{self.command}: {message}; for example {self.example}")
