"""Whose quota it is, and that nothing a client may say gets him out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.message import Fields, Request
from sidecar.policy.rate_key import MAX_KEY, UNKNOWN, client_key, header_key, key_function


@pytest.mark.parametrize(
    ("client", "key"),
    [
        ("10.1.2.3", b"\x0a\x01\x02\x03"),
        ("10.1.2.4", b"\x0a\x01\x02\x04"),
        ("2001:db8:1:2::1", b"\x20\x01\x0d\xb8\x00\x01\x00\x02"),
        ("fe80::1%eth0", b"\xfe\x80\0\0\0\0\0\0"),
        ("::ffff:10.1.2.3", b"\x0a\x01\x02\x03"),
        ("10.1.2.3:51234", b"\x0a\x01\x02\x03"),
        ("[2001:db8:1:2::1]:443", b"\x20\x01\x0d\xb8\x00\x01\x00\x02"),
        ("[2001:db8:1:2::1]", b"\x20\x01\x0d\xb8\x00\x01\x00\x02"),
        ("[2001:db8:1:2::1]:[443]", b"\x20\x01\x0d\xb8\x00\x01\x00\x02"),
        ("", UNKNOWN),
        ("unknown", UNKNOWN),
        ("_hidden", UNKNOWN),
        ("10.1.2", UNKNOWN),
        ("10.1.2.3.evil", UNKNOWN),
        ("10.1.2.3:5:6", UNKNOWN),
        ("[", UNKNOWN),
    ],
)
def test_a_client_is_known_by_its_address(client: str, key: bytes) -> None:
    assert client_key(client) == key


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_a_subscriber_of_ipv6_gets_one_quota_whatever_of_his_addresses_he_uses(
    mine: bytes, his: bytes
) -> None:
    network = bytes.fromhex("20010db800010002")
    assert client_key(_ipv6(network + mine)) == client_key(_ipv6(network + his)) == network


def test_the_next_subscriber_has_another_quota() -> None:
    assert client_key("2001:db8:1:2::1") != client_key("2001:db8:1:3::1")


def _ipv6(packed: bytes) -> str:
    digits = packed.hex()
    return ":".join(digits[at : at + 4] for at in range(0, 32, 4))


@given(st.text(max_size=64))
def test_any_text_in_the_place_of_an_address_has_a_key(client: str) -> None:
    assert len(client_key(client)) in (0, 4, 8)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([b"abc"], b"abc"),
        ([b"ABC"], b"ABC"),
        ([b"x" * 64], b"x" * 64),
        ([], UNKNOWN),
        ([b""], UNKNOWN),
        ([b"abc", b"abc"], UNKNOWN),
    ],
)
def test_a_field_stands_for_its_value_and_none_or_several_for_one_key_that_all_share(
    values: list[bytes], key: bytes
) -> None:
    assert header_key(values) == key


def test_a_long_value_becomes_a_short_key_of_its_own() -> None:
    long, other = header_key([b"x" * 65]), header_key([b"x" * 64 + b"y"])

    assert len(long) == len(other) == 17
    assert long != other
    assert header_key([b"x" * 65]) == long
    assert header_key([b"x" * 100_000]) != long


@given(st.lists(st.binary(max_size=300), max_size=3))
def test_no_key_is_longer_than_the_bound(values: list[bytes]) -> None:
    assert len(header_key(values)) <= MAX_KEY == 64


def test_each_word_of_the_configuration_has_its_function() -> None:
    request = Request(b"GET", b"/", Fields([(b"X-Api-Kez", b"2"), (b"X-API-Key", b"1")]))
    request.client = "10.1.2.3"

    words = ["client_ip", "route", "global", "header:x-api-key", "header:X-Api-Key", "header:Other"]
    keys = [key_function(word, "a-route")(request) for word in words]

    assert keys == [b"\x0a\x01\x02\x03", "a-route", b"", b"1", b"1", b""]


@pytest.mark.parametrize("word", ["", "ip", "header:", "header", "Global"])
def test_another_word_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"^'{word}' is no key of a rate limit$"):
        key_function(word, "a-route")
