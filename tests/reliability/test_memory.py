"""Out of memory: one line with the batch's shape and the flag to lower."""

import json
import re

import torch
from conftest import one_line
from lightning import Callback

from lit_ft.errors import chain, unwritable
from lit_ft.reliability.memory import is_out_of_memory


class Hungry(Callback):
    """Asks for more memory than there is, in one of a Trainer's hooks."""

    def __init__(self, hook: str, gpu: bool = False) -> None:
        setattr(self, hook, self.take_gpu if gpu else self.take)

    def take(self, *args, **kwargs) -> None:
        torch.empty(1 << 50, dtype=torch.uint8)

    def take_gpu(self, *args, **kwargs) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


def hungry(hook: str, **more) -> list[str]:
    given = [{"class_path": "test_memory.Hungry", "init_args": {"hook": hook, **more}}]
    return ["--trainer.callbacks", json.dumps(given)]


TRAINING = r"in a batch of 8 texts of \d+ tokens; lower --data.batch_size from 8, or --data.max_tokens; "
TRAINING += r"--trainer.accumulate_grad_batches keeps the optimizer step as large"
MEASURING = (
    r"in a batch of \d+ texts of \d+ tokens; lower --data.eval_batch_size from \d+, or --data.max_tokens"
)


def test_fit(lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, *hungry("on_after_backward")))
    assert re.fullmatch(f"the machine's memory ran out {TRAINING}", line), line
    line = one_line(lit_ft("fit", *fit_args, *hungry("on_before_backward", gpu=True)))
    assert re.fullmatch(f"the GPU's memory ran out {TRAINING}", line), line
    line = one_line(lit_ft("fit", *fit_args, *hungry("on_validation_batch_end")))
    assert re.fullmatch(f"the machine's memory ran out {MEASURING}", line), line


def test_fit_with_a_token_budget(lit_ft, fit_args):
    for hook in ("on_after_backward", "on_validation_batch_end"):
        line = one_line(lit_ft("fit", *fit_args, "--data.token_budget", "128", *hungry(hook)))
        found = re.search(
            r"in a batch of (\d+) texts of (\d+) tokens; lower --data.token_budget below (\d+), ", line
        )
        rows, width, size = map(int, found.groups())
        assert rows * width == size <= 128


def test_commands_that_measure(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    for command, flags in {
        "validate": hungry("on_validation_batch_end"),
        "test": hungry("on_test_batch_end"),
        "predict": [*hungry("on_predict_batch_end"), "--data.predict_path", "test.csv"],
    }.items():
        line = one_line(lit_ft(command, *fit_args, *flags))
        assert re.fullmatch(f"the machine's memory ran out {MEASURING}", line), (command, line)


def test_sft(lit_ft, sft_args, monkeypatch):
    from lit_ft.masked_lm.trainer import MaskedLMTrainer

    unharmed = MaskedLMTrainer._masked_figures

    def masked_figures(self, model, inputs):
        if len(inputs["labels"]) == self.hungry_rows:
            torch.empty(1 << 50, dtype=torch.uint8)
        return unharmed(self, model, inputs)

    monkeypatch.setattr(MaskedLMTrainer, "_masked_figures", masked_figures)
    for rows, flag, more in (
        (8, "batch_size", "; --gradient_accumulation_steps keeps "),
        (7, "eval_batch_size", ""),
    ):
        monkeypatch.setattr(MaskedLMTrainer, "hungry_rows", rows, raising=False)
        flags = ["--data.eval_batch_size", "7", "--eval_on_start", str(rows == 7)]
        code, _, err = lit_ft("sft", *sft_args, *flags)
        line = err.splitlines()[-1]  # after the bar
        assert code == 2 and line.startswith("lit_ft: error: ") and "Traceback" not in err
        what = f"in a batch of {rows} texts of 32 tokens; lower --data.{flag} from {rows}, "
        assert f"memory ran out {what}" in line
        assert more in line


def test_before_the_first_batch(lit_ft, fit_args, monkeypatch):
    from lit_ft.classifier.model import BertClassifier

    monkeypatch.setattr(BertClassifier, "build", lambda *args: torch.empty(1 << 50, dtype=torch.uint8))
    line = one_line(lit_ft("fit", *fit_args))
    assert line.startswith("the machine's memory ran out while data and model were read; use less data")


def test_another_error_stays_what_it_is():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise RuntimeError("while reading") from error
    except RuntimeError as error:
        assert is_out_of_memory(error)


def test_errors_that_lead_back_to_each_other():
    """As TensorBoard's, whose thread keeps an error that the next call raises again."""
    first, second = OSError(28, "No space left on device"), RuntimeError("met in a thread")
    first.__context__, second.__context__ = second, first
    assert [type(link) for link in chain(second)] == [RuntimeError, OSError]
    assert not is_out_of_memory(second) and "No space left" in (unwritable(second) or "")
