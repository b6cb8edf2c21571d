"""`python -m sidecar` is the console script `sidecar`."""

from sidecar.cli import main

main()
