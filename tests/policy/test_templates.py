"""What a client says lands in a template harmless, and a redirect leads where its author wrote."""

import json
import re
from string import ascii_letters, digits
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.templates import PLACES, Template, check_location, escape_for, uri_part

VALUES = {b"method": b"GET", b"path": b"/a", b"query": b"?b=c", b"request_id": b"id-1"}


def fill(text: bytes, content_type: bytes = b"text/plain", **values: bytes) -> bytes:
    """Fill `text` as an answer of this content type would be."""
    named = {name.encode(): value for name, value in values.items()}
    return Template(text).fill(VALUES | named, escape_for(content_type))


def test_every_place_is_filled() -> None:
    text = b" ".join(b"{%b}" % place.encode() for place in PLACES)

    assert fill(text) == b"GET /a ?b=c id-1"


@pytest.mark.parametrize(
    "text", [b"", b"plain", b'{"a": {"b": 1}}', b"{}", b"{other}", b"{ path }", b"{path"]
)
def test_what_is_no_place_stays_as_it_is(text: bytes) -> None:
    assert fill(text) == text


def test_places_may_repeat_and_touch() -> None:
    assert fill(b"{path}{path}-{path}") == b"/a/a-/a"


def test_a_value_that_looks_like_a_place_is_not_filled_again() -> None:
    assert fill(b"<{path}{query}>", path=b"/{request_id}", query=b"?{path}") == b"</{request_id}?{path}>"


@pytest.mark.parametrize(
    ("content_type", "escaped"),
    [
        (b"application/json", b'/\\u003ci\\u003e\\"\\u0027\\u0026\\\\\\n\\u00e9'),
        (b"Application/Problem+JSON; charset=utf-8", b'/\\u003ci\\u003e\\"\\u0027\\u0026\\\\\\n\\u00e9'),
        (b"text/javascript", b'/\\u003ci\\u003e\\"\\u0027\\u0026\\\\\\n\\u00e9'),
        (b"text/html; charset=utf-8", b"/&lt;i&gt;&quot;&#x27;&amp;\\\n&#233;"),
        (b"TEXT/HTML ;charset=utf-8", b"/&lt;i&gt;&quot;&#x27;&amp;\\\n&#233;"),
        (b"image/svg+xml", b"/&lt;i&gt;&quot;&#x27;&amp;\\\n&#233;"),
        (b"text/plain", "/<i>\"'&\\\né".encode()),
        (b"text/plain; a=json", "/<i>\"'&\\\né".encode()),
    ],
)
def test_values_are_escaped_for_the_content_type(content_type: bytes, escaped: bytes) -> None:
    assert fill(b"{path}", content_type, path="/<i>\"'&\\\né".encode()) == escaped


@pytest.mark.parametrize("content_type", [b"application/json", b"text/html"])
def test_letters_and_digits_need_no_escape(content_type: bytes) -> None:
    plain = b"/" + (ascii_letters + digits).encode() + b"-._~:?=%+"

    assert fill(b"{path}", content_type, path=plain) == plain


def test_only_values_are_escaped() -> None:
    assert fill(b"<b>{path}</b>", b"text/html", path=b"/<") == b"<b>/&lt;</b>"


@given(st.binary())
def test_whatever_a_client_says_stays_inside_its_json_string(value: bytes) -> None:
    made = fill(b'{"a": "{path}", "b": true}', b"application/json", path=value)

    assert json.loads(made) == {"a": value.decode("utf-8", "replace"), "b": True}


@given(st.binary())
def test_whatever_a_client_says_is_text_in_a_page(value: bytes) -> None:
    made = fill(b"{path}", b"text/html", path=value)

    assert not set(b"<>\"'") & set(made)
    assert made.isascii()
    assert re.fullmatch(rb"(?:[^&]|&(?:#[0-9]+|#x27|[a-z]+);)*", made, re.DOTALL)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"/a/b-c_d.e~f", b"/a/b-c_d.e~f"),
        (b"/%2e%2E/%", b"/%2e%2E/%"),
        (b"?q=1&r=[2]:3;4,5!$'()*+@?/", b"?q=1&r=[2]:3;4,5!$'()*+@?/"),
        (b"/AZaz09", b"/AZaz09"),
        (b"/a b", b"/a%20b"),
        (b"/\r\nSet-Cookie: a=b", b"/%0D%0ASet-Cookie:%20a=b"),
        (b'/#\\<>"^`{|}\x00\x7f', b"/%23%5C%3C%3E%22%5E%60%7B%7C%7D%00%7F"),
        (b"/\xc3\xa9\xff", b"/%C3%A9%FF"),
    ],
)
def test_bytes_come_into_a_uri_as_they_are_or_encoded(value: bytes, part: bytes) -> None:
    assert uri_part(value) == part


@pytest.mark.parametrize(
    "location",
    [
        b"https://backup.example",
        b"HTTPS://backup.example",
        b"http://127.0.0.1:8080/",
        b"http://[::1]:8080/sorry",
        b"https://backup.example{path}{query}",
        b"https://backup.example{query}",
        b"https://backup.example?from={path}",
        b"https://backup.example#top",
        b"https://backup.example/v1{path}?a=b#top",
        b"/",
        b"/sorry",
        b"/sorry{path}{query}",
        b"/{query}",
        b"/sorry#top",
    ],
)
def test_a_location_that_leads_to_one_host_is_accepted(location: bytes) -> None:
    check_location(location)


@pytest.mark.parametrize(
    "location",
    [
        b"",
        b"sorry",
        b"//other.example",
        b"/\\other.example",
        b"/{path}",
        b"{path}",
        b"{query}",
        b"ftp://other.example",
        b"javascript:alert(1)",
        b"https://",
        b"https:///path",
        b"https://{path}",
        b"https://user@other.example/",
        b"https://backup.example@other.example/",
        b"https://backup.example\\@other.example",
        b"xhttps://backup.example/",
    ],
)
def test_a_location_that_a_client_could_bend_is_refused(location: bytes) -> None:
    with pytest.raises(
        ValueError,
        match=r"^a redirect leads to http://host…, https://host… or a path on this host; the host is written out, "
        r"and a template that begins with {path} could be led anywhere by `//`$",
    ):
        check_location(location)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (b"https://backup.example/a b", "' '"),
        (b"https://backup.example/\r\nSet-Cookie:a=b", r"'\\r'"),
        (b"https://backup.example\n", r"'\\n'"),
        (b"/sorry/\xe9", "'é'"),
        (b"/sorry/{method}", "'{'"),
        (b"/sorry/{host}", "'{'"),
        (b"/sorry/}", "'}'"),
    ],
)
def test_a_location_that_is_no_uri_is_refused(location: bytes, shown: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{shown} cannot stand in a URI; the places are {{path}} and {{query}}$"
    ):
        check_location(location)


@pytest.mark.parametrize("location", [b"https://backup.example{path}{query}", b"/sorry{path}{query}"])
@given(path=st.binary(), query=st.binary())
def test_whatever_a_client_asks_for_a_redirect_keeps_its_host(
    location: bytes, path: bytes, query: bytes
) -> None:
    made = Template(location).fill(VALUES | {b"path": b"/" + path, b"query": b"?" + query}, uri_part)

    assert made.isascii()
    assert made.decode().isprintable()
    assert urlsplit(made).netloc == urlsplit(location.partition(b"{")[0]).netloc
