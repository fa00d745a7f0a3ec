"""Leaf: what is wrong with the class that a setting names: `trainer.callbacks: EarlyStoping` and the like.

The texts matched are those of jsonargparse 4.53, `_typehints.py`.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

OTHER_PACKAGE = "pytorch_lightning."  # the same program under its old name, whose classes are not ours
EXAMPLES = ("EarlyStopping", "CSVLogger", "SimpleProfiler", "MixedPrecision")
FORM = "{class_path: EarlyStopping, init_args: {monitor: val/loss}}"


def class_problem(key: str, hint: Any, message: str) -> str | None:
    """What a user has to know of a refused class; None where no class is wanted, or the message says none.

    Args:
        key: The setting.
        hint: Its type.
        message: The parser's.
    """
    bases = list(_bases(hint))
    if not bases:
        return None
    kind = " or ".join(base.__name__ for base in bases)
    if found := re.search(r"Import path (\S+) does not correspond to a subclass of", message):
        if found[1].startswith(OTHER_PACKAGE):
            right = "lightning.pytorch." + found[1].removeprefix(OTHER_PACKAGE)
            return f"found {found[1]}, of another package than the one that runs here; write {right}"
        return f"expected a {kind}, found {found[1]}, which is none"
    if re.search("unknown key [^;]*; there are no keys", message):
        if "class_path" not in message.partition("Given value:")[2]:
            return f"found settings without a class; name it first: --{key}=NAME, or in a file {FORM}"
        return f"the settings of a class stand below init_args: {FORM}"
    if found := re.search("Expected a dot import path string: (.+)", message):
        return f"there is no {kind} {found[1]!r}; {_advice(found[1], bases)}"
    if found := re.search(r"Problem with given class_path '([^']+)':\s*(.+)", message):
        name = found[1] if "No module named" in found[2] else found[1].rpartition(".")[2]
        return f"{name}: {found[2]}"
    return None


def _bases(hint: Any) -> Iterator[type]:
    """Lightning's base classes that a type names, also inside lists."""
    if isinstance(hint, type) and hint.__module__.startswith("lightning."):
        yield hint
    found: list[type] = []
    for member in get_args(hint):
        found += [base for base in _bases(member) if base not in found]
    yield from found


def _advice(name: str, bases: list[type]) -> str:
    classes = {c.__name__: c for base in bases for c in _below(base)}
    if name in classes and classes[name].__module__.startswith("lit_ft."):
        return "fit adds its own one itself: leave it out"
    theirs = [known for known, c in classes.items() if c.__module__.startswith("lightning.")]
    small = {known.lower(): known for known in theirs}
    if close := difflib.get_close_matches(name.rpartition(".")[2].lower(), small, n=1, cutoff=0.75):
        return f"did you mean {small[close[0]]}?"
    example = next((known for known in EXAMPLES if known in theirs), theirs[0])
    return f"write the name of one of Lightning's, such as {example}, or the path of a class, module.Name"


def _below(base: type) -> Iterator[type]:
    inner: type
    for inner in base.__subclasses__():
        yield inner
        yield from _below(inner)
