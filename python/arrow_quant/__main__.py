"""The program `arrow-quant`: `python -m arrow_quant` is the same."""

import signal
import sys

from . import _lib


def main() -> int:
    """Runs the program on the arguments of the process; gives its exit code."""
    # The program listens for Ctrl-C itself; Python's handler would wait for it to return.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _lib.main(["arrow-quant", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
