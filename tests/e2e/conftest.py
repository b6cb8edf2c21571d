"""What most end-to-end tests share: one upstream application, and one sidecar in front of it."""

from collections.abc import Iterator

import pytest

from .kit import App, Sidecar, application, config, sidecar


@pytest.fixture(scope="session")
def app() -> Iterator[App]:
    """The upstream. Tests keep apart by the keys that they make up."""
    with application() as running:
        yield running


@pytest.fixture(scope="session")
def proxy(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with the defaults. At the end it must stop with 0 and have written no traceback."""
    with sidecar(config(app.url), tmp_path_factory.mktemp("proxy")) as running:
        yield running
