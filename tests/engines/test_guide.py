"""The part of the guide that needs torch."""

import doctest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_guide_to_torch_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    results = doctest.testfile(str(ROOT / "docs" / "python_torch.md"), module_relative=False)
    assert results.attempted > 15
    assert results.failed == 0
