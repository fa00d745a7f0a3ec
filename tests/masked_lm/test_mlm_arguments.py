"""The arguments of masked-LM training: TRL's, with our defaults, and without what would be ignored."""

import pytest

from lit_ft.errors import UserError
from lit_ft.masked_lm.arguments import (
    BREAKING,
    CAUSAL_ONLY,
    DEFAULTS,
    REQUIRED,
    check_hardware,
    training_arguments,
)


def test_arguments_override_trl(tmp_path):
    arguments = training_arguments(str(tmp_path), {"use_cpu": True, "warmup_steps": 7, "weight_decay": 0.1})
    assert {name: getattr(arguments, name) for name in REQUIRED} == REQUIRED
    assert (arguments.gradient_checkpointing, arguments.bf16, arguments.learning_rate) == (False, False, 5e-5)
    assert (arguments.warmup_steps, arguments.weight_decay, arguments.report_to) == (7, 0.1, [])
    assert training_arguments(str(tmp_path), {"use_cpu": True, "learning_rate": 1e-4}).learning_rate == 1e-4
    older_name = training_arguments(str(tmp_path), {"use_cpu": True, "gradient_checkpointing": True})
    assert older_name.activation_checkpointing and older_name.gradient_checkpointing
    assert not CAUSAL_ONLY & (REQUIRED.keys() - {"dataset_kwargs"} | DEFAULTS.keys())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_step": 3}, "'warmup_step', did you mean 'warmup_steps'?"),
        ({"packing": True}, "packing=True means nothing to masked-LM training; use --data.layout"),
        ({"max_length": 64}, "use --data.max_tokens"),
        ({"completion_only_loss": True}, "completion_only_loss=True means nothing"),
        ({"remove_unused_columns": True}, "remove_unused_columns=True"),
        ({"prediction_loss_only": True}, "prediction_loss_only=True means nothing to masked-LM training"),
        ({"save_only_model": True}, "save_only_model=True: such a checkpoint cannot be resumed"),
        ({"ignore_data_skip": True}, "a resumed run would train on rows a second time; remove it"),
        ({"dataloader_in_order": False}, "would differ from run to run"),
        ({"accelerator_config": {"split_batches": True}}, "{'split_batches': True}: batches are shared"),
    ],
)
def test_arguments_that_are_unknown_or_mean_nothing(settings, message, tmp_path):
    with pytest.raises(UserError) as error:
        training_arguments(str(tmp_path), settings)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_refused_may_be_said_to_be_off(tmp_path):
    off = {"save_only_model": False, "debug": "", "accelerator_config": None, "dataloader_in_order": True}
    assert not training_arguments(str(tmp_path), {"use_cpu": True, **off}).save_only_model
    assert BREAKING.keys() >= off.keys()


def test_what_needs_processes_or_a_gpu(tmp_path):
    for settings, message in (
        ({"fsdp": "full_shard"}, r"trainer_args.fsdp=.*found one; start with `torchrun"),
        ({"fp16": True}, "float16 needs a GPU"),
    ):
        with pytest.raises(UserError, match=message):
            check_hardware(training_arguments(str(tmp_path), {"use_cpu": True, **settings}))
    plain = training_arguments(str(tmp_path), {"use_cpu": True, "save_strategy": False})
    check_hardware(plain)
    assert plain.save_strategy == "no"  # as YAML reads it
