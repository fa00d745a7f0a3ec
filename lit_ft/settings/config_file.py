"""One YAML config file: its faults, and the line of each key, which jsonargparse does not keep."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lit_ft.errors import UserError, shorten, unusable


@dataclass
class ConfigFile:
    """A config file as the user named it.

    Attributes:
        name: The path of the file.
        lines: The line of each key (`data.batch_size`); 0 if a list has the key several times.
        values: Key -> its single value as it is written; None for null. Lists are not kept.
        groups: The top-level keys whose value is not a mapping, with that value's node.
        misread: Key -> unquoted values that YAML does not read as text, as they are written: `no`, `010`.
    """

    name: str
    lines: dict[str, int] = field(default_factory=dict)
    values: dict[str, str | None] = field(default_factory=dict)
    groups: dict[str, yaml.Node] = field(default_factory=dict)
    misread: dict[str, list[str]] = field(default_factory=dict)

    def place(self, key: str) -> str:
        """The place of `key`: `FILE, line N`."""
        line = self.lines.get(key)
        return f"{self.name}, line {line}" if line else self.name


def read_config(path: str) -> ConfigFile:
    """Read a config; refuses a file that is not one YAML mapping, or that repeats a key."""
    advice = "write groups such as 'data:' and their keys, not nested deeper than can be read, and without"
    with unusable(path, f"{advice} an anchor (&) inside itself"):
        return _read(path)


def _read(path: str) -> ConfigFile:
    try:
        root = yaml.compose(
            Path(os.path.expanduser(path)).read_text(encoding="utf-8"), Loader=yaml.SafeLoader
        )
    except UnicodeDecodeError as ex:
        raise UserError(f"{path}: expected a YAML file, found bytes that are not UTF-8 text") from ex
    except yaml.MarkedYAMLError as ex:
        mark = ex.problem_mark or ex.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        hint = "; YAML is indented with spaces, not tabs" if "'\\t'" in (ex.problem or "") else ""
        raise UserError(f"{path}{line}: not valid YAML: {ex.problem or ex}{hint}") from ex
    except yaml.YAMLError as ex:  # a control character; the error has no line
        raise UserError(f"{path}: not valid YAML: {str(ex).splitlines()[0]}") from ex
    if root is None:
        raise UserError(f"{path}: expected settings such as 'data:', found an empty file")
    if not isinstance(root, yaml.MappingNode):
        found = "a list" if isinstance(root, yaml.SequenceNode) else f"only {as_found(root.value)}"
        raise UserError(f"{path}: expected a mapping of settings such as 'data:', found {found}")
    config = ConfigFile(path)
    _note_keys(root, "", config)
    config.groups = {k.value: v for k, v in root.value if not isinstance(v, yaml.MappingNode)}
    return config


def _note_keys(node: yaml.Node, prefix: str, config: ConfigFile) -> None:
    if isinstance(node, yaml.ScalarNode) and is_misread(node):
        config.misread.setdefault(prefix.removesuffix("."), []).append(node.value)
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _note_keys(item, prefix, config)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            if name in seen and name != "<<":  # YAML's parsers silently keep the last one
                twice = f"{name!r} is given twice (also in line {seen[name]})"
                raise UserError(f"{config.name}, line {line}: {twice}")
            seen[name] = line
            if name in ("init_args", "dict_kwargs"):  # named like the flag: trainer.logger.save_dir
                _note_keys(value, prefix, config)
                continue
            key = prefix + name
            config.lines[key] = 0 if key in config.lines else line
            if isinstance(value, yaml.ScalarNode):
                config.values[key] = None if value.tag.endswith(":null") else value.value
            _note_keys(value, key + ".", config)


def is_misread(node: yaml.ScalarNode) -> bool:
    """Whether a value is unquoted and jsonargparse's YAML does not read it as text.

    That YAML reads a date as text, and 1e5 without a point as a number.
    """
    kind = node.tag.rpartition(":")[2]
    no_text = kind in ("bool", "int", "float", "null") or re.fullmatch(r"[-+]?[\d_]+[eE][-+]?\d+", node.value)
    return node.style is None and bool(no_text) and node.value != ""


def misread_values(text: str) -> list[str]:
    """The misread values in a flag's value, such as `[no, yes]`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [n.value for n in nodes if isinstance(n, yaml.ScalarNode) and is_misread(n)]


def reading(value: str) -> str:
    """What YAML 1.1 reads an unquoted value as: `yes` as `true`, `010` as `8`, `12:30` as `750`."""
    read = yaml.safe_load(value)
    return "null" if read is None else str(read).lower()


def is_odd_number(value: str) -> bool:
    """Whether YAML reads a number differently than it looks: a leading 0 is octal, colons are base 60."""
    return re.fullmatch(r"[-+]?(0[0-7_]+|[\d_]+(:[0-5]?\d)+(\.\d*)?)", value) is not None


def as_found(value: str) -> str:
    """A value for a message: quoted unless it is a number, a list or a mapping; at most 80 characters."""
    text = shorten(" ".join(str(value).split()), 80)
    return text if re.match(r"[\[{]|-?[\d.]+$", text) else f"'{text}'"


def places_of(args: list[str]) -> dict[str, str]:
    """The place of each setting in the `--config FILE`s of a command line, except those that a flag sets."""
    places: dict[str, str] = {}
    for flag, value in zip(args, args[1:], strict=False):
        if flag == "--config":
            config = read_config(value)
            places |= {key: config.place(key) for key in config.lines}
    given = {arg.partition("=")[0].removeprefix("--") for arg in args if arg.startswith("--")}
    return {key: place for key, place in places.items() if key not in given}


def keys_of_configs(args: list[str]) -> set[str]:
    """The keys, such as `data.source`, that the `--config FILE`s of a command line set."""
    keys: set[str] = set()
    for flag, value in zip(args, args[1:], strict=False):
        if flag == "--config":
            keys |= read_config(value).lines.keys()
    return keys
