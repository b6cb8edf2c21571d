"""Who waits, and who is next."""

import pytest

from sidecar.policy.waitlist import ADMITTED, WAITING, Order, Ticket, Waitlist


def a_queue(order: Order, *since: float, target: float = 10.0) -> tuple[Waitlist, list[Ticket]]:
    waitlist = Waitlist(order, target)
    tickets = [Ticket(at) for at in since]
    for ticket in tickets:
        waitlist.add(ticket)
    return waitlist, tickets


def taken(waitlist: Waitlist, now: float) -> list[float]:
    """Take all, at one moment, and give when they came."""
    return [waitlist.take(now).since for _ in range(len(waitlist.tickets))]


@pytest.mark.parametrize(
    ("order", "now", "expected"),
    [
        ("fifo", 3.0, [1, 2, 3]),
        ("fifo", 1000.0, [1, 2, 3]),
        ("lifo", 3.0, [3, 2, 1]),
        ("adaptive", 3.0, [1, 2, 3]),
        ("adaptive", 10.9, [1, 2, 3]),
        ("adaptive", 14.0, [3, 2, 1]),
    ],
)
def test_the_order_says_who_is_next(order: Order, now: float, expected: list[float]) -> None:
    waitlist, _ = a_queue(order, 1, 2, 3)

    assert taken(waitlist, now) == expected


def test_adaptive_turns_at_the_target_and_back_when_the_oldest_is_gone() -> None:
    waitlist, (oldest, _, newest) = a_queue("adaptive", 0, 5, 8, target=10)

    assert waitlist.newest_first(9.5) is False
    assert waitlist.newest_first(10) is True
    assert waitlist.take(10) is newest
    assert waitlist.take_oldest() is oldest
    assert waitlist.newest_first(10) is False


@pytest.mark.parametrize(("order", "expected"), [("fifo", False), ("lifo", True), ("adaptive", False)])
def test_an_empty_queue_has_an_order_too(order: Order, expected: bool) -> None:
    waitlist, _ = a_queue(order)

    assert waitlist.newest_first(1e9) is expected


@pytest.mark.parametrize("order", ["fifo", "lifo", "adaptive"])
def test_the_oldest_can_be_taken_in_any_order(order: Order) -> None:
    waitlist, (oldest, _) = a_queue(order, 1, 2)

    assert waitlist.take_oldest() is oldest


def test_who_leaves_is_passed_over() -> None:
    waitlist, (_, second, _) = a_queue("fifo", 1, 2, 3)

    waitlist.remove(second)

    assert taken(waitlist, 3) == [1, 3]


def test_taking_from_nobody_is_a_mistake() -> None:
    waitlist, _ = a_queue("fifo")

    with pytest.raises(KeyError):
        waitlist.take(0)
    with pytest.raises(KeyError):
        waitlist.take_oldest()
    with pytest.raises(KeyError):
        waitlist.remove(Ticket(0))


def test_a_ticket_remembers_its_outcome() -> None:
    ticket = Ticket(3.5)
    assert (ticket.since, ticket.state) == (3.5, WAITING)

    ticket.settle(ADMITTED)

    assert ticket.state == ADMITTED
