"""A small slice of each campaign of `make torture`, which compiles and tries the shim as well."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "torture"
sys.path.insert(0, str(FOLDER))
specification = importlib.util.spec_from_file_location("torture", FOLDER / "__main__.py")
torture = importlib.util.module_from_spec(specification)
specification.loader.exec_module(torture)

SCENARIOS = ("resume/compressed-tensors", "overwrite/parquet", "fresh/copy-gguf")
CASES = {
    "crashes": 16,
    "errors": 16,
    "durability": 3,
    "kills": 4,
    "races": 14,
    "mutants": 50,
    "numerics": 3,
    "searches": 5,
}


@pytest.mark.parametrize("campaign", torture.CAMPAIGNS)
def test_a_slice_of_the_campaign_holds(campaign, tmp_path):
    setup = torture.Setup(tmp_path, seed=1, scenarios=SCENARIOS)
    result = torture.carry_out(campaign, setup, cases=CASES[campaign])
    assert result.tried >= CASES[campaign]
    assert not result.failures
