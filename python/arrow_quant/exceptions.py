"""The exceptions: every error of the package is an `ArrowQuantError`, and its message is what the command line prints."""

__all__ = ["ArgumentError", "ArrowQuantError", "DataError", "FileError", "QueryError"]


class ArrowQuantError(Exception):
    """Something went wrong; the message says what, where, and what is accepted."""


class ArgumentError(ArrowQuantError, ValueError):
    """An argument or an option that is not accepted, such as 5 bits or strings in place of weights."""


class DataError(ArrowQuantError, ValueError):
    """Values that cannot be computed with: NaN, infinity, a null inside a row, a quantized value that is corrupt."""


class FileError(ArrowQuantError, OSError):
    """A file or a model that cannot be read, quantized or written."""


class QueryError(ArrowQuantError):
    """A query that cannot be planned or run."""


# The public home of a name is the package.
for _name in __all__:
    globals()[_name].__module__ = "arrow_quant"
