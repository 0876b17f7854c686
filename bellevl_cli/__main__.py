"""`bellevl`, and `python -m bellevl_cli`: the entry. Ctrl-C is quiet from the first moment, while modules are read."""

from __future__ import annotations

import signal


def main() -> None:
    """The program. Until it is there Ctrl-C just ends the process; exits.py takes over from then on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the caller has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .app import main as program

    program()


if __name__ == "__main__":
    main()
