"""The parts that the benchmark programs share: workloads, cases in fresh processes, reports."""

from .cases import Case, Result
from .report import Report, Target, add_common_options
from .workloads import SIZES, make, too_large

__all__ = ["SIZES", "Case", "Report", "Result", "Target", "add_common_options", "make", "too_large"]
