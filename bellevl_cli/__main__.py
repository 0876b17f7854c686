"""`python -m bellevl_cli` is `bellevl`."""

from .app import main

main()
