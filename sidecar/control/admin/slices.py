"""Large answers in slices: traffic has its turn between two of them, since it is the same event loop.

Writing a megabyte of JSON at a stretch would hold up every request for ten milliseconds.
"""

import asyncio
import json
from typing import Any

from sidecar.telemetry.live import Live
from sidecar.telemetry.rates import Rates
from sidecar.telemetry.snapshot import snapshot

__all__ = ["dumped", "state"]

_ROWS = 25  # of a list: about 30 KB, written in a third of a millisecond


async def state(live: Live, rates: Rates) -> dict[str, Any]:
    """Give everything that the live page shows."""
    return snapshot(live, rates)


async def dumped(value: Any) -> bytes:
    """Give `value` as JSON. Slices are made of a list, and of the lists in a mapping."""
    if isinstance(value, list):
        return (await _rows(value)).encode()
    if not isinstance(value, dict):
        return json.dumps(value).encode()
    parts = []
    for key, each in value.items():
        text = await _rows(each) if isinstance(each, list) else json.dumps(each)
        parts.append(f"{json.dumps(key)}: {text}")
    return f"{{{', '.join(parts)}}}".encode()


async def _rows(rows: list[Any]) -> str:
    texts = []
    for start in range(0, len(rows), _ROWS):
        if start:
            await asyncio.sleep(0)
        texts.append(json.dumps(rows[start : start + _ROWS])[1:-1])
    return f"[{', '.join(texts)}]"
