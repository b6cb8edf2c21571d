"""Addresses and URLs: what is accepted, what it means, what cannot be listened on at once."""

import pytest

from sidecar.config.address import Address, Endpoint, parse_endpoint, parse_listen, parse_server_name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", Address("0.0.0.0", 8080)),
        ("localhost:0", Address("localhost", 0)),
        (":8080", Address("", 8080)),
        ("[::]:8080", Address("::", 8080)),
        ("[2001:DB8:0::1]:1", Address("2001:db8::1", 1)),
        ("my_host.example.:65535", Address("my_host.example.", 65535)),
        ("unix:///run/app.sock", Address(path="/run/app.sock")),
    ],
)
def test_an_address_to_listen_on_is_read(text: str, address: Address) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["0.0.0.0:80", ":0", "[::1]:8080", "unix:///a b", "localhost:1"])
def test_an_address_is_printed_as_it_was_read(text: str) -> None:
    assert str(parse_listen(text)) == text


def test_an_address_knows_whether_it_is_a_unix_socket() -> None:
    assert [Address(path="/a").is_unix, Address("", 80).is_unix] == [True, False]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        (":80", "127.0.0.1:80"),
        (":80", "[::1]:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "localhost:80"),
        ("[::]:80", "[::1]:80"),
        ("[::]:80", "localhost:80"),
        ("unix:///a", "unix:///a"),
    ],
)
def test_two_addresses_collide_where_one_listener_would_take_the_other_s_place(one: str, other: str) -> None:
    first, second = parse_listen(one), parse_listen(other)

    assert (first.collides(second), second.collides(first)) == (True, True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:80", "127.0.0.1:81"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        (":0", ":0"),
        ("127.0.0.1:80", "127.0.0.2:80"),
        ("0.0.0.0:80", "[::1]:80"),
        ("0.0.0.0:80", "[::]:80"),
        ("[::]:80", "127.0.0.1:80"),
        ("a.example:80", "b.example:80"),
        ("unix:///a", "unix:///b"),
        ("unix:///a", ":80"),
    ],
)
def test_two_addresses_do_not_collide_where_both_can_be_listened_on(one: str, other: str) -> None:
    first, second = parse_listen(one), parse_listen(other)

    assert (first.collides(second), second.collides(first)) == (False, False)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://127.0.0.1:9000", Endpoint("http", "127.0.0.1", 9000)),
        ("http://my_service", Endpoint("http", "my_service", 80)),
        ("HTTPS://api.example/", Endpoint("https", "api.example", 443)),
        ("https://[::1]", Endpoint("https", "::1", 443)),
        ("http://[::1]:8080", Endpoint("http", "::1", 8080)),
        ("unix:///run/a@b.sock", Endpoint("unix", path="/run/a@b.sock")),
    ],
)
def test_the_url_of_an_upstream_is_read(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["http://a", "https://a", "http://a:443", "https://a:80", "http://[::1]:1", "unix:///a.sock"]
)
def test_an_endpoint_is_printed_as_it_was_read(text: str) -> None:
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize("text", ["http://user:hunter2@host", "http://host/?a@hunter2", "hunter2@host"])
def test_a_refused_url_never_repeats_a_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must not hold a user or password: [a-z ]*$"):
        parse_endpoint(text)


@pytest.mark.parametrize("length", [107, 108])
def test_a_socket_s_path_is_as_long_as_the_kernel_allows(length: int) -> None:
    """sun_path has 108 bytes, one of them for the NUL at the end. Characters of two bytes count as two."""
    text = "unix:///" + "é" * ((length - 1) // 2) + "x" * ((length - 1) % 2)

    try:
        accepted = parse_listen(text) is not None
    except ValueError:
        accepted = False

    assert accepted == (length <= 107)


@pytest.mark.parametrize("text", ["api.example", "a.b.c.", "127.0.0.1", "x" * 63])
def test_a_server_name_is_a_host(text: str) -> None:
    assert parse_server_name(text) == text


@pytest.mark.parametrize("text", ["a/b", "", "a..b", "x" * 64, ".".join(["x" * 60] * 5), "a:80", "-a", "a b"])
def test_what_is_no_host_is_no_server_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must have "):
        parse_server_name(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("app:9000", "http://app:9000"),
        ("app.example", "http://app.example"),
        ("localhost", "http://localhost"),
        ("9000", "http://127.0.0.1:9000"),
        (":9000", "http://127.0.0.1:9000"),
        ("/run/app.sock", "unix:///run/app.sock"),
    ],
)
def test_a_url_without_its_scheme_is_proposed_with_it(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match="must be a URL") as refusal:
        parse_endpoint(text)

    assert str(refusal.value).endswith(f"; did you mean `{meant}`?")
    assert str(parse_endpoint(meant)) == meant


@pytest.mark.parametrize("text", ["nonsense", "127.0.0.1:99999", "99999", "app:9000/api", "ftp://a", ".", ""])
def test_no_url_is_proposed_that_would_be_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a URL: .*`unix:///path`$"):
        parse_endpoint(text)
