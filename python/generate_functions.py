"""Writes arrow_quant/functions.py from the list of functions in the native module, their examples run.

`make docs` calls it; a test compares the file with what it would write.
"""

import sys
import textwrap
from pathlib import Path

from arrow_quant import Session, _lib

TARGET = Path(__file__).parent / "arrow_quant" / "functions.py"

# What each kind of argument is in Python, for an array of rows and for a stream of them.
TYPES = {
    "Row": ("ArrayLike", "ArrowStream"),
    "SharedRow": ("ArrayLike", "ArrowStream"),
    "Quantized": ("ArrowArray", "ArrowStream"),
    "RowOrQuantized": ("ArrayLike", "ArrowStream"),
    "Params": ("ArrowArray", "ArrowStream"),
    "Bits": ("int | ArrayLike", "int | ArrayLike | ArrowStream"),
    "ActivationBits": ("int | ArrayLike", "int | ArrayLike | ArrowStream"),
    "WideRow": ("ArrayLike", "ArrowStream"),
    "GroupSize": ("int | ArrayLike", "int | ArrayLike | ArrowStream"),
    "RateMethod": ("str | ArrowArray", "str | ArrowArray | ArrowStream"),
    "Method": ("str | ArrowArray", "str | ArrowArray | ArrowStream"),
    "Groups": ("int | ArrayLike", "int | ArrayLike | ArrowStream"),
    "TimeMethod": ("str | ArrowArray", "str | ArrowArray | ArrowStream"),
    "Encoding": ("str | ArrowArray", "str | ArrowArray | ArrowStream"),
    "Bytes": ("ArrowArray", "ArrowStream"),
    "Factor": ("ArrowArray", "ArrowStream"),
    "Symmetric": ("bool | ArrowArray", "bool | ArrowArray | ArrowStream"),
}
# Every other kind is a number, or a column of them.
NUMBER = ("float | ArrayLike", "float | ArrayLike | ArrowStream")

HEADER = '''"""Every function of the library, for arrays and streams.

Made by `make docs` from the list of functions in the native module; do not edit.

An argument may be any object with Arrow's PyCapsule interface (PyArrow, polars, arro3, nanoarrow) or a NumPy array, whose
two dimensions are rows and elements, or one dimension the elements of one row. Neither is copied, but for NumPy arrays
whose rows do not lie one after the other (transposed, or a part of the columns) and those of bfloat16. Arrays give an `Array`;
as soon as one argument is a stream (a chunked array, a table, a reader, a polars series), the result is an `ArrayStream`
that computes each batch when it is asked for. Of a batch or a table, the column with the argument's name is taken;
`quantize` and `dequantize` put their result in its place. An array of one row stands for every row of longer ones.
Rows are shared out to all cores (the environment variable RAYON_NUM_THREADS says how many), and the interpreter is free
meanwhile.

Every function raises `ArgumentError` for an argument that is not accepted and `DataError` for values that cannot be
computed with; the messages name row and element, counted from 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from ._lib import Array, ArrayStream, aggregate, call

if TYPE_CHECKING:
    from ._types import ArrayLike, ArrowArray, ArrowStream

__all__ = [
{names}
]
'''


def wrap(text: str, indent: str, hanging: str = "") -> str:
    return textwrap.fill(
        text, 118, initial_indent=indent, subsequent_indent=indent + hanging, break_on_hyphens=False
    )


def example(query: str) -> str:
    """The query as a doctest, with what it gives."""
    rows = Session().sql(query).to_pyarrow().to_pylist()
    lines = textwrap.wrap(query, 90, break_on_hyphens=False, break_long_words=False)
    call = ["    >>> from arrow_quant import Session"]
    if len(lines) == 1:
        call.append(f'    >>> Session().sql("{lines[0]}").to_pyarrow().to_pylist()')
    else:
        call.append("    >>> Session().sql('''")
        call += [f"    ...     {line}" for line in lines]
        call.append("    ... ''').to_pyarrow().to_pylist()")
    # A backslash of a result is one in the documentation, where it must be written twice.
    return "\n".join([*call, "    " + repr(rows).replace("\\", "\\\\")])


def signature(function: dict, kind: int, result: str, body: str) -> str:
    parameters = []
    for argument in function["arguments"]:
        annotation = TYPES.get(argument["kind"], NUMBER)[kind]
        if argument["optional"]:
            parameters.append(f"{argument['name']}: {annotation} | None = None")
        else:
            parameters.append(f"{argument['name']}: {annotation}")
    joined = ", ".join(parameters)
    line = f"def {function['name']}({joined}) -> {result}:{body}"
    if len(line) <= 120:
        return line
    line = f"def {function['name']}(\n    {joined}\n) -> {result}:{body}"
    if all(len(part) <= 120 for part in line.splitlines()):
        return line
    listed = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"def {function['name']}(\n{listed}) -> {result}:{body}"


def implementation(function: dict) -> str:
    aggregate = function["section"].startswith("Aggregate")
    names = [argument["name"] for argument in function["arguments"]]
    parts = []
    if aggregate:
        either = {**function, "arguments": [dict(argument) for argument in function["arguments"]]}
        parts.append(signature(either, 1, "Array", "").replace(": ArrowStream", ": ArrayLike | ArrowStream"))
    else:
        parts.append("@overload")
        parts.append(signature(function, 0, "Array", " ..."))
        parts.append("@overload")
        streams = signature(function, 1, "ArrayStream", " ...")
        columns = [argument for argument in function["arguments"] if TYPES.get(argument["kind"], NUMBER)[1] == "ArrowStream"]
        if len(columns) != 1:
            # Which of them is the stream is not said; the others may be arrays or single values.
            streams = signature(function, 1, "Array | ArrayStream", " ...")
            streams = streams.replace(": ArrowStream", ": ArrayLike | ArrowStream")
        parts.append(streams)
        parts.append(signature(function, 1, "Any", "").replace(": ArrowStream", ": Any"))
    lines = [parts.pop()]
    description = function["description"]
    end = description.find(". ")
    summary, rest = (description[: end + 1], description[end + 2 :]) if end > 0 else (description, "")
    lines.append(wrap('"""' + summary, "    "))
    if rest:
        lines += ["", wrap(rest, "    ")]
    lines += ["", "    Args:"]
    for argument in function["arguments"]:
        lines.append(wrap(f"{argument['name']}: {argument['description']}", "        ", "    "))
    if function["example"]:
        lines += ["", "    Example:", textwrap.indent(example(function["example"]), "    ")]
    lines.append('    """')
    caller = "aggregate" if aggregate else "call"
    lines.append(f'    return {caller}("{function["name"]}", [{", ".join(names)}])')
    return "\n".join([*parts, *lines])


def source() -> str:
    functions = [function for function in _lib.functions() if not function["section"].startswith("Table")]
    names = "\n".join(f'    "{name}",' for name in sorted(function["name"] for function in functions))
    body = "\n\n\n".join(implementation(function) for function in functions)
    return HEADER.replace("{names}", names) + "\n\n" + body + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv:
        sys.stdout.write(source())
    else:
        TARGET.write_text(source())
