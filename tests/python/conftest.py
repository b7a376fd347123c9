"""What the tests of files measure with."""

import json

import pytest


@pytest.fixture(scope="session")
def compare(program):
    """What `arrow-quant compare A B` measures, as a dict."""
    return lambda reference, candidate: json.loads(program("compare", reference, candidate, "--json"))
