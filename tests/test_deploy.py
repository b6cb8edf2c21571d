"""The rules for Prometheus and the dashboard for Grafana: right in themselves, and about metrics that there are.

What they show of a program that runs is tested in `e2e/test_prometheus`.
"""

import asyncio
import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.policy.health import Health, HealthSettings
from sidecar.telemetry.lag import LagMeter
from sidecar.telemetry.metrics import registry
from sidecar.telemetry.rates import Rates
from tests.support.live import live_from
from tests.support.scrapes import scrape

PROMETHEUS = Path(__file__).parents[1] / "deploy" / "prometheus"
DASHBOARD = json.loads((PROMETHEUS.parent / "grafana" / "sidecar.json").read_text())
TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))

EVERYTHING = """
version: 1
upstreams: {app: {url: "http://127.0.0.1:9"}}
defaults:
  {rate_limit: {limit: 5/1m}, cache: {}, retry: {retries: 2}, breaker: {mode: shadow}, bulkhead: {}, fallback: [stale],
   fault: {delay: 1ms, percent: 1%, allow_in_production: true}}
routes: [{name: all, match: {path: /**}, upstream: app}]
"""


def rules(file: str) -> list[dict[str, Any]]:
    """Give the rules of all groups of a file."""
    groups = yaml.safe_load((PROMETHEUS / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = rules("alerts.rules.yml")
RECORDED = rules("recording.rules.yml")


def panels() -> list[dict[str, Any]]:
    return list(DASHBOARD["panels"])


def queries() -> dict[str, str]:
    """Give the dashboard's queries by panel and letter."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel.get("targets", ())
    }


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return subprocess.run(
        [found, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=PROMETHEUS
    )


# --- Prometheus ---


def test_prometheus_takes_the_example_with_its_rules() -> None:
    done = promtool("check", "config", "prometheus.yml")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.name))
def test_the_rules_do_what_their_own_tests_say(file: Path) -> None:
    done = promtool("test", "rules", str(file))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_shown_to_fire_and_not_to_fire() -> None:
    seen: dict[str, set[bool]] = {}
    for file in TESTS:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for test in case.get("alert_rule_test", ()):
                seen.setdefault(test["alertname"], set()).add(bool(test["exp_alerts"]))

    assert seen == {rule["alert"]: {True, False} for rule in ALERTS}


def test_every_recorded_series_is_computed_in_a_test() -> None:
    text = "".join(file.read_text() for file in TESTS if "promql_expr_test" in file.read_text())

    assert [rule["record"] for rule in RECORDED if rule["record"] not in text] == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_what_is_wrong_and_where_to_read_what_to_do(rule: dict[str, Any]) -> None:
    headings = re.findall(r"^## (\w+)$", (PROMETHEUS / "runbook.md").read_text(), re.MULTILINE)

    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"runbook.md#{rule['alert'].lower()}"
    assert rule["alert"] in headings


def test_the_runbook_is_about_these_alerts() -> None:
    headings = re.findall(r"^## (\w+)$", (PROMETHEUS / "runbook.md").read_text(), re.MULTILINE)

    assert headings == [rule["alert"] for rule in ALERTS]


# --- what is asked for is there ---


def shown() -> set[str]:
    """Give the names of all samples of a sidecar that has everything."""
    loop = asyncio.new_event_loop()
    try:
        live = live_from(EVERYTHING, loop)
        live.health = {"app": Health(HealthSettings())}
        live.lag = LagMeter(loop)
        live.changes = {("reset", "done"): 0}
        return {name for name, _ in scrape(registry(live, Rates(live, loop)))}
    finally:
        loop.close()


def asked_for(text: str) -> set[str]:
    """Give the metrics that a PromQL expression names. A recorded series has a colon in its name."""
    return set(re.findall(r"(?<![\w:])(?:sidecar|process|python)_\w+(?![\w:])", text))


def test_every_metric_that_a_rule_or_a_panel_asks_for_is_one_that_is_shown() -> None:
    names = shown()
    recorded = {rule["record"] for rule in RECORDED}
    expressions = [rule["expr"] for rule in (*ALERTS, *RECORDED)] + list(queries().values())

    for expression in expressions:
        assert asked_for(expression) - names == set(), expression
        assert set(re.findall(r"\b\w+:\w+(?::\w+)?\b(?!=)", _without_texts(expression))) <= recorded, (
            expression
        )


def _without_texts(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)


def test_every_metric_of_ours_has_a_place_in_the_dashboard() -> None:
    """But those that only say what there is beside others."""
    of_ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown() if name.startswith("sidecar_")}
    text = " ".join(queries().values())

    assert {name for name in of_ours if name not in text} == set()


# --- Grafana ---


def test_the_dashboard_has_what_grafana_10_and_later_ask_of_one() -> None:
    assert DASHBOARD["schemaVersion"] >= 38
    assert DASHBOARD["uid"]
    assert DASHBOARD["title"]
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == [
        "datasource",
        "job",
        "instance",
        "route",
    ]
    assert "id" not in DASHBOARD  # it is Grafana's to give
    idents = [panel["id"] for panel in panels()]
    assert len(idents) == len(set(idents))
    assert {panel["type"] for panel in panels()} <= {"row", "timeseries", "stat", "state-timeline"}


def test_its_rows_are_the_parts_of_the_sidecar() -> None:
    assert [panel["title"] for panel in panels() if panel["type"] == "row"] == [
        "Overview",
        "Routes",
        "Upstreams",
        "Breakers",
        "Bulkheads",
        "Retries",
        "Cache and fallback",
        "Rate limits",
        "Process",
    ]


def test_every_panel_asks_the_data_source_that_one_chooses_and_says_what_it_shows() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == chosen, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "state-timeline"
        letters = [target["refId"] for target in panel["targets"]]
        assert len(letters) == len(set(letters)) > 0
        assert all(target["datasource"] == chosen for target in panel["targets"])


def test_no_panel_lies_on_another() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        return {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels())
    for one, other in combinations(panels(), 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
