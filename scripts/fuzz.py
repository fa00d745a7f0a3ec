"""Run thousands of fuzz cases and print a table of what they did; see tests/fuzz/fuzz_cases.py.

python scripts/fuzz.py --cases 2000 --seed 1 --keep broken > fuzz.md
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before any library reads it
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["MPLBACKEND"] = "Agg"
TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS / "support"), str(TESTS)]

from fuzz_cases import Case, Outcome, Workshop  # noqa: E402
from fuzz_kinds import KINDS, each, shares, strategy  # noqa: E402


def signature(fault: str) -> str:
    """The faults that are one: the last line of a traceback and the place in our code, without numbers."""
    lines = [line.strip() for line in fault.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    ours = [place for place in places if "/lit_ft/" in place]
    return " | ".join([lines[-1][:160], *(ours[-1:]), *(places[-1:])]) if places else fault[:160]


def main() -> int:
    """Run the cases; returns 1 if one of them broke something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be given twice")
    parser.add_argument("--keep", type=Path, help="folder for the files of the cases that broke something")
    options = parser.parse_args()
    kinds = options.kind or list(KINDS)
    resource.setrlimit(
        resource.RLIMIT_DATA, (8 << 30, 8 << 30)
    )  # a case that takes more fails, not the machine
    begun, faults, rows = time.monotonic(), Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        shop = Workshop(Path(folder))
        for kind, number in zip(kinds, shares(options.cases, kinds), strict=True):
            outcomes: list[Outcome] = []
            rows.append((kind, outcomes))

            def do(case: Case, outcomes: list[Outcome] = outcomes, number: int = number) -> None:
                outcome = shop.run(case)
                outcomes.append(outcome)
                if outcome.fault is not None:
                    name = signature(outcome.fault)
                    faults[name] += 1
                    if faults[name] <= 3:
                        sys.stderr.write(f"\nBROKEN {name}\n{case!r}\n")
                        sys.stderr.write(f"{outcome.fault}\n" if faults[name] == 1 else "")
                        keep(options.keep, case, len(faults), faults[name])
                if len(outcomes) % 20 == 0:
                    done = f"{case.kind}: {len(outcomes)} of {number}"
                    took = time.monotonic() - begun
                    sys.stderr.write(f"{done}, {took:.0f} s, {faults.total()} broken in {len(faults)} ways\n")
                    sys.stderr.flush()

            each(strategy(kind, shop), number, options.seed, do)
    out = sys.stdout
    out.write("| kind | cases | successes | refused | failures | slowest, s of processor time |\n")
    out.write("|---|---|---|---|---|---|\n")
    for kind, outcomes in rows:
        codes = Counter(outcome.code if outcome.fault is None else "fault" for outcome in outcomes)
        slowest = max((outcome.seconds for outcome in outcomes), default=0)
        counts = f"{len(outcomes)} | {codes[0]} | {codes[2]} | {codes['fault']}"
        out.write(f"| {kind} | {counts} | {slowest:.1f} |\n")
    for name, count in faults.most_common():
        out.write(f"- {count} x {name}\n")
    return 1 if faults else 0


def keep(folder: Path | None, case: Case, number: int, again: int) -> None:
    """Write a case's files and its command line, to run it by hand."""
    if folder is None:
        return
    place = folder / f"{number}-{again}"
    for name, content in case.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    place.mkdir(parents=True, exist_ok=True)
    (place / "command.json").write_text(
        json.dumps({"args": case.args, "about": case.about}), encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
