"""`sidecar run --upstream URL` runs one route to one upstream, with every default."""

import pytest

from sidecar.config.defaults import for_upstream
from sidecar.config.load import load_text
from sidecar.errors import ConfigError

EVERYTHING = """\
version: 1
upstreams: {upstream: {url: http://127.0.0.1:9000}}
routes: [{name: everything, upstream: upstream}]
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


def test_every_wrong_argument_is_told_of() -> None:
    with pytest.raises(ConfigError) as refusal:
        for_upstream("localhost:9000", "0.0.0.0:99999", "")

    assert refusal.value.problems == [
        "<command line>:3:12: listen.traffic: must have a port from 0 to 65535, without zeros in front",
        "<command line>:4:8: listen.ops: must not be empty",
        (
            "<command line>:7:10: upstreams.upstream.url: "
            "must be a URL: `http://host:port`, `https://host:port` or `unix:///path`, not `localhost:9000`"
        ),
    ]


@pytest.mark.parametrize(
    "url", ['http://a"\nrecords: 5\n#', "http://${HOME}", "${HOME}", "http://\\u0041\x00"]
)
def test_an_argument_is_only_ever_a_value(url: str) -> None:
    """Neither YAML nor variables in it mean anything."""
    with pytest.raises(ConfigError) as refusal:
        for_upstream(url)

    assert [problem.split(": ")[1] for problem in refusal.value.problems] == ["upstreams.upstream.url"]


def test_an_argument_that_is_not_text_is_refused() -> None:
    """Bytes of a command line that are not UTF-8 arrive as halves of characters."""
    with pytest.raises(ConfigError) as refusal:
        for_upstream("http://\udcff")

    assert refusal.value.problems == ["<command line>:4:10: (file): U+DCFF is half of a character, not one"]
