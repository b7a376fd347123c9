"""The speed benchmarks: the Rust one, then the Python one."""

import sys

from suite.runner import both

if __name__ == "__main__":
    sys.exit(both(__doc__, "speed_benchmark"))
