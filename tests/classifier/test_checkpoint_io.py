"""Checkpoints are written whole: a disk that fills up costs the new one only, and is said in one line."""

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO

import lit_ft.classifier.checkpoints as checkpoint_io
from lit_ft import runs
from lit_ft.classifier.checkpoints import WholeCheckpointIO, with_checkpoint_io
from lit_ft.console import silence_writer_threads
from lit_ft.errors import UserError, unwritable


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_old_checkpoint_outlives_a_full_disk(small_disk):
    path = small_disk / "checkpoints" / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"step": 1, "weights": torch.ones(30_000)}, path)
    before = path.read_bytes()
    with pytest.raises((OSError, RuntimeError)) as caught:
        WholeCheckpointIO().save_checkpoint({"step": 2, "weights": torch.ones(90_000)}, path)
    assert "No space left" in (unwritable(caught.value) or "")
    assert path.read_bytes() == before and os.listdir(path.parent) == ["last.ckpt"]
    with pytest.raises(RuntimeError) as caught:
        torch.save({"weights": torch.ones(90_000)}, small_disk / "plain.ckpt")  # to a path, as sft does
    assert "No space left" in (unwritable(caught.value) or "")
    assert unwritable(RuntimeError("shapes do not match")) is None


def test_a_failed_rename_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"old")

    def replace(*_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError):
        WholeCheckpointIO().save_checkpoint({"step": 2}, path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["best.ckpt"]


def test_leftovers_of_a_kill_go(tmp_path):
    (tmp_path / ".last.ckpt.123").write_bytes(b"half")
    (tmp_path / ".best.ckpt.123").write_bytes(b"another's")
    WholeCheckpointIO().save_checkpoint({"step": 2}, tmp_path / "last.ckpt")
    assert sorted(os.listdir(tmp_path)) == [".best.ckpt.123", "last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt")["step"] == 2


def test_the_users_own_way_of_saving_stays():
    own = TorchCheckpointIO()
    assert with_checkpoint_io([own]) == [own] and with_checkpoint_io(own) == [own]
    for plugins in (None, [], "x"):
        *given, ours = with_checkpoint_io(plugins)
        assert isinstance(ours, WholeCheckpointIO) and given == (["x"] if plugins else [])


def test_fit_on_a_full_disk_names_the_last_good_checkpoint(lit_ft, fit_args, monkeypatch):
    """The third save fails in the middle of its file: best and last of the first validation are whole."""
    saves = []
    real = torch.save

    def save(checkpoint, file):
        saves.append(file.name)
        if len(saves) == 3:
            file.write(b"PK half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(checkpoint, file)

    monkeypatch.setattr(checkpoint_io.torch, "save", save)
    code, _, err = lit_ft("fit", *fit_args, "--trainer.val_check_interval", "3")
    folder = "runs/small/version_0/checkpoints"
    assert code == 2 and "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith("lit_ft: error: No space left on device; ")
    assert f"checkpoints are in {folder}, the last good checkpoint is {folder}/last.ckpt; make room" in line
    assert sorted(os.listdir(folder)) == ["best.ckpt", "last.ckpt"]
    assert all(runs.is_readable(Path(folder, name)) for name in os.listdir(folder))
    assert torch.load(f"{folder}/last.ckpt", weights_only=True)["global_step"] == 3


def test_a_forbidden_folder_is_not_called_full(tmp_path):
    with pytest.raises(UserError) as caught, checkpoint_io.disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "x.csv")
    assert str(caught.value).startswith("Permission denied: x.csv; ")
    assert str(caught.value).endswith("no checkpoint was saved yet; correct that and start again")
    with pytest.raises(ZeroDivisionError), checkpoint_io.disk_errors(tmp_path):
        1 / 0  # noqa: B018


def test_full_disk_met_by_tensorboards_thread(lit_ft, fit_args, monkeypatch):
    from tensorboard.summary.writer.record_writer import RecordWriter

    real = RecordWriter.write

    def write(self, data):
        if len(data) > 5000:  # a figure, at the first validation
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, data)

    monkeypatch.setattr(RecordWriter, "write", write)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    code, _, err = lit_ft("fit", *fit_args)
    assert code == 2 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("lit_ft: error: No space left on device; ")


def test_other_errors_of_threads_are_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_value))
    silence_writer_threads()
    for error in (OSError(errno.ENOSPC, "full"), ValueError("a bug")):
        thread = threading.Thread(target=lambda error=error: (_ for _ in ()).throw(error).__next__())
        thread.start()
        thread.join()
    assert [str(error) for error in shown] == ["a bug"]


def test_fit_goes_on_with_a_full_disk_where_asked_to(lit_ft, fit_args, monkeypatch):
    """The second validation's checkpoints cannot be written, the later ones can."""
    saves = []
    real = torch.save

    def save(checkpoint, file):
        saves.append(file.name)
        if len(saves) in (3, 4):
            file.write(b"PK half")
            raise OSError(errno.ENOSPC, "No space left on device", file.name)
        real(checkpoint, file)

    monkeypatch.setattr(checkpoint_io.torch, "save", save)
    args = [*fit_args, "--trainer.val_check_interval", "3", "--on_full_disk", "go_on"]
    code, _, err = lit_ft("fit", *args)
    assert code == 0, err
    folder = Path("runs/small/version_0/checkpoints")
    told = [line for line in err.splitlines() if "could not be written" in line]
    assert len(told) == 2 and all(line.startswith(f"warning: {folder}/") for line in told)
    assert all(
        line.endswith(
            " could not be written (No space left on device): the previous one stays; the run continues"
        )
        for line in told
    )
    assert sorted(os.listdir(folder)) == ["best.ckpt", "last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 20
    monkeypatch.setattr(checkpoint_io.torch, "save", lambda *args: (_ for _ in ()).throw(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):  # no matter of the disk's
        lit_ft("fit", *args)


def test_a_fit_that_could_never_save_ends_in_one_line(lit_ft, fit_args, monkeypatch):
    def save(checkpoint, file):
        raise OSError(errno.ENOSPC, "No space left on device", file.name)

    monkeypatch.setattr(checkpoint_io.torch, "save", save)
    code, _, err = lit_ft("fit", *fit_args, "--on_full_disk", "go_on")
    assert code == 2 and "Traceback" not in err
    assert "there is none yet; the run continues" in err
    assert err.splitlines()[-1].startswith("lit_ft: error: no checkpoint ")
