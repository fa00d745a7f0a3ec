"""Fuzzing: checkpoints of both trainers and model folders, as bad disks and strangers leave them."""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from fuzz_cases import Case, Workshop
from fuzz_edits import BOMBS, accidents, checkpoint_files, damaged, edited, smuggled
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from lit_ft.masked_lm.resume import SUMS

FLAGS = ("--data.predict_output=out.csv",)


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
    if draw(st.booleans()):  # whoever crafts a file writes its checksum, too
        sums = {name: f"{zlib.crc32(content):08x}" for name, content in inside.items() if name != SUMS}
        about, inside = f"{about}, sealed", {**inside, SUMS: json.dumps(sums).encode()}
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
