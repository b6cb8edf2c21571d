"""What stands below the options in every command's help: examples, and the exit codes that it can give."""

from collections.abc import Iterable

__all__ = ["epilog"]


def epilog(
    *examples: str, failure: str = "the configuration is wrong, or the check failed", starts: bool = False
) -> str:
    """Lay out the examples, one a line, and the exit codes.

    `failure` is what 1 means here; `starts` tells that the command starts a server, which can fail.
    """
    codes = ["0  done", f"1  {failure}", "2  the command line is wrong"]
    if starts:
        codes.append("3  could not start, for example because a port is taken")
    return "\n\n".join((_block("Examples:", examples), _block("Exit codes:", codes)))


def _block(title: str, lines: Iterable[str]) -> str:
    # The backspace is click's mark for lines that must not be filled into one paragraph.
    return "\n".join(("\b", title, *(f"  {line}" for line in lines)))
