"""Slots, the bounded queue, and who is refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.counts import SECONDS
from sidecar.policy.bulkhead import Bulkhead, BulkheadSettings
from sidecar.policy.waitlist import ADMITTED, CROWDED_OUT, TIMED_OUT, WAITING, Ticket


def a_bulkhead(slots: int = 1, queue: int = 2, **more: Any) -> Bulkhead:
    return Bulkhead("reads", BulkheadSettings(max_concurrent=slots, max_queue=queue, **more))


def fill(bulkhead: Bulkhead) -> None:
    while bulkhead.enter():
        pass


def used_to(bulkhead: Bulkhead, *, hold: float, head: float | None = None, times: int = 8) -> None:
    """Let it know how long slots are usually held, and how long an answer usually takes."""
    for _ in range(times):
        assert bulkhead.enter()
        bulkhead.answered(hold if head is None else head, 0.0)
        bulkhead.leave(0.0, hold)


def queue_up(bulkhead: Bulkhead, *since: float, left: float = math.inf) -> list[Ticket]:
    tickets = [Ticket(at) for at in since]
    assert [bulkhead.join(ticket, left) for ticket in tickets] == [True] * len(tickets)
    return tickets


def states(tickets: list[Ticket]) -> list[int]:
    return [ticket.state for ticket in tickets]


def counters(bulkhead: Bulkhead) -> dict[str, int]:
    names = ("in_use", "limit", "queued", "admitted", "rejected_full", "rejected_timeout", "left")
    return {name: value for name in names if (value := getattr(bulkhead, name))}


def test_the_defaults_are_a_hundred_slots_and_a_second_of_waiting() -> None:
    bulkhead = Bulkhead("a", BulkheadSettings())

    assert (bulkhead.name, counters(bulkhead)) == ("a", {"limit": 100})
    assert bulkhead.settings == BulkheadSettings(
        max_concurrent=100, max_queue=100, queue_timeout=1.0, order="fifo", target=None, adaptive=None
    )


def test_nobody_has_waited_in_a_new_one() -> None:
    waits = Bulkhead("a", BulkheadSettings()).waits

    assert (waits.bounds, sum(waits.counts), waits.total) == (SECONDS, 0, 0.0)


def test_no_more_come_in_than_there_are_slots() -> None:
    bulkhead = a_bulkhead(slots=2)

    assert [bulkhead.enter() for _ in range(3)] == [True, True, False]
    assert counters(bulkhead) == {"limit": 2, "in_use": 2, "admitted": 2}
    assert repr(bulkhead) == "<Bulkhead reads: 2 of 2 in use, 0 queued>"


def test_a_slot_that_comes_back_can_be_had_again() -> None:
    bulkhead = a_bulkhead()
    fill(bulkhead)

    bulkhead.leave(0, 1)

    assert bulkhead.enter()
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 2}


def test_the_queue_is_never_longer_than_configured() -> None:
    bulkhead = a_bulkhead(queue=2)
    fill(bulkhead)
    queue_up(bulkhead, 1, 2)

    assert bulkhead.join(Ticket(3), math.inf) is False
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 1, "queued": 2, "rejected_full": 1}


@pytest.mark.parametrize("order", ["fifo", "lifo", "adaptive"])
def test_without_a_queue_nobody_waits(order: str) -> None:
    bulkhead = a_bulkhead(queue=0, order=order)
    fill(bulkhead)

    assert bulkhead.join(Ticket(1), math.inf) is False
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 1, "rejected_full": 1}


def test_a_slot_goes_to_whoever_came_first() -> None:
    bulkhead = a_bulkhead()
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)

    bulkhead.leave(0, 3)

    assert states(tickets) == [ADMITTED, WAITING]
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 2, "queued": 1}


def test_last_in_first_out_gives_it_to_the_newest() -> None:
    bulkhead = a_bulkhead(order="lifo")
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)

    bulkhead.leave(0, 3)

    assert states(tickets) == [WAITING, ADMITTED]


@pytest.mark.parametrize(
    ("target", "now", "expected"),
    [
        (None, 3.4, [ADMITTED, WAITING]),  # a quarter of 10 s, from when the oldest came
        (None, 3.5, [WAITING, ADMITTED]),
        (6.0, 6.9, [ADMITTED, WAITING]),
        (6.0, 7.0, [WAITING, ADMITTED]),
    ],
)
def test_adaptive_serves_the_newest_once_the_oldest_has_waited_too_long(
    target: float | None, now: float, expected: list[int]
) -> None:
    bulkhead = a_bulkhead(order="adaptive", queue_timeout=10.0, target=target)
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)

    bulkhead.leave(0, now)

    assert states(tickets) == expected


def test_a_full_queue_drops_the_oldest_and_not_the_newest_where_the_newest_is_next() -> None:
    bulkhead = a_bulkhead(order="lifo")
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2, 3)

    assert states(tickets) == [CROWDED_OUT, WAITING, WAITING]
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 1, "queued": 2, "rejected_full": 1}


def test_an_adaptive_queue_drops_the_oldest_only_when_it_has_waited_too_long() -> None:
    bulkhead = a_bulkhead(order="adaptive", target=5.0)
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)

    assert bulkhead.join(Ticket(5.9), math.inf) is False
    assert states(tickets) == [WAITING, WAITING]
    assert bulkhead.join(Ticket(6.0), math.inf) is True
    assert states(tickets) == [CROWDED_OUT, WAITING]
    assert (bulkhead.queued, bulkhead.rejected_full) == (2, 2)


def test_a_wait_ends_at_the_queue_timeout() -> None:
    bulkhead = a_bulkhead()
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)

    bulkhead.expire(tickets[0])

    assert states(tickets) == [TIMED_OUT, WAITING]
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 1, "queued": 1, "rejected_timeout": 1}


def test_a_timeout_that_comes_too_late_changes_nothing() -> None:
    bulkhead = a_bulkhead()
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1)
    bulkhead.leave(0, 2)

    bulkhead.expire(tickets[0])

    assert states(tickets) == [ADMITTED]
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 2}


def test_who_leaves_while_waiting_leaves_the_queue() -> None:
    bulkhead = a_bulkhead()
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)

    bulkhead.abandon(tickets[0], 3)
    bulkhead.leave(0, 4)

    assert states(tickets) == [WAITING, ADMITTED]
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 2, "left": 1}


def test_a_slot_given_to_somebody_who_has_just_left_goes_to_the_next() -> None:
    bulkhead = a_bulkhead()
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)
    bulkhead.leave(0, 3)

    bulkhead.abandon(tickets[0], 3)

    assert states(tickets) == [ADMITTED, ADMITTED]
    assert counters(bulkhead) == {"limit": 1, "in_use": 1, "admitted": 3}


def test_a_slot_that_nobody_else_waits_for_is_free_again() -> None:
    bulkhead = a_bulkhead()
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1)
    bulkhead.leave(0, 3)

    bulkhead.abandon(tickets[0], 3)

    assert (bulkhead.in_use, bulkhead.enter()) == (0, True)


@pytest.mark.parametrize("outcome", [TIMED_OUT, CROWDED_OUT])
def test_who_leaves_after_a_refusal_gives_back_nothing(outcome: int) -> None:
    bulkhead = a_bulkhead(queue=1, order="lifo")
    fill(bulkhead)
    ticket = queue_up(bulkhead, 1)[0]
    if outcome == TIMED_OUT:
        bulkhead.expire(ticket)
    queue_up(bulkhead, 2)

    bulkhead.abandon(ticket, 3)

    assert ticket.state == outcome
    assert (bulkhead.in_use, bulkhead.queued, bulkhead.left) == (1, 1, 0)


@pytest.mark.parametrize(("now", "expected"), [(6.9, [ADMITTED, WAITING]), (7.0, [WAITING, ADMITTED])])
def test_who_is_next_after_somebody_who_has_just_left_is_decided_at_that_time(
    now: float, expected: list[int]
) -> None:
    bulkhead = a_bulkhead(queue=3, order="adaptive", target=5.0)
    fill(bulkhead)
    first, *others = queue_up(bulkhead, 1, 2, 3)
    bulkhead.leave(0, 4)

    bulkhead.abandon(first, now)

    assert states(others) == expected


# --- whoever has no hope ---


@pytest.mark.parametrize(
    ("left", "joins"),
    # Slots are held for 4 s, an answer takes 3 s: with one waiting and two slots, 2 · 4 / 2 + 3 = 7 s.
    [(math.inf, True), (7.0, True), (6.9, False), (0.0, False), (-1.0, False)],
)
def test_a_caller_whose_deadline_cannot_be_met_is_refused_now(left: float, joins: bool) -> None:
    bulkhead = a_bulkhead(slots=2, queue=10)
    used_to(bulkhead, hold=4.0, head=3.0)
    fill(bulkhead)
    queue_up(bulkhead, 1)

    assert bulkhead.join(Ticket(2), left) is joins
    assert (bulkhead.queued, bulkhead.rejected_full) == ((2, 0) if joins else (1, 1))


def test_the_newest_first_has_nobody_before_it() -> None:
    bulkhead = a_bulkhead(slots=2, queue=10, order="lifo")
    used_to(bulkhead, hold=4.0, head=3.0)
    fill(bulkhead)
    queue_up(bulkhead, 1, 1, 1)

    assert bulkhead.join(Ticket(2), 4.9) is False
    assert bulkhead.join(Ticket(2), 5.0) is True


def test_a_hopeless_newcomer_crowds_nobody_out() -> None:
    bulkhead = a_bulkhead(queue=1, order="lifo")
    used_to(bulkhead, hold=4.0)
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1)

    assert bulkhead.join(Ticket(2), 7.9) is False
    assert states(tickets) == [WAITING]


def test_as_long_as_nobody_knows_how_long_it_takes_everybody_may_try() -> None:
    bulkhead = a_bulkhead()
    used_to(bulkhead, hold=100.0, times=7)
    fill(bulkhead)

    assert bulkhead.join(Ticket(1), 0.01) is True
    assert bulkhead.drain() == 0.0


def test_a_long_download_does_not_make_an_answer_seem_to_take_long() -> None:
    bulkhead = a_bulkhead(slots=100)
    used_to(bulkhead, hold=60.0, head=0.1)
    fill(bulkhead)

    assert bulkhead.join(Ticket(0), 0.71) is True  # 60 s / 100 slots + 0.1 s


@pytest.mark.parametrize(("waiting", "expected"), [(0, 2.5), (1, 5.0), (3, 10.0)])
def test_those_who_are_refused_are_told_how_long_the_queue_takes_to_drain(
    waiting: int, expected: float
) -> None:
    bulkhead = a_bulkhead(slots=4, queue=3)
    used_to(bulkhead, hold=10.0, head=0.5)
    fill(bulkhead)
    queue_up(bulkhead, *range(waiting))

    assert bulkhead.drain() == expected


@given(slots=st.integers(1, 20), queued=st.integers(0, 50), hold=st.floats(0.001, 100), phase=st.floats(0, 1))
def test_waiting_for_as_long_as_told_is_enough_when_alone(
    slots: int, queued: int, hold: float, phase: float
) -> None:
    """All holders finish evenly spread over a hold; those who wait take over; nobody else comes."""
    bulkhead = a_bulkhead(slots=slots, queue=50)
    used_to(bulkhead, hold=hold)
    fill(bulkhead)
    queue_up(bulkhead, *([0.0] * queued))
    told = bulkhead.drain()

    ends = [hold * (turn + (slot + phase) / slots) for turn in range(60) for slot in range(slots)]
    for end in ends:
        if end > told * (1 + 1e-9):
            break
        bulkhead.leave(end - hold, end)

    assert bulkhead.in_use < slots
    assert bulkhead.queued == 0


# --- an adaptive limit ---


def test_an_adaptive_limit_begins_at_its_lowest_and_ignores_max_concurrent() -> None:
    assert a_bulkhead(slots=50, adaptive=(3, 80)).limit == 3


def a_round(bulkhead: Bulkhead, seconds: float, samples: int = 32) -> None:
    for _ in range(samples):
        bulkhead.answered(seconds, 5.0)


def test_a_limit_that_rises_lets_in_those_who_wait() -> None:
    bulkhead = a_bulkhead(queue=5, adaptive=(4, 80))
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)

    a_round(bulkhead, 0.1)

    assert states(tickets) == [ADMITTED, WAITING]
    assert (bulkhead.limit, bulkhead.in_use) == (5, 5)


def test_a_limit_that_falls_sends_nobody_away_and_lets_nobody_in() -> None:
    bulkhead = a_bulkhead(queue=5, adaptive=(4, 80))
    fill(bulkhead)
    for _ in range(4):
        a_round(bulkhead, 0.1)
        fill(bulkhead)
    assert (bulkhead.limit, bulkhead.in_use) == (8, 8)
    tickets = queue_up(bulkhead, 1)

    for _ in range(32):
        bulkhead.failed(2.0)

    assert (bulkhead.limit, bulkhead.in_use, states(tickets)) == (6, 8, [WAITING])
    bulkhead.leave(0, 3)
    bulkhead.leave(0, 3)
    assert (bulkhead.in_use, states(tickets), bulkhead.enter()) == (6, [WAITING], False)
    bulkhead.leave(0, 3)
    assert (bulkhead.in_use, states(tickets)) == (6, [ADMITTED])


def test_failures_in_a_round_that_still_grows_let_in_those_who_wait() -> None:
    bulkhead = a_bulkhead(queue=5, adaptive=(4, 80))
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1)
    a_round(bulkhead, 0.1, samples=31)

    bulkhead.failed(2.0)

    assert (bulkhead.limit, states(tickets)) == (4, [WAITING])  # 4 + (2 - 4 / 32) / 2 = 4.9375
    a_round(bulkhead, 0.1, samples=31)
    bulkhead.failed(2.0)
    assert (bulkhead.limit, states(tickets)) == (5, [ADMITTED])


RAISES: list[Callable[[Bulkhead, float], None]] = [
    lambda bulkhead, now: bulkhead.answered(0.1, now),
    lambda bulkhead, now: bulkhead.failed(now),
    lambda bulkhead, now: bulkhead.gave_up(0.1, now),
]


@pytest.mark.parametrize("raises", RAISES, ids=["answered", "failed", "gave_up"])
@pytest.mark.parametrize(("now", "expected"), [(5.9, [ADMITTED, WAITING]), (6.0, [WAITING, ADMITTED])])
def test_whom_a_rising_limit_lets_in_is_decided_at_that_time(
    raises: Callable[[Bulkhead, float], None], now: float, expected: list[int]
) -> None:
    bulkhead = a_bulkhead(order="adaptive", target=5.0, adaptive=(6, 80))
    fill(bulkhead)
    tickets = queue_up(bulkhead, 1, 2)
    a_round(bulkhead, 0.1, samples=31)

    raises(bulkhead, now)

    assert (bulkhead.limit, states(tickets)) == (7, expected)


@pytest.mark.parametrize(("seconds", "limit"), [(0.09, 8), (0.1, 6), (5.0, 6)])
def test_a_deadline_that_passed_counts_only_when_an_answer_was_overdue(seconds: float, limit: int) -> None:
    bulkhead = a_bulkhead(queue=5, adaptive=(4, 80))
    fill(bulkhead)
    for _ in range(4):
        a_round(bulkhead, 0.1)
        fill(bulkhead)

    for _ in range(32):
        bulkhead.gave_up(seconds, 2.0)

    assert bulkhead.limit == limit


def test_a_fixed_limit_learns_nothing() -> None:
    bulkhead = a_bulkhead(slots=4)
    fill(bulkhead)
    a_round(bulkhead, 0.1, samples=100)
    for _ in range(100):
        bulkhead.failed(2.0)
        bulkhead.gave_up(5.0, 2.0)

    assert bulkhead.limit == 4


# --- as a shadow ---


def shadowed(bulkhead: Bulkhead, left: float = math.inf) -> str:
    return "in" if bulkhead.enter() or bulkhead.slip_in(left) else "refused"


def test_a_shadow_lets_all_in_and_tells_whom_a_real_one_would_have_refused() -> None:
    bulkhead = a_bulkhead(slots=2, queue=1)

    assert [shadowed(bulkhead) for _ in range(4)] == ["in", "in", "in", "refused"]
    assert counters(bulkhead) == {"limit": 2, "in_use": 4, "admitted": 4}


def test_those_whom_a_real_one_would_have_refused_do_not_count_against_the_next() -> None:
    bulkhead = a_bulkhead(slots=1, queue=1)
    assert [shadowed(bulkhead) for _ in range(4)] == ["in", "in", "refused", "refused"]

    bulkhead.leave(0, 1)

    assert [shadowed(bulkhead) for _ in range(2)] == ["in", "refused"]
    assert bulkhead.in_use == 5
    for _ in range(3):
        bulkhead.slip_out(0, 2)
    for _ in range(2):
        bulkhead.leave(0, 2)
    assert bulkhead.in_use == 0
    assert [shadowed(bulkhead) for _ in range(3)] == ["in", "in", "refused"]


def test_who_would_have_found_a_free_slot_is_let_in_by_a_shadow_without_a_queue() -> None:
    bulkhead = a_bulkhead(slots=1, queue=0)
    assert [shadowed(bulkhead) for _ in range(2)] == ["in", "refused"]

    bulkhead.leave(0, 1)

    assert [shadowed(bulkhead) for _ in range(2)] == ["in", "refused"]


def test_a_shadow_counts_who_would_have_waited_in_vain() -> None:
    bulkhead = a_bulkhead(slots=2, queue=10, queue_timeout=1.0)
    used_to(bulkhead, hold=1.0)
    fill(bulkhead)

    # 0.5 s and 1 s of waiting are within the time-out, 1.5 s are not.
    assert [shadowed(bulkhead) for _ in range(4)] == ["in", "in", "refused", "refused"]


@pytest.mark.parametrize(("left", "expected"), [(1.5, "in"), (1.4, "refused")])
def test_a_shadow_counts_who_would_have_had_no_hope(left: float, expected: str) -> None:
    bulkhead = a_bulkhead(slots=2, queue=10)
    used_to(bulkhead, hold=1.0)
    fill(bulkhead)

    assert shadowed(bulkhead, left) == expected


def test_a_hold_of_a_refused_one_is_learned_from_as_any_other() -> None:
    bulkhead = a_bulkhead(slots=1, queue=0)
    fill(bulkhead)
    for _ in range(8):
        assert not bulkhead.slip_in(math.inf)
        bulkhead.slip_out(1.0, 4.0)

    assert bulkhead.drain() == 3.0


# --- other settings ---


def test_more_slots_are_there_at_once_for_those_who_wait() -> None:
    bulkhead = a_bulkhead(slots=1, queue=3)
    fill(bulkhead)
    tickets = queue_up(bulkhead, 0.0, 0.1, 0.2)

    bulkhead.adjust(BulkheadSettings(max_concurrent=3, max_queue=3), 1.0)

    assert states(tickets) == [ADMITTED, ADMITTED, WAITING]
    assert counters(bulkhead) == {"in_use": 3, "limit": 3, "queued": 1, "admitted": 3}


def test_fewer_slots_send_nobody_away() -> None:
    bulkhead = a_bulkhead(slots=3, queue=2)
    fill(bulkhead)
    tickets = queue_up(bulkhead, 0.0, 0.1)

    bulkhead.adjust(BulkheadSettings(max_concurrent=1, max_queue=0), 1.0)
    bulkhead.leave(0.0, 1.0)
    bulkhead.leave(0.0, 1.0)

    assert states(tickets) == [WAITING, WAITING]
    bulkhead.leave(0.0, 1.0)
    assert states(tickets) == [ADMITTED, WAITING]
    assert bulkhead.join(Ticket(1.0), math.inf) is False


def test_another_order_is_that_of_those_who_wait_already() -> None:
    bulkhead = a_bulkhead(slots=1, queue=3)
    fill(bulkhead)
    tickets = queue_up(bulkhead, 0.0, 0.1)

    bulkhead.adjust(BulkheadSettings(max_concurrent=1, max_queue=3, order="lifo"), 1.0)
    bulkhead.leave(0.0, 1.0)

    assert states(tickets) == [WAITING, ADMITTED]


def test_an_adaptive_limit_begins_anew_only_where_its_bounds_are_others() -> None:
    bulkhead = a_bulkhead(adaptive=(4, 8))
    before = bulkhead.limit

    bulkhead.failed(0.0)
    bulkhead.adjust(BulkheadSettings(max_queue=7, adaptive=(4, 8)), 0.0)
    assert bulkhead.limit == before
    bulkhead.adjust(BulkheadSettings(adaptive=(6, 8)), 0.0)
    assert bulkhead.limit == 6
    bulkhead.adjust(BulkheadSettings(max_concurrent=3), 0.0)
    assert bulkhead.limit == 3
    bulkhead.answered(0.1, 0.0)
    assert bulkhead.limit == 3
    bulkhead.adjust(BulkheadSettings(adaptive=(2, 9)), 0.0)
    assert bulkhead.limit == 2


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        (BulkheadSettings(queue_timeout=2.0), 0.5),
        (BulkheadSettings(target=0.0), 0.0),
        (BulkheadSettings(target=3.0), 3.0),
    ],
)
def test_patience_is_a_quarter_of_the_queue_timeout_unless_said(
    settings: BulkheadSettings, seconds: float
) -> None:
    assert settings.patience == seconds
