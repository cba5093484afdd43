"""``python -m toolchain`` is the ``compress`` command."""

from toolchain.cli import main

main()
