"""`data.folds`, `data.fold`, `data.train_share`: what is trained on, what `test` measures."""

import re
from pathlib import Path

import numpy as np
from pyarrow.parquet import read_table

from lit_ft import runs

QUICK = ["--trainer.max_epochs", "1", "--baselines", "false", "--data.test_path", "null"]


def rows_of(run: Path, prefix: str) -> np.ndarray:
    return np.sort(read_table(run / runs.PER_TEXT[prefix])["row"].to_numpy())


def test_all_folds_together_are_every_training_row_once(lit_ft, fit_args):
    measured = []
    for fold in (1, 2, 3):
        name = ["--name", f"fold{fold}"]
        code, out, err = lit_ft(
            "fit", *fit_args, *QUICK, *name, "--data.folds", "3", "--data.fold", str(fold)
        )
        assert code == 0, err
        run = Path(f"runs/fold{fold}/version_0")
        said = re.search(rf"fold {fold} of 3: (\d+) texts held out of train, measured by test", out)
        assert said and (size := int(said[1])) in (32, 36)  # copies of a text, four each, stay together
        assert f"next:   python -m lit_ft test --name fold{fold}" in out
        assert not (run / "fold_predictions.parquet").is_file()
        code, out, err = lit_ft("test", *name)
        assert code == 0, err
        metrics = runs.read_metrics(run)
        assert metrics["fold/rows"] == size and 0 <= metrics["fold/accuracy"] <= 1
        assert not {tag for tag in metrics if tag.startswith("test/")}
        assert not set(rows_of(run, "fold")) & set(rows_of(run, "val"))
        measured.append(rows_of(run, "fold"))
    assert np.sort(np.concatenate(measured)).tolist() == [*range(1, 101)]
