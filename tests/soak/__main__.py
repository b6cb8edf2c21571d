"""`python -m tests.soak`: the hour of the outage a thousand times, each with other lots.

    make soak                            a thousand hours, on all cores
    make soak ARGS="--seed 17"           one hour again, with its settings and all that was broken in it
    make soak ARGS="--first 1001"        another thousand

A broken promise is told with its seed. Exit status: 0 every promise was kept, 1 one was broken, 2 wrong usage.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

from tests.soak.outage import Outcome, play
from tests.soak.rules import draw

TOLD = 5  # broken promises of one seed that are printed; the first ones say most


def main(words: Sequence[str] | None = None) -> int:
    """Play what the words say. 0: every promise was kept."""
    options = _options(words)
    if options.seed is not None:
        return _again(options.seed)
    seeds = range(options.first, options.first + options.seeds)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with multiprocessing.get_context("fork").Pool(min(options.jobs, len(seeds)), _leave_ctrl_c_alone) as pool:
        for outcome in pool.imap_unordered(play, seeds):
            outcomes.append(outcome)
            _tell(outcome, TOLD)
            if len(outcomes) % 50 == 0:
                print(f"{len(outcomes)} of {len(seeds)} hours, {time.monotonic() - began:.0f} s", flush=True)
    _sum_up(outcomes)
    return int(any(outcome.broken for outcome in outcomes))


def _again(seed: int) -> int:
    print(draw(Random(seed)))
    outcome = play(seed)
    _tell(outcome, len(outcome.broken))
    _sum_up([outcome])
    return int(bool(outcome.broken))


def _leave_ctrl_c_alone() -> None:
    """Leave Ctrl-C to the parent, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="An hour of an outage, many times."
    )
    parser.add_argument("--seeds", type=_count, default=1000, metavar="N", help="how many hours (1000)")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first seed (1)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="this one alone")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs", type=_count, default=cores, metavar="N", help="processes (one for each core)"
    )
    return parser.parse_args(words)


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return number


def _tell(outcome: Outcome, most: int) -> None:
    for line in outcome.broken[:most]:
        print(f"seed {outcome.seed}: {line}", flush=True)
    if len(outcome.broken) > most:
        print(f"seed {outcome.seed}: … and {len(outcome.broken) - most} more", flush=True)


def _sum_up(outcomes: Sequence[Outcome]) -> None:
    fates: Counter[str] = Counter()
    for outcome in outcomes:
        fates.update(outcome.fates)
    requests = sum(outcome.requests for outcome in outcomes)
    attempts = sum(outcome.attempts for outcome in outcomes)
    trips = sum(outcome.trips for outcome in outcomes)
    print(
        f"{len(outcomes)} hours: {requests} requests, {attempts} attempts, the breaker opened {trips} times"
    )
    for fate, many in fates.most_common():
        print(f"  {fate:24} {many:10}  {100 * many / max(1, requests):6.2f} %")
    broken = sorted(outcome.seed for outcome in outcomes if outcome.broken)
    if broken:
        print(f'BROKEN in {len(broken)} of them; again: make soak ARGS="--seed {broken[0]}"; all: {broken}')
    else:
        print("every promise was kept")


if __name__ == "__main__":
    sys.exit(main())
