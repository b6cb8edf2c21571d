import re
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sidecar.config import pattern
from sidecar.config.pattern import (
    PRESENT,
    HostPattern,
    PathPattern,
    match_host,
    match_path,
    parse_header,
    parse_host,
    parse_method,
    parse_path,
    parse_regex,
)


def message(parse: Callable[..., object], *texts: str) -> str:
    """What the user reads when the text is refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared by the caller
        parse(*texts)
    return str(caught.value)


def test_public_names() -> None:
    """The surface is deliberate."""
    assert sorted(pattern.__all__) == [
        "HostPattern",
        "PRESENT",
        "PathPattern",
        "match_host",
        "match_path",
        "parse_header",
        "parse_host",
        "parse_method",
        "parse_path",
        "parse_regex",
    ]


# --- reading path patterns ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "segments"),
    [
        ("/", "exact", (b"",)),
        ("/a", "exact", (b"a",)),
        ("/a/", "exact", (b"a", b"")),
        ("/a/b.json", "exact", (b"a", b"b.json")),
        ("/a/.well-known", "exact", (b"a", b".well-known")),
        ("/a/...", "exact", (b"a", b"...")),
        ("/v1/x:cancel;p=1,2", "exact", (b"v1", b"x:cancel;p=1,2")),
        ("/%c3%a9/%2f%25", "exact", (b"%C3%A9", b"%2F%25")),
        ("/**", "prefix", ()),
        ("/a/**", "prefix", (b"a",)),
        ("/a/*/**", "prefix", (b"a", None)),
        ("/*", "template", (None,)),
        ("/a/*/c", "template", (b"a", None, b"c")),
        ("/a/{id}/", "template", (b"a", None, b"")),
        ("/{a}/{b_2}/{order-id}", "template", (None, None, None)),
    ],
)
def test_a_path_pattern_is_read_into_segments(
    text: str, kind: str, segments: tuple[bytes | None, ...]
) -> None:
    read = parse_path(text)

    assert (read.text, read.kind, read.segments) == (text, kind, segments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the path is empty; `/**` matches every path"),
        ("orders", "a path starts with `/`"),
        ("*", "a path starts with `/`"),
        ("^/orders$", "a path starts with `/`; a regular expression goes into `path_regex`"),
        ("http://x/orders", "a path starts with `/`; a host goes into `host`"),
        ("/a?b=1", "`?` starts a query, and routes do not look at queries; leave it out"),
        ("/a#b", "`#` starts a fragment, which is never sent to a server; leave it out"),
        ("/a b", "U+0020 cannot be in a path; percent-encoded it is `%20`"),
        ("/é", "U+00E9 cannot be in a path; percent-encoded it is `%C3%A9`"),
        ("/\U0001f600", "U+1F600 cannot be in a path; percent-encoded it is `%F0%9F%98%80`"),
        ("/\ud800", "U+D800 cannot be in a path; percent-encoded it is `%ED%A0%80`"),
        ("/a\n", "U+000A is a control character, which cannot be in a path"),
        ("/\x7f", "U+007F is a control character, which cannot be in a path"),
        ("/100%", "`%` must be followed by two hexadecimal digits; a percent sign itself is `%25`"),
        ("/%4", "`%` must be followed by two hexadecimal digits; a percent sign itself is `%25`"),
        ("/%zz", "`%` must be followed by two hexadecimal digits; a percent sign itself is `%25`"),
        ("/%é9", "`%` must be followed by two hexadecimal digits; a percent sign itself is `%25`"),
        ("/%61dmin", "`%61` is `a`, which needs no percent-encoding; write it plainly"),
        ("/a%7eb", "`%7e` is `~`, which needs no percent-encoding; write it plainly"),
        ("/a/%2e%2e", "`%2e` is `.`, which needs no percent-encoding; write it plainly"),
        ("//", "`//` has an empty segment between its slashes; for such paths use `path_regex`"),
        ("/a//b", "`//` has an empty segment between its slashes; for such paths use `path_regex`"),
        ("/a//", "`//` has an empty segment between its slashes; for such paths use `path_regex`"),
        ("//**", "`//` has an empty segment between its slashes; for such paths use `path_regex`"),
        ("/a/../b", "`..` never matches: dot segments are removed before paths are compared"),
        ("/a/.", "`.` never matches: dot segments are removed before paths are compared"),
        ("/**/b", "`**` must be the last segment; `*` is exactly one"),
        ("/a/**/", "`**` must be the last segment; `*` is exactly one"),
        ("/a*", "`*` must be a whole segment, not a part of `a*`; for more use `path_regex`"),
        ("/***", "`*` must be a whole segment, not a part of `***`; for more use `path_regex`"),
        ("/{id", "`{` in `{id` is not closed"),
        ("/id}/b", "`}` in `id}` closes nothing"),
        ("/{id}.json", "`{…}` must be a whole segment, not a part of `{id}.json`; for more use `path_regex`"),
        ("/a{id}", "`{…}` must be a whole segment, not a part of `a{id}`; for more use `path_regex`"),
        ("/}{", "`{…}` must be a whole segment, not a part of `}{`; for more use `path_regex`"),
        ("/{}", "`{}` needs a name of letters, digits, `_` and `-`, with a letter or `_` first"),
        ("/{1st}", "`{1st}` needs a name of letters, digits, `_` and `-`, with a letter or `_` first"),
        ("/{p:path}", "`{p:path}` needs a name of letters, digits, `_` and `-`, with a letter or `_` first"),
        ("/{*}", "`{*}` needs a name of letters, digits, `_` and `-`, with a letter or `_` first"),
        ("/{id}/b/{id}", "`{id}` is there twice; names are unique in a path"),
        ("/{id}/b/{id}/**", "`{id}` is there twice; names are unique in a path"),
        ("/orders/:id", "`:id` would match nothing but itself; a named segment is `{id}`"),
    ],
)
def test_a_bad_path_pattern_is_refused_in_words(text: str, expected: str) -> None:
    assert message(parse_path, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the regular expression is empty; it must match the whole path, which starts with `/`"),
        ("/(a", "not a regular expression: missing ), unterminated subpattern at character 2"),
        ("/[b-a]", "not a regular expression: bad character range b-a at character 3"),
        ("/a**", "not a regular expression: multiple repeat at character 4"),
        ("/\\\x01\\y", "not a regular expression: bad escape \\y at character 4"),
        ("/(?\x01)", "not a regular expression: unknown extension ?U+0001 at character 3"),
        ("/[[a]]", "not a clear regular expression: Possible nested set at character 3"),
        ("/[a||b]", "not a clear regular expression: Possible set union at character 4"),
        ("(?<=/a*)b", "not a regular expression: look-behind requires fixed-width pattern"),
        ("/a{9,1}", "not a regular expression: min repeat greater than max repeat at character 4"),
        ("/é", "U+00E9 cannot be in a path; percent-encoded it is `%C3%A9`"),
    ],
)
def test_a_bad_regular_expression_is_refused_with_its_position(text: str, expected: str) -> None:
    assert message(parse_regex, text) == expected


@pytest.mark.parametrize("text", ["(" * 20_000 + ")" * 20_000, "a{99999999999}", "a{" + "9" * 5000 + "}"])
def test_a_monstrous_regular_expression_is_refused_not_a_crash(text: str) -> None:
    assert message(parse_regex, text).startswith("not a regular expression: ")


# --- what paths match --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("/", [b"/", b"/.", b"/..", b"/a/.."], [b"", b"*", b"//", b"/a"]),
        (
            "/a/b",
            [b"/a/b", b"/a/./b", b"/%61/b", b"/x/../a/b"],
            [b"/a/b/", b"/a", b"/A/b", b"/a//b", b"a/b", b"x/a/b"],
        ),
        ("/a/", [b"/a/", b"/a/.", b"/a/b/.."], [b"/a", b"/a/b", b"/a//"]),
        ("/a/**", [b"/a", b"/a/", b"/a/x/y", b"/a//", b"/a/b/.."], [b"/", b"/ab", b"*", b"/a%2Fb", b"/a/.."]),
        ("/**", [b"/", b"/a", b"*", b"", b"//", b"/..", b"anything"], []),
        (
            "/a/*/c",
            [b"/a/b/c", b"/a/%2F/c", b"/a/*/c"],
            [b"/a//c", b"/a/c", b"/a/b/b/c", b"/a/b/c/", b"/a/../c"],
        ),
        ("/a/{id}", [b"/a/1"], [b"/a/", b"/a", b"/a/1/", b"/a/1/2", b"/a/.."]),
        ("/a/*/**", [b"/a/b", b"/a/b/", b"/a/b/c/d"], [b"/a", b"/a/", b"/a//b"]),
        ("/%c3%A9", [b"/%C3%A9", b"/%c3%a9"], [b"/\xc3\xa9"]),
        ("/a%2fb", [b"/a%2Fb", b"/a%2fb"], [b"/a/b"]),
    ],
)
def test_what_a_path_pattern_matches(text: str, yes: list[bytes], no: list[bytes]) -> None:
    read = parse_path(text)

    assert {path: read.matches(path) for path in (*yes, *no)} == dict.fromkeys(yes, True) | dict.fromkeys(
        no, False
    )


def test_a_regular_expression_matches_the_whole_normal_path() -> None:
    """Not a part of it, not a line of it, and not the bytes as they came."""
    read = parse_regex("/orders/[0-9]+|/x")
    paths = [b"/orders/17", b"/x", b"/orders/17/", b"/orders/17\n", b"/a/orders/17", b"/a/../orders/%317"]

    assert [read.matches(path) for path in paths] == [True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (b"/a/b", b"/a/b"),
        (b"/%61%2D%2e%5f%7Eb", b"/a-._~b"),
        (b"/%c3%a9%2f%3F%20", b"/%C3%A9%2F%3F%20"),
        (b"/%", b"/%"),
        (b"/%4", b"/%4"),
        (b"/%zz%41", b"/%zzA"),
        (b"/%%41", b"/%A"),
        (b"/%2561", b"/%2561"),
        (b"/public/../admin", b"/admin"),
        (b"/public/%2e%2E/admin", b"/admin"),
        (b"/public/.%2e/admin", b"/admin"),
        (b"/a/./b/.", b"/a/b/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/../", b"/a/"),
        (b"/a/b/c/./../../g", b"/a/g"),
        (b"/../../a", b"/a"),
        (b"/..", b"/"),
        (b"/.", b"/"),
        (b"/a/...", b"/a/..."),
        (b"/a/.b/..c/d.", b"/a/.b/..c/d."),
        (b"//a//b", b"//a//b"),
        (b"/a//../b", b"/a/b"),
        (b"//%2e%2e", b"/"),
        (b"/a%2F..%2Fb", b"/a%2F..%2Fb"),
        (b"/a/..;/b", b"/a/..;/b"),
        (b"/a\\..\\b", b"/a\\..\\b"),
        (b"/\xff%ff", b"/\xff%FF"),
        (b"*", b"*"),
        (b"", b""),
        (b"a/../b", b"a/../b"),
    ],
)
def test_normal_form_of_a_path(raw: bytes, normal: bytes) -> None:
    assert match_path(raw) == normal


RAW_SEGMENTS = st.lists(
    st.sampled_from(
        [b"a", b"bc", b"", b".", b"..", b"%2e", b"%2E%2e", b".%2e", b"%61", b"%2f", b"%", b"x.y", b"*"]
    ),
    min_size=1,
    max_size=7,
)
RAW_PATHS = st.builds(lambda parts: b"/" + b"/".join(parts), RAW_SEGMENTS) | st.sampled_from([b"*", b""])


@given(RAW_SEGMENTS, st.data())
def test_dots_and_needless_escapes_cannot_choose_another_policy(
    parts: list[bytes], data: st.DataObject
) -> None:
    """Writing a path another way that RFC 3986 calls equal does not change its normal form."""
    at = data.draw(st.integers(0, len(parts) - 1))
    detour = data.draw(st.sampled_from([[b"."], [b"%2e"], [b"x", b".."], [b"%78", b"%2E."]]))
    other = parts[:at] + detour + parts[at:]
    spelled = [part.replace(b"a", b"%61").replace(b"x", b"%78") for part in other]

    assert match_path(b"/" + b"/".join(spelled)) == match_path(b"/" + b"/".join(parts))


@given(RAW_PATHS)
def test_a_normal_path_has_no_dot_segments_and_stays_as_it_is(path: bytes) -> None:
    normal = match_path(path)

    assert not {b".", b".."} & set(normal.split(b"/"))
    assert match_path(normal) == normal


SEGMENTS = st.sampled_from(["a", "b", "*", "{x}", "{y}"])


@st.composite
def path_patterns(draw: st.DrawFn) -> PathPattern:
    segments = draw(st.lists(SEGMENTS, max_size=4))
    assume(all(segments.count(name) < 2 for name in ("{x}", "{y}")))
    ending = draw(st.sampled_from([["**"], [""], []]))
    return parse_path("/" + "/".join(segments + ending))


SHORT_PATHS = st.builds(
    lambda parts: b"/" + b"/".join(parts),
    st.lists(st.sampled_from([b"a", b"b", b"c", b""]), min_size=1, max_size=5),
) | st.just(b"*")


def as_regex(text: str) -> str:
    """A second reading of the grammar, written apart from the first."""
    body = text.removesuffix("/**")
    segment = "[^/]+"
    body = "/".join(
        segment if part == "*" or part.startswith("{") else re.escape(part) for part in body.split("/")
    )
    if text == "/**":
        return ".*"
    return f"{body}(/.*)?" if text.endswith("/**") else body


@given(path_patterns(), SHORT_PATHS)
def test_patterns_match_what_their_translation_matches(read: PathPattern, path: bytes) -> None:
    assert read.matches(path) == bool(re.fullmatch(as_regex(read.text), path.decode()))


REGEXES = st.sampled_from(["/a", "/a/.*", ".*", "/[ab]/?", "/(a|b)/c"]).map(parse_regex)


@given(path_patterns() | REGEXES, path_patterns() | REGEXES, SHORT_PATHS)
@example(parse_path("/*"), parse_path("/"), b"/")
@example(parse_path("/a/*/**"), parse_path("/a/**"), b"/a")
def test_what_covers_matches_everything_that_the_covered_matches(
    one: PathPattern, other: PathPattern, path: bytes
) -> None:
    if one.covers(other) and other.matches(path):
        assert one.matches(path)


def witnesses(read: PathPattern) -> list[bytes]:
    """Paths that stand for all that a pattern matches: wildcards hold what no other pattern spells out."""
    path = b"".join(b"/" + (b"fresh" if segment is None else segment) for segment in read.segments)
    if read.kind != "prefix":
        return [path]
    return [path, path + b"/", path + b"/fresh", path + b"/fresh/fresh/fresh/fresh/fresh/fresh/"]


@given(path_patterns(), path_patterns())
def test_covers_is_complete_without_regular_expressions(one: PathPattern, other: PathPattern) -> None:
    assert one.covers(other) == all(one.matches(path) for path in witnesses(other))


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        (parse_path("/**"), parse_regex("/a"), True),
        (parse_path("/a/**"), parse_regex("/a/b"), False),
        (parse_regex("/a/.*"), parse_regex("/a/.*"), True),
        (parse_regex("/a/.*"), parse_regex("/a/b"), False),
        (parse_regex("/a/.*"), parse_path("/a/b"), True),
        (parse_regex("/a/.*"), parse_path("/a/"), True),
        (parse_regex("/a/.*"), parse_path("/b"), False),
        (parse_regex("/a/.*"), parse_path("/a/*"), False),
        (parse_path("/a%2fb"), parse_path("/a%2Fb"), True),
        (parse_path("/{id}"), parse_path("/*"), True),
    ],
)
def test_what_is_known_of_regular_expressions_and_spellings(
    one: PathPattern, other: PathPattern, covers: bool
) -> None:
    assert one.covers(other) is covers


# --- hosts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com", HostPattern("example.com", b"example.com")),
        ("Example.COM.", HostPattern("Example.COM.", b"example.com")),
        ("my_service", HostPattern("my_service", b"my_service")),
        ("127.0.0.1", HostPattern("127.0.0.1", b"127.0.0.1")),
        ("*.Example.com", HostPattern("*.Example.com", b"example.com", wildcard=True)),
        ("[::1]", HostPattern("[::1]", b"[::1]")),
        ("[2001:DB8:0:0::1]", HostPattern("[2001:DB8:0:0::1]", b"[2001:db8::1]")),
    ],
)
def test_a_host_pattern_is_read_into_its_normal_form(text: str, expected: HostPattern) -> None:
    assert parse_host(text) == expected


PORT = "a host is written without port: the port of a request's Host is not looked at"
BRACKETS = "brackets are for an IPv6 address without zone, as in `[2001:db8::1]`"
EMPTY_LABEL = "a label of the host (what stands between dots) is empty"
STAR = "`*` in a host is only the whole first label, as in `*.example.com`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a host is a name; leave `host` out to match every host"),
        ("*", "a host is a name; leave `host` out to match every host"),
        ("http://example.com", "a host is a name alone, without scheme and path"),
        ("example.com/a", "a host is a name alone, without scheme and path"),
        ("bücher.example", "U+00FC in a host: write its `xn--` form"),
        ("example.com:8080", PORT),
        ("[::1]:80", PORT),
        ("::1", "an IPv6 address stands in brackets, as in `[2001:db8::1]`"),
        ("[::1", BRACKETS),
        ("[::1]x", BRACKETS),
        ("[fe80::1%eth0]", BRACKETS),
        ("[example.com]", BRACKETS),
        (".", EMPTY_LABEL),
        ("*.", EMPTY_LABEL),
        (".example.com", EMPTY_LABEL),
        ("example..com", EMPTY_LABEL),
        ("a.*.com", STAR),
        ("a*.com", STAR),
        ("*.*.com", STAR),
        ("example.com ", "a host has letters, digits, `-`, `_` and dots, not U+0020"),
        ("a@b", "a host has letters, digits, `-`, `_` and dots, not U+0040"),
        ("a" * 64, "a label of a host (what stands between dots) has at most 63 characters"),
        ("a." * 127 + "a", "a host has at most 253 characters"),
    ],
)
def test_a_bad_host_pattern_is_refused_in_words(text: str, expected: str) -> None:
    assert message(parse_host, text) == expected


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        (
            "api.example.com",
            [
                b"api.example.com",
                b"API.Example.com",
                b"api.example.com:8080",
                b"api.example.com.",
                b"api.example.com.:1",
            ],
            [b"", b"example.com", b"x.api.example.com", b"api.example.com..", b"[::1]"],
        ),
        (
            "*.example.com",
            [b"a.example.com", b"a.b.example.com", b"A.EXAMPLE.COM.:443"],
            [b"example.com", b".example.com", b"an-example.com", b"a.example.com.evil", b""],
        ),
        (
            "[2001:db8::1]",
            [b"[2001:db8::1]", b"[2001:DB8:0::1]:8080", b"[2001:db8:0:0:0:0:0:1]"],
            [b"[2001:db8::2]", b"2001:db8::1", b"[2001:db8::1%25eth0]", b"[", b"[]", b"[\xff]", b"[v1.X]"],
        ),
    ],
)
def test_what_a_host_pattern_matches(text: str, yes: list[bytes], no: list[bytes]) -> None:
    read = parse_host(text)

    assert {host: read.matches(host) for host in (*yes, *no)} == dict.fromkeys(yes, True) | dict.fromkeys(
        no, False
    )


HOST_NAMES = st.lists(st.sampled_from(["a", "b", "example", "com"]), min_size=1, max_size=4).map(".".join)
HOSTS = st.tuples(st.sampled_from(["", "*."]), HOST_NAMES).map("".join).map(parse_host)


@given(HOST_NAMES, st.sampled_from(["", "."]), st.sampled_from(["", ":", ":8080"]))
def test_case_port_and_trailing_dot_do_not_count(name: str, dot: str, port: str) -> None:
    assert match_host(f"{name.upper()}{dot}{port}".encode()) == name.encode()


@given(HOSTS, HOSTS, HOST_NAMES)
def test_a_host_pattern_covers_what_it_says(one: HostPattern, other: HostPattern, name: str) -> None:
    """Sound for every host; and complete, as a host that holds a fresh label shows."""
    if one.covers(other) and other.matches(name.encode()):
        assert one.matches(name.encode())
    witness = b"fresh." + other.name if other.wildcard else other.name
    assert one.covers(other) == one.matches(witness)


# --- methods and header fields -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["GET", "PATCH", "M-SEARCH", "frobnicate", "x!#$%&'*+-.^_`|~9"])
def test_any_token_is_a_method(text: str) -> None:
    assert parse_method(text) == text.encode()


TOKEN = "letters, digits and !#$%&'*+-.^_`|~, not"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a method is a name such as `GET`; leave `methods` out to match every method"),
        ("*", "a method is a name such as `GET`; leave `methods` out to match every method"),
        ("get", "methods are case-sensitive; did you mean `GET`?"),
        ("Propfind", "methods are case-sensitive; did you mean `PROPFIND`?"),
        ("GET POST", f"a method has {TOKEN} U+0020"),
        ("G\u00c9T", f"a method has {TOKEN} U+00C9"),
    ],
)
def test_a_bad_method_is_refused_in_words(text: str, expected: str) -> None:
    assert message(parse_method, text) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("X-Tenant", "Acme, Inc.", (b"x-tenant", b"Acme, Inc.")),
        ("ETag", "*", (b"etag", PRESENT)),
        ("x", "é", (b"x", b"\xc3\xa9")),
        ("x", "", (b"x", b"")),
    ],
)
def test_a_header_condition_is_a_lower_case_name_and_a_value(
    name: str, value: str, expected: tuple[bytes, bytes]
) -> None:
    assert parse_header(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("", "a", "a header field needs a name"),
        ("X Tenant", "a", f"the name of a header field has {TOKEN} U+0020"),
        ("X-Tenant:", "a", f"the name of a header field has {TOKEN} U+003A"),
        ("X-Tenant", "a\r\nb", "U+000D is a control character, which cannot be in a header field"),
        ("X-Tenant", "\x7f", "U+007F is a control character, which cannot be in a header field"),
        ("X-Tenant", " a", "the value of a header field neither starts nor ends with a space"),
    ],
)
def test_a_bad_header_condition_is_refused_in_words(name: str, value: str, expected: str) -> None:
    assert message(parse_header, name, value) == expected


GRAMMAR = st.text(st.sampled_from("/*{}%?#.:[]()\\^-aZ0 é\x00\n\ud800"), max_size=12)


@given(st.text() | GRAMMAR | GRAMMAR.map("/".__add__))
def test_only_a_printable_value_error_escapes(text: str) -> None:
    """Whatever a configuration holds: one line that a terminal can show, or a pattern."""
    refusals: list[ValueError] = []
    for parse in (parse_path, parse_regex, parse_host, parse_method, lambda text: parse_header(text, text)):
        try:
            parse(text)
        except ValueError as error:
            refusals.append(error)

    assert [
        error for error in refusals if type(error) is not ValueError or not str(error).isprintable()
    ] == []


@given(
    st.binary() | st.lists(st.sampled_from([b"/", b".", b"%", b"2", b"e", b"[", b":", b"]"])).map(b"".join)
)
def test_whatever_bytes_arrive_matching_does_not_raise(raw: bytes) -> None:
    patterns = [parse_path("/a/**"), parse_regex("/.*")]

    assert all(isinstance(read.matches(raw), bool) for read in patterns)
    assert isinstance(parse_host("*.example.com").matches(raw), bool)
