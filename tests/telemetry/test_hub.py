"""Events reach whoever listens, and nobody who publishes ever waits."""

from sidecar.telemetry.hub import KEPT, QUEUE, Hub


async def test_a_listener_gets_what_happens_while_it_listens() -> None:
    hub = Hub(lambda: 100.0)
    hub.publish("breaker", {"name": "before"})
    listener = hub.subscribe()

    hub.publish("breaker", {"name": "db"})
    hub.publish("reload", {"ok": True})

    got = await listener.take()
    assert [(event.id, event.at, event.kind, event.data) for event in got] == [
        (2, 100.0, "breaker", {"name": "db"}),
        (3, 100.0, "reload", {"ok": True}),
    ]


async def test_who_says_what_he_saw_last_gets_what_came_after_it() -> None:
    hub = Hub(lambda: 0.0)
    for number in range(5):
        hub.publish("n", {"n": number})

    listener = hub.subscribe(after=3)

    assert [event.id for event in await listener.take()] == [4, 5]


async def test_a_listener_that_does_not_read_loses_the_oldest_and_is_told_how_many() -> None:
    hub = Hub(lambda: 0.0)
    listener = hub.subscribe()

    for number in range(QUEUE + 3):
        hub.publish("n", {"n": number})

    got = await listener.take()
    assert (len(got), got[0].data, listener.missed) == (QUEUE, {"n": 3}, 3)


async def test_who_has_left_gets_nothing_and_is_not_counted() -> None:
    hub = Hub(lambda: 0.0)
    listener = hub.subscribe()
    assert len(hub) == 1

    hub.unsubscribe(listener)
    hub.unsubscribe(listener)
    hub.publish("n", {})

    assert len(hub) == 0
    assert listener.missed == 0


def test_only_so_many_events_are_kept() -> None:
    hub = Hub(lambda: 0.0)
    for _ in range(KEPT + 10):
        hub.publish("n", {})

    assert (len(hub.recent), hub.recent[0].id) == (KEPT, 11)
