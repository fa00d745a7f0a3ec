"""Fuzzing: sound files and values, changed as accidents, scripts and strangers change them."""

import copy
import io
import math
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fuzz_checks import SENTINEL
from hypothesis import strategies as st


def damaged(content: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    """A file after some accidents, each at a place: bits flipped, bytes put in, the rest cut off."""
    changed = bytearray(content)
    for place, edit, new in edits:
        i = place % (len(changed) + 1)
        if edit == "flip" and i < len(changed):
            changed[i] ^= 1 << (place % 8)
        elif edit == "insert":
            changed[i:i] = new
        elif edit == "cut":
            del changed[i:]
        elif edit == "zero":
            changed[i : i + 64] = bytes(len(changed[i : i + 64]))
    return bytes(changed)


accidents = st.lists(
    st.tuples(
        st.integers(0, 2**31),
        st.sampled_from(["flip", "flip", "insert", "cut", "zero"]),
        st.binary(max_size=6),
    ),
    min_size=1,
    max_size=6,
)


Path_ = tuple[Any, ...]  # the keys that lead to a value


class Bomb:
    """Unpickled, it makes the file `sentinel`."""

    def __init__(self, call: Any, argument: str) -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> Any:
        return self.call, (self.argument,)


BOMBS = {
    "os.system": lambda: Bomb(os.system, f"touch {SENTINEL}"),
    "os.mkdir": lambda: Bomb(os.mkdir, SENTINEL),
    "eval": lambda: Bomb(eval, f"open({SENTINEL!r}, 'w').close()"),
    "exec": lambda: Bomb(exec, f"open({SENTINEL!r}, 'w').close()"),
    "pathlib": lambda: Path(SENTINEL),  # no code, but no plain value either
}


def paths_in(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every value inside, in order; of long lists the first three."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))[:3]
    for key, inner in items:
        yield (*path, key)
        yield from paths_in(inner, (*path, key))


def changed(root: Any, path: Path_, edit: Any) -> Any:
    """A copy in which the value at the path is `edit(value)`, or missing where that is `...`."""
    root = copy.deepcopy(root)
    node = root
    for key in path[:-1]:
        node = node[key]
        if isinstance(node, tuple):
            return root
    if isinstance(node, tuple):
        return root
    value = edit(node[path[-1]])
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return root


TENSORS = {
    "another shape": lambda t: torch.zeros(*t.shape, 2),
    "no rows": lambda t: t[:0] if t.dim() else t.new_zeros(0),
    "one more row": lambda t: torch.cat([t, t[:1]]) if t.dim() else t.new_zeros(2),
    "transposed": lambda t: t.T if t.dim() > 1 else t[None],
    "whole numbers": lambda t: t.to(torch.int8),
    "complex": lambda t: t.to(torch.complex64),
    "half": lambda t: t.half(),
    "nan": lambda t: torch.full_like(t, math.nan) if t.is_floating_point() else t,
    "sparse": lambda t: t.to_sparse(),
    "expanded": lambda t: t.new_zeros(1).expand(10**6),
    "meta": lambda t: t.to("meta"),
    "list": lambda t: t.tolist(),
    "none": lambda t: None,
    "missing": lambda t: ...,
}
PLAIN = [
    None,
    True,
    -1,
    0,
    3,
    10**12,
    10**30,
    0.5,
    math.nan,
    math.inf,
    "",
    "x",
    "../x",
    [],
    {},
    [1],
    {"x": 1},
    "\0",
]
PLAIN_EDITS = {
    "missing": lambda v: ...,
    **{repr(new): (lambda v, new=new: copy.deepcopy(new)) for new in PLAIN},
}


def kinds_of_edits(value: Any) -> list[str]:
    """Names of what can be done to a value."""
    return sorted(TENSORS) if isinstance(value, torch.Tensor) else sorted(PLAIN_EDITS)


def value_at(root: Any, path: Path_) -> Any:
    for key in path:
        root = root[key]
    return root


def saved(value: Any) -> bytes:
    """The bytes that torch.save writes."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


@st.composite
def edited(draw: Any, good: Any, groups: tuple[Path_, ...]) -> tuple[str, Any]:
    """A good value with one or two values changed: a group is drawn first, for large ones hide small ones."""
    about, root = [], good
    for _ in range(draw(st.integers(1, 2))):
        group = draw(st.sampled_from(groups))
        try:
            inside = [group, *((*group, *path) for path in paths_in(value_at(root, group)))]
        except (KeyError, IndexError, TypeError):
            continue
        path = draw(st.sampled_from(inside))
        if not path:
            continue
        value = value_at(root, path)
        kind = draw(st.sampled_from(kinds_of_edits(value)))
        edit = (TENSORS if isinstance(value, torch.Tensor) else PLAIN_EDITS)[kind]
        root = changed(root, path, edit)
        about.append(f"{'.'.join(map(str, path))}: {kind}")
    return "; ".join(about), root


def smuggled(bomb: Any, where: str, good: dict[str, Any]) -> bytes:
    """A checkpoint that carries code."""
    if where == "plain pickle":
        return pickle.dumps(bomb)
    if where == "torch's old format":
        out = io.BytesIO()
        torch.save(bomb, out, _use_new_zipfile_serialization=False)
        return out.getvalue()
    if where == "alone":
        return saved(bomb)
    return saved({**good, where: bomb})


def rezipped(content: bytes, name: str, new: bytes | None) -> bytes:
    """The archive with one member replaced, or left out, all checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as archive:
        for member in old.namelist():
            data = old.read(member) if not member.endswith(name) else new
            if data is not None:
                archive.writestr(member, data)
    return out.getvalue()


@st.composite
def checkpoint_files(draw: Any, whole: bytes, good: Any, groups: tuple[Path_, ...]) -> tuple[str, bytes]:
    """A file in a checkpoint's place: what is odd in it, and its bytes."""
    match draw(st.integers(0, 11)):
        case 0 | 1:
            return "accidents", damaged(whole, draw(accidents))
        case 2:
            return "random bytes", draw(st.binary(max_size=60))
        case 3 | 4:
            name = draw(st.sampled_from(sorted(BOMBS)))
            where = draw(
                st.sampled_from(
                    ["plain pickle", "torch's old format", "alone", "settings", "state_dict", "x"]
                )
            )
            return f"code: {name} in {where}", smuggled(BOMBS[name](), where, good)
        case 5:
            member = draw(st.sampled_from(["data.pkl", "version", "byteorder", "data/0", "data/1"]))
            new = draw(
                st.sampled_from(
                    [None, b"", b"3", b"x" * 100, b"\x80\x02}q\x00.", pickle.dumps(BOMBS["eval"]())]
                )
            )
            return f"{member} replaced", rezipped(whole, member, new)
        case 6:
            return "another value", saved(draw(st.sampled_from([*PLAIN, torch.zeros(3), {"state_dict": {}}])))
    about, value = draw(edited(good, groups))
    return about, saved(value)
