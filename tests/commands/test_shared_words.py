"""A setting that `fit` and `sft` share is explained in the same words, unless it means something else."""

from lit_ft.commands import check, sft

DIFFER = {  # setting -> why its help differs
    "data.source": "a fit has several splits of labelled texts, and another example",
    "data.train_path": "a text file has no labels",
    "data.validation_split": "`sft` evaluates texts, `fit` validates rows",
    "data.validation_path": "`sft` evaluates texts, `fit` validates rows",
    "data.text_column": "`pack` cuts nothing",
    "data.pair_column": "a masked LM reads one text a row",
    "data.validation_share": "a fit holds out by label",
    "data.split_seed": "a fit also measures parts of a split",
    "data.max_tokens": "`pack` makes blocks of this length",
    "data.batch_size": "a fit can have a token_budget",
    "data.eval_batch_size": "a fit can have a token_budget, and tests and predicts",
    "model.pretrained": "a classifier needs no masked-LM head",
}


def test_shared_settings_are_explained_alike():
    of_fit, of_sft = (
        {action.dest: " ".join((action.help or "").split()) for action in parser._actions}
        for parser in (check.make_parser(), sft.make_parser())
    )
    shared = [key for key in of_sft if "." in key and key in of_fit]
    assert len(shared) > 20
    assert {key for key in shared if of_fit[key] != of_sft[key]} == DIFFER.keys()
