"""TLS contexts: what the configuration says, verified unless it says otherwise, and HTTP/1.1 alone."""

import ssl
from pathlib import Path

import pytest
import trustme

from sidecar.config.model import ListenTls, UpstreamTls
from sidecar.errors import StartFailed
from sidecar.runtime.tls import client_context, server_context


class Files:
    """A certificate, its key and its authority, as files."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
        self.ca, self.certificate, self.key = (str(directory / name) for name in ("ca", "certificate", "key"))
        authority.cert_pem.write_to_path(self.ca)
        issued.cert_chain_pems[0].write_to_path(self.certificate)
        issued.private_key_pem.write_to_path(self.key)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Make the files once."""
    return Files(tmp_path_factory.mktemp("tls"))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> str | None:
    """Shake hands in memory; give the protocol that was agreed on. Raises what either side objects to."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [here, there]
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return here.selected_alpn_protocol()


def test_a_client_that_trusts_the_authority_gets_http_1_1(files: Files) -> None:
    server = server_context(ListenTls(certificate=files.certificate, key=files.key), 10)
    client = client_context(UpstreamTls(ca=files.ca), "orders")

    assert handshake(server, client) == "http/1.1"


def test_a_certificate_of_an_unknown_authority_is_refused(files: Files) -> None:
    server = server_context(ListenTls(certificate=files.certificate, key=files.key), 10)

    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client_context(None, "orders"))


def test_a_certificate_of_another_name_is_refused(files: Files) -> None:
    server = server_context(ListenTls(certificate=files.certificate, key=files.key), 10)

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, client_context(UpstreamTls(ca=files.ca), "orders"), "other.example.com")


def test_verification_can_be_turned_off(files: Files) -> None:
    server = server_context(ListenTls(certificate=files.certificate, key=files.key), 10)

    assert handshake(server, client_context(UpstreamTls(verify=False), "orders"), "anything") == "http/1.1"


def test_with_a_client_authority_a_client_must_show_its_certificate(files: Files) -> None:
    server = server_context(ListenTls(certificate=files.certificate, key=files.key, client_ca=files.ca), 10)
    known = client_context(UpstreamTls(ca=files.ca, certificate=files.certificate, key=files.key), "orders")

    assert handshake(server, known) == "http/1.1"
    with pytest.raises(ssl.SSLError):
        handshake(server, client_context(UpstreamTls(ca=files.ca), "orders"))


def test_nothing_older_than_tls_1_2_is_spoken(files: Files) -> None:
    for context in (
        server_context(ListenTls(certificate=files.certificate, key=files.key), 10),
        client_context(None, "orders"),
    ):
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("broken", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("instead", [__file__, "/nowhere/at/all.pem"])
def test_a_file_of_the_listener_that_is_none_is_told_by_its_key(
    files: Files, broken: str, instead: str
) -> None:
    settings = {"certificate": files.certificate, "key": files.key, "client_ca": files.ca} | {broken: instead}

    with pytest.raises(StartFailed, match=r"^listen\.tls cannot be used: "):
        server_context(ListenTls.model_construct(**settings), 10)  # type: ignore[arg-type]  # past the file check


@pytest.mark.parametrize("broken", ["ca", "certificate", "key"])
@pytest.mark.parametrize("instead", [__file__, "/nowhere/at/all.pem"])
def test_a_file_of_an_upstream_that_is_none_is_told_by_its_key(
    files: Files, broken: str, instead: str
) -> None:
    settings: dict[str, object] = {"ca": files.ca, "certificate": files.certificate, "key": files.key}

    with pytest.raises(StartFailed, match=r"^upstreams\.orders\.tls cannot be used: "):
        client_context(
            UpstreamTls.model_construct(**(settings | {broken: instead}), server_name=None, verify=True),  # type: ignore[arg-type]  # as above
            "orders",
        )


def test_no_handshake_begins_while_there_are_too_many_connections(files: Files) -> None:
    """Nobody else counts a connection until its handshake is over; idle ones could use up every file."""
    server = server_context(ListenTls(certificate=files.certificate, key=files.key), 2)
    first, _second = (server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True) for _ in range(2))

    with pytest.raises(ssl.SSLError, match=r"limits\.connections"):
        server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)

    del first
    server.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
