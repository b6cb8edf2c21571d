"""Tables for a terminal: columns aligned, numbers to the right."""

from collections.abc import Sequence

__all__ = ["number", "ratio", "render"]


def number(value: float) -> str:
    """Show three significant digits, and no exponent: 0.123, 12.3, 1234."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(value: float | None) -> str:
    """Show a ratio, or nothing where there is none."""
    return "" if value is None else f"{value:.2f}"


def render(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the columns. The first two are words, the others numbers."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    return "\n".join(_line(line, widths) for line in (head, ["-" * width for width in widths], *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join([*words, *numbers]).rstrip()
