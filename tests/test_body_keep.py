"""A body that may have to be sent again: what went through comes again, whole and in order, or it says that it cannot."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ClientGone
from sidecar.message import HIGH_WATER, Allowance, Body


class Drain:
    """A connection that takes a body, as the wire does: at once if it is all here, else as it comes."""

    def __init__(self, body: Body) -> None:
        self.got = b""
        self.ends: list[BaseException | None] = []
        whole = body.take_whole()
        if whole is None:
            body.pipe(self.take, self.ends.append)
        else:
            self.got = whole
            self.ends.append(None)

    def take(self, piece: bytes) -> None:
        self.got += piece


def a_body(*pieces: bytes, most: int = 100, finished: bool = True) -> Body:
    """Make a body that keeps up to `most` bytes."""
    body = Body(lambda: 0.0)
    body.keep(most)
    for piece in pieces:
        body.feed(piece)
    if finished:
        body.finish()
    return body


def test_a_whole_body_can_be_taken_again_and_again() -> None:
    body = a_body(b"one", b"two")

    for _ in range(3):
        drain = Drain(body)
        assert (drain.got, drain.ends) == (b"onetwo", [None])
        assert body.waiting == 0
        assert body.rewind()
        assert body.waiting == 6


def test_a_body_that_is_still_coming_is_taken_again_from_its_first_byte() -> None:
    body = a_body(b"one", finished=False)
    first = Drain(body)
    body.feed(b"two")
    body.detach()
    body.feed(b"three")
    assert body.rewind()
    body.feed(b"four")

    second = Drain(body)
    body.feed(b"five")
    body.finish()

    assert (first.got, first.ends) == (b"onetwo", [])
    assert (second.got, second.ends) == (b"onetwothreefourfive", [None])


def test_a_body_that_ended_while_nobody_took_it_is_told_whole_to_the_next_one() -> None:
    body = a_body(b"one", finished=False)
    Drain(body)
    body.detach()
    assert body.rewind()
    body.feed(b"two")
    body.finish()

    drain = Drain(body)

    assert (drain.got, drain.ends) == (b"onetwo", [None])


def test_an_end_that_was_told_is_told_again() -> None:
    body = a_body(b"one", finished=False)
    first = Drain(body)
    body.finish()
    assert body.rewind()

    second = Drain(body)

    assert (first.ends, second.ends) == ([None], [None])
    assert (first.got, second.got) == (b"one", b"one")


def test_trailers_stay_for_the_next_one() -> None:
    body = a_body(b"one", finished=False)
    body.finish([(b"Checksum", b"5")])
    Drain(body)

    assert body.rewind()
    assert Drain(body).got == b"one"
    assert body.trailers == [(b"Checksum", b"5")]


def test_as_much_as_may_be_kept_comes_again_and_a_byte_more_does_not() -> None:
    for size, again in ((100, True), (101, False)):
        for pieces in ((b"x" * size,), (b"x" * 60, b"x" * (size - 60))):
            taken = a_body(*pieces)
            Drain(taken)
            piped = a_body(*pieces, finished=False)
            Drain(piped)
            streamed = a_body(finished=False)
            drain = Drain(streamed)
            for piece in pieces:
                streamed.feed(piece)

            assert (taken.rewind(), piped.rewind(), streamed.rewind()) == (again, again, again)
            assert drain.got == b"x" * size


def test_what_is_too_large_to_keep_is_streamed_whole() -> None:
    body = a_body(most=100, finished=False)
    drain = Drain(body)
    for _ in range(50):
        body.feed(b"x" * 1000)
        assert body.waiting == 0
    body.finish()

    assert (len(drain.got), drain.ends) == (50_000, [None])
    assert not body.rewind()


def test_what_waits_behind_the_kept_bytes_does_not_count_until_it_has_passed() -> None:
    body = a_body(b"x" * 80, finished=False)
    Drain(body)
    body.detach()
    body.feed(b"y" * 80)

    assert body.rewind()
    assert Drain(body).got == b"x" * 80 + b"y" * 80
    assert not body.rewind()


def test_bytes_that_come_again_are_not_counted_twice() -> None:
    body = a_body(b"x" * 100)
    for _ in range(10):
        Drain(body)
        assert body.rewind()


def test_a_body_of_which_nothing_went_is_unchanged_by_rewinding() -> None:
    body = a_body(b"x" * 500)

    assert body.rewind()
    assert body.rewind()
    assert Drain(body).got == b"x" * 500


def test_an_empty_body_can_be_taken_again() -> None:
    body = a_body()

    for _ in range(2):
        assert Drain(body).got == b""
        assert body.rewind()


def test_a_body_that_was_not_told_to_keep_cannot_be_rewound() -> None:
    body = Body(lambda: 0.0)
    body.feed(b"one")

    assert not body.rewind()
    assert Drain(body).got == b"one"


def test_a_body_that_was_told_to_forget_cannot_be_rewound() -> None:
    body = a_body(b"one")
    Drain(body)
    body.forget()

    assert not body.rewind()


def test_a_body_that_failed_cannot_be_rewound() -> None:
    body = a_body(b"one", finished=False)
    Drain(body)
    body.fail(ClientGone())

    assert not body.rewind()


def test_a_failure_during_the_second_drain_is_told_to_it() -> None:
    body = a_body(b"one", finished=False)
    Drain(body)
    body.detach()
    assert body.rewind()
    drain = Drain(body)
    gone = ClientGone()

    body.fail(gone)

    assert drain.ends == [gone]


def test_the_drain_before_hears_nothing_more() -> None:
    body = a_body(b"one", finished=False)
    first = Drain(body)
    body.rewind()
    body.feed(b"two")
    body.finish()

    assert (first.got, first.ends) == (b"one", [])


def test_a_client_that_sends_on_between_two_drains_is_stopped_and_let_go_on() -> None:
    stopped: list[str] = []
    body = Body(lambda: 0.0)
    body.on_pause = lambda: stopped.append("pause")
    body.on_resume = lambda: stopped.append("resume")
    body.keep(HIGH_WATER)
    body.feed(b"x" * HIGH_WATER)
    Drain(body)
    body.hold()
    body.detach()
    assert body.rewind()
    body.release()
    body.feed(b"y")
    assert stopped == ["pause", "resume", "pause"]

    assert len(Drain(body).got) == HIGH_WATER + 1
    assert stopped == ["pause", "resume", "pause", "resume"]


@given(
    pieces=st.lists(st.binary(max_size=20), max_size=8),
    cuts=st.lists(st.integers(0, 8), max_size=5),
    most=st.integers(0, 120),
)
def test_every_drain_gets_the_body_from_its_first_byte_as_far_as_it_came(
    pieces: list[bytes], cuts: list[int], most: int
) -> None:
    """Drains come and go while the body comes in; `cuts` says after which pieces one lets go."""
    body = Body(lambda: 0.0)
    body.keep(most)
    drain = Drain(body)
    came = b""
    for number, piece in enumerate(pieces):
        for _ in range(cuts.count(number)):
            assert drain.got == came
            body.detach()
            again = body.rewind()
            assert again == (len(came) <= most)
            if not again:
                return
            drain = Drain(body)
        body.feed(piece)
        came += piece
    body.finish()

    assert (drain.got, drain.ends) == (came, [None])


async def test_what_was_read_comes_again_too() -> None:
    body = a_body(b"one", b"two", finished=False)
    assert [await body.read(), await body.read()] == [b"one", b"two"]

    assert body.rewind()
    body.finish()

    assert Drain(body).got == b"onetwo"


def test_all_bodies_together_keep_no_more_than_there_is_allowance_for() -> None:
    allowance = Allowance(10)
    first, second = Body(lambda: 0.0), Body(lambda: 0.0)
    for body in (first, second):
        body.keep(100, allowance)
        body.feed(b"sixsix")
        body.finish()

    assert (Drain(first).got, Drain(second).got) == (b"sixsix", b"sixsix")

    assert (first.rewind(), second.rewind(), allowance.left) == (True, False, 4)
    assert Drain(first).got == b"sixsix"
    assert allowance.left == 4, "what comes again is counted once"
    first.forget()
    second.forget()
    assert allowance.left == 10


def test_what_waits_to_be_sent_again_still_counts() -> None:
    allowance = Allowance(10)
    body = Body(lambda: 0.0)
    body.keep(100, allowance)
    body.feed(b"sixsix")
    Drain(body)

    assert body.rewind()

    assert allowance.left == 4


def test_a_body_that_turned_out_too_large_gives_back_what_it_had() -> None:
    allowance = Allowance(10)
    body = Body(lambda: 0.0)
    body.keep(8, allowance)
    drain = Drain(body)
    body.feed(b"sixsix")
    assert allowance.left == 4

    body.feed(b"more")

    assert (allowance.left, body.rewind(), drain.got) == (10, False, b"sixsixmore")


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("fdrx"), st.integers(1, 6)), max_size=40))
def test_the_allowance_is_whole_again_when_all_have_forgotten(steps: list[tuple[int, str, int]]) -> None:
    allowance = Allowance(12)
    bodies = [Body(lambda: 0.0) for _ in range(3)]
    for body in bodies:
        body.keep(9, allowance)
    for number, step, size in steps:
        body = bodies[number]
        if step == "f":
            body.feed(b"x" * size)
        elif step == "d":
            body.pipe(lambda _: None, lambda _: None)
        elif step == "r":
            body.detach()
            body.rewind()
        else:
            body.forget()
            body.keep(9, allowance)
        assert 0 <= allowance.left <= 12

    for body in bodies:
        body.forget()

    assert allowance.left == 12
