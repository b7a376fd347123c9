"""The functions for sessions of the `datafusion` package."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from . import _lib

__all__ = ["register"]


def register(context: Any) -> None:
    """Puts every scalar and aggregate function into a `datafusion.SessionContext`. Arguments are positional there.

    Args:
        context: the session. The package `datafusion` must be of the major version that this package was built with, 55.

    Raises:
        ImportError: when `datafusion` is not installed, or is of another major version.
    """
    from datafusion import AggregateUDF, ScalarUDF

    # Another version would take the functions' memory for something else.
    installed, built = metadata.version("datafusion"), _lib.DATAFUSION_VERSION
    if installed.split(".")[0] != built.split(".")[0]:
        major = built.split(".")[0]
        raise ImportError(f"datafusion {installed} is installed; these functions are for datafusion {major}")
    for function in _lib.exported_functions():
        if function.is_aggregate:
            context.register_udaf(AggregateUDF.from_pycapsule(function))
        else:
            context.register_udf(ScalarUDF.from_pycapsule(function))
