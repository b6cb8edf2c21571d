"""What travels: fields byte for byte, a body that loses nothing and bounds what waits, a reply that closes once."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import BodyTooLarge, Disconnected
from sidecar.message import HIGH_WATER, NO_FIELDS, Body, Fields, Reply, Request, serialise
from tests.support.virtual_time import in_virtual_time, now

Closer = Callable[[BaseException | None], None]

PAIRS = [(b"Host", b"a"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Accept", b""), (b"X-A", b"3")]


def still() -> float:
    """A clock that stands."""
    return 0.0


def piped(body: Body) -> tuple[list[bytes], list[BaseException | None]]:
    """Drain `body` into a list; the second list holds what the end was told with, each time that it was told."""
    out: list[bytes] = []
    ends: list[BaseException | None] = []
    body.pipe(out.append, ends.append)
    return out, ends


# --- Fields ---


def test_fields_are_written_in_their_order_case_and_repetition() -> None:
    assert Fields(PAIRS).wire == b"Host: a\r\nX-A: 1\r\nx-a: 2\r\nAccept: \r\nX-A: 3\r\n"
    assert serialise(PAIRS) == Fields(PAIRS).wire
    assert (NO_FIELDS.pairs, NO_FIELDS.wire) == ((), b"")


def test_fields_are_found_whatever_their_case() -> None:
    fields = Fields(PAIRS)

    assert fields.values(b"x-a") == [b"1", b"2", b"3"]
    assert fields.values(b"none") == []
    assert (fields.first(b"x-a"), fields.first(b"accept"), fields.first(b"none")) == (b"1", b"", None)


def test_fields_without_some_keep_the_others_as_they_are_and_the_original_whole() -> None:
    fields = Fields(PAIRS)

    assert fields.without(b"x-a", b"none").pairs == ((b"Host", b"a"), (b"Accept", b""))
    assert fields.pairs == tuple(PAIRS)


# --- Request ---


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"/a/b?c=d", b"/a/b"), (b"/a??b", b"/a"), (b"/", b"/"), (b"*", b"*"), (b"/a%3Fb", b"/a%3Fb")],
)
def test_the_path_is_the_target_up_to_the_first_question_mark(target: bytes, path: bytes) -> None:
    request = Request(b"GET", target, NO_FIELDS)

    assert (request.target, request.path) == (target, path)


def test_requests_share_no_state() -> None:
    one, two = Request(b"GET", b"/", NO_FIELDS), Request(b"GET", b"/", NO_FIELDS)

    one.extra = (*one.extra, (b"X", b"y"))
    one.host = b"a"

    assert (two.extra, two.host) == ((), b"")
    assert repr(one) == "<Request GET />"


# --- Body: drained by a sink ---


def test_what_waited_comes_first_and_then_every_piece_in_the_same_call() -> None:
    body = Body(still)
    body.feed(b"early")

    out, ends = piped(body)
    body.feed(b"late")

    assert (out, ends) == ([b"early", b"late"], [])
    body.finish()
    assert (out, ends) == ([b"early", b"late"], [None])


def test_a_body_that_was_whole_before_it_is_piped_ends_at_once() -> None:
    body = Body(still)
    body.feed(b"all")
    body.finish([(b"X-Sum", b"1")])

    assert piped(body) == ([b"all"], [None])
    assert body.trailers == [(b"X-Sum", b"1")]


def test_a_body_that_had_failed_before_it_is_piped_says_so_at_once() -> None:
    body, error = Body(still), Disconnected()
    body.feed(b"part")
    body.fail(error)

    assert piped(body) == ([], [error])


def test_the_first_end_counts() -> None:
    failed, finished, error = Body(still), Body(still), Disconnected()
    failed.fail(error)
    failed.fail(Disconnected("second"))
    failed.finish()
    finished.finish()
    finished.fail(error)

    assert (failed.error, failed.finished) == (error, False)
    assert (finished.error, finished.finished) == (None, True)


def test_what_comes_after_the_end_is_dropped() -> None:
    body = Body(still)
    out, ends = piped(body)
    body.finish()
    body.feed(b"more")

    assert (out, ends, body.bytes_fed) == ([], [None], 0)


def test_a_drain_that_detaches_gets_no_more_and_the_next_one_gets_the_rest() -> None:
    body = Body(still)
    first, first_ends = piped(body)
    body.feed(b"1")
    body.detach()
    body.feed(b"2")

    second, second_ends = piped(body)
    body.feed(b"3")
    body.finish()

    assert (first, first_ends) == ([b"1"], [])
    assert (second, second_ends) == ([b"2", b"3"], [None])


def test_a_drain_may_detach_in_the_middle_of_what_waited() -> None:
    body = Body(still)
    for piece in (b"1", b"2", b"3"):
        body.feed(piece)
    out: list[bytes] = []

    def one_only(piece: bytes) -> None:
        out.append(piece)
        body.detach()

    body.pipe(one_only, lambda error: pytest.fail(f"ended: {error}"))
    body.finish()

    assert out == [b"1"]
    assert piped(body) == ([b"2", b"3"], [None])


def test_a_sink_that_breaks_the_body_is_told_once_and_gets_no_more() -> None:
    body, error = Body(still), Disconnected()
    body.feed(b"1")
    body.feed(b"2")
    out: list[bytes] = []
    ends: list[BaseException | None] = []

    def break_it(piece: bytes) -> None:
        out.append(piece)
        body.fail(error)

    body.pipe(break_it, ends.append)

    assert (out, ends) == ([b"1"], [error])


def test_a_new_drain_is_not_held_back_by_the_one_before_it() -> None:
    body = Body(still)
    asked: list[str] = []
    body.on_pause, body.on_resume = lambda: asked.append("pause"), lambda: asked.append("resume")
    piped(body)
    body.hold()
    body.detach()

    piped(body)

    assert asked == ["pause", "resume"]
    assert not body.paused


# --- Body: back-pressure ---


def test_much_that_waits_stops_the_sender_and_a_drain_lets_it_go_on() -> None:
    body = Body(still)
    asked: list[str] = []
    body.on_pause, body.on_resume = lambda: asked.append("pause"), lambda: asked.append("resume")

    body.feed(b"x" * HIGH_WATER)
    assert asked == []
    body.feed(b"x")
    body.feed(b"x")
    assert asked == ["pause"]
    piped(body)

    assert (asked, body.waiting, body.bytes_fed) == (["pause", "resume"], 0, HIGH_WATER + 2)


def test_a_sink_that_cannot_keep_up_stops_the_sender_until_it_can() -> None:
    body = Body(still)
    asked: list[str] = []
    body.on_pause, body.on_resume = lambda: asked.append("pause"), lambda: asked.append("resume")
    piped(body)

    body.hold()
    body.hold()
    body.release()
    body.release()

    assert asked == ["pause", "resume"]


def test_a_drain_that_holds_while_it_is_piped_to_is_not_let_go_on() -> None:
    body = Body(still)
    resumed: list[str] = []
    body.on_resume = lambda: resumed.append("resume")
    body.feed(b"x" * (HIGH_WATER + 1))

    body.pipe(lambda _: body.hold(), lambda _: None)

    assert (resumed, body.paused) == ([], True)


def test_a_discarded_body_is_dropped_and_its_sender_goes_on() -> None:
    body = Body(still)
    resumed: list[str] = []
    body.on_resume = lambda: resumed.append("resume")
    body.feed(b"x" * (HIGH_WATER + 1))

    body.discard()
    body.feed(b"y" * 10 * HIGH_WATER)

    assert (resumed, body.waiting, body.paused) == (["resume"], 0, False)


# --- Body: bounds ---


def test_a_body_larger_than_its_limit_fails_and_gives_no_byte_beyond_it() -> None:
    body, error = Body(still), BodyTooLarge()
    body.limit, body.on_limit = 10, lambda: error
    out, ends = piped(body)

    body.feed(b"x" * 10)
    assert ends == []
    body.feed(b"y")
    body.feed(b"z")

    assert (out, ends, body.error) == ([b"x" * 10], [error], error)


def test_every_sign_of_life_is_noted_with_its_time() -> None:
    at = [0.0]
    body = Body(lambda: at[0])
    signs: list[Callable[[], None]] = [lambda: body.feed(b"x"), body.release, body.finish]
    seen = [body.moved_at]
    for sign in signs:
        at[0] += 1
        sign()
        seen.append(body.moved_at)

    assert seen == [0, 1, 2, 3]


# --- Body: taken whole, or read ---


def test_a_whole_body_can_be_taken_at_once_and_only_once_begun_it_cannot() -> None:
    whole, begun, open_, trailed = Body(still), Body(still), Body(still), Body(still)
    for body in (whole, begun, open_, trailed):
        body.feed(b"a")
        body.feed(b"b")
    whole.finish()
    piped(begun)
    begun.finish()
    trailed.finish([(b"X", b"y")])

    assert [body.take_whole() for body in (whole, begun, open_, trailed)] == [b"ab", None, None, None]
    assert whole.waiting == 0


def test_an_empty_body_is_taken_as_no_bytes() -> None:
    body = Body(still)
    body.finish()

    assert body.take_whole() == b""


@in_virtual_time
async def test_a_reader_gets_piece_after_piece_as_they_come_and_then_the_end() -> None:
    loop = asyncio.get_running_loop()
    body = Body(loop.time)
    body.feed(b"0")
    loop.call_at(1, body.feed, b"1")
    loop.call_at(5, body.finish)

    assert [(await body.read(), now()) for _ in range(4)] == [(b"0", 0), (b"1", 1), (b"", 5), (b"", 5)]


@in_virtual_time
async def test_a_reader_gets_the_error_that_broke_the_body() -> None:
    loop = asyncio.get_running_loop()
    body, error = Body(loop.time), Disconnected()
    loop.call_at(1, body.fail, error)

    with pytest.raises(Disconnected) as caught:
        await body.read()

    assert (caught.value, now()) == (error, 1)


@in_virtual_time
async def test_a_reader_that_was_cancelled_has_taken_nothing() -> None:
    loop = asyncio.get_running_loop()
    body = Body(loop.time)
    reader = loop.create_task(body.read())
    await asyncio.sleep(1)

    reader.cancel()
    body.feed(b"piece")
    await asyncio.wait([reader])

    assert reader.cancelled()
    assert await body.read() == b"piece"


@in_virtual_time
async def test_an_empty_piece_is_not_taken_for_the_end() -> None:
    body = Body(still)
    body.feed(b"")
    body.feed(b"piece")
    body.finish()

    assert [await body.read(), await body.read()] == [b"piece", b""]


@in_virtual_time
async def test_a_reader_lets_a_stopped_sender_go_on_when_half_is_read() -> None:
    body = Body(still)
    resumed: list[int] = []
    body.on_resume = lambda: resumed.append(body.waiting)
    for _ in range(5):
        body.feed(b"x" * (HIGH_WATER // 4))
    assert body.paused

    await body.read()
    await body.read()
    assert resumed == []
    await body.read()

    assert resumed == [HIGH_WATER // 2]


def test_a_body_tells_its_state_in_one_line() -> None:
    body = Body(still)
    body.feed(b"x" * (HIGH_WATER + 1))

    assert repr(body) == f"<Body open, {HIGH_WATER + 1} bytes fed, {HIGH_WATER + 1} waiting, paused>"


# --- Reply ---


def test_closers_run_once_the_last_registered_first() -> None:
    reply, error = Reply(200, NO_FIELDS), Disconnected()
    ran: list[tuple[str, BaseException | None]] = []

    def noting(name: str) -> Closer:
        return lambda error: ran.append((name, error))

    for name in "abc":
        reply.on_close(noting(name))

    reply.close(error)
    reply.close()

    assert ran == [("c", error), ("b", error), ("a", error)]


def test_a_closer_that_fails_keeps_no_other_from_running_and_is_told_of() -> None:
    reply = Reply(200, NO_FIELDS)
    ran: list[str] = []

    def failing(error: BaseException | None) -> None:
        raise ValueError("first")

    def failing_too(error: BaseException | None) -> None:
        raise ValueError("second")

    reply.on_close(lambda _: ran.append("outer"))
    reply.on_close(failing_too)
    reply.on_close(lambda _: ran.append("middle"))
    reply.on_close(failing)

    with pytest.raises(ValueError, match="first"):
        reply.close()
    reply.close()

    assert ran == ["middle", "outer"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.integers(1, 3))
def test_every_closer_runs_exactly_once_whatever_fails_and_whoever_closes_again(
    closers: list[tuple[bool, bool]], closes: int
) -> None:
    reply = Reply(200, NO_FIELDS)
    ran: list[int] = []

    def register(number: int, *, fails: bool, closes_again: bool) -> None:
        def closer(error: BaseException | None) -> None:
            ran.append(number)
            if closes_again:
                reply.close()
            if fails:
                raise ValueError(number)

        reply.on_close(closer)

    for number, (fails, closes_again) in enumerate(closers):
        register(number, fails=fails, closes_again=closes_again)
    for _ in range(closes):
        try:
            reply.close()
        except ValueError:
            assert any(fails for fails, _ in closers)

    assert ran == list(reversed(range(len(closers))))


def test_replies_share_no_state() -> None:
    one, two = Reply(200, NO_FIELDS), Reply(200, NO_FIELDS)
    ran: list[object] = []
    one.on_close(ran.append)
    one.extra = ((b"X", b"y"),)

    two.close()

    assert (ran, two.extra) == ([], ())
