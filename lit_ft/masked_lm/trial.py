"""A masked LM's forward pass over two rows before the run folder is made.

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
    """Have the model guess in the longest and the shortest row.

    Args:
        net: The model.
        collator: Masks and pads; its draw for evaluations is taken.
        rows: Of `input_ids`.
        layout: `pack` or `truncate`, of the rows.
        name: The model in messages.

    Raises:
        UserError: It cannot do it, or gives no number.
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
        if layout == "pack":  # which pads hardly anything
            return
        with one_line(name, pair[1:]):
            unpadded = net(**alone).logits[0]
    if not is_close(unpadded, logits[1, :short]):
        warn(f"padding changes what the model {name} guesses in a text; --data.layout=pack pads nothing")
