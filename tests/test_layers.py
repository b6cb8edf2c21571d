"""How the source hangs together: imports point down, and every module has tests that one finds without searching."""

import ast
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sidecar"
TESTS = ROOT / "tests"

# Modules whose tests stand elsewhere, because what they promise shows only together with others.
ELSEWHERE = {
    "cli/check.py": "cli/test_console.py",  # a command is what one types
    "cli/demo_child.py": "cli/test_demo.py",  # the demo's own child process
    "cli/epilog.py": "cli/test_console.py",  # the text of --help
    "cli/explain_keys.py": "cli/test_explain.py",  # they are read as the command prints them
    "cli/explain_story.py": "cli/test_explain.py",  # what it tells is read as the command prints it
    "cli/explain_view.py": "cli/test_explain.py",  # as above
    "cli/group.py": "cli/test_console.py",  # exit codes and error lines of every command
    "cli/run.py": "cli/test_running.py",
    "cli/say.py": "cli/test_console.py",  # what goes to which stream, and when in colour
    "cli/schema.py": "cli/test_console.py",
    "cli/show_config.py": "cli/test_console.py",
    "config/alternatives.py": "config/test_config_schema.py",  # what may stand in the place of what
    "config/checks.py": "config/test_broken_files.py",  # a rule is the complaint that a file gets
    "config/checks_fallback.py": "config/test_broken_files.py",  # as above
    "config/checks_policies.py": "config/test_broken_files.py",  # as above
    "config/checks_observing.py": "config/test_broken_files.py",  # as above
    "config/complaints.py": "config/test_broken_files.py",  # as above
    "config/complete.py": "config/test_load.py",  # defaults, profile and inheritance show in what is loaded
    "config/http_kinds.py": "config/test_broken_files.py",  # a kind is what it accepts and how it complains
    "config/kinds.py": "config/test_broken_files.py",  # a kind is what it accepts and how it complains
    "config/lint_traffic.py": "config/test_lint.py",  # the first of the rules
    "config/model.py": "config/test_load.py",  # the models state; loading a file is what they are for
    "config/policies.py": "config/test_load.py",  # as above
    "config/reader.py": "config/test_tree.py",  # reads a text into the tree
    "config/rules.py": "config/test_lint.py",  # what a rule is shows in those that there are
    "config/schema.py": "config/test_config_schema.py",  # under a longer name
    "config/shape.py": "config/test_show.py",  # the plain values that are shown
    "config/yamltext.py": "config/test_show.py",  # the text that they are shown as
    "control/page/__init__.py": "control/test_page.py",  # the page as a whole
    "control/page/words.py": "control/test_page.py",  # as above
    "control/admin/endpoint.py": "control/admin/test_app.py",  # a row of the table shows in what the table does
    "control/admin/entrance.py": "control/admin/test_app.py",  # the way of every request
    "control/admin/names.py": "control/admin/test_maintenance.py",  # names that there are not
    "control/admin/problem.py": "control/admin/test_guard.py",  # the form of every refusal
    "control/explain_request.py": "control/test_explain.py",  # what one is asked shows in the answer
    "control/explain_values.py": "control/test_explain.py",  # as above
    "control/explain_words.py": "control/test_explain.py",  # as above
    "telemetry/otlp.py": "telemetry/test_otel.py",  # the SDK, watched: what a collector gets
    "telemetry/spans.py": "telemetry/test_otel.py",  # what a span says is read where it arrives
    "telemetry/family.py": "telemetry/test_exposition.py",  # what is shown of a metric is what is scraped
    "telemetry/outcomes.py": "telemetry/test_metrics.py",  # the series that are there from the start
    "control/actions.py": "runtime/test_steering.py",  # a promise is tested where it is kept
    "runtime/live.py": "runtime/test_reload.py",  # what is seen of an engine, and of the next one
    "telemetry/live.py": "telemetry/test_snapshot.py",  # what is there to be seen
    "wire/client.py": "wire/test_server.py",  # one client connection, on a real socket
    "wire/framing.py": "fuzz/test_fuzz.py",  # chunked coding against h11's reader, and split at every byte
    "wire/head.py": "wire/test_inbound.py",  # the grammar of heads shows in what goes upstream
    "wire/idle.py": "wire/test_limits.py",  # a body that stands still is cut
    "wire/intake.py": "wire/test_server.py",  # the reading half of a client connection
    "wire/names.py": "wire/test_inbound.py",  # which fields go on
    "wire/reset.py": "wire/test_upstream.py",  # a broken body resets the client's connection
}


def has_something_to_test(module: Path) -> bool:
    """Tell whether a module defines more than names: a package's header or a constant has nothing to fail."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) for node in ast.walk(ast.parse(module.read_text())))


MODULES = [
    path.relative_to(PACKAGE).as_posix()
    for path in sorted(PACKAGE.rglob("*.py"))
    if has_something_to_test(path)
]


def mirror(module: str) -> Path:
    """Give where the tests of a module are looked for first."""
    path = TESTS / module
    return path.with_name(f"test_{path.name}")


def test_imports_point_down_never_up_or_sideways(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)

    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_every_package_and_every_module_at_the_top_stands_in_a_layer() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    placed = {
        name for layer in contract["layers"] for name in layer.replace("|", ":").replace(" ", "").split(":")
    }

    present = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }

    assert placed == {f"sidecar.{name}" for name in present - {"__init__", "__main__"}}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_tests_where_one_looks_for_them(module: str) -> None:
    tests = TESTS / ELSEWHERE[module] if module in ELSEWHERE else mirror(module)

    assert tests.is_file(), (
        f"{module}: write {mirror(module).relative_to(ROOT)}, or say in ELSEWHERE where its tests are"
    )


def test_the_list_of_exceptions_names_only_what_there_is() -> None:
    assert sorted(set(ELSEWHERE) - set(MODULES)) == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_at_its_top_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / module).read_text()))
