"""`make fuzz`: the targets fed for longer than a test may take.

    make fuzz                                        each target for a minute
    make fuzz ARGS="--seconds 600 chunked_body"      one target for ten
    make fuzz ARGS="--replay crash-1a2b chunked_body"

With atheris (libFuzzer for Python) new inputs are led by the branches that they reach; without it, which is said, they
are random changes of the same seeds. Exit status: 0 nothing found, 1 something found (the input is kept in a file and
its name printed), 2 wrong usage.
"""

import argparse
import importlib.util
import secrets
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

NAMES = ("request_head", "response_head", "chunked_body", "client_connection", "upstream_connection")
MAX_INPUT = 4096


def main() -> int:
    """Run what was asked for; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Feed made-up bytes to what reads HTTP."
    )
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one or more of: {', '.join(NAMES)}; without: all"
    )
    parser.add_argument("--seconds", type=int, default=60, help="how long for each target (default: 60)")
    parser.add_argument("--seed", type=int, default=None, help="have a run without atheris again")
    parser.add_argument("--plain", action="store_true", help="without atheris, even where it is installed")
    parser.add_argument("--replay", type=Path, help="feed one file to one target")
    parser.add_argument(
        "--corpus", type=Path, help=argparse.SUPPRESS
    )  # set by the run that this one is part of
    chosen = parser.parse_args()
    unknown = set(chosen.targets) - set(NAMES)
    if unknown or (chosen.replay and len(chosen.targets) != 1):
        parser.error(f"no target {', '.join(sorted(unknown))}" if unknown else "--replay needs one target")
    if chosen.replay:
        return _replay(chosen.targets[0], chosen.replay)
    if chosen.corpus:
        _guided(chosen.targets[0], chosen.seconds, chosen.corpus)
    guided = not chosen.plain and importlib.util.find_spec("atheris") is not None
    if not guided and not chosen.plain:
        print("atheris is not installed: random changes only, not led by coverage", flush=True)
    seed = secrets.randbits(32) if chosen.seed is None else chosen.seed
    failed = False
    for name in chosen.targets or NAMES:
        print(f"--- {name}, {chosen.seconds} s", flush=True)
        failed |= not (_run_guided(name, chosen.seconds) if guided else _random(name, chosen.seconds, seed))
    return 1 if failed else 0


def _run_guided(name: str, seconds: int) -> bool:
    """Run libFuzzer in a process of its own: it never returns. True: nothing was found."""
    from tests.fuzz.seeds import SEEDS

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS[name]):
            for steer in (0, 1):
                (Path(folder) / f"{number}-{steer}").write_bytes(bytes([steer]) + seed)
        command = [sys.executable, "-m", "tests.fuzz", "--corpus", folder, "--seconds", str(seconds), name]
        return subprocess.run(command, check=False).returncode == 0


def _guided(name: str, seconds: int, corpus: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["sidecar"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.seeds import BITS

    words = corpus.with_suffix(".dict")
    escaped = ("".join(f"\\x{code:02x}" for code in bit) for bit in BITS)
    words.write_text("".join(f'"{bit}"\n' for bit in escaped))
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-dict={words}",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={name}-", str(corpus)], TARGETS[name])
    try:
        atheris.Fuzz()
    finally:
        words.unlink(missing_ok=True)


def _random(name: str, seconds: int, seed: int) -> bool:
    from tests.fuzz.mutate import made_up
    from tests.fuzz.targets import TARGETS

    chance = Random(f"{seed} {name}")
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        data = made_up(name, chance)
        count += 1
        try:
            TARGETS[name](data)
        except Exception:  # noqa: BLE001 -- whatever it is, it has been found
            found = Path(f"{name}-crash-{seed}-{count}")
            found.write_bytes(data)
            traceback.print_exc()
            print(f"found with --seed {seed} after {count} inputs; kept in {found}", flush=True)
            return False
    print(f"{count} inputs, nothing found (--seed {seed})", flush=True)
    return True


def _replay(name: str, file: Path) -> int:
    from tests.fuzz.targets import TARGETS

    try:
        TARGETS[name](file.read_bytes())
    except Exception:  # noqa: BLE001 -- whatever it is, it is what was asked for
        traceback.print_exc()
        return 1
    print("nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
