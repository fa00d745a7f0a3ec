"""What training without padding needs."""

import pytest

from lit_ft.classifier.batch_settings import LEAST_ROWS, LEAST_TEXTS, check_unpadded
from lit_ft.errors import UserError

SOUND = {"padding": "none", "max_tokens": 64, "token_budget": LEAST_ROWS * 64, "batch_size": LEAST_TEXTS}


def test_enough_is_taken():
    check_unpadded(SOUND, True)
    check_unpadded({**SOUND, "padding": "longest", "token_budget": None, "batch_size": 1}, False)


@pytest.mark.parametrize(
    ("changes", "compiled", "said"),
    [
        ({"token_budget": None}, True, "data.token_budget of at least .* for data.padding none, found null"),
        ({"token_budget": LEAST_ROWS * 64 - 1}, True, f"found {LEAST_ROWS * 64 - 1}; 32768 keeps a GPU busy"),
        ({"batch_size": LEAST_TEXTS - 1}, True, f"data.batch_size of at least {LEAST_TEXTS} .*, found"),
        ({"padding": "longest"}, True, "set --data.padding=none, or --model.compile=false"),
        ({}, False, "set --model.compile=true, or --data.padding=longest"),
    ],
)
def test_too_little_is_refused(changes, compiled, said):
    with pytest.raises(UserError, match=said):
        check_unpadded({**SOUND, **changes}, compiled)
