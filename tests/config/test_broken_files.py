"""Every broken file in `broken/` is refused with exactly the lines that it expects, all of them, in order.

A file says in its first lines what is expected of it, `# expect: line:col: key.path: message`. Where it could
not say so and be broken in its way at once, the lines are in a file of its name that ends in `.expected`.
`DIR` is where the files are.
"""

from pathlib import Path

import pytest

from sidecar.config.load import load_file
from sidecar.errors import ConfigError

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(path.name for path in BROKEN.glob("*.yaml"))
ENV = {
    "EMPTY": "",
    "N": "15",
    "DB_PASSWORD": "hunter2",
    "NOT_UTF8": "\udcff",
    "UPSTREAM": "http://127.0.0.1:9000",
}


def expected(path: Path) -> list[str]:
    beside = path.with_suffix(".expected")
    if beside.exists():
        lines = beside.read_text().splitlines()
    else:
        head = path.read_bytes().decode(errors="replace").splitlines()
        lines = [line.removeprefix("# expect: ") for line in head if line.startswith("# expect: ")]
    return [f"{path.name}:{line.replace('DIR', str(path.parent))}" for line in lines]


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_refused_with_every_fault_at_its_place(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BROKEN)

    with pytest.raises(ConfigError) as refusal:
        load_file(name, ENV)

    assert refusal.value.problems == expected(BROKEN / name)


@pytest.mark.parametrize("name", FILES)
def test_no_complaint_gives_a_secret_away(name: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_file(BROKEN / name, ENV)

    assert "hunter2" not in str(refusal.value)


def test_there_are_broken_files_of_every_kind() -> None:
    assert len(FILES) >= 60
