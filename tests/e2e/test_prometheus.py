"""A real Prometheus scrapes a real sidecar under a small load: every query of the dashboard and every rule has an answer.

The load takes some seconds, in which requests come to about everything that a request can come to.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from time import monotonic
from typing import Any
from urllib.parse import urlencode

import pytest

from .kit import ROOT, App, Child, Sidecar, ask, free_port, need, pause, refuses_connections, sidecar, until

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "sidecar.json").read_text())
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}

# Queries that may have nothing to show, and why.
MAY_BE_EMPTY: dict[str, str] = {}

LOAD_SECONDS = 6.0
CONFIG = """
version: 1
listen: {{traffic: "127.0.0.1:0", ops: "127.0.0.1:0", admin: "127.0.0.1:0"}}
upstreams:
  app: {{url: "{app}", health: {{path: /hello, interval: 1s}}}}
  dead: {{url: "http://127.0.0.1:{dead}", connect_timeout: 500ms, health: {{path: /, interval: 1s}}}}
access_log: off
routes:
  - name: good
    match: {{path: /hello}}
    upstream: app
    cache: {{fresh_for: 300ms}}
    rate_limit: {{limit: 40/1s, key: route}}
  - name: down
    match: {{path: /down/**}}
    upstream: dead
    retry: {{retries: 1, base: 1ms, max: 2ms}}
    breaker: {{consecutive_failures: 5, open_for: 500ms, open_max: 500ms}}
    fallback: [{{static: {{body: "not now"}}}}]
  - {{name: again, match: {{path: /status/**}}, upstream: app, retry: {{retries: 1, base: 1ms, max: 2ms}}}}
  - name: tried
    match: {{path: /tried}}
    upstream: dead
    retry: off
    breaker: {{consecutive_failures: 2, mode: shadow}}
  - name: flapping
    match: {{path: /echo}}
    upstream: app
    retry: off
    # It fails half of the time by itself: so the breaker opens, and closes again.
    fault: {{abort: 503, percent: 50%, allow_in_production: true}}
    breaker: {{consecutive_failures: 2, open_for: 20ms, open_max: 20ms, half_open: {{successes: 1}}}}
  - name: narrow
    match: {{path: /**}}
    upstream: app
    bulkhead: {{max_concurrent: 1, max_queue: 1, queue_timeout: 20ms}}
"""
PATHS = ("/hello", "/down/1", "/tried", "/echo", "/status/503", "/page", "/dot.png", "/gzip")


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[str]:
    """Run Prometheus with our rules, looking at `target` every second; give its address."""
    copytree(DEPLOY / "prometheus", folder / "rules")
    text = (folder / "rules" / "prometheus.yml").read_text()
    text = re.sub(r"(scrape|evaluation)_interval: \S+", r"\1_interval: 1s", text)
    (folder / "rules" / "prometheus.yml").write_text(text.replace("127.0.0.1:9900", target))
    port = free_port()
    arguments = [
        need("prometheus"),
        f"--config.file={folder}/rules/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with Child(arguments, cwd=folder) as running:
        address = f"127.0.0.1:{port}"
        until(lambda: not refuses_connections(address) or running.process.poll() is not None, "Prometheus")
        until(
            lambda: running.process.poll() is not None or ask(address, "/-/ready").status == 200, running.said
        )
        assert running.process.poll() is None, running.said
        yield address


def get(address: str, path: str, **parameters: str) -> Any:
    answer = ask(address, f"{path}?{urlencode(parameters)}")
    said = answer.json()
    assert said["status"] == "success", said
    return said["data"]


def load(proxy: Sidecar) -> None:
    """Ask for everything, three at a time, until the time is over. What comes of it is for the metrics to tell."""
    ends = monotonic() + LOAD_SECONDS

    def client(first: int) -> None:
        number = first
        while monotonic() < ends:
            method = "POST" if PATHS[number % len(PATHS)] == "/echo" else "GET"
            ask(
                proxy.traffic,
                PATHS[number % len(PATHS)],
                method=method,
                body=b"x" if method == "POST" else None,
            )
            number += 1
            pause(0.004)

    with ThreadPoolExecutor(3) as clients:
        list(clients.map(client, range(3)))


@pytest.fixture(scope="module")
def address(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has seen a sidecar under load."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = CONFIG.format(app=app.url, dead=free_port())
    with sidecar(text, folder) as proxy, prometheus(proxy.ops, folder) as running:
        until(lambda: get(running, "/api/v1/query", query="sidecar_build_info")["result"], "the first scrape")
        ask(proxy.admin, "/breakers/down/reset", method="POST", headers=JSON)
        load(proxy)
        pause(1.1)  # one more scrape
        yield running


JSON = {"Content-Type": "application/json"}


def resolved(expression: str) -> str:
    """Put in what Grafana would put in for its variables."""
    expression = re.sub(r"\$(job|instance|route)\b", ".*", expression)
    return expression.replace("$__rate_interval", "5s")


@pytest.mark.parametrize("panel", QUERIES)
def test_every_query_of_the_dashboard_has_something_to_show(address: str, panel: str) -> None:
    expression = resolved(QUERIES[panel])
    assert "$" not in expression

    found = get(address, "/api/v1/query", query=expression)["result"]

    assert found or panel in MAY_BE_EMPTY, expression


def test_the_variables_and_annotations_of_the_dashboard_have_values(address: str) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert found is not None
        metric, label = found.groups()
        values = get(address, f"/api/v1/label/{label}/values", **{"match[]": resolved(metric)})
        assert values, variable["name"]
    for annotation in DASHBOARD["annotations"]["list"]:
        assert get(address, "/api/v1/query", query=resolved(annotation["expr"]))["result"]


def test_every_rule_is_evaluated_without_an_error(address: str) -> None:
    def ready() -> list[dict[str, Any]]:
        groups = get(address, "/api/v1/rules")["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in found) else found

    rules = until(ready, "every rule to be evaluated once")

    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert [name for name in recorded if not get(address, "/api/v1/query", query=name)["result"]] == []


def test_an_outage_is_alerted(address: str) -> None:
    """Those that wait some minutes are pending by now, and those that do not are firing."""

    def states() -> dict[str, str]:
        found = get(address, "/api/v1/alerts")["alerts"]
        return {each["labels"]["alertname"]: each["state"] for each in found}

    expected = {"SidecarBreakerOpen", "SidecarUpstreamUnhealthy", "SidecarFallbackInUse", "SidecarErrorsHigh"}
    assert expected <= set(states())
    assert "SidecarDown" not in states()
    assert "SidecarInternalErrors" not in states()


def test_prometheus_takes_every_line_of_a_scrape(address: str) -> None:
    (target,) = get(address, "/api/v1/targets")["activeTargets"]

    assert (target["health"], target["lastError"]) == ("up", "")
    (scraped,) = get(address, "/api/v1/query", query="scrape_samples_scraped")["result"]
    (kept,) = get(address, "/api/v1/query", query="scrape_samples_post_metric_relabeling")["result"]
    assert scraped["value"][1] == kept["value"][1] != "0"
