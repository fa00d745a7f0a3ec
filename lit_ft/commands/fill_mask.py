"""`fill-mask`: what a masked LM puts in place of [MASK]. Imports torch only to run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from lit_ft.errors import UserError
from lit_ft.hub import go_offline_if_unreachable
from lit_ft.models.names import find_model, newest_masked_lm
from lit_ft.settings.bounds import COUNT, check_bounds
from lit_ft.settings.parser import OneLineErrors

if TYPE_CHECKING:
    from transformers import FillMaskPipeline


def _parse(args: Sequence[str]) -> Namespace:
    parser = OneLineErrors(
        prog="python -m lit_ft fill-mask",
        usage='python -m lit_ft fill-mask "This is a [MASK] movie!"',
        description="Show what a masked language model puts in place of [MASK].",
    )
    parser.add_argument(
        "texts",
        nargs="+",
        metavar="TEXT",
        help="text with one or more [MASK]; - reads one text per line from standard input",
    )
    parser.add_argument(
        "--model",
        help="model folder, sft:NAME for the newest run of a name, or a Hub name, pinned by name@revision "
        "(default: newest sft run)",
    )
    parser.add_argument(
        "--allow_pickle",
        action="store_true",
        help="read pytorch_model.bin, a pickle, if there is no model.safetensors (only weights are read)",
    )
    parser.add_argument("--top_k", type=int, default=5, help="candidates for each mask")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    return parser.parse_args(args)


def read_texts(arguments: Sequence[str]) -> list[str]:
    """The texts to fill: the arguments, with the lines of standard input in place of `-`."""
    texts: list[str] = []
    for text in arguments:
        texts += [line.strip() for line in sys.stdin if line.strip()] if text == "-" else [text]
    if not texts:
        raise UserError("expected one text per line on standard input, found none")
    return texts


def load(model: str, allow_pickle: bool = False) -> "FillMaskPipeline":
    """The model as a pipeline of transformers; refuses one that cannot predict masked words."""
    if not Path(model).is_dir():
        go_offline_if_unreachable()
    from transformers import pipeline

    from lit_ft.masked_lm.masking import check_architecture, check_masked_lm
    from lit_ft.models.load import Pretrained, quiet

    quiet()
    pretrained = Pretrained.of(
        model,
        sample_config="sample_sft.yaml with `python -m lit_ft sft`",
        allow_pickle=allow_pickle,
        pickle_flag="--allow_pickle",
    )
    config = pretrained.config
    check_architecture(config, model)
    tokenizer: Any = pretrained.tokenizer()
    check_masked_lm(config, tokenizer, model)
    network, missing = pretrained.masked_lm()
    if missing:
        found = (config.architectures or [type(network).__name__])[0]
        raise UserError(
            f"expected a trained masked-LM head in {model}, found {found} without one; train it with "
            f"`python -m lit_ft sft --model.pretrained {model}`, or set --model to a masked language model"
        )
    return pipeline("fill-mask", model=network, tokenizer=tokenizer, trust_remote_code=False)


def main(command: str, args: list[str]) -> int:
    """Run `fill-mask` and return the exit code."""
    options = _parse(args)
    check_bounds({"top_k": options.top_k}, {"top_k": COUNT})
    texts = read_texts(options.texts)
    model = find_model(options.model, "--model") if options.model else str(newest_masked_lm("--model"))
    filler = load(model, options.allow_pickle)
    from lit_ft.masked_lm.candidates import fill, print_candidates, with_own_mask

    assert filler.tokenizer is not None
    for text in texts:  # check all of them before the first is filled
        with_own_mask(text, filler.tokenizer)
    filled = [fill(filler, text, options.top_k) for text in texts]
    if options.json:
        document = [{"text": text, "masks": masks} for text, masks in zip(texts, filled, strict=True)]
        print(json.dumps({"model": model, "texts": document}, indent=2, ensure_ascii=False))
    else:
        print_candidates(texts, filled)
    return 0
