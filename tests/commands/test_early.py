"""What is told before torch is imported: keys, files, columns, and a Hub that does not answer."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_ft import hub
from lit_ft.commands import check, early, repeat, search, several, sft
from lit_ft.commands.fit import ReviewCLI
from lit_ft.errors import UserError
from lit_ft.settings.keys import OTHERS, nearest, valid_keys


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """An empty cache, and a Hub that does not answer; the list counts the questions."""
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub, "go_offline_if_unreachable", lambda: asked.append(1) or True)
    return asked


YELP = ["--config", str(REPOSITORY / "configs" / "yelp.yaml")]


def test_model_and_dataset_are_asked_for(probes, tmp_path):
    with pytest.raises(UserError, match="model 'bert-base-cased'.*--config sample.yaml"):
        early.check("fit", YELP)
    (tmp_path / "home/hub/models--bert-base-cased").mkdir(parents=True)
    with pytest.raises(UserError, match="dataset 'Yelp/yelp_review_full'"):
        early.check("fit", YELP)
    (tmp_path / "home/datasets/Yelp___yelp_review_full").mkdir(parents=True)
    early.check("fit", YELP)
    assert len(probes) == 3


def test_pinned_names(probes, tmp_path):
    (tmp_path / "home/hub/models--ours--bert").mkdir(parents=True)
    early.check("fit", ["--model.pretrained", "ours/bert@v1"])
    with pytest.raises(UserError, match="ours/other@v1"):
        early.check("fit", ["--model.pretrained=ours/other@v1"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.pretrained", "sample", "--data.source", "null"],
        ["--model.pretrained=sft:reviews", "--data.train_path", "a.csv"],
        ["--model.pretrained", "./folder", "--data.train_path", "a.csv"],
        ["--ckpt_path", "last"],
        ["--model", "{}"],
        ["--data=data.yaml"],
        ["--help"],
        ["--trainer.callbacks.help"],
        ["--config", "group.yaml"],
    ],
    ids=lambda flags: flags[-1],
)
def test_nothing_is_asked_where_nothing_is_sure(flags, probes):
    Path("group.yaml").write_text("data: yelp_data.yaml")
    Path("a.csv").write_text("label,text\n1,fine\n")
    early.check("fit", [*YELP, *flags])
    assert not probes


@pytest.mark.parametrize(
    ("flags", "name"),
    [(["--name", "first"], "first"), ([], "named"), (["--config", "group.yaml"], "named")],
)
def test_the_first_line_names_the_run(flags, name, monkeypatch):
    told = []
    monkeypatch.setattr(early, "tell_loading", lambda *args: told.append(args[-1]))
    Path("named.yaml").write_text("data: {source: sample}")
    Path("group.yaml").write_text("seed_everything: 3")
    early.check("fit", ["--config", "named.yaml", *flags])
    Path("named.yaml").write_text("name: own")
    early.check("fit", ["--config", "named.yaml"])
    early.check("test", ["--config", "named.yaml"])  # makes no run
    assert told == [name, "own", None]


class Parsers(ReviewCLI):
    """Builds the parser of a command, and stops."""

    def parse_arguments(self, *args, **kwargs) -> None:
        raise StopIteration(self.parser)


@pytest.mark.parametrize("command", early.READ)
def test_the_known_keys_are_those_of_the_parser(command):
    own = {"repeat": repeat.OWN, "search": search.OWN}
    if command == "check":
        parser = check.make_parser()
    elif command in own:
        parser = several.make_parser(command, own[command])
    else:
        with pytest.raises(StopIteration) as stop:
            Parsers(command, [])
        parser = stop.value.value
    assert early.known_keys(command) == list(dict.fromkeys(valid_keys(parser)))


MISTAKES = [
    ("fit", "--data.bach_size=3", "unknown flag --data.bach_size; did you mean --data.batch_size?"),
    (
        "test",
        "--config=typo.yaml",
        "unknown key model.lr in typo.yaml, line 2; did you mean",
    ),
    ("predict", "--data.predict_path=new.csv", "no file matches 'new.csv' (there is 'news.csv')"),
    (
        "check",
        "--data.train_path=news.csv",
        "expected columns 'label' and 'text' in news.csv, found 'stars'",
    ),
    ("sft", "--data.train_path=news.csv", "expected column 'text' in news.csv, found 'stars', 'body'"),
    ("sft", "--data.validation_path=none/*.txt", "no file matches 'none/*.txt'"),
]


def test_mistakes_before_torch_and_a_word_before_the_libraries(tmp_path):
    (tmp_path / "typo.yaml").write_text("model:\n  lr: 3\n")
    (tmp_path / "news.csv").write_text("stars,body\n1,fine\n2,good\n")
    code = f"""import sys
from lit_ft.__main__ import main
for command, flag, _ in {MISTAKES!r}:
    config = "sample_sft.yaml" if command == "sft" else "sample.yaml"
    print(main([command, flag, "--config", config]), end="")
from lit_ft.commands.early import tell_loading
tell_loading("fit", ["--config", "configs/sample.yaml"], "sample")
print(*sorted({{"torch", "transformers", "lightning"}} & set(sys.modules)))"""
    env = {"PATH": "", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60
    )
    assert done.stdout == "222222\n", done.stderr
    *lines, last = (line for line in done.stderr.splitlines() if not line.startswith("warning: "))
    assert last == "lit_ft: fit with sample.yaml into runs/sample: loading libraries ..." and len(
        lines
    ) == len(MISTAKES)
    for line, (_, _, message) in zip(lines, MISTAKES, strict=True):
        assert line.startswith(f"lit_ft: error: {message}")


def test_columns_that_only_the_whole_file_tells(lit_ft, fit_args):
    """A csv of semicolons, and one with quotes about its names, are no mistakes."""
    text = Path("train.csv").read_text()
    Path("other.csv").write_text(text.replace(",", ";", 1).replace(",", ";"))
    Path("quoted.csv").write_text(text.replace("label,text", '"label" ,"text"', 1))
    for name in ("other.csv", "quoted.csv"):
        early.check("fit", [*fit_args, "--data.train_path", name])
    with pytest.raises(UserError, match="expected columns 'label' and 'body' in other.csv"):
        early.check("fit", [*fit_args, "--data.train_path", "other.csv", "--data.text_column=body"])
    Path("contest.csv").write_text("id,text\n1,good\n2,bad\n")
    with pytest.raises(UserError, match="'id', 'text'; texts without labels can be predicted"):
        early.check("fit", [*fit_args, "--data.validation_path", "contest.csv"])


def test_no_torch_for_the_answer(tmp_path):
    code = """import sys
from lit_ft.__main__ import main
code = main(["fit", "--config", "yelp.yaml"])
print(code, sorted({"torch", "transformers", "lightning", "datasets"} & set(sys.modules)))"""
    env = {"PATH": "", "PYTHONPATH": str(REPOSITORY), "HF_ENDPOINT": "http://127.0.0.1:9"}
    env |= {"HF_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60
    )
    assert done.stdout == "2 []\n", done.stderr
    assert "127.0.0.1:9 cannot be reached" in done.stderr and done.stderr.count("\n") == 1


KEYS = {"fit": early.known_keys("fit"), "sft": valid_keys(sft.make_parser())}


@pytest.mark.parametrize("theirs", OTHERS)
def test_names_of_other_tools_lead_to_ours(theirs):
    """Each stands for a setting that there is, in one of the commands at least."""
    found = {command: [ours for ours in OTHERS[theirs] if ours in keys] for command, keys in KEYS.items()}
    assert any(found.values())
    for command, keys in KEYS.items():
        if found[command] and theirs not in keys:
            assert nearest(theirs, keys) == found[command][0]


def test_large_files_are_left_to_the_command(fit_args, monkeypatch):
    """Their columns are not looked up before the line about the libraries; a small file's are."""
    args = [*fit_args, "--data.text_column=body"]
    with pytest.raises(UserError, match="expected columns 'label' and 'body'"):
        early.check("fit", args)
    monkeypatch.setattr(early, "MOST_BYTES", 100)
    early.check("fit", args)


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_an_error_of_our_own_class_stays_what_it_is(lit_ft, fit_args, monkeypatch, error):
    """It is a bug of ours, not a mistake in a setting: whoever reports it needs its traceback."""

    def broken(*_, **__):
        raise error("a bug of ours")

    monkeypatch.setattr("lit_ft.classifier.data.LabelRules", broken)
    with pytest.raises((error, ValueError), match="a bug of ours"):
        lit_ft("fit", *fit_args)
