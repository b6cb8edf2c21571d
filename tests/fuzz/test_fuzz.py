"""A little of `make fuzz` in every run: made-up and nearly right bytes against each target."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire import framing
from sidecar.wire.framing import ChunkedReader, FramingError
from tests.fuzz.mutate import made_up
from tests.fuzz.seeds import BITS, SEEDS
from tests.fuzz.targets import TARGETS

# What takes microseconds may take longer where something else has the processor.
UNHURRIED = settings(deadline=None, max_examples=150)
NEARLY = st.lists(st.sampled_from(BITS) | st.binary(max_size=6), max_size=20).map(b"".join)


@pytest.mark.parametrize("name", list(TARGETS))
def test_what_we_start_from_holds(name: str) -> None:
    """Each seed, split in each way, as each kind of request."""
    for seed in SEEDS[name]:
        for steer in (0, 1, 3, 17, 25) if name.endswith("connection") else (0, 1):
            TARGETS[name](bytes([steer]) + seed)


@pytest.mark.parametrize("name", list(TARGETS))
@UNHURRIED
@given(data=st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", list(TARGETS))
@UNHURRIED
@given(steer=st.integers(0, 255), parts=NEARLY)
def test_bytes_that_mean_something(name: str, steer: int, parts: bytes) -> None:
    TARGETS[name](bytes([steer]) + parts)


@pytest.mark.parametrize("name", list(TARGETS))
@UNHURRIED
@given(chance=st.randoms(use_true_random=False))
def test_messages_that_are_nearly_right(name: str, chance: Random) -> None:
    TARGETS[name](made_up(name, chance))


@given(
    body=st.lists(st.binary(max_size=40), max_size=6),
    trailers=st.lists(
        st.tuples(st.from_regex(rb"\AX-[a-z]{1,8}\Z"), st.from_regex(rb"\A[!-~]{0,10}\Z")), max_size=3
    ),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    rest=st.binary(max_size=20),
)
def test_what_is_framed_is_read_again(
    body: list[bytes], trailers: list[tuple[bytes, bytes]], cuts: list[int], rest: bytes
) -> None:
    """`chunk` and `last_chunk` are the inverse of `ChunkedReader`, wherever the bytes are split."""
    wire = b"".join(map(framing.chunk, body)) + framing.last_chunk(trailers) + rest
    edges = sorted({0, *(cut for cut in cuts if cut < len(wire)), len(wire)})
    reader = ChunkedReader()
    payload = b""
    left = b""
    for start, end in pairwise(edges):
        if reader.done:
            left += wire[start:end]
        else:
            payload += b"".join(reader.feed(wire[start:end]))

    assert (payload, reader.trailers, reader.rest + left) == (b"".join(body), trailers, rest)


@pytest.mark.parametrize("size", range(framing.MAX_LINE - 4, framing.MAX_LINE + 4))
def test_the_bound_on_a_line_is_the_same_however_it_is_split(size: int) -> None:
    line = b"5;" + b"x" * (size - 2) + b"\r\n"

    assert {_refused(line[:at], line[at:]) for at in (0, 3, size - 1, size, size + 1)} == {
        size > framing.MAX_LINE
    }


@pytest.mark.parametrize("size", range(framing.MAX_TRAILERS - 4, framing.MAX_TRAILERS + 4))
def test_the_bound_on_trailers_is_the_same_however_they_are_split(size: int) -> None:
    line = b"X:" + b"x" * (size - 2) + b"\r\n"

    splits = (0, 3, size - 1, size, size + 1)
    assert {_refused(b"0\r\n" + line[:at], line[at:]) for at in splits} == {size > framing.MAX_TRAILERS}


def _refused(*parts: bytes) -> bool:
    reader = ChunkedReader()
    try:
        for part in parts:
            reader.feed(part)
    except FramingError:
        return True
    return False
