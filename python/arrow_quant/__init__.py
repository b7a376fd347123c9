"""Quantize the weights of neural networks to 2, 3, 4 and 8 bits.

The functions take anything with Arrow's PyCapsule interface and NumPy arrays, without a copy:

    >>> import numpy as np
    >>> import arrow_quant
    >>> weights = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    >>> quantized = arrow_quant.quantize(weights, bits=4)
    >>> len(quantized)
    2
    >>> decoded = arrow_quant.dequantize(quantized).to_numpy()
    >>> decoded.shape
    (2, 64)
    >>> bool(np.abs(decoded - weights).max() < 0.1)
    True

`quantize_model` quantizes a checkpoint into a folder, `Session` is SQL over models and Arrow tables, and
`arrow_quant.datafusion.register` puts the functions into a session of the `datafusion` package.
"""

from __future__ import annotations

from . import exceptions, functions
from ._lib import Array, ArrayStream, __version__, as_array
from .exceptions import *  # noqa: F403
from .functions import *  # noqa: F403
from .model import Plan, Report, quantize_model
from .session import Query, Session

__all__ = [
    "Array",
    "ArrayStream",
    "Plan",
    "Query",
    "Report",
    "Session",
    "__version__",
    "as_array",
    "quantize_model",
    *exceptions.__all__,
    *functions.__all__,
]
