"""The tree of errors: what each kind says by its type alone."""

import pytest

from sidecar import errors
from sidecar.errors import (
    AttemptTimeout,
    BadResponse,
    BreakerOpen,
    ClientError,
    ClientGone,
    ConfigError,
    ConnectFailed,
    Disconnected,
    Refused,
    RequestError,
    SidecarError,
    TotalTimeout,
    UpstreamFailed,
    UpstreamIdle,
)
from sidecar.fate import Fate

# RFC 9209 §2.3: the registered proxy error types.
RFC_9209 = {
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
}


def below(kind: type[RequestError]) -> list[type[RequestError]]:
    """Every class of the tree under `kind`, itself included."""
    return [kind, *(found for child in kind.__subclasses__() for found in below(child))]


KINDS = below(RequestError)


def test_the_public_names_are_the_whole_tree_in_order() -> None:
    def all_below(kind: type[SidecarError]) -> set[str]:
        own = {kind.__name__} if kind.__module__ == errors.__name__ else set()
        return own.union(*(all_below(child) for child in kind.__subclasses__()))

    assert set(errors.__all__) == all_below(SidecarError)
    assert errors.__all__ == sorted(errors.__all__)


def test_the_tree_in_the_header_names_every_error() -> None:
    assert errors.__doc__ is not None

    assert [name for name in errors.__all__ if name not in errors.__doc__] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_status_a_fate_and_words_for_a_person(kind: type[RequestError]) -> None:
    assert 400 <= kind.status < 600
    assert isinstance(kind.fate, Fate)
    assert kind.proxy_error == "" or kind.proxy_error in RFC_9209
    assert kind is RequestError or kind.detail.endswith(".")


@pytest.mark.parametrize("kind", below(ClientError))
def test_what_the_client_did_wrong_is_no_fault_of_the_upstream(kind: type[ClientError]) -> None:
    assert not issubclass(kind, UpstreamFailed)
    assert kind.fate in (Fate.BAD_REQUEST, Fate.NO_ROUTE, Fate.TIMEOUT_IDLE)


def test_refusals_are_503_and_a_quota_is_429() -> None:
    statuses = {kind.__name__: kind.status for kind in below(Refused)}

    assert statuses.pop("RateLimited") == 429
    assert set(statuses.values()) == {503}


def test_our_timeouts_are_504_and_faults_of_the_connection_502() -> None:
    assert [kind.status for kind in (AttemptTimeout, TotalTimeout, UpstreamIdle)] == [504, 504, 504]
    assert [kind.status for kind in (ConnectFailed, Disconnected, BadResponse)] == [502, 502, 502]


def test_an_error_without_words_of_its_own_has_those_of_its_kind() -> None:
    assert str(TotalTimeout()) == TotalTimeout.detail
    assert str(Disconnected("mine")) == "mine"


def test_an_error_carries_what_its_reader_needs() -> None:
    assert BreakerOpen(retry_after=12.5).retry_after == 12.5
    assert BreakerOpen().retry_after is None
    assert ConnectFailed("no", token="dns_error").token == "dns_error"
    assert not ConnectFailed().sent
    assert AttemptTimeout().sent
    assert (Disconnected(sent=False).sent, Disconnected(head_seen=True).head_seen) == (False, True)


def test_nobody_is_blamed_for_a_client_that_left() -> None:
    assert (ClientGone.status, ClientGone.fate) == (499, Fate.CLIENT_GONE)
    assert not issubclass(ClientGone, ClientError | UpstreamFailed)


def test_a_configuration_error_has_all_its_lines() -> None:
    error = ConfigError(["a.yaml:1:1: x: bad", "a.yaml:2:1: y: bad"])

    assert error.problems == ["a.yaml:1:1: x: bad", "a.yaml:2:1: y: bad"]
    assert str(error) == "a.yaml:1:1: x: bad\na.yaml:2:1: y: bad"
