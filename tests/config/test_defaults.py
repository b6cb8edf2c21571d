"""`sidecar run --upstream URL` runs one route to one upstream, with a breaker, a bulkhead and every default."""

import pytest

from sidecar.config.defaults import for_upstream
from sidecar.config.load import load_text
from sidecar.config.show import effective
from sidecar.errors import ConfigError

EVERYTHING = """\
version: 1
upstreams: {upstream: {url: http://127.0.0.1:9000}}
routes: [{name: everything, upstream: upstream, breaker: {}, bulkhead: {}}]
"""


def test_one_route_takes_everything() -> None:
    loaded = for_upstream("http://127.0.0.1:9000")

    assert loaded.config == load_text(EVERYTHING, env={}).config
    assert (loaded.source, loaded.warnings) == ("<command line>", ())


def test_listeners_can_be_elsewhere() -> None:
    loaded = for_upstream("http://127.0.0.1:9000", "127.0.0.1:0", "unix:///run/ops.sock")

    assert [str(loaded.config.listen.traffic), str(loaded.config.listen.ops)] == [
        "127.0.0.1:0",
        "unix:///run/ops.sock",
    ]


def test_one_listener_can_be_elsewhere_and_the_other_not() -> None:
    listen = for_upstream("http://127.0.0.1:9000", ops=":0").config.listen

    assert [str(listen.traffic), str(listen.ops)] == ["0.0.0.0:8080", ":0"]


def test_the_admin_address_can_be_elsewhere_or_nowhere() -> None:
    listen = for_upstream("http://127.0.0.1:9000", admin="unix:///run/admin.sock").config.listen

    assert str(listen.admin) == "unix:///run/admin.sock"
    assert for_upstream("http://127.0.0.1:9000", admin="off").config.listen.admin is None


def test_an_admin_address_that_others_reach_needs_a_file_with_a_token() -> None:
    with pytest.raises(ConfigError) as refusal:
        for_upstream("http://127.0.0.1:9000", admin=":9901")

    assert refusal.value.problems == [
        (
            "--admin: can be reached from other machines, so `admin: {token: …}` is required; `127.0.0.1:9901` and "
            "`unix:///…` do not need it"
        )
    ]


def test_every_wrong_argument_is_told_of() -> None:
    with pytest.raises(ConfigError) as refusal:
        for_upstream("localhost:9000", "0.0.0.0:99999", "", "9901")

    assert refusal.value.problems == [
        "--listen: must have a port from 0 to 65535, without zeros in front",
        "--ops: must not be empty",
        (
            "--admin: must be an address: `host:port`, `[IPv6]:port`, `:port` for all addresses, or `unix:///path`, "
            "not `9901`; did you mean `:9901`?"
        ),
        (
            "--upstream: must be a URL: `http://host:port`, `https://host:port` or `unix:///path`, "
            "not `localhost:9000`; did you mean `http://localhost:9000`?"
        ),
    ]


@pytest.mark.parametrize(
    "url", ['http://a"\nrecords: 5\n#', "http://${HOME}", "${HOME}", "http://\\u0041\x00"]
)
def test_an_argument_is_only_ever_a_value(url: str) -> None:
    """Neither YAML nor variables in it mean anything."""
    with pytest.raises(ConfigError) as refusal:
        for_upstream(url)

    assert [problem.split(": ")[0] for problem in refusal.value.problems] == ["--upstream"]


def test_an_argument_that_is_not_text_is_refused() -> None:
    """Bytes of a command line that are not UTF-8 arrive as halves of characters."""
    with pytest.raises(ConfigError) as refusal:
        for_upstream("http://\udcff")

    assert refusal.value.problems == ["--upstream: U+DCFF is half of a character, not one"]


def test_listeners_that_cannot_both_be_are_the_fault_of_the_option_that_was_given() -> None:
    with pytest.raises(ConfigError) as refusal:
        for_upstream("http://127.0.0.1:9000", listen="127.0.0.1:9900")

    assert refusal.value.problems == ["--listen: must differ from `ops`, which listens on `0.0.0.0:9900`"]


def test_a_warning_names_the_option_too() -> None:
    (warning,) = for_upstream("http://localhost:8080").warnings

    assert str(warning) == (
        "<command line>: --upstream: warning[loops-to-itself]: "
        "this is `listen.traffic` (`0.0.0.0:8080`): every request would come back, and be answered with 508"
    )


def test_what_is_in_force_comes_from_options_and_from_no_line_of_a_file() -> None:
    loaded = for_upstream("http://127.0.0.1:9000", ops="127.0.0.1:9909", admin="off")

    assert str(loaded.origins[("listen", "ops")]) == "option --ops"
    assert str(loaded.origins[("listen", "admin")]) == "option --admin"
    assert str(loaded.origins[("upstreams", "upstream", "url")]) == "option --upstream"
    assert str(loaded.origins[("routes", 0, "name")]) == "option --upstream"
    assert str(loaded.origins[("drain_timeout",)]) == "default"
    assert "<command line>:" not in effective(loaded)
