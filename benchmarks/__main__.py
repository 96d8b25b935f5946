"""Entry point of `python -m hvcodec_benchmarks`."""

from .commands import main

main(prog_name="python -m hvcodec_benchmarks")
