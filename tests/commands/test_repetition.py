"""What is left to do of a run of a repeat."""

import json
import os
from pathlib import Path

import pytest
import torch

from lit_ft import runs
from lit_ft.classifier.resume import open_checkpoint
from lit_ft.commands.repetition import _processes_of_its_own, missing
from lit_ft.commands.several import PLAN, newest_with
from lit_ft.errors import UserError

RUN = Path("runs/x/repeat_0/seed_42_fold_1")
BOTH = ("fold", "test")


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_run_without_its_file_of_texts_is_measured_again(checkpoint):
    """With its checkpoint, or with that of another fit."""
    assert missing(RUN, BOTH) == ["val", "fold", "test"]
    (RUN / runs.CHECKPOINTS).mkdir(parents=True)
    if checkpoint:
        (RUN / runs.CHECKPOINTS / "best.ckpt").touch()
    (RUN / runs.REPORT).touch()
    runs.write(RUN / runs.FACTS, json.dumps({"evaluations": {"val": {}, "fold": {}, "test": {}}}))
    for prefix in BOTH:
        (RUN / runs.PER_TEXT[prefix]).touch()
    assert missing(RUN, BOTH) == [] == missing(RUN, ())
    (RUN / runs.PER_TEXT["fold"]).unlink()
    assert missing(RUN, BOTH) == (["fold"] if checkpoint else ["val", "fold"])


def test_a_checkpoint_that_was_removed():
    """As those of a run of a repeat are: what is there in its place."""
    checkpoint = RUN / runs.CHECKPOINTS / "best.ckpt"
    with pytest.raises(UserError, match="best.ckpt; set --ckpt_path to best, last or a file that exists"):
        open_checkpoint(checkpoint)
    (RUN / runs.MODEL).mkdir(parents=True)
    (RUN / runs.MODEL / "config.json").touch()
    with pytest.raises(UserError, match=f"--keep all.*fit --config {RUN}/config.yaml.*pipeline.*{RUN}/model"):
        open_checkpoint(checkpoint)


def test_a_damaged_plan_is_told(capsys):
    RUN.mkdir(parents=True)
    for text, said in (('{"settings": "a"}', ""), ("{", "repeat_0/plan.json is damaged"), ("[]", "damaged")):
        (RUN.parent / PLAN).write_text(text)
        found = newest_with("x", "repeat", "a")
        assert found == (None if said else RUN.parent) and said in capsys.readouterr().err


def test_a_fit_leaves_no_processes_to_the_test(tmp_path):
    """On several devices `test` starts processes of its own: those of `fit` have ended with it."""
    before = dict(os.environ)
    with _processes_of_its_own():
        os.environ["LOCAL_RANK"] = "0"  # as Lightning leaves it
        at = f"file://{tmp_path / 'group'}"
        torch.distributed.init_process_group("gloo", init_method=at, rank=0, world_size=1)
    assert dict(os.environ) == before and not torch.distributed.is_initialized()
