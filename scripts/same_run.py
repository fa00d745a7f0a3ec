"""Proves that a refactor changes nothing: two versions of the code, the same work, compared bit by bit.

    python scripts/same_run.py HEAD .                  # a commit against the folder at hand: 8 minutes, idle
    python scripts/same_run.py HEAD~1 HEAD --only ast --without_docstrings
    python scripts/same_run.py HEAD . --only runs --recipes fit,sft-pack
    python scripts/same_run.py HEAD . --only bench         # not part of the default

OLD and NEW are git revisions, each checked out in a temporary worktree, or folders. The interpreter that runs
this script runs both, on this machine, with the same number of threads and with caches of their own.

ast: every function, class and top-level statement of `lit_ft` is the same, wherever it stands. Imports, and
modules' names before a dot, do not count; modules' docstrings neither. texts: `--help`, `--print_config` and
the lines of typical mistakes, byte for byte. runs: weights, optimizer, curves, metrics and files of the
recipes; clock and memory left out. resume: OLD is stopped (SIGTERM) at 40 %, NEW goes on, the end is that of
OLD left alone. bench: the speed of NEW over that of OLD, interleaved; it is shown, not judged.

Ends with a Markdown table, and exit code 1 where something differs.
"""

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from same_code import compare_units, plain, read_units
from same_files import compare_folders, told

SCRIPTS = Path(__file__).resolve().parent
PARTS = ("ast", "texts", "runs", "resume", "bench")
SHOWN = 40  # differences of one comparison that are printed
QUICK = "--trainer.max_epochs 3 --trainer.limit_train_batches 12 --trainer.limit_val_batches 4 "
QUICK += "--trainer.val_check_interval 6 --trainer.log_every_n_steps 1 --trainer.enable_progress_bar false"
FIT = f"fit --config sample.yaml {QUICK}"
SFT = "sft --config sample_sft.yaml --max_steps 30 --eval_strategy steps --eval_steps 10 --save_steps 7 "
SFT += "--logging_steps 3 --save_total_limit 9 --trainer_args.disable_tqdm true"
GROUPED = "--data.layout truncate --data.whole_words true --gradient_accumulation_steps 2 --max_steps 20"
RECIPES = {  # the first is the packaged config as it is; its name is that of its run
    "fit": "fit --config sample.yaml --trainer.enable_progress_bar false",
    "fit-budget": f"{FIT} --data.token_budget 2048 --trainer.accumulate_grad_batches 2 --data.num_workers 2",
    "fit-processes": f"{FIT} --trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp",
    "fit-bf16": f"{FIT} --trainer.precision bf16-mixed",
    "sft-pack": f"{SFT} --data.layout pack",
    "sft-words": f"{SFT} {GROUPED}",
    "test": "test --config sample.yaml --name fit --ckpt_path best",  # these two add to the first one's run
    "predict": "predict --config sample.yaml --name fit --ckpt_path last --data.predict_path predict.csv",
}
STOPPED = {  # recipe -> the number of steps of 40 %: not on a validation, nor on a checkpoint
    "fit": (f"{FIT} --trainer.accumulate_grad_batches 2 --data.num_workers 2", 7),
    "sft": (f"{SFT} --data.layout pack", 12),
}


@dataclass
class Judge:
    """Runs both versions in one place, one after the other, and keeps what was found.

    Attributes:
        trees: `OLD` and `NEW` -> the folder of the code.
        work: A temporary folder. Its `here` is the place of whatever runs, so that paths are equal, too.
        options: Of the command line.
        rows: Of the table: part, what, result, seconds.
    """

    trees: dict[str, Path]
    work: Path
    options: argparse.Namespace
    rows: list[tuple[str, str, str, float]] = field(default_factory=list)

    def result(self, part: str, what: str, compared: str, found: Sequence[str], begun: float) -> None:
        """Print what was found, and keep it for the table."""
        same = compared if part == "bench" else f"same: {compared}"  # speeds are not judged
        verdict = f"differs: {len(found)} of {compared}" if found else same
        self.rows.append((part, what, verdict, time.monotonic() - begun))
        print(f"{part}, {what}: {verdict} ({self.rows[-1][3]:.0f} s)")
        for line in [*found[:SHOWN], *[f"and {len(found) - SHOWN} more"] * (len(found) > SHOWN)]:
            print(f"    {line}")
        sys.stdout.flush()

    @contextmanager
    def at(self, name: str) -> Iterator[Path]:
        """A fresh place for runs, with the files that they read; afterwards it bears a name."""
        here = self.work / "here"
        here.mkdir()
        words = ("bad", "fine", "not good", "good", "very good, not bad")
        rows = [f'{n % 5 + 1},"the soup in room {n} was {words[n % 5]}"' for n in range(90)]
        (here / "train.csv").write_text("\n".join(["label,text", *rows]) + "\n")
        (here / "predict.csv").write_text("\n".join(["text", *(row[2:] for row in rows)]) + "\n")
        (here / "typo.yaml").write_text("data:\n  source: sample\nmodel:\n  pretraned: sample\n")
        try:
            yield here
        finally:
            here.rename(self.work / name)

    def call(self, which: str, *args: str) -> tuple[int, str]:
        """Run Python on one version of the code: the exit code, and the end of what it says."""
        here = self.work / "here"
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "LIT_FT_"))}
        for variable in ("LIT_FT_CACHE", "HF_DATASETS_CACHE", "TORCHINDUCTOR_CACHE_DIR"):
            env[variable] = str(here / "cache" / variable.lower())
        env |= {"PYTHONPATH": str(self.trees[which]), "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"}
        env |= {"OMP_NUM_THREADS": str(self.options.threads), "COLUMNS": "100", "NO_COLOR": "1"}
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run([sys.executable, *args], cwd=here, env=env, text=True, **streams)
        return done.returncode, done.stdout[-2000:]

    def lit_ft(self, which: str, command: str, expected: int = 0, stop: int | None = None) -> list[str]:
        """Run a command of `lit_ft`: nothing, or what went wrong.

        Args:
            which: `OLD` or `NEW`.
            command: The command line.
            expected: The exit code.
            stop: The number of optimizer steps after which the run sends itself SIGTERM.
        """
        begun = time.monotonic()
        python = ["-m", "lit_ft"] if stop is None else [str(SCRIPTS / "same_stop.py"), str(stop)]
        code, said = self.call(which, *python, *command.split())
        first, name = command.split()[0], command.rpartition("--name ")[2]
        stopped = "" if stop is None else f", stopped after step {stop}"
        print(f"  {which}, {time.monotonic() - begun:.0f} s: {first} {name}{stopped}", flush=True)
        return [] if code == expected else [f"{which} ended with exit code {code}: {said[-500:]}"]

    def check_places(self) -> None:
        """See to it that each version is the one that runs, and no installed one."""
        for which, tree in self.trees.items():
            with self.at(f"place-{which}"):
                code, said = self.call(which, "-c", "import lit_ft; print(lit_ft.__file__)")
            if code or Path(said.strip()).parent != tree / "lit_ft":
                raise SystemExit(f"error: expected lit_ft to be imported from {tree}, found {said.strip()}")

    def ast(self) -> None:
        """Compare the code."""
        begun, without = time.monotonic(), self.options.without_docstrings
        old, new = (read_units(tree / "lit_ft", without) for tree in self.trees.values())
        what = "functions, classes, constants" + ", without docstrings" * without
        self.result("ast", what, f"{sum(map(len, old.values())):,}", compare_units(old, new), begun)

    def texts(self) -> None:
        """Compare what commands print."""
        begun, answers = time.monotonic(), []
        for which, tree in self.trees.items():
            with self.at(f"texts-{which}") as here:
                code, said = self.call(which, str(SCRIPTS / "same_texts.py"), "texts.json")
                if code:
                    return self.result("texts", "all", "", [f"{which}: exit code {code}: {said}"], begun)
                answers.append(json.loads((here / "texts.json").read_text().replace(str(tree), "TREE")))
            number = sum(map(len, answers[-1].values()))
            print(f"  {which}, {time.monotonic() - begun:.0f} s: {number} texts", flush=True)
        for kind in answers[0]:
            found = []
            for command in answers[0][kind] | answers[1][kind]:
                one, other = (of[kind].get(command, "") for of in answers)
                if one != other:
                    why = "names of modules only, " if plain(one) == plain(other) else ""
                    diff = difflib.unified_diff(one.splitlines(), other.splitlines(), n=0, lineterm="")
                    lines = [line for line in diff if not line.startswith(("@@", "---", "+++"))]
                    found.append(f"{command}: {why}{len(lines)} lines: {' '.join(map(told, lines[:4]))}")
            self.result("texts", kind, str(len(answers[0][kind])), found, begun)
            begun = time.monotonic()

    def runs(self) -> None:
        """Compare what the recipes leave."""
        chosen = [name for name in RECIPES if name in self.options.recipes]
        faults: dict[str, list[str]] = {name: [] for name in chosen}
        took = dict.fromkeys(chosen, 0.0)
        for which in self.trees:
            with self.at(f"runs-{which}"):
                for name in chosen:
                    begun = time.monotonic()
                    named = "" if "--name" in RECIPES[name] else f" --name {name}"
                    faults[name] += self.lit_ft(which, RECIPES[name] + named)
                    took[name] += time.monotonic() - begun
        for name in chosen:
            begun = time.monotonic() - took[name]
            compared, found = ("its files are fit's", []) if "--name" in RECIPES[name] else ("", [])
            if not (compared or faults[name]):
                places = [self.work / f"runs-{which}" / "runs" / name for which in self.trees]
                compared, found = compare_folders(*places)
            self.result("runs", name, compared, [*faults[name], *found], begun)

    def resume(self) -> None:
        """Stop the old code, go on with the new one, compare with the old one left alone."""
        for name, (recipe, step) in STOPPED.items():
            begun, command = time.monotonic(), f"{recipe} --name {name}"
            with self.at(f"{name}-whole"):
                faults = self.lit_ft("OLD", command)
            with self.at(f"{name}-resumed") as here:
                faults += self.lit_ft("OLD", command, expected=143, stop=step)
                faults += self.lit_ft("NEW", f"{command} --ckpt_path last")
                if (here / "runs" / name / "version_1").exists():
                    faults.append("NEW found no checkpoint of OLD: it began anew")
            places = [self.work / f"{name}-{how}" / "runs" / name for how in ("whole", "resumed")]
            compared, found = ("", []) if faults else compare_folders(*places, resumed=True)
            self.result("resume", f"{name}, stopped after step {step}", compared, [*faults, *found], begun)

    def bench(self) -> None:
        """Show how fast the new code is beside the old one."""
        for name in ("fit", "sft"):
            begun, faults = time.monotonic(), []
            speeds: dict[str, dict[str, list[float]]] = {}  # recipe -> OLD and NEW -> tokens per second
            for number, (which, tree) in enumerate([*self.trees.items()] * 2):
                scripts = tree / f"scripts/bench/{name}.py", tree / f"scripts/bench_{name}.py"
                script, started = str(next(filter(Path.is_file, scripts), scripts[0])), time.monotonic()
                with self.at(f"bench-{name}-{number}") as here:
                    code, said = self.call(which, script, "--quick", "--json", str(here / "bench.json"))
                    rows = [] if code else json.loads((here / "bench.json").read_text())["rows"]
                faults += [f"{script} ended with exit code {code}: {said[-500:]}"] if code else []
                for row in rows:
                    of_recipe = speeds.setdefault(row["recipe"], {"OLD": [], "NEW": []})
                    of_recipe[which].append(row["tokens_per_second"])
                print(f"  {which}, {time.monotonic() - started:.0f} s: {script} --quick", flush=True)
            pairs = {recipe: of for recipe, of in speeds.items() if of["OLD"] and of["NEW"]}
            ratios = [f"{recipe} {median(of['NEW']) / median(of['OLD']):.2f}" for recipe, of in pairs.items()]
            self.result("bench", f"{name}, speed of NEW over OLD", ", ".join(ratios), faults, begun)


@contextmanager
def code_of(given: str, place: Path) -> Iterator[Path]:
    """The folder of a version: a given one, or a worktree at a git revision, as long as it is needed."""
    if Path(given).is_dir():
        yield Path(given).resolve()
        return
    git = ["git", "-C", str(SCRIPTS), "worktree"]
    if subprocess.run([*git, "add", "--quiet", "--detach", str(place), given]).returncode:
        raise SystemExit(f"error: expected a folder or a git revision, found {given!r}")
    try:
        yield place
    finally:
        subprocess.run([*git, "remove", "--force", str(place)])


def main() -> int:
    """Compare two versions; the exit code is 1 where they differ."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    add = parser.add_argument
    add("--only", default=",".join(PARTS[:-1]), help=f"parts, of {', '.join(PARTS)} (default: %(default)s)")
    add("--recipes", default=",".join(RECIPES), help="of the part runs (default: %(default)s)")
    add("--without_docstrings", action="store_true", help="in the part ast")
    add("--threads", type=int, default=2, help="of each process (default: %(default)s)")
    add("--keep", action="store_true", help="the temporary folder with the runs")
    options = parser.parse_args()
    options.only, options.recipes = options.only.split(","), options.recipes.split(",")
    if unknown := {*options.only} - {*PARTS} | {*options.recipes} - {*RECIPES}:
        parser.error(f"expected parts or recipes, found {', '.join(sorted(unknown))}")
    if {"test", "predict"} & {*options.recipes}:
        options.recipes.append("fit")  # the run that they measure
    work, begun = Path(tempfile.mkdtemp(prefix="same_run-")).resolve(), time.monotonic()
    try:
        with code_of(options.old, work / "old") as old, code_of(options.new, work / "new") as new:
            judge = Judge({"OLD": old, "NEW": new}, work, options)
            judge.check_places()
            for part in filter(options.only.__contains__, PARTS):
                getattr(judge, part)()
    finally:
        print(f"kept: {work}") if options.keep else shutil.rmtree(work, ignore_errors=True)
    print(f"\nOLD {options.old}, NEW {options.new}, {time.monotonic() - begun:.0f} s\n")
    print("| part | what | result | seconds |\n|---|---|---|---|")
    for *cells, seconds in judge.rows:
        print(f"| {' | '.join(cells)} | {seconds:.0f} |")
    differ = sum(row[2].startswith("differs") for row in judge.rows)
    print(f"\n{f'differs: {differ} of {len(judge.rows)} comparisons' if differ else 'same'}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
