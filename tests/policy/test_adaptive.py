"""A limit that finds its own size: exact steps, and whole days against a service that queues."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.adaptive import AdaptiveLimit
from tests.support.attributes import twin


def rounds(limit: AdaptiveLimit, seconds: float, times: int = 1) -> list[int]:
    """Answer whole rounds, with all slots in use, and give the limit after each."""
    limits = []
    for _ in range(times):
        for _ in range(max(32, limit.limit)):
            limit.answered(seconds, limit.limit)
        limits.append(limit.limit)
    return limits


def failed_rounds(limit: AdaptiveLimit, times: int = 1) -> list[int]:
    limits = []
    for _ in range(times):
        for _ in range(max(32, limit.limit)):
            limit.dropped(limit.limit)
        limits.append(limit.limit)
    return limits


def put(limit: AdaptiveLimit, size: int) -> None:
    """Bring it to exactly `size`, by the back door."""
    limit._size = float(size)
    limit._begin_round()


def at(size: int, *, lowest: int = 1, highest: int = 200, usually: float = 1.0) -> AdaptiveLimit:
    """Give a limit that knows so many seconds as usual, and stands at `size`."""
    limit = AdaptiveLimit(lowest, highest)
    rounds(limit, usually, 4)
    put(limit, size)
    return limit


def size_of(limit: AdaptiveLimit) -> str:
    return repr(limit).split()[1]


def usual(limit: AdaptiveLimit) -> str:
    return repr(limit).split()[-1].rstrip(">")


# --- steps ---


def test_it_begins_at_its_lowest_and_tells_its_state() -> None:
    limit = AdaptiveLimit(4, 80)

    assert limit.limit == 4
    assert repr(limit) == "<AdaptiveLimit 4.00 in 4…80, usual 0.0000s>"


def test_it_grows_by_half_its_root_a_round_while_latency_is_as_usual() -> None:
    limit = AdaptiveLimit(4, 80)

    assert rounds(limit, 1.0, 6) == [5, 6, 7, 8, 10, 11]
    assert repr(limit) == "<AdaptiveLimit 11.78 in 4…80, usual 1.0000s>"


def test_a_round_is_thirty_two_samples_or_as_many_as_the_limit() -> None:
    small = at(4)
    assert [small.answered(1.0, 4) for _ in range(32)] == [4] * 31 + [5]

    large = at(36)
    assert [large.dropped(36) for _ in range(36)] == [36] * 35 + [27]


def test_it_never_passes_its_highest() -> None:
    limit = AdaptiveLimit(4, 6)

    assert rounds(limit, 1.0, 5) == [5, 6, 6, 6, 6]


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        (1.5, "105.00"),
        (1.6, "101.88"),  # 100 · (1.5 / 1.6) + 10 = 103.75, half-way
        (2.0, "92.50"),
        (3.0, "80.00"),
        (30.0, "80.00"),  # half and ten, half-way: the steepest there is
    ],
)
def test_it_shrinks_by_how_much_latency_exceeds_the_usual(seconds: float, size: str) -> None:
    limit = at(100)

    rounds(limit, seconds)

    assert size_of(limit) == size


@pytest.mark.parametrize(
    ("failures", "size"),
    [
        (0, "105.00"),
        (1, "104.50"),
        (10, "100.00"),
        (20, "95.00"),
        (50, "80.00"),
        (99, "80.00"),
        (100, "75.00"),
    ],
)
def test_a_few_failures_slow_it_down_and_many_shrink_it(failures: int, size: str) -> None:
    limit = at(100)

    for _ in range(failures):
        limit.dropped(100)
    for _ in range(100 - failures):
        limit.answered(1.0, 100)

    assert size_of(limit) == size


def test_of_failures_and_latency_the_worse_counts() -> None:
    limit = at(100)

    for _ in range(10):
        limit.dropped(100)
    for _ in range(90):
        limit.answered(2.0, 100)

    assert size_of(limit) == "92.50"


def test_an_outage_takes_a_quarter_a_round_down_to_the_lowest() -> None:
    limit = at(100, lowest=10)

    assert failed_rounds(limit, 10) == [75, 56, 42, 31, 23, 17, 13, 10, 10, 10]


def test_a_failure_can_end_a_round_and_so_can_an_answer() -> None:
    limit = at(4)
    for _ in range(31):
        limit.answered(1.0, 4)

    assert (limit.dropped(4), size_of(limit)) == (4, "4.94")

    for _ in range(31):
        limit.dropped(4)
    assert (limit.answered(1.0, 4), size_of(limit)) == (4, "4.81")


def test_every_round_counts_afresh() -> None:
    limit = at(4)
    for _ in range(16):
        limit.dropped(4)
        limit.answered(1.0, 4)
    put(limit, 4)

    assert rounds(limit, 1.0) == [5]


@pytest.mark.parametrize("in_flight", [1, 49])
def test_it_is_frozen_while_fewer_than_half_are_in_flight(in_flight: int) -> None:
    limit = at(100)

    for _ in range(1000):
        limit.answered(1.0, in_flight)
        limit.dropped(in_flight)
        limit.answered(50.0, in_flight)

    assert limit.limit == 100


def test_half_in_flight_are_enough_to_learn_from() -> None:
    limit = at(100)

    for _ in range(100):
        limit.answered(1.0, 50)
    assert size_of(limit) == "105.00"
    put(limit, 104)
    for _ in range(104):
        limit.dropped(52)

    assert size_of(limit) == "78.00"  # less a quarter


# --- what is usual ---


def test_while_nothing_queues_the_usual_is_the_long_average() -> None:
    limit = AdaptiveLimit(10, 200)

    seen = []
    for seconds in (1.0, 3.0, 5.0):
        limit.answered(seconds, 1)
        seen.append(usual(limit))
    for _ in range(97):
        limit.answered(3.0, 4)
    seen.append(usual(limit))
    for _ in range(3):
        limit.answered(5.0, 4)  # those past the hundredth weigh no less than it did
    seen.append(usual(limit))

    assert seen == ["1.0000s", "2.0000s", "3.0000s", "3.0000s", "3.0594s"]


def test_the_first_hundred_answers_are_usual_whatever_they_are() -> None:
    limit = AdaptiveLimit(4, 80)

    seen = []
    for seconds in (1.0, 9.0, 2.0, 8.0):
        rounds(limit, seconds)
        seen.append(usual(limit))

    assert seen == ["1.0000s", "5.0000s", "4.0000s", "5.0000s"]
    assert size_of(limit) == "8.71"
    rounds(limit, 7.6)
    assert (usual(limit), size_of(limit)) == ("5.0000s", "10.13")


def test_calm_and_busy_answers_are_learned_from_together() -> None:
    limit = AdaptiveLimit(4, 80)
    rounds(limit, 1.0)

    for _ in range(32):
        limit.answered(3.0, 1)
    assert usual(limit) == "2.0000s"

    for _ in range(35):
        limit.answered(2.0, 1)
    rounds(limit, 2.1)  # 99 are known: this round is still usual by definition
    assert usual(limit) == "2.0244s"
    rounds(limit, 2.4)
    assert usual(limit) == "2.0432s"


@pytest.mark.parametrize(
    ("seconds", "then"),
    [(1.0, "1.0000s"), (1.1, "1.0050s"), (1.21, "1.0000s"), (1.5, "1.0000s"), (0.5, "0.9500s")],
)
def test_in_a_busy_round_the_usual_follows_what_is_as_usual_only(seconds: float, then: str) -> None:
    limit = at(64)

    rounds(limit, seconds)

    assert (usual(limit), limit.limit) == (then, 68)


@pytest.mark.parametrize(("seconds", "then"), [(6.0, "5.0500s"), (6.25, "5.0000s"), (7.5, "5.0000s")])
def test_a_fifth_more_is_still_as_usual(seconds: float, then: str) -> None:
    limit = at(64, usually=5.0)

    rounds(limit, seconds)

    assert usual(limit) == then


def test_what_is_shorter_than_a_millisecond_counts_as_one() -> None:
    limit = AdaptiveLimit(1, 200)
    rounds(limit, 0.0, 4)
    put(limit, 64)

    assert usual(limit) == "0.0010s"
    assert rounds(limit, 0.0015) == [68]


# --- a queue, or a slower service ---


def test_a_queue_shortens_with_the_limit_and_the_usual_stays() -> None:
    limit = at(100)

    for _ in range(100):
        rounds(limit, limit.limit / 10)  # a service that does ten at a time in a second

    assert (limit.limit, usual(limit)) == (19, "1.0000s")  # 1.5 · 10, and a root


def test_a_service_that_is_as_slow_at_half_the_limit_is_slower_and_not_queueing() -> None:
    limit = at(100)

    assert rounds(limit, 4.0, 4) == [80, 64, 52, 42]
    assert usual(limit) == "1.0000s"
    assert rounds(limit, 4.0, 2) == [46, 49]
    assert usual(limit) == "4.0000s"


def test_a_service_of_milliseconds_is_judged_as_one_of_seconds_is() -> None:
    limit = at(100, usually=0.01)

    assert rounds(limit, 0.04, 6) == [80, 64, 52, 42, 46, 49]
    assert usual(limit) == "0.0400s"


@pytest.mark.parametrize(("size", "then"), [(50, "4.0000s"), (51, "1.0000s")])
def test_half_of_the_limit_at_the_peak_is_low_enough_to_tell(size: int, then: str) -> None:
    limit = at(100)
    rounds(limit, 4.0)

    put(limit, size)
    rounds(limit, 4.0)

    assert usual(limit) == then


@pytest.mark.parametrize(("later", "then"), [(2.6, "1.0000s"), (2.7, "2.7000s")])
def test_it_is_slower_when_less_than_a_third_of_the_delay_has_gone_with_half_of_the_limit(
    later: float, then: str
) -> None:
    limit = at(100)
    rounds(
        limit, 4.0, 4
    )  # now at 42.99: a queue of 4 s would be one of 1.72 s, and one and a half times that 2.58

    put(limit, 44)
    rounds(limit, later)

    assert usual(limit) == then


@pytest.mark.parametrize(("later", "then"), [(3.0, "1.0000s"), (3.125, "3.1250s")])
def test_half_as_much_again_as_a_queue_would_take_may_still_be_one(later: float, then: str) -> None:
    limit = at(100)
    rounds(limit, 4.0)

    put(limit, 50)
    rounds(limit, later)

    assert usual(limit) == then


def test_the_queue_at_the_peak_is_the_longest_that_was_seen() -> None:
    """The first slow round is only half one: at that time the queue was not all there yet."""
    limit = at(100)
    rounds(limit, 2.0)
    rounds(limit, 4.0)

    put(limit, 44)
    rounds(limit, 2.6)

    assert usual(limit) == "1.0000s"


def test_a_round_as_usual_makes_the_next_slow_one_the_first() -> None:
    limit = at(100)
    rounds(limit, 4.0, 4)
    rounds(limit, 1.0)
    put(limit, 44)

    rounds(limit, 4.0)

    assert usual(limit) == "1.0000s"


def test_at_its_lowest_it_takes_things_as_they_are() -> None:
    limit = at(4, lowest=4)

    assert rounds(limit, 9.0, 3) == [5, 6, 7]
    assert usual(limit) == "9.0000s"


def test_what_is_tolerated_is_no_other_service_even_at_its_lowest() -> None:
    limit = at(4, lowest=4)

    rounds(limit, 1.5)

    assert usual(limit) == "1.0000s"


def slower(seconds: float) -> AdaptiveLimit:
    """Give a limit of 30 that has accepted `seconds` as usual instead of one."""
    limit = at(30, highest=30)
    rounds(limit, seconds, 30)
    assert (limit.limit, usual(limit)) == (30, f"{seconds:.4f}s")
    return limit


@pytest.mark.parametrize(("seconds", "size"), [(1.0, "30.00"), (1.5, "30.00"), (2.0, "28.99")])
def test_the_former_usual_is_the_measure_again_when_the_service_is_quicker(seconds: float, size: str) -> None:
    limit = slower(4.0)

    rounds(limit, seconds)

    assert (usual(limit), size_of(limit)) == ("1.0000s", size)


@pytest.mark.parametrize(("seconds", "then"), [(3.4, "3.9400s"), (3.3, "1.0000s")])
def test_a_little_quicker_is_not_recovered(seconds: float, then: str) -> None:
    limit = slower(4.0)

    rounds(limit, seconds)

    assert usual(limit) == then


@pytest.mark.parametrize(
    ("accepted", "seconds", "then"),
    [(6.0, 5.0, "5.9000s"), (6.0, 4.875, "1.0000s"), (4.0, 6.0, "4.0000s"), (4.0, 6.125, "1.0000s")],
)
def test_the_former_usual_is_tried_when_the_new_one_is_left_and_no_sooner(
    accepted: float, seconds: float, then: str
) -> None:
    limit = slower(accepted)

    rounds(limit, seconds)

    assert usual(limit) == then


def slow_down(limit: AdaptiveLimit) -> None:
    """Answer slowly until that is accepted, against what was usual."""
    for _ in range(30):
        rounds(limit, 4.6)
        if usual(limit) == "4.6000s":
            return
    raise AssertionError("never accepted")


def rounds_until_tried(limit: AdaptiveLimit) -> int:
    """Find after how many rounds a quicker one makes the former usual the measure again, and stop right there."""
    for number in range(1000):
        peep = twin(limit, AdaptiveLimit(1, 1))
        rounds(peep, 3.5)
        if usual(peep) == "1.0000s":
            rounds(limit, 3.5)
            return number + 1
        rounds(limit, 4.6)
    raise AssertionError("never tried")


def test_a_former_usual_that_does_not_come_back_is_tried_more_and_more_rarely() -> None:
    limit = at(30, highest=30)
    waits = []
    for _ in range(4):
        slow_down(limit)
        waits.append(rounds_until_tried(limit))

    assert waits == [16, 32, 64, 128]


def test_a_recovery_begins_the_count_anew() -> None:
    limit = at(30, highest=30)
    for _ in range(3):
        slow_down(limit)
        rounds_until_tried(limit)
    rounds(limit, 1.0, 30)

    slow_down(limit)

    assert rounds_until_tried(limit) == 16


def test_what_was_usual_before_two_slowdowns_is_what_comes_back() -> None:
    limit = slower(2.2)
    limit._rest = 1000  # so that the second slowdown is taken for one
    rounds(limit, 9.0, 30)
    limit._rest = 0
    assert usual(limit) == "9.0000s"

    rounds(limit, 1.2)

    assert usual(limit) == "1.0000s"


def test_calm_makes_it_forget_how_it_was_before() -> None:
    limit = slower(4.0)
    limit.answered(4.0, 1)

    rounds(limit, 2.0)

    assert usual(limit) == "3.8000s"


# --- what always holds ---


@given(
    bounds=st.tuples(st.integers(1, 50), st.integers(0, 200)),
    samples=st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 1.5)), max_size=60),
    repeat=st.integers(1, 40),
)
def test_the_limit_is_always_within_its_bounds(
    bounds: tuple[int, int], samples: list[tuple[bool, float, float]], repeat: int
) -> None:
    lowest, highest = bounds[0], bounds[0] + bounds[1]
    limit = AdaptiveLimit(lowest, highest)

    for answered, seconds, share in samples * repeat:
        in_flight = max(1, int(limit.limit * share))
        told = limit.answered(seconds, in_flight) if answered else limit.dropped(in_flight)
        assert lowest <= limit.limit <= highest
        assert told == limit.limit


@settings(max_examples=30)
@given(fastest=st.floats(0.002, 10), factors=st.lists(st.floats(1, 1.5), min_size=1, max_size=200))
def test_it_never_drops_without_evidence(fastest: float, factors: list[float]) -> None:
    """While no answer takes more than half as long again as the quickest, and none fails, it only ever grows."""
    limit = AdaptiveLimit(2, 100)
    before = 2

    for factor in factors * 20:
        limit.answered(fastest * factor, limit.limit)
        assert limit.limit >= before
        before = limit.limit


# --- whole days ---


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: when, the limit after it, and how long it took."""

    at: float
    limit: int
    latency: float


Course = Callable[[float], float]
Noise = Callable[[random.Random], float]

EVEN: Noise = lambda _: 1.0  # noqa: E731 -- three one-liners that belong together
UNEVEN: Noise = lambda chance: chance.uniform(0.5, 1.5)  # noqa: E731
MEMORYLESS: Noise = lambda chance: chance.expovariate(1)  # noqa: E731
NOISES = [EVEN, UNEVEN, MEMORYLESS]


def a_day(
    limit: AdaptiveLimit,
    until: float,
    *,
    capacity: Course,
    service: Course,
    noise: Noise,
    demand: int = 10**6,
) -> list[Seen]:
    """Play a service that does `capacity` requests at a time, each in `service` seconds, and queues the others.

    There are always `demand` callers, and as many of them in flight as the limit allows.
    """
    chance = random.Random(7)
    now = 0.0
    in_flight = busy = 0
    queue: deque[float] = deque()
    ends: list[tuple[float, int, float]] = []
    seen: list[Seen] = []
    while now < until:
        while in_flight < min(limit.limit, demand):
            in_flight += 1
            queue.append(now)
        while queue and busy < capacity(now):
            busy += 1
            heapq.heappush(ends, (now + service(now) * noise(chance), len(seen) + busy, queue.popleft()))
        now, _, began = heapq.heappop(ends)
        busy -= 1
        limit.answered(now - began, in_flight)
        in_flight -= 1
        seen.append(Seen(now, limit.limit, now - began))
    return seen


def between(seen: list[Seen], begin: float, end: float) -> list[Seen]:
    return [each for each in seen if begin <= each.at < end]


@pytest.mark.parametrize("noise", NOISES, ids=["even", "uneven", "memoryless"])
@pytest.mark.parametrize("capacity", [5, 20, 100])
def test_the_limit_settles_near_the_true_capacity_and_latency_stays_bounded(
    capacity: int, noise: Noise
) -> None:
    limit = AdaptiveLimit(2, 1000)

    seen = a_day(limit, 60, capacity=lambda _: capacity, service=lambda _: 0.1, noise=noise)

    settled = between(seen, 15, 60)
    assert capacity <= min(each.limit for each in settled)
    assert max(each.limit for each in settled) <= max(2 * capacity + 2, 3 * capacity)
    assert mean(each.latency for each in settled) < 0.25
    assert len(settled) > 0.95 * capacity / 0.1 * 45  # the service is never idle


@pytest.mark.parametrize("noise", NOISES, ids=["even", "uneven", "memoryless"])
def test_it_follows_a_capacity_that_falls_and_comes_back(noise: Noise) -> None:
    limit = AdaptiveLimit(2, 1000)

    seen = a_day(
        limit, 90, capacity=lambda now: 5 if 30 <= now < 60 else 20, service=lambda _: 0.1, noise=noise
    )

    narrow, wide = between(seen, 45, 60), between(seen, 75, 90)
    assert 5 <= mean(each.limit for each in narrow) <= 20
    assert mean(each.latency for each in narrow) < 0.4
    assert 20 <= mean(each.limit for each in wide) <= 42
    assert mean(each.latency for each in wide) < 0.2


@pytest.mark.parametrize("noise", NOISES, ids=["even", "uneven", "memoryless"])
def test_it_recovers_after_a_slowdown_ends(noise: Noise) -> None:
    limit = AdaptiveLimit(2, 1000)

    seen = a_day(
        limit, 160, capacity=lambda _: 20, service=lambda now: 0.3 if 30 <= now < 60 else 0.1, noise=noise
    )

    slow, after = between(seen, 40, 60), between(seen, 120, 160)
    assert len(slow) > 0.85 * 20 / 0.3 * 20  # a slower service still gets its work
    assert mean(each.latency for each in slow) < 0.3 * 2.5
    assert 20 <= mean(each.limit for each in after) <= 42
    assert mean(each.latency for each in after) < 0.2


def test_a_limit_that_nobody_needs_does_not_grow() -> None:
    limit = AdaptiveLimit(2, 1000)

    seen = a_day(limit, 60, capacity=lambda _: 1000, service=lambda _: 0.1, noise=MEMORYLESS, demand=10)

    assert seen[-1].limit <= 22
