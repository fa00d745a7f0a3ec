"""How preparing texts grows (read, check, tokenise, cache) beside the bare tokenizer, and a second start.

    python scripts/bench/data.py [--rows 6500 65000 650000] [--model.pretrained ENCODER] [--json bench.json]

The texts are embedded reviews joined until they have the lengths of Yelp's (log-normal, median about 93
tokens, mean 128), all different. Each figure comes from a process of its own, one after the other; `bare` is
`tokenizers`' encode_batch_fast over the same texts in memory, in batches of 1,000. In both the tokenizer is
there. `again` is a `fit` with the caches that `prepare` left, from the end of the imports to the first step,
that is until its batch is there: how long a step takes is a matter of its texts. That it used the caches is
checked.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clock import Enough
from common import run_ours, set_own_environment, with_caches, workplace
from flags import check_inputs, refuse
from reviews import write_reviews

PARTS = ("bare", "prepare", "again")
LEAST_ROWS = 100  # some are held out
SAMPLE = "sample.yaml"  # in the place of a path: the embedded reviews


def bare(path: str, encoder: str) -> dict[str, float]:
    """The tokenizer alone."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(encoder).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(path, newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    begun, tokens = time.perf_counter(), 0
    for i in range(0, len(texts), 1000):
        tokens += sum(len(e.ids) for e in tokenizer.encode_batch_fast(texts[i : i + 1000]))
    return {"seconds": time.perf_counter() - begun, "tokens": tokens}


def prepare(path: str, encoder: str) -> dict[str, float]:
    """Everything between a file and the first batch, with nothing in the caches."""
    from lit_ft.classifier.data import YelpDataModule
    from lit_ft.console import silence_libraries
    from lit_ft.machine import peak_host_memory_gb
    from lit_ft.models.load import Pretrained

    silence_libraries()
    data = YelpDataModule(train_path=path, tokenizer=encoder)
    data.set_tokenizer(Pretrained.of(encoder).tokenizer())
    begun = time.perf_counter()
    data.setup("fit")
    return {"seconds": time.perf_counter() - begun, "peak_gb": peak_host_memory_gb()}


def again(path: str, encoder: str) -> dict[str, float]:
    """A second start of `fit`, from the end of the imports to the first step, whose batch is there."""
    from lightning import Callback

    from lit_ft.commands import fit as cli

    found: dict[str, float] = {}

    class Timer(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            found["seconds"] = time.perf_counter() - begun
            raise Enough

    callbacks = cli.Tracking.callbacks
    cli.Tracking.callbacks = lambda tracking: [*callbacks(tracking), Timer()]  # type: ignore
    begun = time.perf_counter()
    own = ["--config", "yelp_local.yaml", "--data.train_path", path, "--model.pretrained", encoder]
    own += ["--data.max_tokens", "512"]  # as prepared
    try:
        run_ours(["fit", *(["--config", path] if path == SAMPLE else own)])
    except Enough:
        pass
    return found


def run(part: str, path: Path | str, encoder: str, folder: Path) -> dict[str, float]:
    """One part in a process of its own, with the caches of this folder."""
    call = [sys.executable, __file__, "--child", part, str(path), encoder]
    done = subprocess.run(call, capture_output=True, text=True, env=with_caches(folder), cwd=folder)
    if done.returncode:
        raise SystemExit(f"{part} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def cached(folder: Path) -> set[Path]:
    """What is in the caches of this folder, but for locks."""
    files = [file for name in ("lit_ft", "datasets") for file in (folder / name).rglob("*")]
    return {file for file in files if file.is_file() and file.suffix != ".lock"}


def measure(num_rows: int, encoder: str) -> dict[str, float]:
    """The figures of so many rows."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        path = folder / "reviews.csv"
        sys.stderr.write(f"{num_rows:,} rows: writing\n")
        write_reviews(path, num_rows)
        found, before = {}, set()
        for part in PARTS:
            sys.stderr.write(f"{num_rows:,} rows: {part}\n")
            before = cached(folder)
            found[part] = run(part, path, encoder, folder)
        if made := cached(folder) - before:
            raise SystemExit(f"the second start prepared the texts once more: {sorted(map(str, made))}")
    return {
        "rows": num_rows,
        "tokens": found["bare"]["tokens"],
        "bare_seconds": found["bare"]["seconds"],
        "prepare_seconds": found["prepare"]["seconds"],
        "ratio": found["prepare"]["seconds"] / found["bare"]["seconds"],
        "peak_gb": found["prepare"]["peak_gb"],
        "first_step_seconds": found["again"]["seconds"],
    }


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [6_500, 65_000, 650_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="reviews to generate, one by one")
    parser.add_argument("--model.pretrained", dest="pretrained", help="default: the embedded encoder")
    parser.add_argument("--json", help="file to write, too")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        part, path, encoder = options.child
        if part != "bare":
            set_own_environment()
        # On a line of its own, below a progress bar.
        print("\n" + json.dumps({"bare": bare, "prepare": prepare, "again": again}[part](path, encoder)))
        return 0
    check_inputs(options)
    if min(options.rows) < LEAST_ROWS:
        refuse(f"expected --rows of at least {LEAST_ROWS}, found {min(options.rows)}")
    if options.pretrained is None:
        from lit_ft.sample.encoder import sample_encoder

        options.pretrained = str(sample_encoder())
    encoder = str(Path(options.pretrained).resolve())
    with workplace() as folder:
        sys.stderr.write("sample.yaml: two starts\n")
        starts = [run("again", SAMPLE, encoder, folder)["seconds"] for _ in range(2)]
        first, second = starts
        print(f"sample.yaml: a second start is at its first step {second:.1f} s after the imports (asked: at")
        print(f"most 4), a first one {first:.1f} s.\n")
        print("| rows | tokens | bare, s | prepare, s | ratio | peak GB | second start, s | later, s |")
        print("|---|---|---|---|---|---|---|---|")
        print("| asked | | | | at most 1.2 | below 2 | | at most 3 |", flush=True)
        rows: list[dict[str, float]] = []
        for num_rows in options.rows:
            row = measure(num_rows, encoder)
            rows.append(row)
            row["later_seconds"] = row["first_step_seconds"] - rows[0]["first_step_seconds"]
            seconds = f"{row['bare_seconds']:.1f} | {row['prepare_seconds']:.1f} | {row['ratio']:.2f}"
            rest = f"{row['peak_gb']:.2f} | {row['first_step_seconds']:.1f} | {row['later_seconds']:.1f}"
            print(f"| {num_rows:,} | {row['tokens']:,} | {seconds} | {rest} |", flush=True)
    if options.json:
        from lit_ft.machine import hardware, library_versions

        values = {
            "versions": library_versions(),
            "hardware": hardware(),
            "rows": rows,
            "sample_seconds": starts,
        }
        Path(options.json).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
