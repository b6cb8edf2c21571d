"""Scraping without a server: what Prometheus would get, parsed by its own client library, from any kind of test."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from sidecar.telemetry.exposition import Registry, exposition
from sidecar.telemetry.live import Live
from sidecar.telemetry.metrics import registry

__all__ = ["FORMATS", "Series", "label_names", "parsed", "scrape", "text_of", "value"]

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

FORMATS: dict[str, tuple[str, Callable[[str], Iterable[Any]]]] = {
    "prometheus": ("text/plain;version=0.0.4", parse_prometheus),
    "openmetrics": ("application/openmetrics-text;version=1.0.0", parse_openmetrics),
}


def text_of(metrics: Registry, fmt: str = "prometheus") -> str:
    """Scrape once, in a loop of its own: the test's may be one of virtual time, which knows no threads."""
    accept, _ = FORMATS[fmt]
    with ThreadPoolExecutor(1) as thread:
        body, _ = thread.submit(asyncio.run, exposition(metrics, accept, "")).result()
    return body.decode()


def parsed(text: str, fmt: str = "prometheus") -> Series:
    """Give every sample. One that stands there twice is a fault."""
    series: Series = {}
    for family in FORMATS[fmt][1](text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, f"{key} stands there twice"
            series[key] = sample.value
    return series


def scrape(shown: Registry | Live, fmt: str = "prometheus") -> Series:
    """Scrape once and parse what came."""
    metrics = registry(shown) if isinstance(shown, Live) else shown
    return parsed(text_of(metrics, fmt), fmt)


def value(series: Series, name: str, **labels: str) -> float:
    """Give the value of one series."""
    return series[name, frozenset(labels.items())]


def label_names(series: Series) -> dict[str, set[frozenset[str]]]:
    """Give the label names of each metric of ours."""
    found: dict[str, set[frozenset[str]]] = {}
    for name, labels in series:
        if name.startswith("sidecar_"):
            found.setdefault(name, set()).add(frozenset(key for key, _ in labels))
    return found
