"""What the benchmark makes of its figures: medians, ratios, verdicts, tables, plots."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench import compare, idle, leak, plot, startup, table, targets, throughput
from bench.compare import Run
from bench.targets import Verdict

RUN = Run(
    cpu_us=20.0,
    requests_per_s=40_000.0,
    p50_ms=1.0,
    p99_ms=2.0,
    failed=0,
    busy=0.98,
    rss_before_mib=40.0,
    rss_peak_mib=42.0,
    rss_after_mib=41.0,
)


def row(name: str, **runs: list[Run]) -> dict[str, Any]:
    """Make a row as the journal has it."""
    load, _, connections = name.rsplit("-", 2)
    ours = runs["sidecar"]
    return {
        "name": name,
        "load": load,
        "size": 128,
        "connections": int(connections),
        "proxies": {
            proxy: {"median": asdict(compare.median(of)), "runs": [asdict(one) for one in of]}
            for proxy, of in runs.items()
        },
        "ratios": {proxy: compare.ratios(ours, of) for proxy, of in runs.items() if proxy != "sidecar"},
    }


def test_the_median_is_taken_of_each_figure_but_the_worst_of_failed() -> None:
    runs = [
        replace(RUN, cpu_us=cpu, p99_ms=p99, failed=failed)
        for cpu, p99, failed in [(30, 1, 0), (10, 3, 7), (20, 2, 0)]
    ]

    assert compare.median(runs) == replace(RUN, cpu_us=20, p99_ms=2, failed=7)


def test_a_ratio_is_of_medians_and_its_spread_of_the_turns() -> None:
    ours = [replace(RUN, cpu_us=cpu) for cpu in (20, 22, 30)]
    theirs = [replace(RUN, cpu_us=cpu) for cpu in (40, 40, 40)]

    assert compare.ratios(ours, theirs)["cpu_us"] == {"ratio": 0.55, "low": 0.5, "high": 0.75}


def test_what_was_zero_for_the_peer_has_no_ratio() -> None:
    assert set(compare.ratios([RUN], [replace(RUN, cpu_us=0)])) == {"requests_per_s", "p50_ms", "p99_ms"}


def test_the_headline_row_is_held_against_its_targets() -> None:
    headline = row(
        "keep-128B-64",
        sidecar=[RUN],
        nginx=[replace(RUN, cpu_us=8.0)],
        envoy=[replace(RUN, cpu_us=32.0, p99_ms=4.0)],
    )

    assert compare.verdicts([headline]) == [
        Verdict("keep-128B-64, CPU per request, ratio to envoy", 0.625, "at most 0.75", met=True),
        Verdict("keep-128B-64, CPU per request, ratio to nginx", 2.5, "at most 2.2", met=False),
        Verdict("keep-128B-64, p99, ratio to envoy", 0.5, "at most 1", met=True),
    ]


def test_without_the_headline_row_or_its_peers_there_is_no_verdict() -> None:
    assert compare.verdicts([row("keep-128B-1", sidecar=[RUN], envoy=[RUN])]) == []
    assert compare.verdicts([row("keep-128B-64", sidecar=[RUN], haproxy=[RUN])]) == []


def test_the_row_of_the_policies_has_targets_of_its_own() -> None:
    policies = row(
        "policies-128B-64",
        sidecar=[RUN],
        nginx=[replace(RUN, cpu_us=8.0)],
        envoy=[replace(RUN, cpu_us=20.0)],
    )

    assert compare.verdicts([policies]) == [
        Verdict("policies-128B-64, CPU per request, ratio to envoy", 1.0, "at most 0.95", met=False),
        Verdict("policies-128B-64, CPU per request, ratio to nginx", 2.5, "at most 2.8", met=True),
    ]


def test_a_hit_and_a_refusal_are_held_against_a_request_that_goes_through() -> None:
    """Of the same sidecar, whose ratio stands in the place of a proxy's."""
    through = [replace(RUN, requests_per_s=20_000.0)]
    hit = row("cache-hit-128B-64", sidecar=[RUN], **{"policies-128B-64": through})
    refusal = row(
        "breaker-open-64", sidecar=[replace(RUN, requests_per_s=24_000.0)], **{"policies-128B-64": through}
    )

    assert compare.verdicts([hit, refusal]) == [
        Verdict("cache-hit-128B-64, requests/s, ratio to policies-128B-64", 2.0, "at least 1.5", met=True),
        Verdict("breaker-open-64, requests/s, ratio to policies-128B-64", 1.2, "at least 1.5", met=False),
    ]


def test_the_table_of_a_comparison() -> None:
    shown = compare.as_table(
        [row("keep-128B-64", sidecar=[RUN], envoy=[replace(RUN, cpu_us=40.0, failed=3)])]
    )

    head, _, ours, theirs = (" ".join(line.split()) for line in shown.splitlines())
    assert head == "row proxy CPU µs/req ratio req/s ratio p50 ms p99 ms ratio failed busy RSS MiB peak"
    assert ours == "keep-128B-64 sidecar 20.0 40000 1.00 2.00 0 0.98 40.0 42.0"
    assert theirs == "keep-128B-64 envoy 40.0 0.50 40000 1.00 1.00 2.00 1.00 3 0.98 40.0 42.0"


def test_columns_are_aligned_words_to_the_left_numbers_to_the_right() -> None:
    assert table.render(["a", "b", "c"], [["long", "x", "1"], ["s", "wide", "22.5"]]).splitlines() == [
        "a     b        c",
        "----  ----  ----",
        "long  x        1",
        "s     wide  22.5",
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1234, "0.12"), (12.34, "12.3"), (123.4, "123"), (79251.67, "79252")]
)
def test_numbers_are_as_long_as_they_are_known(value: float, shown: str) -> None:
    assert table.number(value) == shown


def test_throughput_is_held_against_nginx_and_against_growth() -> None:
    mine = {"mb_per_s": 1200.0, "rss_growth_mib": 25.0}
    nginx = {"mb_per_s": 1500.0, "rss_growth_mib": 5.0}

    assert throughput.verdicts({"sidecar": [mine], "nginx": [nginx]}) == [
        Verdict("keep-1000KiB-64, MB/s, ratio to nginx", 0.8, "at least 0.6", met=True),
        Verdict("growth of memory, MiB", 25.0, "at most 20", met=False),
    ]


def test_a_closed_idle_connection_is_no_saving() -> None:
    """Memory per connection looks good when the proxy closes them; so that is a verdict of its own."""
    point = {"kib_each": 4.0, "closed": 12.0, "alive": 0.0}

    assert idle.verdicts({"sidecar": point}) == [
        Verdict("memory of an idle connection, KiB", 4.0, "at most 10", met=True),
        Verdict("idle connections that were closed", 13.0, "at most 0", met=False),
    ]


def test_startup_takes_the_median() -> None:
    points = [{"ready_s": ready, "rss_rest_mib": 50.0} for ready in (0.4, 3.0, 0.5)]

    assert startup.verdicts({"sidecar": points}) == [
        Verdict("start to ready, s", 0.5, "at most 1", met=True),
        Verdict("memory at rest, MiB", 50.0, "at most 64", met=True),
    ]


def test_only_the_sidecar_has_targets() -> None:
    assert throughput.verdicts({"nginx": [{"mb_per_s": 1.0}]}) == []
    assert idle.verdicts({"nginx": {"kib_each": 99.0}}) == []
    assert startup.verdicts({"nginx": [{"ready_s": 99.0}]}) == []


def leak_point(
    requests: int, rss_mib: float, *, files: int = 12, tasks: float = 3, failed: int = 0
) -> leak.Point:
    """Make a point as the journal has it."""
    return {
        "requests": requests,
        "answered": requests,
        "left": {"head": 1, "body": 2},
        "failed": failed,
        "rss_mib": rss_mib,
        "files": files,
        "gauges": {"sidecar_tasks{}": tasks},
    }


def test_what_comes_back_is_no_leak() -> None:
    """Growth in the first fifth is warming up; a bulge in between that is gone at the end was use."""
    points = [leak_point(0, 40), leak_point(100, 50, files=19), leak_point(200, 56), leak_point(300, 51)]

    assert all(verdict.met for verdict in leak.verdicts(points))


def test_what_stays_is_a_leak() -> None:
    points = [leak_point(0, 40), leak_point(100, 41), leak_point(200, 46, files=13, tasks=4, failed=2)]

    assert leak.verdicts(points) == [
        Verdict("growth of memory after the first fifth, MiB", 5, "at most 4", met=False),
        Verdict("growth of open files", 1, "at most 0", met=False),
        Verdict("gauges that changed: sidecar_tasks{}", 1, "at most 0", met=False),
        Verdict("requests that failed", 2, "at most 0", met=False),
    ]


def test_verdicts_are_told_in_lines() -> None:
    assert targets.lines([targets.at_most("a", 1.0, 2), targets.at_least("b", 1.0, 2)]) == [
        "met     a: 1.00 (at most 2)",
        "MISSED  b: 1.00 (at least 2)",
    ]


def test_panels_group_what_differs_only_in_connections() -> None:
    document = {
        "rows": [row(name, sidecar=[RUN]) for name in ("keep-128B-1", "keep-128B-64", "close-128B-1")]
    }

    grouped = {title: [one["name"] for one in rows] for title, rows in plot.panels(document).items()}

    assert grouped == {
        "GET 128 B, keep-alive": ["keep-128B-1", "keep-128B-64"],
        "GET 128 B, new connections": ["close-128B-1"],
    }


def test_what_is_only_compared_with_itself_has_no_panel(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only the extra `bench` has it")
    through = {"policies-128B-64": [RUN]}
    document = {"rows": [row("cache-hit-128B-64", sidecar=[RUN], **through)]}

    assert plot.panels(document) == {}
    assert plot.draw(document, tmp_path / "compare") == []


def test_plots_are_written_in_both_formats(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only the extra `bench` has it")
    document = {
        "rows": [row("keep-128B-1", sidecar=[RUN, RUN], envoy=[RUN, RUN]), row("keep-128B-64", sidecar=[RUN])]
    }

    written = plot.draw(document, tmp_path / "compare")

    assert {path.name: path.stat().st_size > 5000 for path in written} == {
        "compare-cpu.svg": True,
        "compare-cpu.png": True,
        "compare-p99.svg": True,
        "compare-p99.png": True,
    }
