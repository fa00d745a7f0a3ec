"""A resumed run hides points of the files before its own, in whatever second they began."""

from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from lit_ft.classifier.tracking import RunLogger
from lit_ft.masked_lm.tracking import TensorBoardWriter


def fit_writer(run, step):
    logger = RunLogger(run, {"global_step": step, "callbacks": {}} if step else None)
    return logger.experiment


def sft_writer(run, step):
    return TensorBoardWriter(run, {}, {}).writer(SimpleNamespace(global_step=step))


@pytest.mark.parametrize("writer", [fit_writer, sft_writer])
def test_a_file_of_the_same_second_comes_after_those_before(writer, tmp_path, monkeypatch):
    # The counts 9 and 10: as text, in which TensorBoard sorts, the second one stands first.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    run = tmp_path / "name" / "version_0"
    first, resumed = 0, 2
    for begun, steps in ((first, range(5)), (resumed, range(3, 6))):
        events = writer(run, begun)
        for step in steps:
            events.add_scalar("loss", 10 * begun + step, step)
        events.close()
    points = [(e.step, e.value) for e in EventAccumulator(str(run)).Reload().Scalars("loss")]
    hidden_from = {fit_writer: 2, sft_writer: 3}[writer]  # `sft` logs a step's points under the step after it
    assert points == [*((s, s) for s in range(hidden_from)), *((s, 20 + s) for s in range(3, 6))]
