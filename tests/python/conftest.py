"""What the tests of files measure with."""

import json
import signal

import pytest

# A shell that starts this beside other work has Ctrl-C ignored, and Python then leaves it so; tests raise it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def compare(program):
    """What `arrow-quant compare A B` measures, as a dict."""
    return lambda reference, candidate: json.loads(program("compare", reference, candidate, "--json"))
