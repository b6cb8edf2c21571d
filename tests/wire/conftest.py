"""Every test of the wire runs on uvloop and on plain asyncio: the two differ in when they tell a protocol what."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.wire.kit import Gateway, gateway


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def gate() -> AsyncIterator[Gateway]:
    """A sidecar with every default."""
    async with gateway() as running:
        yield running
