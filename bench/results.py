"""The JSON beside every table: the figures, and what one must know to read them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine
from bench.field import Field

__all__ = ["FORMAT", "Document", "Journal", "load"]

FORMAT = 1  # goes up when a reader of the older files would misread the newer
Document = dict[str, Any]


class Journal:
    """One result file, written again after every step: a run that is broken off keeps what it has."""

    def __init__(self, directory: Path, kind: str, settings: Mapping[str, object]) -> None:
        now = datetime.now(tz=UTC)
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{kind}-{now:%Y%m%d-%H%M%S}.json"
        self.document: Document = {
            "format": FORMAT,
            "kind": kind,
            "started_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "machine": machine.describe().as_json(),
            "settings": dict(settings),
        }

    def note(self, ground: Field, **parts: object) -> None:
        """Add these parts, with who takes part, and write the file."""
        self.document["peers"] = {name: program.version for name, program in ground.programs.items()}
        self.document["missing"] = dict(ground.missing)
        self.document.update(parts)
        self.path.write_text(json.dumps(self.document, indent=1) + "\n")


def load(path: Path) -> Document:
    """Read a result file. Raises ValueError for a file of another format."""
    document: Document = json.loads(path.read_text())
    if document.get("format") != FORMAT:
        raise ValueError(f"{path}: format {document.get('format')!r}, this program reads {FORMAT}")
    return document
