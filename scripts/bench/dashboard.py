"""What the dashboard and the report cost: one real `fit`, with a clock around everything that they do.

    python scripts/bench/dashboard.py --config yelp_local.yaml --data.train_path train.csv \\
        --model.pretrained ENCODER

Takes the flags of `fit`. Prints a Markdown table: seconds, calls, and the share of the training time. The
clock runs inside the one process, so that a noisy machine slows both sides of the ratio.
"""

import functools
import json
import sys
import time
from collections import defaultdict
from typing import Any

from lit_ft.__main__ import main
from lit_ft.classifier import dashboard, metrics, results
from lit_ft.classifier import tracking as throughput
from lit_ft.runs import read_metrics

seconds: dict[str, float] = defaultdict(float)
calls: dict[str, int] = defaultdict(int)
depth = 0  # what is called inside something timed is in it already


def clock(owner: Any, name: str, what: str) -> None:
    """Time every call of `owner.name`."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        global depth
        begun, depth = time.perf_counter(), depth + 1
        try:
            return function(*args, **kwargs)
        finally:
            depth -= 1
            if depth == 0:
                seconds[what] += time.perf_counter() - begun
                calls[what] += 1

    setattr(owner, name, timed)


def run(args: list[str]) -> int:
    """Run the fit, then print the table."""
    import torch

    clock(dashboard.Dashboard, "on_train_start", "page, settings, corpus summary, histogram")
    clock(dashboard.Dashboard, "on_validation_end", "pictures, PR curves, mistakes of each validation")
    clock(metrics.KeptOutcomes, "update", "keeping the logits of validation")
    clock(metrics.ClassifierMetrics, "compute", "metrics and temperature of each validation")
    clock(throughput.Throughput, "on_train_batch_end", "throughput and memory")
    clock(torch.nn.utils, "get_total_norm", "gradient norm")
    clock(results, "corpus_facts", "corpus facts")
    clock(results, "write_report", "report.html")
    clock(results, "write_model_card", "model card")
    found: dict[str, Any] = {}
    add_metrics = results.runs.add_metrics

    def note_run(run: Any, figures: Any) -> None:
        found["run"] = run
        add_metrics(run, figures)

    results.runs.add_metrics = note_run
    if code := main(["fit", *args]):
        return code
    figures = read_metrics(found["run"])
    total = figures["train/seconds"]
    print("\n| part | calls | seconds | of the training time |\n|---|---|---|---|")
    for what, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"| {what} | {calls[what]} | {spent:.2f} | {spent / total:.2%} |")
    spent = sum(seconds.values())
    print(f"| all of it | | {spent:.2f} | {spent / total:.2%} of {total:.0f} s |")
    print(json.dumps({"seconds": spent, "training_seconds": total, "share": spent / total}))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
