"""Entry point of `python -m hvcodec_benchmarks`."""

from hvcodec.memory import keep_freed_memory

from .commands import main

keep_freed_memory()
main(prog_name="python -m hvcodec_benchmarks")
