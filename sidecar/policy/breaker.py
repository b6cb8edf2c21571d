"""The circuit breaker: stop asking an upstream that fails, and find out by a few trials when it is well again.

    CLOSED ──(a trigger)──▶ OPEN ──(its time is over)──▶ HALF_OPEN ──(enough good trials)──▶ CLOSED
                             ▲──────(one bad trial, or one undecided for too long)──┘

A health probe that passes may end the time of OPEN early (`hasten`, `policy/health.py`); it closes nothing.

Nygard, "Release It!" (2007), with what practice has added since: a hard cap on concurrent trials, permits that know
their generation, and a snapshot of why it opened.

The contract of a request: `refusal` may be asked first (the gate); `enter` gives a permit or REFUSED; a permit is
settled exactly once, when the response head or an error is there; after a SUCCESS exactly one of `body_ended` and
`body_broke` may follow, or neither, when the client gave up.

* The run of consecutive failures is reset by a body that ended, not by a head: an upstream that breaks every body
  trips too. A broken body is one more FAILURE of the run and of the window, in which its head was counted as well.
* A permit is a number that carries its generation: every change begins a new one, and all numbers from before it are
  late. A late result changes nothing but the count of them.
* While HALF_OPEN the head decides a trial. A body that breaks before the other trials are decided reopens all the same.
  Where slow calls can trip, a slow trial is a failed one: else the breaker would close only to trip again.
* Each change of state begins new counts: failures from before an outage must not trip the first minute after it.
* What time alone brings about happens at the time at which it was due, though it is found out by the next call that
  brings the time: how often somebody looks changes nothing. There is no timer.
* The open time grows with every reopening. It is `open_for` again after the breaker has been CLOSED for `open_max`; one
  that trips sooner has had a relapse, and goes on with the open time that it had.
* An outage lasts from a trip until it is CLOSED. Why it began is kept as long: each failed trial is a trip too, but says
  no more than that it is not over.

Pure: `now` comes in, in seconds of a clock that does not go backwards, and so do random numbers.
"""

from collections import deque
from collections.abc import Callable
from math import inf

from sidecar.counts import Histogram
from sidecar.policy.breaker_settings import BreakerSettings
from sidecar.policy.evidence import Evidence, percent
from sidecar.policy.trip import CAUSES, BreakerView, Cause, Event, Forced, State, Trip

__all__ = [
    "CAUSES",
    "FAILURE",
    "FORCED_RETRY_AFTER",
    "IGNORED",
    "REFUSED",
    "SUCCESS",
    "TRIAL_RETRY_AFTER",
    "Breaker",
    "BreakerSettings",
    "BreakerView",
    "Event",
    "State",
    "Trip",
]

# Verdicts. Plain numbers: a member of an Enum takes ten times as long to read.
SUCCESS = 0
FAILURE = 1
IGNORED = 2  # neither: the client left, we ourselves refused, a 429

REFUSED = -1

# What a refusal says where nobody knows: all trials are under way (one may be decided at any moment), or somebody has
# forced the breaker open without saying for how long. Seconds.
TRIAL_RETRY_AFTER = 1.0
FORCED_RETRY_AFTER = 30.0

_EVENTS = 64

# Seconds from a trip to the close that ended the outage.
_RECOVERIES = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

_CLOSED, _OPEN, _HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


class Breaker:
    """One breaker, shared by all who name it. `chance` gives numbers in [0, 1).

    `passing`: it is CLOSED, and not forced: the way of nearly every request, on which nobody is refused. `state` and
    `forced` are as of the last call that brought the time; `view` brings it. `first_trip` began the outage that it is
    in; `last_trip` stays when that is over. `transitions` counts changes of state by (from, to, cause). `rejected` is
    for those to count who refuse requests on its word. `late` counts results that came after their generation.
    `on_event` is told of every change, as its last act, and must not raise.
    """

    __slots__ = (
        "_at_opening",
        "_chance",
        "_forced_until",
        "_open_seconds",
        "_permit",
        "_reopened",
        "_seen",
        "_serial",
        "_since",
        "_trials",
        "_tripped_at",
        "_until",
        "_volume",
        "_won",
        "events",
        "first_trip",
        "forced",
        "generation",
        "last_trip",
        "late",
        "name",
        "on_event",
        "passing",
        "recoveries",
        "rejected",
        "settings",
        "state",
        "transitions",
        "trips",
    )

    def __init__(self, name: str, settings: BreakerSettings, chance: Callable[[], float]) -> None:
        self.name = name
        self.settings = settings
        self.state = _CLOSED
        self.forced: Forced | None = None
        self.generation = 0
        self.rejected = 0
        self.late = 0
        self.trips = 0
        self.first_trip: Trip | None = None
        self.last_trip: Trip | None = None
        self.transitions: dict[tuple[State, State, Cause], int] = {}
        self.recoveries = Histogram(_RECOVERIES)
        self.events: deque[Event] = deque(maxlen=_EVENTS)
        self.on_event: Callable[[Event], None] | None = None
        self._chance = chance
        self._seen = Evidence(settings)
        self._volume = settings.volume
        self.passing = True
        self._permit = self._serial = 0  # the first permit of this generation, and the last one given
        self._trials: dict[int, float] = {}  # permits that are undecided, and since when; the oldest first
        self._won = 0  # good trials
        self._since = -inf  # in this state
        self._until = inf  # OPEN
        self._forced_until = inf
        self._reopened = 0  # how often in this outage, which decides on the open time
        self._tripped_at: float | None = None  # the first trip of this outage
        self._at_opening = (0, 0)  # failures and requests
        self._open_seconds = 0.0

    def __repr__(self) -> str:
        """Tell the live state in one line."""
        forced = f" (forced {self.forced})" if self.forced else ""
        return f"<Breaker {self.name} {self.state}{forced}, generation {self.generation}>"

    # --- a request ---

    def refusal(self, now: float) -> float | None:
        """Tell whether a request would be refused: for how many seconds it should wait, or None if it would pass."""
        if self.passing:
            return None
        self._catch_up(now)
        if self.forced == "open":
            return FORCED_RETRY_AFTER if self._forced_until == inf else self._forced_until - now
        if self.state is _OPEN:
            return self._until - now
        if len(self._trials) >= self.settings.max_trials:
            return TRIAL_RETRY_AFTER
        return None

    def enter(self, now: float) -> int:
        """Give a permit, which must be settled exactly once, or REFUSED."""
        if self.passing:
            return self._permit
        if self.refusal(now) is not None:
            return REFUSED
        if self.state is _CLOSED:
            return self._permit
        self._serial = permit = self._serial + 1
        self._trials[permit] = now
        return permit

    def settle(self, permit: int, verdict: int, now: float, seconds: float, what: str) -> None:
        """Take the verdict on one attempt: its head or its error was there after `seconds`.

        `what` is a word for it, such as "ok", "503", "timeout_attempt". An attempt that is IGNORED leaves no trace.
        """
        if not self.passing:
            self._settle_guarded(permit, verdict, now, seconds, what)
        elif permit != self._permit:
            self.late += 1
        elif verdict == SUCCESS:
            seen = self._seen
            # A success can trip too: when it completes the volume that the triggers wait for, and when it is slow.
            if seen.success(now, seconds, what) == self._volume or seconds > seen.slow_after:
                self._judge(now)
        elif verdict == FAILURE:
            self._seen.failure(now, seconds, what)
            self._judge(now)

    def body_ended(self, permit: int) -> None:
        """Take note that the body came whole: the run of consecutive failures is over."""
        if permit == self._permit:
            self._seen.run = 0

    def body_broke(self, permit: int, now: float, what: str) -> None:
        """Take note that a body broke after its head had been a SUCCESS: one more FAILURE."""
        if not self.passing:
            self._catch_up(now)
        if permit < self._permit:
            self.late += 1
        elif self.state is _HALF_OPEN:
            self._fail_trial(now, None, what, "trial_failed")
        else:
            self._seen.failure(now, None, what)
            if self.forced is None:
                self._judge(now)

    # --- an operator ---

    def force_open(self, now: float, ttl: float | None) -> None:
        """Refuse every request for `ttl` seconds, after which trials decide; None: until `reset`."""
        self._force("open", _OPEN, now, ttl)

    def force_closed(self, now: float, ttl: float | None) -> None:
        """Let every request pass and let nothing trip for `ttl` seconds, after which it is CLOSED with new counts."""
        self._force("closed", _CLOSED, now, ttl)

    def reset(self, now: float) -> None:
        """Be automatic again, and CLOSED, with new counts and the first open time."""
        self._catch_up(now)
        self.forced = None
        self._reopened = 0
        self._tripped_at = None
        self._seen.recent.clear()
        self._change(now, _CLOSED, "reset")

    def adjust(self, settings: BreakerSettings, now: float) -> None:
        """Go on with other settings: in the same state, with the same history, and new counts.

        An open time that began under the old ones ends no later than one that begins now would.
        """
        self._catch_up(now)
        self.settings = settings
        self._volume = settings.volume
        self._seen = self._seen.under(settings)
        if self.state is _OPEN and self.forced is None:
            self._until = min(self._until, now + settings.open_time(self._reopened, self._chance()))

    # --- a probe ---

    def hasten(self, now: float) -> bool:
        """Let trials begin before the open time is over: somebody has seen that the upstream answers.

        False: there is nothing to hasten. Only requests close it, and what an operator has forced open stays so.
        """
        self._catch_up(now)
        if self.state is not _OPEN or self.forced is not None:
            return False
        self._change(now, _HALF_OPEN, "probe_passed")
        return True

    # --- whoever looks ---

    def open_seconds(self, now: float) -> float:
        """Give for how many seconds in all it was OPEN, forced or not."""
        self._catch_up(now)
        return self._open_seconds + (now - self._since if self.state is _OPEN else 0.0)

    def view(self, now: float) -> BreakerView:
        """Give a picture of this moment."""
        open_seconds = self.open_seconds(now)
        is_open = self.state is _OPEN
        failures, total = self._at_opening if is_open else self._seen.counts(now)
        ends = self.forced is not None and self._forced_until != inf
        return BreakerView(
            name=self.name,
            state=self.state,
            forced=self.forced,
            forced_for=self._forced_until - now if ends else None,
            failures=failures,
            successes=total - failures,
            failure_rate=percent(failures, total),
            run=self._seen.run,
            retry_after=self.refusal(now),
            trials=len(self._trials),
            generation=self.generation,
            rejected=self.rejected,
            late=self.late,
            trips=self.trips,
            open_seconds=open_seconds,
            first_trip=self.first_trip,
            last_trip=self.last_trip,
        )

    # --- verdicts ---

    def _judge(self, now: float) -> None:
        cause = self._seen.cause(now)
        if cause is not None:
            self._trip(now, cause)

    def _settle_guarded(self, permit: int, verdict: int, now: float, seconds: float, what: str) -> None:
        """Settle where time may have brought something about: in every state but an automatic CLOSED."""
        self._catch_up(now)
        if permit < self._permit:
            self.late += 1
        elif self.state is _HALF_OPEN:
            if self._trials.pop(permit, None) is None:
                self.late += 1
            elif verdict != IGNORED:
                self._settle_trial(verdict, now, seconds, what)
        elif verdict == SUCCESS:  # forced closed: counted, and never judged
            self._seen.success(now, seconds, what)
        elif verdict == FAILURE:
            self._seen.failure(now, seconds, what)

    def _settle_trial(self, verdict: int, now: float, seconds: float, what: str) -> None:
        if verdict == SUCCESS and self.settings.slow_trips and seconds > self._seen.slow_after:
            verdict, what = FAILURE, "slow_call"
        if verdict == FAILURE:
            self._fail_trial(now, seconds, what, "trial_failed")
            return
        self._seen.success(now, seconds, what)
        self._won += 1
        if self._won >= self.settings.successes:
            if self._tripped_at is not None:
                self.recoveries.observe(now - self._tripped_at)
                self._tripped_at = None
            self._change(now, _CLOSED, "trial_succeeded")

    def _fail_trial(self, at: float, seconds: float | None, what: str, cause: Cause) -> None:
        self._seen.failure(at, seconds, what)
        self._reopened += 1
        self._trip(at, cause)

    # --- changes ---

    def _catch_up(self, now: float) -> None:
        """Let everything happen that was due by `now`, in its order and at its time."""
        while (due := self._due()) <= now:
            if self.forced is not None:
                after = _HALF_OPEN if self.forced == "open" else _CLOSED
                self.forced = None
                self._change(due, after, "force_expired")
            elif self.state is _OPEN:
                self._change(due, _HALF_OPEN, "open_time_over")
            else:
                self._fail_trial(due, self.settings.max_wait, "trial_timed_out", "trial_timed_out")

    def _due(self) -> float:
        if self.forced is not None:
            return self._forced_until
        if self.state is _OPEN:
            return self._until
        return min(self._trials.values(), default=inf) + self.settings.max_wait

    def _trip(self, at: float, cause: Cause) -> None:
        if self.state is _CLOSED and at - self._since >= self.settings.open_max:
            self._reopened = 0
        open_for = self.settings.open_time(self._reopened, self._chance())
        self._until = at + open_for
        self.trips += 1
        if self._tripped_at is None:
            self._tripped_at = at
        self.last_trip = trip = self._seen.trip(self.trips, at, cause, open_for)
        if self.first_trip is None:
            self.first_trip = trip
        self._change(at, _OPEN, cause, trip)

    def _force(self, forced: Forced, state: State, now: float, ttl: float | None) -> None:
        self._catch_up(now)
        self.forced = forced
        self._forced_until = inf if ttl is None else now + ttl
        self._tripped_at = None  # what ends an outage now is no recovery of the upstream's
        self._change(now, state, "forced")

    def _change(self, at: float, after: State, cause: Cause, trip: Trip | None = None) -> None:
        """Begin a new generation, with new counts, in the state `after`."""
        before = self.state
        if before is _OPEN:
            self._open_seconds += at - self._since
        elif after is _OPEN:
            self._at_opening = self._seen.counts(at)
        if after is _CLOSED:
            self.first_trip = None
        self.state = after
        self._since = at
        self.passing = after is _CLOSED and self.forced is None
        self.generation += 1
        self._permit = self._serial = self._serial + 1
        self._trials.clear()
        self._won = 0
        self._seen.begin()
        if before is not after:
            key = (before, after, cause)
            self.transitions[key] = self.transitions.get(key, 0) + 1
        event = Event(self.name, at, before, after, cause, self.forced, trip)
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)
