"""The hour of the outage with twenty seeds; `make soak` lives through a thousand."""

import pytest

from tests.soak.outage import play


@pytest.mark.parametrize("seed", range(1, 21))
def test_an_outage_of_an_hour(seed: int) -> None:
    outcome = play(seed)

    assert outcome.broken == []
    assert outcome.requests > 6000


def test_the_same_seed_is_the_same_hour() -> None:
    assert play(1) == play(1)
