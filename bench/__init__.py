"""The same load through the sidecar and through nginx, HAProxy and Envoy.

`python -m bench --help` says what can be measured; `docs/benchmarks.md` says how, and what came out.

Modules, from the ground up: `cores` (who runs where), `process` (start, wait, stop), `usage` (CPU, memory,
files of a process tree), `peers` (the proxies, their configuration), `wrk` (the load), `rows` (the matrix);
on them the checks `compare`, `throughput`, `idle`, `startup`, `leak`; and `results`, `table`, `plot` for what
comes out.

Everything runs on 127.0.0.0/8. Every process is a child of this one, bounded in time, and stopped by its id.
"""
