"""What the benchmark reads: wrk's reports, programs' versions, expositions, row names, result files."""

import json
from pathlib import Path

import pytest

from bench import flame, peers, results, rows, wrk
from bench.leak import gauges
from bench.rows import ROWS, Row
from bench.wrk import Load

REPORT = """Running 3s test @ http://127.0.0.1:20000/128
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.98ms    0.91ms  13.21ms   93.09%
    Req/Sec    31.76k     1.02k   33.11k    70.00%
  Latency Distribution
     50%    812.00us
     75%    2.11ms
     90%    2.60ms
     99%    6.34ms
  95270 requests in 3.00s, 23.44MB read
Requests/sec:  31756.33
Transfer/sec:      7.81MB
"""
ERRORS = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 50\n"


def test_a_report_without_errors() -> None:
    assert wrk.parse(REPORT) == Load(requests=95270, seconds=3.0, p50_s=812e-6, p99_s=6.34e-3, failed=0)


def test_every_kind_of_error_counts_as_failed() -> None:
    report = REPORT.replace("Requests/sec", ERRORS + "Requests/sec")

    assert wrk.parse(report) == Load(requests=95270, seconds=3.0, p50_s=812e-6, p99_s=6.34e-3, failed=60)


def test_where_refusals_are_measured_an_answer_has_failed() -> None:
    """Of 95270 requests 50 were refused here, and ten had no answer at all."""
    report = REPORT.replace("Requests/sec", ERRORS + "Requests/sec")

    assert wrk.parse(report, refusals=True).failed == 95270 - 50 + 10


def test_long_times_have_other_units() -> None:
    report = REPORT.replace("6.34ms", "1.50s").replace("812.00us", "0.90m").replace("in 3.00s", "in 1.02m")

    assert wrk.parse(report) == Load(requests=95270, seconds=61.2, p50_s=54.0, p99_s=1.5, failed=0)


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:1 Connection refused", REPORT[:200]])
def test_anything_else_is_refused_and_shown(text: str) -> None:
    with pytest.raises(wrk.WrkFailed, match="not a report of wrk"):
        wrk.parse(text)


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        (
            "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: 1.0",
            "2.6.12-1+deb12u4",
        ),
        (
            "/opt/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL",
            "1.40.0",
        ),
        ("sidecar, version 0.1.0", "0.1.0"),
        ("unversioned", "unversioned"),
        ("", ""),
    ],
)
def test_versions_as_programs_print_them(printed: str, version: str) -> None:
    assert peers.short_version(printed) == version


def test_the_matrix_is_complete() -> None:
    """Both kinds of connection, three sizes, three numbers of connections; the POST; heads that vary; the policies."""
    assert len({row.name for row in ROWS}) == len(ROWS) == 2 * 3 * 3 + 3 + 1 + 3


def test_a_row_says_in_its_name_what_it_is() -> None:
    some = (Row("keep", 128, 64), Row("close", 1_024_000, 1), Row("post", 10_240, 512), *ROWS[-3:])

    assert [row.name for row in some] == [
        "keep-128B-64",
        "close-1000KiB-1",
        "post-10KiB-512",
        "policies-128B-64",
        "cache-hit-128B-64",
        "breaker-open-64",
    ]


def test_rows_are_chosen_by_patterns_and_keep_the_matrix_order() -> None:
    chosen = rows.select("post-*-1, keep-128B-*")

    assert [row.name for row in chosen] == ["keep-128B-1", "keep-128B-64", "keep-128B-512", "post-10KiB-1"]


@pytest.mark.parametrize("patterns", ["keep-129B-*", "keep-*,nothing", "", " , "])
def test_a_pattern_without_a_row_is_refused(patterns: str) -> None:
    with pytest.raises(ValueError, match="no row matches"):
        rows.select(patterns)


def test_only_gauges_of_what_is_held_are_compared() -> None:
    text = """# TYPE sidecar_upstream_connections gauge
sidecar_upstream_connections{upstream="app",state="idle"} 3
# TYPE sidecar_tasks gauge
sidecar_tasks 7
# TYPE sidecar_uptime_seconds gauge
sidecar_uptime_seconds 12.5
# TYPE sidecar_connections_total counter
sidecar_connections_total 99
# TYPE process_open_fds gauge
process_open_fds 17
"""
    assert gauges(text) == {
        "sidecar_upstream_connections{state=idle,upstream=app}": 3.0,
        "sidecar_tasks{}": 7.0,
    }


def test_a_result_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"format": 0}))

    with pytest.raises(ValueError, match="format 0, this program reads 1"):
        results.load(path)


def test_samples_are_shared_out_by_function_not_by_line() -> None:
    """Recursion counts once for a sample."""
    folded = """run (loop.py:10);read (wire.py:5);parse (wire.py:7) 6
run (loop.py:11);read (wire.py:5);parse (wire.py:9) 2
run (loop.py:10);run (loop.py:12) 2"""

    own, total = flame.shares(folded)

    assert own == {"parse (wire.py)": 8, "run (loop.py)": 2}
    assert total == {"run (loop.py)": 10, "read (wire.py)": 8, "parse (wire.py)": 8}
