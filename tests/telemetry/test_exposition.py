"""The text that is scraped: both formats, compressed or not, one picture, and no long stay on the loop."""

import asyncio
import gzip
import shutil
import subprocess
from collections.abc import Iterator
from math import inf, nan
from time import perf_counter

import pytest
from prometheus_client import CollectorRegistry, Gauge

from sidecar.counts import Histogram
from sidecar.telemetry.exposition import Registry, exposition
from sidecar.telemetry.family import Counted, Family, Fixed, counter, gauge, histogram
from sidecar.telemetry.metrics import registry
from tests.support.live import live_from
from tests.support.scrapes import FORMATS, parsed, text_of, value

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# As they ask.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def a_registry(*families: Family, others: CollectorRegistry | None = None) -> Registry:
    return Registry(lambda: iter(families), lambda: (), others)


def some_families() -> tuple[Family, ...]:
    waits = Histogram((0.5, 1.0))
    for seconds in (0.25, 0.75, 2.0):
        waits.observe(seconds)
    return (
        counter("things", "Things.", ("kind",), [("a",), ("b",)], lambda: [1, 2.5]),
        gauge("size_bytes", "How large.", (), [()], lambda: [7]),
        histogram("wait_seconds", "How long.", ("who",), [(("me",), waits)]),
    )


def test_prometheus_text_is_written_as_prometheus_writes_it() -> None:
    assert text_of(a_registry(*some_families())) == (
        "# HELP things_total Things.\n"
        "# TYPE things_total counter\n"
        'things_total{kind="a"} 1.0\n'
        'things_total{kind="b"} 2.5\n'
        "# HELP size_bytes How large.\n"
        "# TYPE size_bytes gauge\n"
        "size_bytes 7.0\n"
        "# HELP wait_seconds How long.\n"
        "# TYPE wait_seconds histogram\n"
        'wait_seconds_bucket{le="0.5",who="me"} 1.0\n'
        'wait_seconds_bucket{le="1.0",who="me"} 2.0\n'
        'wait_seconds_bucket{le="+Inf",who="me"} 3.0\n'
        'wait_seconds_count{who="me"} 3.0\n'
        'wait_seconds_sum{who="me"} 3.0\n'
    )


def test_openmetrics_text_has_units_and_an_end() -> None:
    assert text_of(a_registry(*some_families()[:2]), "openmetrics") == (
        "# HELP things Things.\n"
        "# TYPE things counter\n"
        'things_total{kind="a"} 1.0\n'
        'things_total{kind="b"} 2.5\n'
        "# HELP size_bytes How large.\n"
        "# TYPE size_bytes gauge\n"
        "# UNIT size_bytes bytes\n"
        "size_bytes 7.0\n"
        "# EOF\n"
    )


@pytest.mark.parametrize("fmt", FORMATS)
def test_numbers_that_are_none_are_told_in_the_words_of_the_format(fmt: str) -> None:
    family = gauge("g", "A gauge.", ("n",), [("a",), ("b",), ("c",)], lambda: [nan, inf, -inf])

    lines = text_of(a_registry(family), fmt).splitlines()[2:5]

    assert lines == ['g{n="a"} NaN', 'g{n="b"} +Inf', 'g{n="c"} -Inf']


@pytest.mark.parametrize("name", ["with space", 'quo"te', "back\\slash", "new\nline", "ünï", ""])
@pytest.mark.parametrize("fmt", FORMATS)
def test_a_label_may_hold_any_text(name: str, fmt: str) -> None:
    family = gauge("g", "A gauge.", ("one", "other"), [(name, "x")], lambda: [1])

    assert value(parsed(text_of(a_registry(family), fmt), fmt), "g", one=name, other="x") == 1


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html", PLAIN),
        ("text/plain", PLAIN),
        ("application/openmetrics-text", OPEN),
        ("application/openmetrics-text; version=0.0.1", PLAIN),
        ("application/openmetrics-text;version=1.0.0;q=0", PLAIN),
        ("application/openmetrics-text;q=x", PLAIN),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.9", PLAIN),
        ('APPLICATION/OpenMetrics-Text; Version="1.0.0"', OPEN),
        (PROMETHEUS_2, OPEN),
        (PROMETHEUS_3, OPEN),
    ],
)
async def test_whoever_asks_gets_the_format_that_he_reads(accept: str, expected: str) -> None:
    body, headers = await exposition(a_registry(*some_families()), accept, "")

    assert headers == {"Content-Type": expected, "Vary": "Accept, Accept-Encoding"}
    assert body.endswith(b"# EOF\n") == (expected == OPEN)


@pytest.mark.parametrize(
    ("accept_encoding", "packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
    ],
)
async def test_what_is_long_is_compressed_for_those_who_take_it(accept_encoding: str, packed: bool) -> None:
    family = gauge("g", "A gauge.", ("n",), [(str(n),) for n in range(200)], lambda: range(200))
    metrics = a_registry(family)
    plain, _ = await exposition(metrics, "", "")

    body, headers = await exposition(metrics, "", accept_encoding)

    assert headers.get("Content-Encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(body) if packed else body) == plain
    assert (len(body) < len(plain) / 2) == packed


async def test_what_fits_into_a_packet_is_not_compressed() -> None:
    _, headers = await exposition(a_registry(*some_families()), "", "gzip")

    assert "Content-Encoding" not in headers


async def test_what_other_collectors_show_is_shown_too() -> None:
    others = CollectorRegistry()
    Gauge("of_others", "Theirs.", registry=others).set(3)

    for fmt in FORMATS:
        accept, _ = FORMATS[fmt]
        body, _ = await exposition(a_registry(*some_families(), others=others), accept, "")
        assert value(parsed(body.decode(), fmt), "of_others") == 3


async def test_one_scrape_is_one_picture_though_the_loop_turns_while_it_is_written() -> None:
    """Two families read the same number, far apart in the text; somebody changes it in every turn of the loop."""
    number = 0
    rows = [(str(n),) for n in range(20_000)]

    def numbers() -> list[float]:
        return [number] * len(rows)

    metrics = a_registry(gauge("a", "A.", ("n",), rows, numbers), gauge("b", "B.", ("n",), rows, numbers))
    turns = 0

    async def change() -> None:
        nonlocal number, turns
        while True:
            number += 1
            turns += 1
            await asyncio.sleep(0)

    changing = asyncio.get_running_loop().create_task(change())
    body, _ = await exposition(metrics, "", "gzip")
    changing.cancel()

    seen = {line.rpartition(b" ")[2] for line in gzip.decompress(body).splitlines() if line[:1] != b"#"}
    assert len(seen) == 1
    assert turns > 5


@pytest.mark.parametrize("when", ["while lines are made for them", "just before they are read"])
async def test_counters_that_are_replaced_while_a_scrape_is_under_way_are_not_mixed(when: str) -> None:
    """As by a reload: everything is then read from the new ones."""
    number, in_force = 1, object()
    loop = asyncio.get_running_loop()

    def replace() -> None:
        nonlocal number, in_force
        number, in_force = 2, object()

    def parts(name: str, mine: int) -> Iterator[Fixed]:
        for n in range(100):
            if (name, n, mine) == ("b", 50, 1) and when == "while lines are made for them":
                replace()
            yield Fixed(name, ("n",), [(str(n),)], lambda: [mine])
        if (name, mine) == ("c", 1) and when == "just before they are read":
            loop.call_soon(replace)

    def families() -> Iterator[Family]:
        for name in ("a", "b", "c"):
            yield Family(name, "gauge", "One.", parts(name, number))

    body, _ = await exposition(Registry(families, lambda: (in_force,)), "", "")

    assert {line.rpartition(b" ")[2] for line in body.splitlines() if line[:1] != b"#"} == {b"2.0"}


async def test_two_scrapes_at_once_get_a_picture_each() -> None:
    number = 0

    def read() -> list[int]:
        nonlocal number
        number += 1
        return [number]

    metrics = a_registry(gauge("g", "A gauge.", (), [()], read))

    bodies = await asyncio.gather(*[exposition(metrics, "", "") for _ in range(3)])

    assert [body.splitlines()[-1] for body, _ in bodies] == [b"g 1.0", b"g 2.0", b"g 3.0"]


def test_a_counter_that_comes_is_shown_and_what_was_known_stays() -> None:
    counts = {"b": 5}
    part = Counted("c_total", ("who", "what"), ("me",), counts, words=lambda key: (key,), known=("a", "b"))
    metrics = a_registry(Family("c", "counter", "Counted.", [part]))

    def shown() -> dict[str, float]:
        return {dict(labels)["what"]: n for (_, labels), n in parsed(text_of(metrics)).items()}

    assert shown() == {"a": 0, "b": 5}
    counts["c"] = 2
    counts["a"] = 1
    assert shown() == {"a": 1, "b": 5, "c": 2}
    counts["b"] = 6
    assert shown() == {"a": 1, "b": 6, "c": 2}


# --- at size ---

ROUTES = 200
LARGE = (
    "version: 1\nupstreams: {app: {url: 'http://127.0.0.1:9'}}\n"
    "defaults: {rate_limit: {limit: 10/1s}, cache: {}, bulkhead: {}, breaker: {failure_rate: 50%}, fallback: [stale]}\n"
    "routes:\n"
    + "".join(f"  - {{name: r{n}, match: {{path: /r{n}/**}}, upstream: app}}\n" for n in range(ROUTES))
)


async def test_two_hundred_routes_with_every_policy_are_scraped_without_holding_up_the_loop() -> None:
    """Generous by a factor of four over what was measured: the machine may be busy. `python -m bench scrape` measures."""
    metrics = registry(live_from(LARGE))
    await exposition(metrics, "", "gzip")
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = perf_counter()
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, perf_counter() - last), perf_counter()

    body = b""
    took = []
    stalls = []
    for _ in range(5):
        longest = 0.0
        watching = asyncio.get_running_loop().create_task(watch())
        began = perf_counter()
        body, _ = await exposition(metrics, "", "gzip")
        took.append(perf_counter() - began)
        watching.cancel()
        stalls.append(longest)

    assert gzip.decompress(body).count(b"\n") > 100 * ROUTES
    assert min(took) < 0.1
    assert min(stalls) < 0.02


def test_promtool_finds_nothing_to_say_of_it() -> None:
    """It reads the older format only; for OpenMetrics the client library's parser, which is strict, must do."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    loop = asyncio.new_event_loop()
    text = text_of(registry(live_from(LARGE.replace("cache: {}", "cache: {}, retry: {retries: 1}"), loop)))
    loop.close()

    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
