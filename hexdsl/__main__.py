"""`python -m hexdsl` is `hexc`."""

from hexdsl.cli import run

run()
