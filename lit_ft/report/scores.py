"""The figures: their names, order and words, and which of them are better the higher they are."""

ORDERED = ("mae", "kappa")  # they take the distance between classes: of names it would be the alphabet's
SCALARS = ("loss", "accuracy", "macro_f1", *ORDERED, "ece")  # in the order in which they are shown
HIGHER_IS_BETTER = ("accuracy", "macro_f1", "kappa")

WORDS = {"test": "test", "val": "validation"}  # the test first: it is the result
SPLITS = {"test": "test", "val": "validation"}  # their splits in report.json
FIGURES = (
    ("accuracy", "accuracy", "share of texts classified as labelled"),
    ("macro_f1", "macro F1", "mean over the classes"),
    ("mae", "mean absolute error", "in classes, such as stars"),
    ("kappa", "kappa", "quadratic-weighted agreement"),
    ("loss", "loss", "mean cross-entropy"),
    ("ece", "calibration error", "expected, 15 bins"),
    ("ece_calibrated", "after temperature scaling", ""),
    ("temperature", "temperature", "above 1: the model is too sure"),
)

# Results in this order; whichever of them a run has.
RESULTS = (
    "test/accuracy test/macro_f1 test/mae test/kappa test/loss test/ece test/ece_calibrated test/rows "
    "val/accuracy val/macro_f1 val/mae val/kappa val/loss val/ece val/ece_calibrated val/temperature "
    "val/rows "
    "val/perplexity val/masked_accuracy initial/perplexity train/epoch_loss train/loss train/seconds "
    "fit/seconds sft/seconds train/tokens train/tokens_seen train/tokens_per_second train/real_share "
    "train/peak_memory_gb"
).split()

HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "mae": "mae", "perplexity": "perplexity"}
MLM_FIGURES = (
    ("perplexity", "masked perplexity", ""),
    ("loss", "loss", ""),
    ("masked_accuracy", "guessed right", ""),
)
