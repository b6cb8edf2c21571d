"""What stands below the options in every command's help: examples, and the exit codes."""

__all__ = ["epilog"]

_EXIT_CODES = (
    "0  done",
    "1  the configuration is wrong, or the check failed",
    "2  the command line is wrong",
    "3  could not start, for example because a port is taken",
)


def epilog(*examples: str) -> str:
    """Lay out the examples, one a line, and the exit codes."""
    return "\n\n".join((_block("Examples:", examples), _block("Exit codes:", _EXIT_CODES)))


def _block(title: str, lines: tuple[str, ...]) -> str:
    # The backspace is click's mark for lines that must not be filled into one paragraph.
    return "\n".join(("\b", title, *(f"  {line}" for line in lines)))
