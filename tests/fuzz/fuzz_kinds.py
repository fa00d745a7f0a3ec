"""Fuzzing: the kinds of cases, and their shares of a run."""

from collections.abc import Callable

from fuzz_cases import Case, Workshop
from fuzz_checkpoints import checkpoints
from fuzz_configs import configs
from fuzz_corpora import corpora
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

KINDS = {"corpus": 0.4, "config": 0.3, "checkpoint": 0.3}


def shares(cases: int, kinds: list[str]) -> list[int]:
    """How many of the cases each kind gets."""
    whole = sum(KINDS[kind] for kind in kinds)
    return [round(cases * KINDS[kind] / whole) for kind in kinds]


def strategy(kind: str, shop: Workshop) -> st.SearchStrategy[Case]:
    """The cases of a kind."""
    return {"corpus": corpora, "config": configs, "checkpoint": lambda: checkpoints(shop)}[kind]()


def each(cases: st.SearchStrategy[Case], number: int, start: int, do: Callable[[Case], None]) -> None:
    """Draw that many cases, the same ones from the same start, and do something with each."""

    @seed(start)
    @settings(
        max_examples=number,
        deadline=None,  # a case has its own, in processor time
        database=None,
        phases=[Phase.generate],  # a case takes a second: too long to shrink
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def run(case: Case) -> None:
        do(case)

    run()
