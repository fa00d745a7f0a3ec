"""What others made (checkpoints, model and data folders) is read as data: no code in it runs."""

import ast
import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mlm_tiny import build
from safetensors.torch import load_file
from test_errors import one_line

from lit_ft.data.corpus import read_hub
from lit_ft.errors import UserError
from lit_ft.models import load as pretrained
from lit_ft.models.names import pretrained_arguments

SENTINEL = "ran.txt"
CODE = f"open({SENTINEL!r}, 'w').close()"
SHORT = {
    "fit": ["--trainer.fast_dev_run", "true"],
    "sft": ["--max_steps", "1", "--probes", "[]"],
    "fill-mask": ["a [MASK] plot"],
}


class Evil:
    """Unpickled by Python, it leaves a file in the working folder."""

    def __reduce__(self) -> tuple:
        return exec, (CODE,)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No crafted object may leave its file, and nobody is asked whether it may."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal was asked"))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # turns torch's own default off
    yield
    assert not (tmp_path / SENTINEL).exists(), "crafted code ran"


def crafted(path: Path, **values: object) -> Path:
    """A file of `torch.save` with an object that runs code where it is unpickled as Python's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**values, "evil": Evil()}, path)
    return path


def merge(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_crafted_object_runs_where_nobody_takes_care():
    torch.load(crafted(Path("x.ckpt")), weights_only=False)
    Path(SENTINEL).unlink()  # fails where it did not run


# ---- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_crafted_checkpoint(command, lit_ft, fit_args):
    path = crafted(Path("x.ckpt"), settings={}, encoder_config={}, state_dict={})
    args = [*fit_args, "--ckpt_path", str(path), "--data.predict_path", "test.csv"]
    line = one_line(lit_ft(command, *args))
    assert "x.ckpt cannot be opened as weights alone" in line and "set --ckpt_path" in line
    assert not Path("runs").exists()


def test_our_own_checkpoints(lit_ft, fit_args, monkeypatch):
    """Lightning is told to load weights only: its default goes by a variable of the environment."""
    from lightning.fabric.plugins import TorchCheckpointIO

    asked = []
    load = TorchCheckpointIO.load_checkpoint

    def note(self, path, map_location=None, weights_only=None):
        asked.append(weights_only)
        return load(self, path, map_location, weights_only)

    monkeypatch.setattr(TorchCheckpointIO, "load_checkpoint", note)
    args = [*fit_args, "--trainer.max_epochs", "1", "--data.predict_path", "test.csv"]
    args += ["--data.predict_output", "out.csv"]
    assert lit_ft("fit", *args)[0] == 0
    values = torch.load("runs/small/version_0/checkpoints/last.ckpt", weights_only=True)
    values["settings"]["model"].pop(
        "allow_pickle"
    )  # as those have it that were saved before there was the flag
    torch.save(values, "old.ckpt")
    for command in ("fit", "validate", "test", "predict"):  # the flag changes no run: it may differ
        flags = ["--ckpt_path", "last" if command == "fit" else "old.ckpt", "--model.allow_pickle", "true"]
        code, _, err = lit_ft(command, *args, *flags)
        assert code == 0, err
    assert asked == [True] * 4
    values["encoder_config"]["attn_implementation"] = "someone/kernel"
    torch.save(values, "x.ckpt")
    line = one_line(lit_ft("test", *args, "--ckpt_path", "x.ckpt"))
    assert "asks for 'someone/kernel', code from the Hub, which is never run here" in line


def test_crafted_masked_lm_checkpoint(lit_ft, sft_args, monkeypatch):
    from lit_ft.masked_lm import resume as mlm_resume
    from lit_ft.masked_lm.checkpoints import seal

    args = [*sft_args, *SHORT["sft"], "--max_steps", "4", "--save_steps", "2", "--save_total_limit", "9"]
    assert lit_ft("sft", *args)[0] == 0
    path = Path("runs/small/version_0/checkpoints/checkpoint-2")
    crafted(path / "training_args.bin")  # nobody reads it
    seal(path)  # whoever crafts a file can do that, too
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        whole = (path / name).read_bytes()
        crafted(path / name)
        seal(path)
        line = one_line(lit_ft("sft", *args, "--ckpt_path", str(path)))
        assert f"checkpoint-2: {name} holds more than numbers, nothing of which was run" in line
        (path / name).write_bytes(whole)
    seal(path)
    code, out, err = lit_ft("sft", *args, "--ckpt_path", str(path))
    assert code == 0 and "resuming at step 2" in out, err
    # Our own look is not the only one: without it transformers refuses them, too.
    monkeypatch.setattr(mlm_resume, "_more_than_values", lambda file: None)
    for name in ("rng_state.pth", "scheduler.pt", "optimizer.pt"):  # against the order in which they are read
        crafted(path / name)
        seal(path)
        with pytest.raises(Exception, match="Weights only load failed"):
            lit_ft("sft", *args, "--ckpt_path", str(path))


CODE_FILES = {"evil.py": f"{CODE}\nclass Evil: pass\n", "../evil.txt": "out of the folder"}


def with_code_in_the_tokenizer(values: dict) -> None:
    """A tokenizer whose class is Python code beside it, and files that lead elsewhere."""
    files = values["YelpDataModule"]["tokenizer"]
    config = json.loads(files["tokenizer_config.json"])
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    config |= {"tokenizer_file": "/etc/hostname", "vocab_file": "/etc/hostname"}
    files |= {"tokenizer_config.json": json.dumps(config), **CODE_FILES}


def with_code_in_the_encoder(values: dict) -> None:
    """An architecture that transformers has no classifier of, and code that would be one."""
    values["encoder_config"] |= {"model_type": "clip_vision_model", "name_or_path": str(Path.cwd() / "code")}
    values["encoder_config"]["auto_map"] = {"AutoModelForSequenceClassification": "evil.Evil"}
    Path("code").mkdir()
    Path("code/evil.py").write_text(CODE_FILES["evil.py"])


@pytest.mark.parametrize(
    ("craft", "code", "words"),
    [
        (with_code_in_the_tokenizer, 0, "test/accuracy"),
        (with_code_in_the_encoder, 2, "the checkpoint's encoder: expected a model that"),
    ],
)
def test_a_crafted_checkpoint_asks_nobody(craft, code, words, lit_ft, fit_args):
    """On a terminal, where transformers would ask, and somebody who answers y whatever is asked."""
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    values = torch.load("runs/small/version_0/checkpoints/last.ckpt", weights_only=True)
    craft(values)
    torch.save(values, "x.ckpt")
    args = [sys.executable, "-m", "lit_ft", "test", *fit_args, "--ckpt_path", "x.ckpt"]
    env = {**os.environ, "PYTHONPATH": str(Path(pretrained.__file__).parents[2])}
    ours, theirs = pty.openpty()
    with subprocess.Popen(args, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        os.write(ours, b"y\ny\n")
        said = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while part := os.read(ours, 4096):
                said += part
    text = said.decode()
    assert process.returncode == code and words in text, text
    assert "custom code" not in text and "[y/N]" not in text and "Traceback" not in text
    assert not Path("evil.txt").exists() and not Path("../evil.txt").exists()


def test_what_leaves_a_checkpoint(fit_args, lit_ft, monkeypatch):
    """Known names only, whatever it holds; no name of another file, no code."""
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    values = torch.load("runs/small/version_0/checkpoints/last.ckpt", weights_only=True)
    with_code_in_the_tokenizer(values)
    written = {}

    def note(folder, **kwargs):
        assert kwargs == {"trust_remote_code": False}
        written.update({path.name: path.read_text() for path in Path(folder).iterdir()})

    monkeypatch.setattr(pretrained.AutoTokenizer, "from_pretrained", note)
    pretrained.tokenizer_from_files(values["YelpDataModule"]["tokenizer"])
    assert set(written) == {"tokenizer.json", "tokenizer_config.json"}
    config = json.loads(written["tokenizer_config.json"])
    assert not {"auto_map", "tokenizer_file", "vocab_file"} & config.keys() and config["pad_token"] == "[PAD]"


LOADERS = {"from_pretrained", "from_config", "pipeline", "load_dataset", "load_dataset_builder"}
CAREFUL = {"pretrained_arguments", "weights_source"}  # what they give says trust_remote_code=False
SCRIPTLESS = {"load_dataset", "load_dataset_builder"}  # datasets 5 has no such argument, and runs no script


def test_every_loader_is_told_to_run_no_code():
    """Each call in the package names trust_remote_code=False, or takes its arguments from who does."""
    calls = []
    for path in Path(pretrained.__file__).parents[1].rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        careful = {  # names that hold such arguments: `with weights_source(...) as source`
            item.optional_vars.id
            for node in ast.walk(tree)
            if isinstance(node, ast.With)
            for item in node.items
            if isinstance(item.optional_vars, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name not in LOADERS - SCRIPTLESS:
                continue
            said = any(
                (
                    k.arg == "trust_remote_code"
                    and isinstance(k.value, ast.Constant)
                    and k.value.value is False
                )
                or (k.arg is None and isinstance(k.value, ast.Name) and k.value.id in careful)
                or (
                    k.arg is None
                    and isinstance(k.value, ast.Call)
                    and getattr(k.value.func, "id", "") in CAREFUL
                )
                for k in node.keywords
            )
            calls.append(f"{path.name}, line {node.lineno}: {name}")
            assert said, f"{calls[-1]} without trust_remote_code=False"
    assert len(calls) >= 8
    with pretrained.weights_source("some/encoder", True) as source:
        assert source["trust_remote_code"] is False


# ---- model and tokenizer folders ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked LM's folder, safetensors and all."""
    folder = tmp_path_factory.mktemp("masked") / "lm"
    for part in build("bert"):
        part.save_pretrained(folder)
    return folder


def own_code(folder: Path) -> None:
    """Code beside a model that transformers knows itself."""
    (folder / "modeling_evil.py").write_text(f"{CODE}\nclass Evil: pass\n")
    autos = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoModelForMaskedLM")
    merge(folder / "config.json", auto_map=dict.fromkeys(autos, "modeling_evil.Evil"))


def own_type(folder: Path) -> None:
    own_code(folder)
    merge(folder / "config.json", model_type="evil")


def own_tokenizer(folder: Path) -> None:
    own_type(folder)
    merge(folder / "config.json", model_type="bert")
    both = ["modeling_evil.Evil", "modeling_evil.Evil"]
    merge(folder / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": both})


def kernel(folder: Path) -> None:
    """transformers would load the repository's compiled code, where the library `kernels` is installed."""
    merge(folder / "config.json", attn_implementation="someone/kernel")


def garbage(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(bytes(range(256)))


def template(folder: Path) -> None:
    text = f"{{{{ cycler.__init__.__globals__.os.system('touch {SENTINEL}') }}}}"
    (folder / "chat_template.jinja").write_text(text)


def pickled(folder: Path) -> None:
    crafted(folder / "pytorch_model.bin", **load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()


def indexed(folder: Path) -> None:
    """Safetensors by name: their index says that all of them are in a pickle."""
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    crafted(folder / "evil.bin")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "evil.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


CRAFTS: dict[Callable[[Path], None], str | None] = {  # -> what is said; None where it loads without its code
    own_code: None,
    own_type: "it needs code of its own, which is never run here",
    own_tokenizer: None,
    kernel: "asks for 'someone/kernel', code from the Hub, which is never run here",
    garbage: "can't decode byte 0x80",
    template: None,
    pickled: "lm: expected model.safetensors, found only pytorch_model.bin, a pickle;",
    indexed: "its pickle holds more than weights (nothing of it was run)",
}


@pytest.mark.parametrize("command", ["fit", "sft", "fill-mask"])
@pytest.mark.parametrize("craft", CRAFTS)
def test_crafted_model_folder(craft, command, lit_ft, request, masked_lm):
    given = [] if command == "fill-mask" else request.getfixturevalue(f"{command}_args")
    shutil.copytree(masked_lm, "lm")
    craft(Path("lm"))
    flag = "--model" if command == "fill-mask" else "--model.pretrained"
    result = lit_ft(command, *given, *SHORT[command], flag, "lm")
    if CRAFTS[craft] is None:
        assert result[0] == 0, result[2]
    else:
        assert CRAFTS[craft] in one_line(result)
        assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("fit", ["--model.allow_pickle", "true"]),
        ("sft", ["--model.allow_pickle", "true"]),
        ("fill-mask", ["--allow_pickle"]),
    ],
)
def test_a_pickle_is_taken_where_a_flag_says_so_and_its_code_is_not(
    command, flags, lit_ft, request, masked_lm
):
    given = [] if command == "fill-mask" else request.getfixturevalue(f"{command}_args")
    shutil.copytree(masked_lm, "lm")
    pickled(Path("lm"))
    args = [*given, *SHORT[command], "--model" if command == "fill-mask" else "--model.pretrained", "lm"]
    assert one_line(lit_ft(command, *args)).endswith(f"or set {' '.join(flags)}")
    line = one_line(lit_ft(command, *args, *flags))
    assert "its pickle holds more than weights (nothing of it was run)" in line
    torch.save(load_file(masked_lm / "model.safetensors"), "lm/pytorch_model.bin")
    code, _, err = lit_ft(command, *args, *flags)
    assert code == 0, err


def test_sft_name_and_the_folders_we_write_are_safetensors(lit_ft, fit_args, sft_args, masked_lm):
    shutil.copytree(masked_lm, "runs/mine/version_0/model")
    pickled(Path("runs/mine/version_0/model"))
    line = one_line(lit_ft("sft", *sft_args, "--model.pretrained", "sft:mine"))
    assert "runs/mine/version_0/model: expected model.safetensors" in line
    assert lit_ft("sft", *sft_args, *SHORT["sft"])[0] == 0
    folder = Path("runs/small/version_0/model")
    assert (folder / "model.safetensors").is_file()
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_revisions():
    plain = {"pretrained_model_name_or_path": "some/encoder", "trust_remote_code": False}
    assert pretrained_arguments("some/encoder") == plain
    assert pretrained_arguments("some/encoder@v1.0") == {**plain, "revision": "v1.0"}
    Path("a@b").mkdir()
    assert pretrained_arguments("a@b")["pretrained_model_name_or_path"] == "a@b"
    for name in ("some/encoder@", "@main"):
        with pytest.raises(UserError, match="expected name@revision"):
            pretrained_arguments(name)
    with pytest.raises(UserError, match="expected name@revision, .* found 'some/texts@'"):
        read_hub("some/texts@", subset=None, split="train")


def test_fill_mask_pins_a_revision(lit_ft, monkeypatch):
    asked = []

    def note(*args, **kwargs):
        asked.append(kwargs)
        raise OSError("We couldn't connect to it")

    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", note)
    one_line(lit_ft("fill-mask", "a [MASK]", "--model", "some/encoder@v1.0"))
    named = {"pretrained_model_name_or_path": "some/encoder", "revision": "v1.0"}
    assert asked == [{**named, "trust_remote_code": False}]


def test_a_pickle_in_the_cache_of_the_hub_is_named(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--some--encoder"
    for name in ("refs/main", "snapshots/abc/pytorch_model.bin"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("abc")
    message = "found only pytorch_model.bin, a pickle, in the local cache; .* --model.allow_pickle true"
    with pytest.raises(UserError, match=message), pretrained.weights_source("some/encoder", False):
        raise OSError("We couldn't connect to it")
    with pytest.raises(OSError), pretrained.weights_source("some/other", False):
        raise OSError("We couldn't connect to it")


# ---- data folders ------------------------------------------------------------------------------------


def script(folder: Path) -> None:
    (folder / "texts.py").write_text(CODE)


def frames(folder: Path) -> None:
    crafted(folder / "train.pkl")


def archive(folder: Path) -> None:
    """A WebDataset, whose members are decoded by their endings."""
    with tarfile.open(folder / "train.tar", "w") as tar:
        for name in ("0.pth", "0.pyd", "0.pickle", "0.npy"):
            data = crafted(folder / "x").read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (folder / "x").unlink()


@pytest.mark.parametrize(
    ("craft", "message"),
    [
        (script, "it is read by its own script, which is never run here; use its data files"),
        (frames, "No (supported) data files found in texts"),
        (archive, "its pickle holds more than weights (nothing of it was run)"),
    ],
)
def test_crafted_data_folder(craft, message, lit_ft, fit_args):
    Path("texts").mkdir()
    craft(Path("texts"))
    for source in ("texts", "./texts"):
        line = one_line(lit_ft("fit", *fit_args, "--data.train_path", "null", "--data.source", source))
        assert message in line


@pytest.mark.parametrize("source", ["pandas", "webdataset"])
def test_a_reader_of_pickles_is_no_source(source):
    """Names of datasets' own readers, which take every file of the working folder."""
    for craft in (frames, archive):
        craft(Path())
    with pytest.raises(UserError, match=f"could not load dataset '{source}'"):
        read_hub(source, subset=None, split="train")
