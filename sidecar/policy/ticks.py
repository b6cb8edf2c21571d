"""Time in ticks: whole microseconds, so that sums and differences of times are exact.

A float of seconds keeps microseconds apart for as long as 285 years of uptime. The loop's own clock is coarser.
"""

__all__ = ["TICKS", "seconds_until"]

TICKS = 1e6  # a second; a time `now` in seconds is the tick `round(now * TICKS)`


def seconds_until(due: int, now: float) -> float:
    """Give how many seconds after `now` the tick `due` is reached: whole microseconds, and never one too few.

    Two times between two ticks may be rounded to different sides, hence the look at what comes out.
    """
    wait = (due - round(now * TICKS)) / TICKS
    return wait if round((now + wait) * TICKS) >= due else wait + 1 / TICKS
