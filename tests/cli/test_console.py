"""The program as people start it: what it prints where, and the exit codes that scripts rely on."""

import json
import os
import pty
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sidecar.cli import main
from sidecar.cli.group import Program
from sidecar.errors import ConfigError, StartFailed
from sidecar.native import COMPILED
from sidecar.version import VERSION

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "python -m sidecar": [sys.executable, "-m", "sidecar"],
    "sidecar": [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'sidecar'\nfrom sidecar.cli import main\nsys.exit(main())",
    ],
}
GOOD = """\
version: 1
upstreams:
  app: {url: http://127.0.0.1:9000}
routes:
  - {name: everything, upstream: app}
"""
WITH_WARNING = GOOD.replace("routes:", "  spare: {url: http://127.0.0.1:9001}\nroutes:")
BROKEN = GOOD.replace("upstream: app}", "upstream: ap, retries: 3}")
HEAVY = {
    "aiohttp",
    "asyncio",
    "httptools",
    "prometheus_client",
    "pydantic",
    "rich",
    "structlog",
    "uvloop",
    "yaml",
}


def run(*args: str, program: str = "python -m sidecar", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAMS[program], *args],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"} | env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def good(tmp_path: Path) -> str:
    return written(tmp_path / "good.yaml", GOOD)


@pytest.fixture
def with_warning(tmp_path: Path) -> str:
    return written(tmp_path / "with-warning.yaml", WITH_WARNING)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    return written(tmp_path / "broken.yaml", BROKEN)


def written(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


# The program


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_module_and_the_console_script_are_the_same(program: str, good: str, broken: str) -> None:
    version, fine, refused = (
        run(*args, program=program) for args in (["--version"], ["check", good], ["check", broken])
    )

    said = f"sidecar {VERSION}{', compiled' * COMPILED}\n"
    assert (version.returncode, version.stdout, version.stderr) == (0, said, "")
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, f"{good}: ok\n", "")
    assert (refused.returncode, refused.stdout) == (1, "")


def test_the_console_script_is_declared() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert {name: EntryPoint(name, value, "console_scripts").load() for name, value in scripts.items()} == {
        "sidecar": main
    }


@pytest.mark.parametrize("args", [["--help"], *([name, "--help"] for name in main.commands)], ids=" ".join)
def test_help_shows_examples_and_exit_codes(args: list[str]) -> None:
    result = CliRunner().invoke(main, args, prog_name="sidecar")

    shown = [line.strip() for line in result.stdout.splitlines()]
    examples = shown[shown.index("Examples:") + 1 : shown.index("Exit codes:") - 1]
    codes = [line.split()[0] for line in shown[shown.index("Exit codes:") + 1 :]]
    assert result.exit_code == 0
    assert examples
    assert any(line.startswith(" ".join(["sidecar", *args[:-1]])) for line in examples)
    starts = args[0] in {"--help", "run", "demo"}
    assert codes == (["0", "1", "2", "3"] if starts else ["0", "1", "2"])


@pytest.mark.parametrize("command", main.commands.values(), ids=lambda command: command.name)
def test_examples_name_options_that_exist(command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    words = [
        word
        for line in (command.epilog or "").splitlines()
        if line.strip().startswith(f"sidecar {command.name}")
        for word in line.split()
    ]

    assert {word for word in words if word.startswith("--")} <= options


def test_every_command_of_this_version_is_there() -> None:
    assert list(main.commands) == [
        "run",
        "check",
        "config",
        "explain",
        "top",
        "schema",
        "demo",
        "healthcheck",
    ]


@pytest.mark.parametrize(
    "args",
    [
        ["rum"],
        ["--nope"],
        ["run"],
        ["run", "--config", "a.yaml", "--upstream", "http://127.0.0.1:9000"],
        ["run", "a.yaml", "--config", "b.yaml"],
        ["run", "a.yaml", "b.yaml"],
        ["run", "a.yaml", "--upstream", "http://127.0.0.1:9000"],
        ["run", "a.yaml", "--listen", "127.0.0.1:8080"],
        ["run", "--config", "a.yaml", "--listen", "127.0.0.1:8080"],
        ["run", "--config", "a.yaml", "--ops", "127.0.0.1:9900"],
        ["run", "a.yaml", "--admin", "off"],
        ["check"],
        ["check", "a.yaml", "--format", "xml"],
        ["config"],
        ["config", "a.yaml", "b.yaml"],
        ["schema", "a.yaml"],
        ["demo", "--port", "0"],
        ["demo", "--port", "65536"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2_and_says_so_on_stderr(args: list[str]) -> None:
    result = CliRunner().invoke(main, args)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    "args", [["--help"], ["run", "--help"], ["healthcheck", "--url", "http://127.0.0.1:1"]], ids=" ".join
)
def test_what_must_start_fast_imports_nothing_heavy(args: list[str]) -> None:
    script = f"""
import sys
from sidecar.cli import main
try:
    main({args!r})
finally:
    print("heavy:", sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )

    assert done.stdout.splitlines()[-1] == "heavy: []"


# Errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            ConfigError(["a.yaml:1:1: routes: one", "a.yaml:2:1: routes: two"]),
            1,
            "a.yaml:1:1: routes: one\na.yaml:2:1: routes: two\n",
        ),
        (
            StartFailed("cannot listen on 127.0.0.1:80: permission denied"),
            3,
            "sidecar: cannot listen on 127.0.0.1:80: permission denied\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["configuration", "start", "Ctrl-C"],
)
def test_an_error_of_ours_is_lines_on_stderr_and_an_exit_code(
    error: BaseException, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    result = CliRunner().invoke(Program("sidecar", commands=[click.Command("fail", callback=fail)]), ["fail"])

    assert (result.exit_code, result.stdout, result.stderr) == (code, "", line)


@pytest.mark.parametrize(
    "command",
    [["check"], ["config"], ["run"], ["run", "--config"], ["healthcheck", "--config"]],
    ids=" ".join,
)
@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "empty", "broken"])
def test_a_file_that_cannot_be_used_is_1_without_a_traceback(
    command: list[str], kind: str, tmp_path: Path
) -> None:
    file = tmp_path / kind
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes({"binary": b"\xff\xfe\x00", "empty": b"", "broken": BROKEN.encode()}[kind])

    done = run(*command, str(file))

    assert (done.returncode, done.stdout) == (1, "")
    assert all(line.startswith(f"{file}:") for line in done.stderr.splitlines())
    assert done.stderr


def test_a_wrong_option_is_1_and_is_named_as_it_was_given() -> None:
    done = run("run", "--upstream", "127.0.0.1:9000", "--listen", "8080", "--ops", "x:99999")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        (
            "--listen: must be an address: `host:port`, `[IPv6]:port`, `:port` for all addresses, "
            "or `unix:///path`, not `8080`; did you mean `:8080`?"
        ),
        "--ops: must have a port from 0 to 65535, without zeros in front",
        (
            "--upstream: must be a URL: `http://host:port`, `https://host:port` or `unix:///path`, "
            "not `127.0.0.1:9000`; did you mean `http://127.0.0.1:9000`?"
        ),
    ]


def test_check_says_in_one_line_that_a_file_is_no_configuration(tmp_path: Path) -> None:
    file = written(tmp_path / "other.yaml", "".join(f"key{n}:\n" for n in range(50)))

    done = run("check", file)

    complaint = "is no configuration of this program, which knows none of its keys"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{file}:1:1: (file): {complaint}: `key0`, `key1`, `key2`, …\n"


# check


def test_check_shows_every_mistake_of_every_file(good: str, broken: str) -> None:
    done = run("check", broken, good, broken)

    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, f"{good}: ok\n")
    assert lines == lines[:2] * 2
    assert all(line.startswith(f"{broken}:5:") for line in lines)


def test_check_lets_warnings_pass_unless_strict(with_warning: str) -> None:
    relaxed, strict = run("check", with_warning), run("check", "--strict", with_warning)

    assert (relaxed.returncode, relaxed.stdout) == (0, f"{with_warning}: ok\n")
    assert (strict.returncode, strict.stdout) == (1, "")
    assert relaxed.stderr == strict.stderr
    assert relaxed.stderr.startswith(f"{with_warning}:4:")
    assert "warning[unused-upstream]" in relaxed.stderr


def test_check_writes_json_for_programs(good: str, broken: str, with_warning: str) -> None:
    text = run("check", good, broken, with_warning)
    done = run("check", "--format", "json", good, broken, with_warning)

    report = json.loads(done.stdout)
    findings = [finding for entry in report["files"] for finding in entry["errors"] + entry["warnings"]]
    assert (done.returncode, done.stderr) == (1, "")
    assert (report["ok"], [(entry["file"], entry["ok"]) for entry in report["files"]]) == (
        False,
        [(good, True), (broken, False), (with_warning, True)],
    )
    assert [finding["text"] for finding in findings] == text.stderr.splitlines()
    assert [(f["line"], f["key"], f["id"]) for f in findings] == [
        (5, "routes[0].upstream", None),
        (5, "routes[0].retries", None),
        (4, "upstreams.spare", "unused-upstream"),
    ]
    assert all(f["text"].endswith(f["message"]) and str(f["column"]) in f["text"] for f in findings)


def test_check_in_json_heeds_strict(with_warning: str) -> None:
    done = run("check", "--format", "json", "--strict", with_warning)

    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["files"][0]["ok"]) == (1, False, False)


# config, schema


def test_config_shows_values_and_where_they_come_from(with_warning: str) -> None:
    done = run("config", with_warning)

    assert done.returncode == 0
    assert "http://127.0.0.1:9000" in done.stdout
    assert "default" in done.stdout
    assert "warning[unused-upstream]" in done.stderr


def test_schema_is_a_json_schema_that_knows_the_keys() -> None:
    done = run("schema")

    schema = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"version", "upstreams", "routes"} <= set(schema["properties"])


# The terminal


def test_colour_is_for_terminals_only(broken: str) -> None:
    assert "\x1b[" in on_a_terminal("check", broken)
    assert "\x1b[" not in run("check", broken).stderr


def test_no_color_switches_colour_off_and_its_empty_value_does_not(broken: str) -> None:
    assert "\x1b[" not in on_a_terminal("check", broken, NO_COLOR="1")
    assert "\x1b[" in on_a_terminal("check", broken, NO_COLOR="")


def on_a_terminal(*args: str, **env: str) -> str:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        with subprocess.Popen(
            [*PROGRAMS["sidecar"], *args], cwd=ROOT, env=clean | env, stdout=theirs, stderr=theirs
        ):
            os.close(theirs)
            seen = b""
            try:
                while chunk := terminal.read(65536):
                    seen += chunk
            except OSError:  # Linux's word for: nobody has the terminal open any more
                pass
    return seen.decode()


@pytest.mark.parametrize("args", [["schema"], ["--help"], ["config", "config/sidecar.yaml"]], ids=" ".join)
def test_a_reader_that_leaves_is_no_error_to_complain_about(args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAMS["sidecar"], *args],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_line_and_not_a_traceback() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAMS["sidecar"], "schema"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, b"Error: cannot write the output: No space left on device\n")
