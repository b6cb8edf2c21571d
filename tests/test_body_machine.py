"""A body in any order of events: the bytes out are the bytes in, its end is told once, and what waits is bounded.

The machine plays a well-behaved sender (it stops while it is asked to) and drains that come and go. `read` has tests
of its own: it awaits, and a rule of a state machine cannot.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.errors import Disconnected
from sidecar.message import HIGH_WATER, Body

LARGEST = 40_000
PIECES = st.one_of(st.binary(max_size=8), st.integers(1, LARGEST).map(lambda size: b"x" * size))


class Drain:
    """One attached sink and what it was told."""

    def __init__(self) -> None:
        self.ends: list[BaseException | None] = []
        self.attached = True


class BodyMachine(RuleBasedStateMachine):
    """Feeds, drains and ends one body in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body(lambda: 0.0)
        self.body.on_pause = self.pause
        self.body.on_resume = self.resume
        self.stopped = False
        self.holding = False  # the present drain has asked for a pause
        self.came = b""
        self.went = b""
        self.drains: list[Drain] = []
        self.error: BaseException | None = None
        self.over = False
        self.discarded = False

    # --- the two ends ---

    def pause(self) -> None:
        assert not self.stopped, "asked to stop twice"
        self.stopped = True

    def resume(self) -> None:
        assert self.stopped, "asked to go on without having stopped"
        self.stopped = False

    def take(self, piece: bytes) -> None:
        self.went += piece

    # --- what may happen ---

    @precondition(lambda self: not self.stopped)
    @rule(piece=PIECES)
    def feed(self, piece: bytes) -> None:
        self.body.feed(piece)
        if not self.over and not self.discarded:
            self.came += piece

    @rule()
    def finish(self) -> None:
        self.body.finish()
        self.over = True

    @rule()
    def fail(self) -> None:
        error = Disconnected()
        self.body.fail(error)
        if not self.over:
            self.over, self.error = True, error

    @precondition(lambda self: not self.discarded and not (self.drains and self.drains[-1].attached))
    @rule()
    def pipe(self) -> None:
        drain = Drain()
        self.drains.append(drain)
        self.body.pipe(self.take, drain.ends.append)

    @precondition(lambda self: self.drains and self.drains[-1].attached)
    @rule()
    def detach(self) -> None:
        self.body.detach()
        self.holding = False
        self.drains[-1].attached = False

    @precondition(lambda self: self.drains and self.drains[-1].attached)
    @rule()
    def hold(self) -> None:
        self.body.hold()
        self.holding = True

    @precondition(lambda self: self.drains and self.drains[-1].attached)
    @rule()
    def release(self) -> None:
        self.body.release()
        self.holding = False

    @precondition(lambda self: not self.drains)
    @rule()
    def take_whole(self) -> None:
        whole = self.body.take_whole()
        if whole is None:
            return
        assert self.over
        assert self.error is None
        self.went += whole

    @rule()
    def discard(self) -> None:
        self.body.discard()
        self.discarded = True
        self.holding = False
        for drain in self.drains:
            drain.attached = False

    # --- what must hold ---

    @invariant()
    def no_byte_is_invented_doubled_or_reordered(self) -> None:
        assert self.came.startswith(self.went)

    @invariant()
    def no_byte_is_lost(self) -> None:
        if not self.discarded and self.error is None:
            assert len(self.went) + self.body.waiting == len(self.came)

    @invariant()
    def an_attached_drain_has_everything(self) -> None:
        if self.drains and self.drains[-1].attached:
            assert self.body.waiting == 0

    @invariant()
    def what_waits_is_bounded(self) -> None:
        assert self.body.waiting <= HIGH_WATER + LARGEST

    @invariant()
    def the_end_is_told_once_to_whoever_was_there(self) -> None:
        for drain in self.drains[:-1]:
            assert len(drain.ends) <= 1
        if self.drains:
            last = self.drains[-1]
            assert last.ends in ([], [self.error])
            if last.attached:
                assert last.ends == ([self.error] if self.over else [])

    @invariant()
    def a_sender_is_stopped_only_for_a_reason(self) -> None:
        drained = self.discarded or (self.drains and self.drains[-1].attached)
        assert self.body.paused == self.stopped
        if drained and not self.holding:
            assert not self.stopped


BodyMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestBody = BodyMachine.TestCase
