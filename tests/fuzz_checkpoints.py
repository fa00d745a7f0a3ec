"""Fuzzing: checkpoints of both trainers and model folders, as bad disks and strangers leave them."""

import copy
import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fuzz_cases import SENTINEL, Case, Workshop
from fuzz_corpora import accidents, damaged
from hypothesis import strategies as st
from safetensors.torch import load_file, save

FLAGS = ("--data.predict_output=out.csv",)
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


@st.composite
def classifier_checkpoints(draw: Any, shop: Workshop) -> Case:
    """`--ckpt_path FILE`, or `best` and `last` of a run, for each command that takes them."""
    path = shop.fitted / "checkpoints" / "last.ckpt"
    good = torch.load(path, weights_only=True)
    groups = tuple((key,) for key in good) + (
        ("loops", "fit_loop"),
        ("settings", "data"),
        ("settings", "model"),
    )
    about, content = draw(checkpoint_files(path.read_bytes(), good, groups))
    command = draw(st.sampled_from(["test", "predict", "validate", "fit", "fit"]))
    more = FLAGS if command == "predict" else ("--data.num_workers=0",) if command == "fit" else ()
    if draw(st.booleans()):
        args = (command, "--config", "fit.yaml", "--name=fit", "--ckpt_path=odd.ckpt", *more)
        return Case("checkpoint", args, {"odd.ckpt": content}, f"{about}, {command}")
    which = draw(st.sampled_from(["best", "last"]))
    run = "runs/fit/version_0"
    files = {f"{run}/config.yaml": (shop.fitted / "config.yaml").read_bytes()}
    files[f"{run}/checkpoints/{which}.ckpt"] = content
    args = (command, "--config", "fit.yaml", "--name=fit", f"--ckpt_path={which}", *more)
    return Case("checkpoint", args, files, f"{about}, {which} of {command}")


@st.composite
def folders(draw: Any, source: Path) -> tuple[str, dict[str, bytes]]:
    """The files of a model or checkpoint folder, one of them odd."""
    files = {p.name: p.read_bytes() for p in sorted(source.iterdir()) if p.is_file()}
    name = draw(st.sampled_from(sorted(files)))
    if draw(st.integers(0, 5)) == 0:
        return f"without {name}", {key: value for key, value in files.items() if key != name}
    whole = files[name]
    match Path(name).suffix:
        case ".json" if draw(st.booleans()):
            about, value = draw(edited({"root": json.loads(whole)}, (("root",),)))
            whole = json.dumps(value.get("root") if isinstance(value, dict) else value).encode()
        case ".safetensors" if draw(st.booleans()):
            tensors = load_file(source / name)
            about, value = draw(edited({"root": tensors}, (("root",),)))
            kept = value.get("root", {})
            kept = kept if isinstance(kept, dict) else {}
            tensors = {
                k: v.contiguous()
                for k, v in kept.items()
                if isinstance(v, torch.Tensor) and v.layout == torch.strided and v.device.type != "meta"
            }
            whole = save(tensors, {"format": "pt"})
        case ".pt" | ".pth" if draw(st.booleans()):
            good = torch.load(source / name, weights_only=False)  # noqa: S614, written by this session
            about, whole = draw(checkpoint_files(whole, {"root": good}, (("root",),)))
        case _:
            about, whole = "accidents", damaged(whole, draw(accidents))
    return f"{name}: {about}", {**files, name: whole}


@st.composite
def masked_lm_checkpoints(draw: Any, shop: Workshop) -> Case:
    """A checkpoint folder of `sft`, which is asked to go on from it."""
    place = "runs/sft/version_0"
    source = next((shop.adapted / "checkpoints").iterdir())
    about, inside = draw(folders(source))
    files = {f"{place}/checkpoints/{source.name}/{name}": content for name, content in inside.items()}
    files[f"{place}/config.yaml"] = (shop.adapted / "config.yaml").read_bytes()
    which = draw(st.sampled_from(["last", f"{place}/checkpoints/{source.name}"]))
    args = ("sft", "--config", "sft.yaml", "--name=sft", f"--ckpt_path={which}")
    return Case("checkpoint", args, files, f"{about}, sft")


@st.composite
def model_folders(draw: Any, shop: Workshop) -> Case:
    """A model folder that a command starts from."""
    if draw(st.integers(0, 4)) == 0:
        name = draw(st.sampled_from(sorted(BOMBS)))
        files = {p.name: p.read_bytes() for p in shop.encoder.iterdir() if p.suffix != ".safetensors"}
        files["pytorch_model.bin"] = smuggled(
            BOMBS[name](), draw(st.sampled_from(["plain pickle", "alone", "x"])), {}
        )
        about = f"code: {name} in pytorch_model.bin"
    else:
        about, files = draw(folders(shop.encoder))
    command = draw(st.sampled_from(["fit", "sft", "fill-mask"]))
    inside = {f"model/{name}": content for name, content in files.items()}
    if command == "fill-mask":
        return Case(
            "checkpoint", (command, "the film was [MASK]", "--model", "model"), inside, f"{about}, {command}"
        )
    args = (command, "--config", f"{command}.yaml", "--name=x", "--model.pretrained=model")
    return Case("checkpoint", args, inside, f"{about}, {command}")


@st.composite
def run_folders(draw: Any, shop: Workshop) -> Case:
    """A run's own files, read by `report`, `test` and a resumed `fit`."""
    about, inside = draw(folders(draw(st.sampled_from([shop.fitted, shop.adapted]))))
    files = {
        f"runs/fit/version_0/{name}": content for name, content in inside.items() if "tfevents" not in name
    }
    files["runs/fit/version_0/checkpoints/best.ckpt"] = (shop.fitted / "checkpoints/best.ckpt").read_bytes()
    odd = draw(
        st.sampled_from(
            [("report", "fit"), ("report", "fit", "fit"), ("test", "--config", "fit.yaml", "--name=fit")]
        )
    )
    return Case("checkpoint", odd, files, f"{about}, {odd[0]}")


def checkpoints(shop: Workshop) -> st.SearchStrategy[Case]:
    """All of them; half are the classifier's own."""
    kinds = [classifier_checkpoints(shop)] * 5 + [masked_lm_checkpoints(shop)] * 2
    return st.one_of(*kinds, model_folders(shop), model_folders(shop), run_folders(shop))
