"""Large answers in slices: the same JSON, with turns for others in between."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.admin.slices import dumped

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=60) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@given(VALUES)
def test_it_is_the_same_json(value: Any) -> None:
    assert json.loads(asyncio.run(dumped(value))) == value


@pytest.mark.parametrize("shape", [lambda rows: rows, lambda rows: {"a": 1, "rows": rows}])
async def test_others_have_their_turn_between_two_slices(shape: Callable[[Any], Any]) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    loop.call_soon(turn)
    await dumped(shape([{"number": number} for number in range(1000)]))

    assert turns >= 30
