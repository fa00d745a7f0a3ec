"""The masked-LM trainer: its loss and gradients, what it logs, stopping on a signal."""

import json
import os
import signal

import pytest
import torch
from mlm_tiny import ARCHITECTURES, build, make_trainer, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from lit_ft.errors import UserError
from lit_ft.masked_lm.arguments import REQUIRED
from lit_ft.masked_lm.masking import IGNORED, MaskingCollator
from lit_ft.masked_lm.stopping import StopOnSignal
from lit_ft.masked_lm.tracking import FiguresFirst, TensorBoardWriter

TRAIN_TAGS = {
    "loss",
    "masked_accuracy",
    "perplexity",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "samples_per_second",
    "real_share",
    "peak_memory_gb",
    "tokens_seen",
}
EVAL_TAGS = {"loss", "masked_accuracy", "perplexity"}


def batch_of(trainer, indices):
    return trainer.masking([trainer.train_dataset[i] for i in indices])


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_are_the_models_own(architecture, tmp_path):
    trainer = make_trainer(tmp_path, architecture, dropout=0.0)
    assert trainer.is_head_sparse
    batch = batch_of(trainer, range(6))
    reference, _ = build(architecture, dropout=0.0)
    expected = reference(**batch).loss
    expected.backward()

    seen = []
    trainer.model.get_output_embeddings().register_forward_hook(lambda m, i, o: seen.append(o.shape))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert [shape[:-1].numel() for shape in seen] == [
        (batch["labels"] != IGNORED).sum()
    ]  # masked positions only
    actual, wanted = gradients(trainer.model), gradients(reference)
    assert actual.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(actual[name], wanted[name], atol=1e-6, rtol=1e-4)
    encoder = trainer.model.base_model_prefix + "."
    head = [name for name, _ in trainer.model.named_parameters() if not name.startswith(encoder)]
    assert len(head) >= 5 - 2 * (architecture == "electra")
    assert all(actual[name].abs().sum() > 0 for name in head)


def test_stock_sft_trainer_fails_the_same_check(tmp_path):
    """Why the subclass exists: TRL's loss is shifted by one and passes by the head's transform."""
    model, tokenizer = build("bert", dropout=0.0)
    collator = MaskingCollator(tokenizer)
    arguments = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=False, **REQUIRED)
    data = rows(tokenizer, 6)
    trainer = SFTTrainer(model, arguments, collator, data, processing_class=tokenizer)
    batch = collator(list(data))
    reference, _ = build("bert", dropout=0.0)
    loss = trainer.compute_loss(model, dict(batch))
    loss.backward()
    assert abs(loss.item() - reference(**batch).loss.item()) > 1e-4
    assert model.cls.predictions.transform.dense.weight.grad is None


def test_a_head_that_needs_the_whole_sequence_gives_the_same_loss(tmp_path):
    trainer = make_trainer(tmp_path, dropout=0.0)
    batch = batch_of(trainer, range(6))
    sparse = trainer.compute_loss(trainer.model, batch)
    trainer.model.cls.register_forward_pre_hook(lambda m, args: (args[0] * 1, args[0].shape[2])[:1])
    trainer.is_head_sparse = trainer._check_sparse_head(trainer.model)
    assert trainer.is_head_sparse is False  # a (positions, hidden) input breaks it
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(sparse.item(), abs=1e-6)


def test_no_masked_token_gives_zero_and_no_nan(tmp_path):
    trainer = make_trainer(tmp_path)
    batch = batch_of(trainer, range(3))
    batch["labels"].fill_(IGNORED)
    for count in (None, torch.tensor(0)):
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=count)
        loss.backward()
        assert loss.item() == 0
    assert all(torch.isfinite(grad).all() for grad in gradients(trainer.model).values())


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_accumulation_gives_the_gradient_of_the_whole_batch(strategy, tmp_path):
    """Parts with different numbers of masked tokens, no clipping, SGD: equal weights after five steps."""
    settings = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    settings |= {"max_steps": 5, "train_sampling_strategy": strategy}
    trained, losses = [], []
    for size, parts in ((8, 1), (4, 2), (1, 8)):
        own = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        trainer = make_trainer(tmp_path, dropout=0.0, settings={**settings, **own})
        trainer.train()
        trained.append(trainer.model.state_dict())
        losses.append([entry["train/loss"] for entry in trainer.state.log_history])
    before = build("bert")[0].state_dict()
    assert not torch.allclose(trained[0]["cls.predictions.bias"], before["cls.predictions.bias"], atol=1e-3)
    assert losses[1] == pytest.approx(losses[0]) and losses[2] == pytest.approx(losses[0])
    for other in trained[1:]:
        for name, value in trained[0].items():
            torch.testing.assert_close(value, other[name], atol=1e-5, rtol=1e-4)


def test_logged_figures(tmp_path):
    writer = TensorBoardWriter(tmp_path / "run", {}, {})
    settings = {"max_steps": 6, "per_device_train_batch_size": 4, "eval_strategy": "steps", "eval_steps": 3}
    trainer = make_trainer(tmp_path, callbacks=[writer], settings=settings)
    trainer.train()
    metrics = trainer.evaluate()
    writer.close()

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert set(events.Tags()["scalars"]) == {f"train/{t}" for t in TRAIN_TAGS} | {
        f"val/{t}" for t in EVAL_TAGS
    }
    assert [e.step for e in events.Scalars("train/loss")] == [2, 4, 6]
    assert [e.step for e in events.Scalars("val/loss")] == [3, 6, 6]
    for history in trainer.state.log_history:
        assert not any("entropy" in key or "mean_token" in key or key == "num_tokens" for key in history)
    rows_seen = sum(len(trainer.train_dataset[i]["input_ids"]) for i in range(24))  # 6 steps x 4 rows: all
    assert events.Scalars("train/tokens_seen")[-1].value == rows_seen
    assert metrics["eval_loss"] == pytest.approx(events.Scalars("val/loss")[-1].value, rel=1e-6)
    assert metrics["eval_perplexity"] == pytest.approx(
        torch.tensor(metrics["eval_loss"]).exp().item(), rel=1e-5
    )


def test_evaluation_is_by_masked_token_and_the_same_for_any_batch_size(tmp_path):
    results = []
    for size, seed, strategy in ((4, 1, "random"), (13, 2, "group_by_length")):
        settings = {"per_device_eval_batch_size": size, "seed": seed, "train_sampling_strategy": strategy}
        trainer = make_trainer(tmp_path, settings=settings)
        results.append(trainer.evaluate())
    data = trainer.masking.fixed()(list(trainer.eval_dataset))
    with torch.no_grad():
        logits = trainer.model.eval()(
            input_ids=data["input_ids"], attention_mask=data["attention_mask"]
        ).logits
    chosen = data["labels"] != IGNORED
    loss = F.cross_entropy(logits[chosen], data["labels"][chosen]).item()
    accuracy = (logits[chosen].argmax(-1) == data["labels"][chosen]).float().mean().item()
    for result in results:
        assert result["eval_loss"] == pytest.approx(loss, abs=1e-5)
        assert result["eval_masked_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_train_loss_is_the_windows_mean_over_masked_tokens(tmp_path):
    settings = {"learning_rate": 0.0, "per_device_train_batch_size": 5, "max_steps": 5, "logging_steps": 5}
    trainer = make_trainer(tmp_path, dropout=0.0, settings=settings)  # one epoch at rate 0: the whole corpus
    whole = trainer.compute_loss(trainer.model, batch_of(trainer, range(24))).item()
    trainer.train()
    assert trainer.state.log_history[-1]["train/loss"] == pytest.approx(whole, abs=1e-5)


def test_evaluating_does_not_change_the_training(tmp_path):
    trained = []
    for steps in (1, 100):
        settings = {"eval_strategy": "steps", "eval_steps": steps, "max_steps": 4}
        trainer = make_trainer(tmp_path, settings=settings)
        trainer.train()
        trained.append(trainer.model.state_dict())
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_stops_after_the_step_and_is_given_back(number, code, tmp_path):
    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 2:
                os.kill(os.getpid(), number)

    before, stop = signal.getsignal(number), StopOnSignal()
    settings = {"num_train_epochs": 2, "eval_strategy": "epoch", "save_strategy": "epoch"}
    settings |= {"logging_strategy": "epoch", "per_device_train_batch_size": 4}
    trainer = make_trainer(tmp_path, callbacks=[FiguresFirst(), Kill(), stop], settings=settings)
    trainer.train()
    assert (stop.signals.agreed, stop.signals.exit_code) == (number, code)
    assert trainer.state.global_step == 3
    assert checkpoints(tmp_path) == ["checkpoint-3"]
    assert trainer.state.log_history == []  # neither is due before the epoch's end
    assert signal.getsignal(number) is before


class Order(TrainerCallback):
    """What happens at which step: `e` an evaluation, `s` a checkpoint."""

    def __init__(self):
        self.seen = []

    def on_evaluate(self, args, state, control, **kwargs):
        self.seen.append(f"e{state.global_step}")

    def on_save(self, args, state, control, **kwargs):
        self.seen.append(f"s{state.global_step}")


EPOCHS = {  # 24 rows: 6 steps of 4 rows, 5 of 5, 3 of 8
    "every 3 steps": ({"save_steps": 3}, "s3 e6 s6 s9 e12 s12 e15 s15"),
    "accumulation": (
        {"save_steps": 3, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 2},
        "e3 s3 e6 s6 e9 s9 e12 s12 e15 s15",
    ),
    "an uneven last batch": ({"save_steps": 5, "per_device_train_batch_size": 5}, "e5 s5 e10 s10 e15 s15"),
    "grouped": ({"save_steps": 6, "train_sampling_strategy": "group_by_length"}, "e6 s6 e12 s12 e15 s15"),
    "delayed": ({"save_steps": 6, "eval_delay": 2}, "s6 e12 s12 e15 s15"),
    "each epoch": ({"save_strategy": "epoch", "max_steps": 12}, "e6 s6 e12 s12"),
    "the best": ({"save_strategy": "best", "metric_for_best_model": "loss"}, "e6 s6 e12 s12 e15 s15"),
}


@pytest.mark.parametrize("case", EPOCHS)
def test_an_epochs_evaluation_comes_once_and_before_its_checkpoint(case, tmp_path):
    own, expected = EPOCHS[case]
    settings = {"max_steps": 15, "num_train_epochs": 9, "eval_strategy": "epoch", "save_strategy": "steps"}
    settings |= {"per_device_train_batch_size": 4, "logging_strategy": "epoch", **own}
    order = Order()
    trainer = make_trainer(tmp_path, callbacks=[FiguresFirst(), order], settings=settings)
    trainer.train()
    assert " ".join(order.seen) == expected
    whole = trainer.state
    for step in {int(event[1:]) for event in order.seen if event[0] == "s"} - {whole.max_steps}:
        order = Order()
        again = make_trainer(tmp_path, callbacks=[FiguresFirst(), order], settings=settings)
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert order.seen == [event for event in expected.split() if int(event[1:]) > step]
        for tag in ("train/loss", "val/loss"):
            ends = [[(e["step"], e[tag]) for e in s.log_history if tag in e] for s in (again.state, whole)]
            assert ends[0] == ends[1], (step, tag)
        assert again.state.best_metric == whole.best_metric


@pytest.mark.parametrize("save", ["steps", "best"])
def test_a_stop_at_an_evaluation_evaluates_and_saves(save, tmp_path):
    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    order = Order()
    settings = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": save}
    settings |= {"metric_for_best_model": "loss", "greater_is_better": True}  # the second is no better
    callbacks = [FiguresFirst(), StopOnSignal(), Stop(), order]
    make_trainer(tmp_path, callbacks=callbacks, settings={**settings, "save_steps": 99}).train()
    assert order.seen == (["e2", "e4", "s4"] if save == "steps" else ["e2", "s2", "e4", "s4"])


def test_a_resumed_run_hides_what_was_logged_after_the_checkpoint(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4}
    for resume in (None, str(tmp_path / "checkpoint-4")):
        writer = TensorBoardWriter(tmp_path / "run", {}, {})
        make_trainer(tmp_path, callbacks=[writer], settings=settings).train(resume_from_checkpoint=resume)
        writer.close()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [2, 4, 6]


def test_checkpoint_holds_a_plain_masked_lm(tmp_path):
    trainer = make_trainer(tmp_path, settings={"max_steps": 1, "save_strategy": "steps", "save_steps": 1})
    trainer.train()
    folder = tmp_path / "checkpoint-1"
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    assert not (tmp_path / "README.md").exists() and not (folder / "README.md").exists()
    assert type(trainer.model).forward is trainer.model.forward.__func__


def test_more_gpus_than_processes_is_one_line(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.args._n_gpu = 2
    with pytest.raises(UserError, match="found 2; start with `torchrun --nproc_per_node 2"):
        type(trainer)(
            trainer.model, trainer.args, trainer.processing_class, trainer.masking, trainer.train_dataset
        )
