"""What the commands of `lit_ft` print: the part `texts` of scripts/same_run.py, for one version of the code.

    PYTHONPATH=FOLDER python scripts/same_texts.py answers.json      # of the `lit_ft` in that folder

Each command runs in a fork of one process that has imported the libraries: a start would take seconds each.
The lines of MISTAKES need `train.csv` (columns `label` and `text`) and `typo.yaml` in the working folder.
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

COMMANDS = ("fit", "validate", "test", "predict", "check", "sft", "fill-mask", "verify-resume", "report")
LIBRARIES = ("fit", "sft")  # the commands that import them: the forks have them then
MISTAKES = """\
fti --config sample.yaml
fit --config
fit --config sampel.yaml
fit --config yelp.yaml
fit --config typo.yaml
fit --config sample.yaml --model.learning_rte 1
fit --config sample.yaml --trainer.max_epochs two
fit --config sample.yaml --trainer.precision 8
fit --config sample.yaml --name ../x
fit --config sample.yaml --monitor val/nothing
fit --config sample.yaml --data.validation_share 2
fit --data.train_path missing.csv --model.pretrained sample
fit --data.train_path train.csv --model.pretrained sample --data.text_column body
fit --data.train_path train.csv --model.pretrained sample --data.label_column stars
fit --data.train_path train.csv --model.pretrained ./nowhere
validate --name nothing
test --config sample.yaml --ckpt_path nowhere.ckpt
predict --config sample.yaml
check --data.train_path train.csv --data.label_column stars
sft --config sample_sft.yaml --max_stepz 3
sft --config sample_sft.yaml --eval_strategy false
sft --config sample_sft.yaml --ckpt_path nowhere
sft --data.train_path missing.txt --model.pretrained sample
sft --data.train_path train.csv --data.text_column body --model.pretrained sample
fill-mask
fill-mask nothing --model nowhere
report nothing
verify-resume --config sample.yaml --name x"""


def answer(args: list[str]) -> str:
    """Exit code, standard output and standard error of a command, in a fork of this process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if (pid := os.fork()) == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os._exit(run(args))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
    return f"exit code {code}\n{texts[0]}---- standard error\n{texts[1]}"


def run(args: list[str]) -> int:
    """Run a command in this process: its exit code, 70 where it raised."""
    from lit_ft.__main__ import main

    sys.argv = ["lit_ft", *args]
    try:
        code = main(args)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


def questions(configs: list[str]) -> dict[str, list[list[str]]]:
    """Kind -> command lines.

    Args:
        configs: Names of the packaged configs. Every command is asked about each, also where it refuses it.
    """
    with_configs = [c for c in COMMANDS if c not in ("fill-mask", "verify-resume", "report")]
    asked = [[c, *config] for c in with_configs for config in [[], *(["--config", name] for name in configs)]]
    return {
        "--help": [[], ["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)],
        "--print_config": [[*line, "--print_config"] for line in asked],
        "mistakes": [line.split() for line in MISTAKES.splitlines()],
    }


def main(path: str) -> int:
    """Ask everything and write the answers: kind -> command line -> answer."""
    import lit_ft

    configs = sorted(file.name for file in (Path(lit_ft.__file__).parents[1] / "configs").glob("*.yaml"))
    answers = {"first of the process": {name: answer([name, "--help"]) for name in LIBRARIES}}
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for command in LIBRARIES:
        run([command, "--help"])
    os.dup2(out, 1)
    for kind, lines in questions(configs).items():
        answers[kind] = {" ".join(line): answer(line) for line in lines}
    Path(path).write_text(json.dumps(answers, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
