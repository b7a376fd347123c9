"""The functions for sessions of the `datafusion` package."""

from __future__ import annotations

from typing import Any

from . import _lib

__all__ = ["register"]


def register(context: Any) -> None:
    """Puts every scalar and aggregate function into a `datafusion.SessionContext`. Arguments are positional there.

    Args:
        context: the session. The package `datafusion` must be of the major version that this package was built with, 55.

    Raises:
        ImportError: when `datafusion` is not installed.
    """
    from datafusion import AggregateUDF, ScalarUDF

    for function in _lib.exported_functions():
        if function.is_aggregate:
            context.register_udaf(AggregateUDF.from_pycapsule(function))
        else:
            context.register_udf(ScalarUDF.from_pycapsule(function))
