"""A breaker in any order of events: never too many trials, never stuck, and deaf to what comes late.

The machine keeps its own books: what it holds permits for, how many of them are trials, and how long the run of failures
is. The breaker's timeline is checked from the events that it told.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from sidecar.policy.breaker import (
    FAILURE,
    IGNORED,
    REFUSED,
    SUCCESS,
    Breaker,
    BreakerSettings,
    BreakerView,
    Event,
    State,
)

YEAR = 365 * 86_400.0
RUN = 3

Held = tuple[int, int]  # a permit, and the generation in which it was given


class BreakerMachine(RuleBasedStateMachine):
    """Requests, waiting, probes and operators on one breaker, in any order."""

    permits: Bundle[Held] = Bundle("permits")
    bodies: Bundle[Held] = Bundle("bodies")

    @initialize(trials=st.integers(1, 3), successes=st.integers(1, 3), u=st.floats(0, 1, exclude_max=True))
    def begin(self, trials: int, successes: int, u: float) -> None:
        self.settings = BreakerSettings(
            consecutive_failures=RUN, max_trials=trials, successes=successes, max_wait=20.0, open_max=100.0
        )
        self.breaker = Breaker("x", self.settings, lambda: u)
        self.told: list[Event] = []
        self.breaker.on_event = self.told.append
        self.now = 0.0
        self.known = 0  # the generation that the books are of
        self.trials: set[int] = set()
        self.good = 0
        self.run = 0

    def look(self) -> BreakerView:
        """Look, and begin new books if there is a new generation."""
        view = self.breaker.view(self.now)
        if view.generation != self.known:
            self.known = view.generation
            self.trials.clear()
            self.good = self.run = 0
        return view

    # --- what may happen ---

    @rule(seconds=st.one_of(st.floats(0, 5), st.sampled_from([20.0, 30.0, 150.0])))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permits)
    def enter(self) -> "Held | MultipleResults[Held]":
        view = self.look()
        permit = self.breaker.enter(self.now)
        assert (permit == REFUSED) == (view.retry_after is not None)
        if permit == REFUSED:
            assert self.breaker.refusal(self.now) == view.retry_after
            assert view.retry_after is not None
            assert view.retry_after > 0
            return multiple()
        if view.state is State.HALF_OPEN:
            self.trials.add(permit)
        return permit, view.generation

    @rule(
        target=bodies,
        held=consumes(permits),
        verdict=st.sampled_from([SUCCESS, FAILURE, IGNORED]),
    )
    def settle(self, held: Held, verdict: int) -> "Held | MultipleResults[Held]":
        permit, generation = held
        before = self.look()
        self.breaker.settle(permit, verdict, self.now, 1.0, "a word")
        if generation != before.generation:
            self.nothing_changed(before, late=1)
        elif before.state is State.HALF_OPEN:
            self.trials.discard(permit)
            self.decided(verdict)
        elif before.forced is None:
            self.run += verdict == FAILURE
            self.tripped_or_not()
        return held if verdict == SUCCESS else multiple()

    @rule(held=consumes(bodies))
    def body_ends(self, held: Held) -> None:
        permit, generation = held
        before = self.look()
        self.breaker.body_ended(permit)
        if generation != before.generation:
            self.nothing_changed(before, late=0)
        else:
            self.run = 0

    @rule(held=consumes(bodies))
    def body_breaks(self, held: Held) -> None:
        permit, generation = held
        before = self.look()
        self.breaker.body_broke(permit, self.now, "a word")
        if generation != before.generation:
            self.nothing_changed(before, late=1)
        elif before.state is State.HALF_OPEN:
            self.decided(FAILURE)
        elif before.forced is None:
            self.run += 1
            self.tripped_or_not()

    @rule(to=st.sampled_from(["open", "closed"]), ttl=st.sampled_from([None, 0.0, 10.0, 100.0]))
    def force(self, to: str, ttl: float | None) -> None:
        (self.breaker.force_open if to == "open" else self.breaker.force_closed)(self.now, ttl)

    @rule()
    def a_probe_passes(self) -> None:
        before = self.look()
        hastened = self.breaker.hasten(self.now)
        assert hastened == (before.state is State.OPEN and before.forced is None)
        if not hastened:
            self.nothing_changed(before, late=0)
            return
        after = self.look()
        assert (after.state, after.trials, after.trips) == (State.HALF_OPEN, 0, before.trips)

    @rule()
    def reset(self) -> None:
        self.breaker.reset(self.now)
        assert self.look().state is State.CLOSED

    # --- what must come of it ---

    def decided(self, verdict: int) -> None:
        self.good += verdict == SUCCESS
        after = self.breaker.state
        if verdict == FAILURE:
            assert after is State.OPEN
        elif self.good == self.settings.successes:
            assert after is State.CLOSED
        else:
            assert after is State.HALF_OPEN
        self.look()

    def tripped_or_not(self) -> None:
        assert self.breaker.state is (State.OPEN if self.run >= RUN else State.CLOSED)
        self.look()

    def nothing_changed(self, before: BreakerView, late: int) -> None:
        after = self.breaker.view(self.now)
        assert after.late == before.late + late
        assert (after.state, after.generation, after.failures, after.successes, after.run, after.trials) == (
            before.state,
            before.generation,
            before.failures,
            before.successes,
            before.run,
            before.trials,
        )

    @invariant()
    def the_books_agree(self) -> None:
        view = self.look()
        assert view.trials == len(self.trials) <= self.settings.max_trials
        if view.state is State.CLOSED and view.forced is None:
            assert view.run == self.run < RUN
        assert view.generation == len(self.told)

    @invariant()
    def the_timeline_is_sound(self) -> None:
        state, since, is_open = State.CLOSED, 0.0, 0.0
        trip_at, opens_for = 0.0, 0.0
        began = None
        for event in self.told:
            assert event.before is state
            assert since <= event.at <= self.now
            if state is State.OPEN:
                is_open += event.at - since
            if event.cause == "open_time_over":
                assert event.at == trip_at + opens_for
            if event.cause == "probe_passed":
                assert (event.before, event.after, event.forced) == (State.OPEN, State.HALF_OPEN, None)
                assert event.at < trip_at + opens_for
            if event.trip is not None:
                trip_at, opens_for = event.at, event.trip.open_for
                assert 30 * 0.9 <= opens_for <= 100 * 1.1
            assert (event.after is State.OPEN) == (event.trip is not None or event.forced == "open")
            began = None if event.after is State.CLOSED else began or event.trip
            state, since = event.after, event.at
        assert self.breaker.state is state
        assert self.breaker.first_trip is began
        if state is State.OPEN:
            is_open += self.now - since
        assert abs(self.breaker.open_seconds(self.now) - is_open) < 1e-6

    def teardown(self) -> None:
        """It is never stuck: with a healthy upstream it closes, whatever has been before."""
        if not hasattr(self, "breaker"):
            return
        if self.breaker.view(self.now + YEAR).forced is not None:
            self.breaker.reset(self.now + YEAR)
        for number in range(self.settings.successes):
            now = self.now + YEAR + number
            permit = self.breaker.enter(now)
            assert permit != REFUSED
            self.breaker.settle(permit, SUCCESS, now, 0.1, "ok")
        assert self.breaker.state is State.CLOSED


BreakerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
