"""Fuzzing: configs and flags with random keys, types and values, and YAML that is none."""

import contextlib
import functools
from typing import Any

import yaml
from fuzz_cases import FIT, SFT, Case
from fuzz_corpora import encoded
from fuzz_edits import accidents, damaged
from fuzz_yaml import SPECIALS
from hypothesis import strategies as st
from transformers import TrainingArguments

from lit_ft.__main__ import COMMANDS
from lit_ft.commands.check import make_parser
from lit_ft.masked_lm.settings import SftSettings, all_keys, value_of
from lit_ft.settings.arguments import configs_dir
from lit_ft.settings.keys import valid_keys

# What comes after the config, so that a case trains one step on this machine's processor, in one process.
FIT_PINS = (
    "--trainer.devices=1",
    "--trainer.num_nodes=1",
    "--trainer.strategy=auto",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.max_steps=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--data.num_workers=0",
)
SFT_PINS = ("--max_steps=1", "--data.num_workers=0")
# Not ours to fuzz in one process: compiling takes minutes, the others start or talk to more of them.
TRAINER_ARGS = sorted(
    {name for name in TrainingArguments.__dataclass_fields__ if not name.startswith("_")}
    - set("torch_compile torch_compile_backend torch_compile_mode local_rank ddp_backend deepspeed".split())
)

# Values that the settings have somewhere, so that some of them fit somewhere.
WORDS = (
    "auto best last sample sft:x cpu gpu tpu mps 16-mixed bf16-mixed 64-true 32-true transformer-engine "
    "balanced head tail head_tail longest max_length drop stop pack truncate no steps epoch val/loss "
    "val/accuracy norm value simple advanced pytorch true false null train test text label 1e-3 1/2 "
    "0x10 0o7 1_000 .inf .nan 2020-01-01 00:00:01:00 adamw_torch adafactor sgd linear cosine constant"
).split()
PATHS = [*"train.csv nowhere.csv . .. *.csv fit.yaml a/b/c ~ ~nobody /proc/x [".split(), "x" * 300]
CLASSES = (
    "lightning.pytorch.callbacks.EarlyStopping",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "lightning.pytorch.profilers.SimpleProfiler",
    "lightning.pytorch.loggers.CSVLogger",
    "os.system",
    "subprocess.Popen",
    "nowhere.Nothing",
    "x",
    "",
)
words = st.sampled_from(WORDS)
names = st.text("abcXYZ_-./ :#&*!|>%@`'\"[]{}é😀\u202e", min_size=1, max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70),
    st.sampled_from([2**31, 2**32, 2**63, 2**64, -(2**70), 10**30, 10**400]),
    st.floats(),
    st.sampled_from([0.0, 1e-9, 0.5, 1.0, 1e30, 1e300]),
    words,
    st.sampled_from(PATHS),
    st.text(max_size=8),
    names,
    st.dates(),
    st.binary(max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(names | st.sampled_from(["class_path", "init_args", "a"]), inner, max_size=3),
        st.fixed_dictionaries({"class_path": st.sampled_from(CLASSES), "init_args": inner}),
    ),
    max_leaves=4,
)


@functools.cache
def keys_of(command: str) -> tuple[str, ...]:
    """The keys that a command's configs may have."""
    return tuple(all_keys() if command == "sft" else valid_keys(make_parser()))


@st.composite
def keys(draw: Any, command: str) -> str:
    """Mostly a key that there is, else one like it or none at all."""
    key = draw(st.sampled_from(keys_of(command)))
    match draw(st.integers(0, 19)):
        case 0:
            return draw(names)
        case 1:
            return key.rpartition(".")[0] + "." + draw(names)
        case 2:
            i = draw(st.integers(0, len(key)))
            return key[:i] + draw(st.text("abc_.", max_size=2)) + key[i + 1 :]
        case 3:
            return key.partition(".")[0]
    return key


LIKELY: dict[type, st.SearchStrategy[Any]] = {  # values of a setting's own type, so that many a case trains
    bool: st.booleans(),
    int: st.integers(1, 40) | st.sampled_from([0, -1, 2**31, 2**64]),
    float: st.floats(0, 1) | st.sampled_from([1e-5, 3.0, 1e30]),
    str: words | st.sampled_from(PATHS),
    list: st.lists(st.sampled_from(["a", "b", "the [MASK] was [MASK]", ""]), max_size=3),
}


@functools.cache
def default_of(command: str, key: str) -> Any:
    """The value that a setting has where none is given."""
    if command == "sft":
        return value_of(SftSettings(), key)
    with contextlib.suppress(KeyError):  # a group
        return make_parser().get_default(key)


@st.composite
def settings(draw: Any, command: str) -> tuple[str, Any]:
    """A key and a value, mostly ones that go together."""
    key = draw(keys(command))
    if key in keys_of(command) and draw(st.integers(0, 3)):
        return key, draw(LIKELY.get(type(default_of(command, key)), scalars))
    return key, draw(values)


def tree(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`{"data": {"source": 3}}` of `data.source` and 3; what comes later replaces what is in its way."""
    root: dict[str, Any] = {}
    for key, value in pairs:
        *groups, name = key.split(".")
        node = root
        for group in groups:
            if not isinstance(node.get(group), dict):
                node[group] = {}
            node = node[group]
        node[name] = value
    return root


def dumped(value: Any) -> bytes:
    """YAML as a program writes it."""
    return encoded(yaml.safe_dump(value, allow_unicode=True, sort_keys=False), "utf-8")


@st.composite
def pairs(draw: Any, command: str) -> list[tuple[str, Any]]:
    """Settings of a command, or what could pass for some."""
    found = draw(st.lists(settings(command), min_size=1, max_size=3))
    if command == "sft" and draw(st.integers(0, 2)) == 0:
        extra = st.dictionaries(st.sampled_from(TRAINER_ARGS) | names, scalars, max_size=3)
        found.append(("trainer_args", {"use_cpu": True, "disable_tqdm": True} | draw(extra)))
    return found


@st.composite
def written(draw: Any, command: str) -> tuple[str, bytes]:
    """A config file: what is odd in it, and its content."""
    match draw(st.integers(0, 9)):
        case 0:
            return "text", encoded(draw(st.text(max_size=60)), "utf-8")
        case 1:
            return "bytes", draw(st.binary(max_size=60))
        case 2 | 3:
            text = draw(st.sampled_from(SPECIALS))
            return f"YAML's own: {text[:40]!r}", encoded(text, "utf-8")
        case 4:
            name = draw(st.sampled_from(["sample.yaml", "sample_sft.yaml", None]))
            sound = (SFT if command == "sft" else FIT).replace("{encoder}", "sample").encode()
            sound = sound if name is None else (configs_dir() / name).read_bytes()
            return "accidents", damaged(sound, draw(accidents))
        case 5:
            return "any value", dumped(draw(values))
    return "settings", dumped(tree(draw(pairs(command))))


@st.composite
def flags(draw: Any, command: str) -> tuple[str, ...]:
    """Settings on the command line; no NUL and no half surrogates, which no command line can carry."""
    found: list[str] = []
    for key, value in draw(pairs(command)):
        text = (
            value
            if isinstance(value, str)
            else dumped(value).decode("utf-8", "replace").removesuffix("\n...\n")
        )
        text = text.encode("utf-8", "replace").decode().replace("\0", "").strip("\n")
        match draw(st.integers(0, 9)):
            case 0:
                found += [f"--{key}"]
            case 1:
                found += [f"{key}={text}"]
            case 2 | 3 | 4:
                found += [f"--{key}", text]
            case _:
                found += [f"--{key}={text}"]
    return tuple(found)


@st.composite
def configs(draw: Any) -> Case:
    """A sound config, then an odd one or odd flags, then what keeps it short."""
    command = draw(st.sampled_from(["fit"] * 4 + ["sft"] * 3 + ["check"]))
    sound = "sft.yaml" if command == "sft" else "fit.yaml"
    trains = draw(st.booleans()) or command == "sft"
    pins = SFT_PINS if command == "sft" else FIT_PINS if command == "fit" and trains else ()
    if draw(st.integers(0, 9)) == 0:
        command = draw(st.sampled_from(sorted(COMMANDS)) | names)
        more = (
            st.sampled_from([*COMMANDS, "--config", "-c", "--help", "-h", "--", "-1", "=", "--json"]) | names
        )
        ends = {"fit": ("--config", "fit.yaml", *FIT_PINS), "sft": ("--config", "sft.yaml", *SFT_PINS)}
        # What starts many runs is refused, whatever stands before.
        ends |= {"repeat": ("--seeds=0",), "search": ("--trials=0",), "verify-resume": ("--name=x",)}
        end = ends.get(command, ("--config", "fit.yaml") if command == "check" else ())
        return Case("config", (command, *draw(st.lists(more, max_size=3)), *end), {}, "words")
    if draw(st.integers(0, 2)) == 0:
        args = (command, "--config", sound, *draw(flags(command)), *pins)
        return Case("config", args, {}, "flags", trains)
    about, content = draw(written(command))
    return Case(
        "config",
        (command, "--config", sound, "--config", "odd.yaml", *pins),
        {"odd.yaml": content},
        about,
        trains,
    )
