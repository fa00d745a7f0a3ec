"""A trial forward pass of a masked LM over two rows, before the run folder is made.

T tokens after padding, V vocabulary.
"""

from datasets import Dataset
from transformers import PreTrainedModel

from lit_ft.console import warn
from lit_ft.data.tokens import row_lengths
from lit_ft.masked_lm.masking import MaskingCollator
from lit_ft.reliability.trial import at_rest, check_finite, is_close, one_line


def try_masked_lm(
    net: PreTrainedModel, collator: MaskingCollator, rows: Dataset, layout: str, name: str
) -> None:
    """Predict masked tokens in the longest and the shortest row.

    Args:
        net: The model.
        collator: Masks and pads, here as in evaluations.
        rows: Rows of `input_ids`.
        layout: Their layout, `pack` or `truncate`.
        name: The model, in messages.

    Raises:
        UserError: The model fails on them, or its logits are not finite.
    """
    lengths = row_lengths(rows)
    pair = [rows[int(lengths.argmax())], rows[int(lengths.argmin())]]
    batch = collator.fixed()(pair)
    del batch["labels"]
    short = len(pair[1]["input_ids"])
    alone = {key: value[1:, :short] for key, value in batch.items()}
    with at_rest(net):
        with one_line(name, pair):
            logits = net(**batch).logits  # (2, T, V)
        for row, found in zip(pair, logits, strict=True):
            check_finite(found[: len(row["input_ids"])], name, row)
        if layout == "pack":  # hardly any padding
            return
        with one_line(name, pair[1:]):
            unpadded = net(**alone).logits[0]
    if not is_close(unpadded, logits[1, :short]):
        warn(f"padding changes the predictions of the model {name}; --data.layout=pack needs no padding")
