"""Variables in values: put in as a shell would, named where missing, not shown where secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.environ import Expanded, escape, expand, is_secret_name

ENV = {"HOST": "db.example", "PORT": "5432", "EMPTY": "", "API_TOKEN": "s3cret", "BROKEN": "\udcff"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", Expanded("plain")),
        ("$HOST and $5", Expanded("$HOST and $5")),
        ("${HOST}", Expanded("db.example", ("HOST",))),
        ("http://${HOST}:${PORT}/${HOST}", Expanded("http://db.example:5432/db.example", ("HOST", "PORT"))),
        ("${HOST:-localhost}", Expanded("db.example", ("HOST",))),
        ("${NOPE:-localhost}", Expanded("localhost")),
        ("${EMPTY:-localhost}", Expanded("localhost")),
        ("${NOPE:-}", Expanded("")),
        ("${NOPE:-a:-b}", Expanded("a:-b")),
        ("[${EMPTY}]", Expanded("[]", ("EMPTY",))),
        ("$${HOST}", Expanded("${HOST}")),
        ("$$${HOST}", Expanded("$${HOST}")),
        ("${API_TOKEN}", Expanded("s3cret", ("API_TOKEN",), secret=True)),
        ("${DB_PASSWORD:-x}", Expanded("x", secret=True)),
    ],
)
def test_variables_are_put_in(text: str, expanded: Expanded) -> None:
    assert expand(text, ENV) == expanded


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("${NOPE}", ("the environment variable `NOPE` is not set; `${NOPE:-…}` would give it a default",)),
        (
            "${NOPE}${NOPE}",
            ("the environment variable `NOPE` is not set; `${NOPE:-…}` would give it a default",),
        ),
        ("${HOST", ("`${` is not closed by `}` (a literal `${` is written `$${`)",)),
        ("${HO ST}", ("`HO ST` is not the name of a variable (a literal `${` is written `$${`)",)),
        ("${HOST-x}", ("`HOST-x` is not the name of a variable (a literal `${` is written `$${`)",)),
        ("${BROKEN:-x}", ("the environment variable `BROKEN` does not hold UTF-8",)),
    ],
)
def test_what_cannot_be_put_in_is_named(text: str, problems: tuple[str, ...]) -> None:
    assert expand(text, ENV).problems == problems


@given(st.text(alphabet="${}:-aA\\ "))
def test_escaped_text_expands_to_itself(text: str) -> None:
    assert expand(escape(text), {}) == Expanded(text)


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASSWORD",
        "PGPASS",
        "API_KEY",
        "X-Api-Key",
        "Authorization",
        "Cookie",
        "SESSION_ID",
        "MY_SECRET_2",
        "github_token",
        "AWS_ACCESS_KEY_ID",
        "KEY",
        "DB_PWD",
        "Proxy-Authorization",
        "CREDENTIALS",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "ORDERS_URL",
        "X-Tenant",
        "MONKEY",
        "KEYBOARD",
        "AUTHORS",
        "PASSENGERS",
        "BYPASS_HOST",
        "TOKEN_FILE",
        "TLS_KEY_PATH",
        "X-Forwarded-For",
    ],
)
def test_other_names_are_not_taken_for_secrets(name: str) -> None:
    assert not is_secret_name(name)
