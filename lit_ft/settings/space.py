"""What a search may choose: a YAML of ranges and lists under `fit`'s own keys, checked without torch.

    model.learning_rate: {low: 1e-5, high: 3e-4, log: true}
    model.warmup_share: {low: 0, high: 0.2, step: 0.05}
    data.batch_size: [16, 32, 64]

Keys may also be nested, as in a config. The types of the values are checked by `fit`'s parser, later.
"""

import difflib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_ft.errors import UserError
from lit_ft.settings.config_file import as_found, is_misread, is_odd_number, read_config, reading
from lit_ft.settings.keys import nearest
from lit_ft.settings.secrets import refuse_secrets

FORMS = "write a range, {low: 1e-5, high: 3e-4, log: true}, or a list of values, [16, 32]"
WORDS = ("low", "high", "log", "step")
# Words of Optuna, Ray, W&B and AutoTrain -> what is meant here
OTHERS = {
    **dict.fromkeys(("min", "lower", "from", "start"), "write low"),
    **dict.fromkeys(("max", "upper", "to", "end", "stop"), "write high"),
    **dict.fromkeys(("q", "quantum"), "write step"),
    **dict.fromkeys(
        ("values", "choices", "categories", "options", "grid", "choice"), "write the list alone, [16, 32]"
    ),
    **dict.fromkeys(
        ("type", "distribution", "method", "name"),
        "leave it out: log: true is the only other distribution, and numbers are whole where the setting is",
    ),
    **dict.fromkeys(("uniform", "quniform"), "write {low: 1e-5, high: 3e-4}"),
    **dict.fromkeys(("loguniform", "log_uniform"), "write {low: 1e-5, high: 3e-4, log: true}"),
}
SWEEP = {  # at the top of a sweep of W&B or of Ludwig's hyperopt
    **dict.fromkeys(("parameters", "search_space", "space"), "write the settings at the top, without it"),
    **dict.fromkeys(("metric", "goal", "direction"), "set --monitor of the search"),
    **dict.fromkeys(("method", "sampler", "executor"), "leave it out: the sampler is Optuna's TPE"),
    **dict.fromkeys(("trials", "n_trials", "num_samples"), "set --trials"),
    **dict.fromkeys(("jobs", "n_jobs"), "set --jobs"),
}
DIGITS = 4  # significant ones of a proposed number: more would only make a config harder to read


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: The lowest.
        high: The highest.
        log: Whether each power of ten is as likely as another.
        step: Between two values; None for any number, or for every whole one.
        whole: Whether only whole numbers are meant, as far as is written: both ends and the step are.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def count(self) -> int | None:
        """How many values it has; None if there is no telling."""
        if self.step is not None:
            return round((self.high - self.low) / self.step) + 1
        return int(self.high) - int(self.low) + 1 if self.whole else None

    def listed(self) -> list[Any]:
        """All values of one that counts them."""
        step = self.step or 1
        return [self.rounded(self.low + i * step) for i in range(self.count() or 0)]

    def holds(self, value: Any) -> bool:
        """Whether a value can be proposed."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        on_grid = math.isclose(steps, round(steps), abs_tol=1e-6)
        return self.low <= value <= self.high and on_grid and (not self.whole or float(value).is_integer())

    def rounded(self, value: float) -> float:
        """A proposed number with few digits, still within the range."""
        if self.whole:
            return int(value)
        if self.step is not None:
            return self.low + round((value - self.low) / self.step) * self.step
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def __str__(self) -> str:
        more = ", log" * self.log + (f", step {self.step:g}" if self.step else "")
        return f"{self.low:g} to {self.high:g}{more}"


@dataclass(frozen=True)
class Choices:
    """Some values, as a flag would give them: `null`, `balanced`, `[1, 2]`."""

    values: tuple[str, ...]

    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def listed(self) -> list[Any]:
        """All values."""
        return list(self.values)

    def __str__(self) -> str:
        return ", ".join(self.values)


@dataclass(frozen=True)
class Entry:
    """One searched setting.

    Attributes:
        key: Of the setting, such as `model.learning_rate`.
        what: Its values.
        place: Its file and line.
    """

    key: str
    what: Range | Choices
    place: str


def combinations(space: Sequence[Entry]) -> int | None:
    """How many trials a space has room for; None without end."""
    counts = [entry.what.count() for entry in space]
    return None if None in counts else math.prod(count or 0 for count in counts)


def as_flag(value: Any) -> str:
    """A value as a flag gives it: 4.1e-05, true, null, [1, 2]; `0.30000000000000004` is 0.3."""
    if isinstance(value, float):
        return f"{value:.10g}"
    return value if isinstance(value, str) else json.dumps(value)


# Settings that a search leaves alone -> why
NOT_SEARCHED: dict[str, str] = {
    **dict.fromkeys(("config", "name", "ckpt_path", "estimate"), "it names a run, and changes no model"),
    "seed_everything": "it is luck, not a setting, and the best seed is only the luckiest; the best settings "
    "run again with new seeds",
    "monitor": "it is the figure that the trials are compared by; give it to the search as a flag",
    **dict.fromkeys(
        ("baselines", "on_nonfinite", "on_full_disk", "data.num_workers", "data.eval_batch_size"),
        "it does not change what is learnt",
    ),
    "model.allow_pickle": "it does not change what is learnt",
    "model.clip": "fit does not take it: give it to test or predict",
    "model.compile": "it changes the speed only",
    **dict.fromkeys(
        (
            *("data.source", "data.subset", "data.train_split", "data.validation_split", "data.test_split"),
            *("data.train_path", "data.validation_path", "data.test_path", "data.text_column"),
            *("data.pair_column", "data.label_column", "data.label_columns", "data.label_separator"),
            *("data.task", "data.group_column", "data.label_type", "data.label_base", "data.label_names"),
            *("data.ordered", "data.validation_share", "data.split_seed", "data.folds", "data.fold"),
            *("data.train_share", "data.unescape", "data.strip_html_breaks", "data.on_empty"),
            *("data.slice_columns", "data.threshold"),
        ),
        "it changes the texts or labels by which the trials are compared",
    ),
    **dict.fromkeys(
        ("data.predict_path", "data.predict_output", "data.predict_probabilities"), "it is predict's alone"
    ),
    **dict.fromkeys(("data.seed", "data.tokenizer"), "fit sets it itself"),
    **dict.fromkeys(
        (
            "trainer.accelerator",
            "trainer.devices",
            "trainer.num_nodes",
            "trainer.strategy",
            "trainer.plugins",
        ),
        "it is a matter of the machine; give it to the search as a flag",
    ),
    **dict.fromkeys(
        ("trainer.val_check_interval", "trainer.check_val_every_n_epoch"),
        "who is validated more often has the better best by luck",
    ),
    **dict.fromkeys(
        (
            *("trainer.fast_dev_run", "trainer.limit_train_batches", "trainer.limit_val_batches"),
            *("trainer.limit_test_batches", "trainer.limit_predict_batches", "trainer.overfit_batches"),
            *("trainer.max_time", "trainer.logger", "trainer.profiler", "trainer.default_root_dir"),
            *("trainer.num_sanity_val_steps", "trainer.log_every_n_steps", "trainer.enable_checkpointing"),
            *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.barebones"),
        ),
        "it is no setting of a model that is meant to be good",
    ),
}


def read_space(path: str, keys: Sequence[str]) -> list[Entry]:
    """Read and check a space.

    Args:
        path: The file.
        keys: The keys of `fit`.

    Raises:
        UserError: One line, with the file and the line.
    """
    if not Path(os.path.expanduser(path)).is_file():
        found = "a folder" if Path(os.path.expanduser(path)).is_dir() else "no such file"
        raise UserError(f"expected a YAML file for --space, found {found}: {path}; or set --space=default")
    text = Path(os.path.expanduser(path)).read_bytes()
    if not any(line.strip() and not line.lstrip().startswith(b"#") for line in text.splitlines()):
        raise UserError(f"{path}: expected settings to search, found none; {FORMS}, under a key of fit")
    config = read_config(path)  # refuses what is no mapping, and keys that are given twice
    root = yaml.compose(Path(os.path.expanduser(path)).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    groups = {key.partition(".")[0] for key in keys if "." in key}
    entries: list[Entry] = []
    for key, node in _settings(root, groups, ""):
        place = config.place(key) if config.lines.get(key) else f"{path}, line {node.start_mark.line + 1}"
        if any(entry.key == key for entry in entries):
            raise UserError(f"{place}: {key} is given twice, once nested and once not; leave one out")
        _check_key(key, keys, place, node)
        entries.append(Entry(key, _values(node, key, place), place))
    if not entries:
        raise UserError(f"{path}: expected settings to search, found none; {FORMS}, under a key of fit")
    return entries


def _settings(node: yaml.MappingNode, groups: set[str], prefix: str) -> Iterator[tuple[str, yaml.Node]]:
    """The keys of a mapping with their nodes; a group such as `model` is looked into."""
    for key_node, value in node.value:
        key = prefix + str(key_node.value)
        if not prefix and key in groups and isinstance(value, yaml.MappingNode):
            yield from _settings(value, groups, f"{key}.")
        else:
            yield key, value


def _check_key(key: str, keys: Sequence[str], place: str, node: yaml.Node) -> None:
    groups = {known.partition(".")[0] for known in keys if "." in known}
    if key in groups:
        found = "nothing" if isinstance(node, yaml.ScalarNode) and not node.value else "a value"
        raise UserError(f"{place}: expected settings indented below '{key}:', found {found}; {FORMS}")
    if key not in keys:
        close = nearest(key, [known for known in keys if known not in groups])
        hint = f"did you mean {close}?" if close else "the keys are those of `fit --help_all`"
        hint = SWEEP.get(key, hint)
        raise UserError(f"unknown key {key} in {place}; {hint}")
    if reason := NOT_SEARCHED.get(key):
        raise UserError(f"{place}: {key} is not searched: {reason}; leave it out of the space")


def _values(node: yaml.Node, key: str, place: str) -> Range | Choices:
    if isinstance(node, yaml.SequenceNode):
        return _choices(node, key, place)
    if isinstance(node, yaml.MappingNode):
        return _range(node, key, place)
    found = as_found(node.value) if node.value else "nothing"
    raise UserError(
        f"{place}: {key}: expected several values, found {found}; {FORMS}, or set it in the config"
    )


def _choices(node: yaml.SequenceNode, key: str, place: str) -> Choices:
    values = [_as_typed(item) for item in node.value]
    refuse_secrets({key: values})
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise UserError(f"{place}: {key}: {as_found(twice[0])} is given twice; leave one out")
    if len(values) < 2:
        found = f"only {as_found(values[0])}, which is no choice" if values else "an empty list"
        raise UserError(f"{place}: {key}: expected two values or more, found {found}; set it in the config")
    return Choices(tuple(values))


def _as_typed(node: yaml.Node) -> str:
    """A value as a flag would give it; quotes stay if YAML would read it otherwise without them."""
    if not isinstance(node, yaml.ScalarNode):
        return json.dumps(_plain(node))
    bare = yaml.ScalarNode(
        yaml.SafeLoader("").resolve(yaml.ScalarNode, node.value, (True, False)), node.value
    )
    return json.dumps(node.value) if node.style is not None and is_misread(bare) else node.value


def _plain(node: yaml.Node) -> Any:
    """A node as plain values; 1e-5, which YAML 1.1 takes for text, is a number, as for `fit`."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    assert isinstance(node, yaml.ScalarNode)
    if node.style is None and is_misread(node) and not is_odd_number(node.value):
        read = yaml.safe_load(node.value)
        return float(read) if isinstance(read, str) else read
    return node.value


def _range(node: yaml.MappingNode, key: str, place: str) -> Range:
    given = {str(name.value): value for name, value in node.value}
    for name in given:
        if name not in WORDS:
            close = difflib.get_close_matches(name, WORDS, n=1)
            hint = OTHERS.get(name) or (f"did you mean {close[0]}?" if close else FORMS)
            raise UserError(f"{place}: {key}: expected {', '.join(WORDS)}, found {name!r}; {hint}")
    for name in ("low", "high"):
        if name not in given:
            raise UserError(f"{place}: {key}: expected low and high, found no {name}; {FORMS}")
    low, high = (_number(given[name], f"{key}.{name}", place) for name in ("low", "high"))
    log = _switch(given["log"], f"{key}.log", place) if "log" in given else False
    step = _number(given["step"], f"{key}.step", place) if "step" in given else None
    if low >= high:
        same = "one value is not searched: set it in the config" if low == high else "exchange the two"
        raise UserError(f"{place}: {key}: expected low below high, found {low:g} and {high:g}; {same}")
    if log and low <= 0:
        raise UserError(f"{place}: {key}: expected low above 0 with log, found {low:g}; leave out log: true")
    if log and step is not None:
        raise UserError(f"{place}: {key}: expected log or step, found both; leave one out, or write a list")
    whole = isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int))
    if step is not None:
        count = (high - low) / step if step > 0 else 0
        if count < 1 - 1e-9:
            raise UserError(
                f"{place}: {key}: expected a step above 0 and up to {high - low:g}, found {step:g}"
            )
        if not math.isclose(count, round(count), abs_tol=1e-6):
            last = low + math.floor(count + 1e-9) * step
            raise UserError(
                f"{place}: {key}: steps of {step:g} lead to {last:g}, not to {high:g}; write high: {last:g}"
            )
    return Range(low, high, log, step, whole)


def _number(node: yaml.Node, name: str, place: str) -> float:
    text = node.value if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
    if isinstance(node, yaml.ScalarNode) and node.style is None and is_odd_number(text):
        read = reading(text)
        raise UserError(
            f"{place}: {name}: found {text}, which YAML reads as {read}; write {read} if it was meant"
        )
    try:
        value = int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise UserError(f"{place}: {name}: expected a number, found {as_found(text)}; {FORMS}") from None
    if not math.isfinite(value):
        raise UserError(f"{place}: {name}: expected a finite number, found {text}")
    return value


def _switch(node: yaml.Node, name: str, place: str) -> bool:
    value = yaml.safe_load(node.value) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(value, bool):
        found = as_found(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
        raise UserError(f"{place}: {name}: expected true or false, found {found}")
    return value
