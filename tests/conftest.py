"""What every test needs. Warnings, unawaited coroutines and lost exceptions are errors by `pyproject.toml`."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# An example may take long on a busy machine; how long all of them take is bounded by pytest-timeout.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _structlog_as_installed() -> Iterator[None]:
    """Forget what a test configured of structlog's global state."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
