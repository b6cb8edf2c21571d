"""The mutation test run of `sidecar/policy/`: what `make mutation` does. See `docs/mutation.md`."""
