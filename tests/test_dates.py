"""The date on our answers is one that HTTP reads, and now."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from sidecar.dates import http_date


def test_the_date_is_an_imf_fixdate_of_now() -> None:
    text = http_date().decode()

    assert re.fullmatch(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT", text)
    assert abs(parsedate_to_datetime(text) - datetime.now(UTC)) < timedelta(seconds=5)
