"""A `fit` or an `sft` that stops itself at a given step: the part `resume` of scripts/same_run.py.

    PYTHONPATH=FOLDER python scripts/same_stop.py 12 sft --config sample_sft.yaml      # exit code 143

It hangs on the libraries' own trainers, so that it works wherever the modules of `lit_ft` stand.
"""

import os
import signal
import sys
from typing import Any


def main(step: int, args: list[str]) -> int:
    """Run a command of `lit_ft` in this process, which sends itself SIGTERM before an optimizer step."""
    from lit_ft.__main__ import main as lit_ft

    sent: list[int] = []

    def send(at: int) -> None:
        if at == step and not sent:
            sent.append(at)
            os.kill(os.getpid(), signal.SIGTERM)

    if args[0] == "fit":
        from lightning.pytorch import Callback, Trainer

        class Stop(Callback):
            def on_train_batch_start(self, trainer: Any, *others: Any) -> None:
                send(trainer.global_step)

        fit = Trainer.fit

        def fit_and_stop(trainer: Any, *args: Any, **kwargs: Any) -> None:
            trainer.callbacks.append(Stop())
            fit(trainer, *args, **kwargs)

        Trainer.fit = fit_and_stop  # type: ignore[method-assign]
    else:
        import transformers

        class StopTheirs(transformers.TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                send(state.global_step)

        train = transformers.Trainer.train

        def train_and_stop(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            trainer.add_callback(StopTheirs())
            return train(trainer, *args, **kwargs)

        transformers.Trainer.train = train_and_stop  # type: ignore[method-assign]
    sys.argv = ["lit_ft", *args]
    return lit_ft(args)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
