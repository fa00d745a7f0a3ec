"""`search`: the trials that it proposes, what becomes of them, and what the best is worth."""

import importlib.util
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import one_line, write_csv

from lit_ft.commands import several, trials
from lit_ft.commands.finals import certainty, main_score, worth
from lit_ft.commands.search_settings import typed
from lit_ft.commands.several import Machine
from lit_ft.commands.study import Judge, Study, mend_journal
from lit_ft.commands.trials import Plan, Trials
from lit_ft.errors import UserError
from lit_ft.reliability.jobs import Ended, Job
from lit_ft.report.pairs import Difference
from lit_ft.report.scores import CLASSIFIER
from lit_ft.settings.space import Choices, Entry, Range, combinations

SPACE = (
    Entry("model.learning_rate", Range(1e-5, 1e-2, log=True), "space.yaml, line 1"),
    Entry("data.batch_size", Choices(("16", "32", "64")), "space.yaml, line 2"),
    Entry("trainer.max_epochs", Range(1, 4, whole=True), "space.yaml, line 3"),
)
OWN = {"model.learning_rate": 5e-5, "data.batch_size": "32", "trainer.max_epochs": 3}


def plan(folder: str, count: int, own: dict = OWN) -> Plan:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Plan(
        Path(folder),
        (),
        SPACE,
        own,
        seed=42,
        monitor="val/loss",
        maximise=False,
        trials=count,
        machine=Machine(1, "cpu"),
    )


class Fast:
    """Stands for `run_jobs`: a trial's figure is a function of its values, and nothing is trained.

    Args:
        dies_at: The number of the trial during which the search is killed.
        failing: Numbers of trials -> exit code.
    """

    def __init__(self, dies_at: int | None = None, failing: dict[int, int] | None = None) -> None:
        self.dies_at, self.failing = dies_at, failing or {}

    def __call__(self, jobs: Iterable[Job], *machine: Any) -> Iterator[Ended]:
        for job in jobs:
            args, run, search, number, *_ = job.args
            if number == self.dies_at:
                raise KeyboardInterrupt
            if code := self.failing.get(number):
                yield Ended(job, code, 1.0, "the loss is NaN")
                continue
            values = dict(arg.removeprefix("--").split("=") for arg in args)
            rate, epochs = float(values["model.learning_rate"]), int(values["trainer.max_epochs"])
            run.mkdir(exist_ok=True)
            (run / "checkpoints").mkdir(exist_ok=True)
            loss = (math.log10(rate) + 3) ** 2 + 0.1 * epochs + int(values["data.batch_size"]) / 100
            (run / "metrics.json").write_text(json.dumps({"val/loss": loss}))
            yield Ended(job, 0, 1.0, "")


def searched(monkeypatch: pytest.MonkeyPatch, folder: str, count: int, fast: Fast, own: dict = OWN) -> Study:
    monkeypatch.setattr(several, "run_jobs", fast)
    made = plan(folder, count, own)
    mend_journal(made.folder)
    study = Study(made.folder, made.maximise)
    Trials(made, study).run()
    return study


def test_a_killed_search_proposes_the_same_trials(monkeypatch, capfd):
    whole = searched(monkeypatch, "whole", 16, Fast(failing={4: 1}))
    for dies_at in (0, 3, 12):
        with pytest.raises(KeyboardInterrupt):
            searched(monkeypatch, "killed", 16, Fast(dies_at, {4: 1}))
    journal = Path("killed/journal.log")
    journal.write_text(journal.read_text() + '{"op_code":8,"wor')  # a power cut
    Path("killed/journal.log.lock").write_text("")  # of the process that was killed
    killed = searched(monkeypatch, "killed", 16, Fast(failing={4: 1}))
    assert [t.params for t in killed.trials()] == [t.params for t in whole.trials()]
    assert [t.value for t in killed.trials()] == [t.value for t in whole.trials()]
    assert whole.trials()[0].params == OWN  # so that the best is never worse than the start
    assert len({str(t.params) for t in whole.trials()}) == 16
    assert killed.best().number == whole.best().number > 0
    assert "trial 3 was interrupted, and resumes: model.learning_rate=" in capfd.readouterr().out
    assert max(whole.importance(), key=whole.importance().get) == "model.learning_rate"
    half = len(journal.read_text()) // 2
    damaged = journal.read_text()[:half] + "garbage\n" + journal.read_text()[half:]
    Path("damaged").mkdir()
    Path("damaged/journal.log").write_text(damaged)
    with pytest.raises(UserError, match=r"journal.log, line \d+: expected a line of Optuna's journal, found"):
        mend_journal(Path("damaged"))
    Path("damaged/journal.log").unlink()
    Path("damaged/trial_000").mkdir()
    with pytest.raises(UserError, match="found 0 for the 1 trial folders beside it; remove the file"):
        Study(Path("damaged"), False)
    longer = searched(monkeypatch, "killed", 18, Fast())
    assert len(longer.trials()) == 18 and longer.trials()[4].state.name == "FAIL"


def test_failed_trials_are_told_and_passed_over(monkeypatch, capfd):
    study = searched(monkeypatch, "one", 5, Fast(failing={1: 2, 3: -9}))
    assert [t.state.name for t in study.trials()] == ["COMPLETE", "FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    out, err = capfd.readouterr()
    assert "warning: trial 1 failed and is passed over: the loss is NaN; model.learning_rate=" in err
    assert "about 2.0 s left" in out and "trial 4: val/loss " in out
    best = study.best()
    kept = [path.parent.name for path in Path("one").glob("trial_*/checkpoints")]
    assert kept == [f"trial_{best.number:03d}"]
    assert out.count("the weights of trials that are not the best are removed") == 1


def test_a_search_that_cannot_succeed_stops(monkeypatch):
    """A mistake in the first trial, before training, leaves nothing; otherwise three failures are enough."""
    with pytest.raises(UserError, match="^the loss is NaN$"):
        searched(monkeypatch, "mistake", 5, Fast(failing={0: 2}))
    assert not Path("mistake").exists()
    with pytest.raises(UserError, match="the first 3 trials failed, the last one with: the loss is NaN"):
        searched(monkeypatch, "three", 9, Fast(failing=dict.fromkeys(range(9), 1)), own={})


def test_a_small_space_is_searched_to_its_end(monkeypatch, capfd):
    monkeypatch.setattr(several, "run_jobs", Fast())
    values = (("1e-3",), ("8", "9"), ("1", "2"))
    small = [Entry(entry.key, Choices(of), "") for entry, of in zip(SPACE, values, strict=True)]
    Path("small").mkdir()
    made = Plan(Path("small"), (), tuple(small), {}, 1, "val/loss", False, 20, Machine(1, "cpu"))
    study = Study(made.folder, False)
    Trials(made, study).run()
    assert len(study.trials()) == 4
    assert "no values are left that were not tried: the search ends after 4 trials" in capfd.readouterr().out
    assert combinations(small) == 4 and combinations(SPACE) is None

    def stubborn(history: Any, space: Any, *more: Any) -> dict[str, Any]:
        return {entry.key: entry.what.listed()[0] for entry in space}

    monkeypatch.setattr(trials, "propose", stubborn)
    Path("stubborn").mkdir()
    study = Study(Path("stubborn"), False)
    Trials(replace(made, folder=Path("stubborn"), trials=4), study).run()
    assert len({str(trial.params) for trial in study.trials()}) == 4


def test_the_types_of_the_settings():
    """Whole numbers where the setting is, however they are written; equal values are refused."""

    def read(key: str, what: Range | Choices, check: Any = lambda config, key: None) -> Range | Choices:
        return typed([Entry(key, what, "space.yaml, line 1")], [], check)[0].what

    assert read("data.batch_size", Range(8.0, 64.0)) == Range(8, 64, whole=True)
    assert read("trainer.gradient_clip_val", Range(0, 2, whole=True)) == Range(0, 2)
    assert read("model.weight_decay", Range(0, 1, whole=True)) == Range(0, 1)

    def refuse(config: Any, key: str) -> None:
        raise UserError(f"{key} has no meaning; set --{key}=0")

    for key, what, line, check in (
        ("trainer.max_epochs", Range(1, 5, step=0.5), "expected a whole step, found 0.5", None),
        ("data.batch_size", Range(8.5, 64), "data.batch_size: expected a whole number, found 8.5", None),
        ("model.learning_rate", Choices(("1e-5", "0.00001")), "1e-5 and 0.00001 are the same value", None),
        ("model.class_weights", Choices(("~", "null")), "~ and null are the same value; leave one out", None),
        (
            "model.class_weights",
            Choices(("None", "null")),
            "or null, found the text 'None'; write null",
            None,
        ),
        ("model.pretrained", Range(0, 1, whole=True), "expected a list of values, found a range", None),
        ("model.label_smoothing", Choices(("0", "0.1")), "label_smoothing has no meaning", refuse),
    ):
        with pytest.raises(UserError) as caught:
            read(key, what, check or (lambda config, key: None))
        assert line in str(caught.value) and str(caught.value).startswith("space.yaml, line 1: ")


def test_pruning_compares_the_same_share_of_the_run():
    """Runs that validate at other places; the reports of a resumed run change nothing."""
    study = Study(plan("s", 9).folder, maximise=False)
    for number in range(4):
        study.begin(OWN, SPACE)
        judge = Judge(Path("s"), number, maximise=False)
        for percent in (20, 40, 60, 80, 100):
            assert not judge.report(percent, 1.0 - percent / 200)
        study.end(number, 0.5, 1.0)
    study.begin(OWN, SPACE)
    judge = Judge(Path("s"), 4, maximise=False)
    assert not judge.report(16.7, 3.0)  # so early nothing is said
    assert not judge.report(33.3, 0.85)  # better than 0.9, which the others had at 20 %
    assert judge.report(50, 0.95) is True  # its best, 0.85, is worse than 0.8, which they had at 40 %
    reports = study.trials()[4].intermediate_values
    assert reports == {15: 3.0, 20: 3.0, 25: 3.0, 30: 0.85, 35: 0.85, 40: 0.85, 45: 0.85, 50: 0.85}
    again = Judge(Path("s"), 4, maximise=False)  # resumed
    assert again.report(33.3, 0.85) and study.trials()[4].intermediate_values == reports
    assert study.end(4, 0.85, 1.0).state.name == "PRUNED" and study.best().number == 0


def test_flags(lit_ft, work, monkeypatch):
    for args, line in (
        (["--space="], "expected a YAML file for --space, found a folder: "),
        (["--trials", "0"], "expected --trials of at least 1, found 0; set --trials=20"),
        (["--ckpt_path", "last"], "search resumes its own runs; leave out --ckpt_path=last"),
        (["--trails", "3"], "unknown flag --trails"),
        (
            ["--data.fold", "2", "--data.folds", "3"],
            "search sets data.folds of each run itself, found 3; leave it out",
        ),
        (["--space", "none.yaml"], "expected a YAML file for --space, found no such file: none.yaml"),
        (["--monitor=val/los"], "expected --monitor to be one of val/loss, "),
    ):
        assert line in one_line(lit_ft("search", "--config", "sample.yaml", *args))
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "optuna" else find(name))
    refused = one_line(lit_ft("search", "--config", "sample.yaml"))
    assert refused == "search needs the library optuna, which is not installed; run: pip install -c " + (
        "constraints.txt -e '.[search]'"
    )


@pytest.fixture
def in_process(monkeypatch):
    """The jobs in this process."""

    def run(jobs: Iterable[Job], *machine: Any) -> Iterator[Ended]:
        for job in jobs:
            yield Ended(job, job.function(*job.args), 1.0, "")

    monkeypatch.setattr(several, "run_jobs", run)


def test_a_search_from_its_command_to_its_page(lit_ft, fit_args, in_process):
    Path("space.yaml").write_text(
        "model.learning_rate: {low: 1e-4, high: 1e-2, log: true}\ndata.batch_size: [8, 16]\n"
    )
    short = [*fit_args, "--trainer.max_epochs", "1", "--baselines", "false"]
    code, out, err = lit_ft("search", *short, "--space", "space.yaml", "--trials", "2", "--seeds", "1")
    assert code == 0, err[-3000:]
    folder = Path("runs/small/search_0")
    facts = json.loads((folder / "search.json").read_text())
    assert [t["state"] for t in facts["trials"]] == ["finished", "finished"] and facts["trials"][0]["own"]
    assert "trial 0: val/loss " in out and "(optimistic)" in out
    assert "validation texts choose among 2 trials: much of that is luck; hold out more" in err
    assert facts["finals"]["texts"] == 30 and facts["finals"]["seeds"] == [43]
    assert facts["finals"]["sentence"] in out
    config = yaml.safe_load((folder / "best.yaml").read_text())
    best = facts["trials"][facts["best"]]["values"]
    assert config["model"]["learning_rate"] == best["model.learning_rate"]
    assert config["data"]["batch_size"] == int(best["data.batch_size"])
    assert config["name"] == "small" and "num_workers" not in config["data"]
    assert (folder / "best.yaml").read_text().startswith("# The best settings of the search small/search_0")
    page = (folder / "search.html").read_text()
    assert facts["finals"]["sentence"][5:] in page.replace("&#39;", "'") and "optimistic" in page
    # The same command: nothing is left to do; one trial more continues it.
    code, out, err = lit_ft("search", *short, "--space", "space.yaml", "--trials", "3", "--seeds", "0")
    assert code == 0, err[-3000:]
    assert "continued: 2 of 3 trials are done" in out and "trial 2: " in out
    assert "finals: " not in out
    (folder / "search.html").unlink()
    assert lit_ft("report", str(folder))[1] == f"report: {folder}/search.html\n"
    assert "3 of 3 trials" in (folder / "search.html").read_text()
    # best.yaml is a config of fit, which names its run.
    assert lit_ft("fit", "--config", str(folder / "best.yaml"))[0] == 0
    assert Path("runs/small/version_0/metrics.json").is_file()
    # Values that fit refuses are told with their line before anything is trained.
    Path("space.yaml").write_text("model.loss: [cross_entropy, focal]\n")
    refused = one_line(lit_ft("search", *short, "--space", "space.yaml"))
    assert "space.yaml, line 1: expected model.loss to be one of cross_entropy" in refused
    Path("space.yaml").write_text("model.class_weights: [null, [1, 2, 3, 4, 5, 6]]\n")
    assert "space.yaml, line 1: expected " in one_line(lit_ft("search", *short, "--space", "space.yaml"))
    Path("space.yaml").write_text("data.batch_size: [8, none]\n")
    refused = one_line(lit_ft("search", *short, "--space", "space.yaml"))
    assert refused == "space.yaml, line 1: data.batch_size: expected a whole number, found 'none'"


def test_without_test_data_a_fold_is_kept_apart(lit_ft, fit_args, in_process, work):
    write_csv(
        work / "train.csv", [(i % 2 + 1, f"the film {i} was {'bad' if i % 2 else 'good'}") for i in range(60)]
    )
    args = [*fit_args, "--data.test_path", "null", "--trainer.max_epochs", "1", "--baselines", "false"]
    code, out, err = lit_ft("search", *args, "--space", "default", "--trials", "1", "--seeds", "1")
    assert code == 0, err[-3000:]
    assert "no test data: a fifth of the training texts" in out
    assert "no trial beat your own settings; with 1 new seed: " in out and "on 12 fold texts" in out
    space = Path("runs/small/search_0/space.yaml").read_text()
    assert "model.learning_rate: {low: 3.0e-4, high: 1.0e-2, log: true}" in space
    assert "trainer.max_epochs: [1, 2]" in space
    shutil.rmtree("runs")


def test_a_difference_is_certain_of_texts_and_of_seeds():
    accuracy, loss = (
        next(score for score in CLASSIFIER if score.name == name) for name in ("accuracy", "loss")
    )
    better = Difference(accuracy, 0.02, 0.01, 0.03, True)
    assert (
        worth(better) == "the winner is 2.0 points better than your settings in accuracy (95 %: +1.0 to +3.0)"
    )
    assert certainty(better, [0.8, 0.81], [0.82, 0.83]) == "certain"
    assert certainty(better, [0.8, 0.825], [0.82, 0.85]) == "not certain, as the seeds of the two overlap"
    assert certainty(better, [0.8], [0.82]) == "not certain, as another seed may say otherwise"
    lower = Difference(loss, -0.1, -0.3, 0.1, False)  # a lower loss is a gain
    assert worth(lower) == "the winner is 0.100 better than your settings in loss (95 %: -0.100 to +0.300)"
    assert certainty(lower, [1.0, 1.1], [0.9, 1.0]) == "not certain"
    assert main_score("val/loss", ["accuracy", "macro_f1", "loss"]) == "accuracy"
    assert main_score("val/macro_f1", ["accuracy", "macro_f1", "loss"]) == "macro_f1"
    assert main_score("val/macro_f1", ["micro_f1_chosen", "macro_f1_chosen", "loss"]) == "macro_f1_chosen"
