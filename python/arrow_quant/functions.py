"""Every function of the library, for arrays and streams.

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
    "activation_params",
    "channel_absmax",
    "channel_max",
    "channel_min",
    "channel_sum_squares",
    "codes",
    "cosine_similarity",
    "decode_as",
    "dequantize",
    "encode_as",
    "equalization_factors",
    "equalize",
    "error_stats",
    "gptq",
    "hessian",
    "hessian_factor",
    "log_equalization_factors",
    "mse",
    "quant_params",
    "quantize",
    "quantize_step",
    "quantize_with",
    "scales",
    "sqnr",
    "stored_bytes",
    "time_edges",
    "time_group",
    "weight_equalization_factors",
    "zero_points",
]


@overload
def quantize(
    weights: ArrayLike,
    bits: float | ArrayLike,
    group_size: int | ArrayLike | None = None,
    method: str | ArrowArray | None = None,
    symmetric: bool | ArrowArray | None = None,
    importance: ArrayLike | None = None,
) -> Array: ...
@overload
def quantize(
    weights: ArrayLike | ArrowStream,
    bits: float | ArrayLike | ArrowStream,
    group_size: int | ArrayLike | ArrowStream | None = None,
    method: str | ArrowArray | ArrowStream | None = None,
    symmetric: bool | ArrowArray | ArrowStream | None = None,
    importance: ArrayLike | ArrowStream | None = None,
) -> Array | ArrayStream: ...
def quantize(
    weights: Any,
    bits: float | ArrayLike | ArrowStream,
    group_size: int | ArrayLike | ArrowStream | None = None,
    method: str | ArrowArray | ArrowStream | None = None,
    symmetric: bool | ArrowArray | ArrowStream | None = None,
    importance: Any | None = None,
) -> Any:
    """Quantizes each row of weights in groups along the row.

    Gives a struct of the codes and everything that is needed to decode them (bits, group_size, length, row_scale,
    codes, scales, zero_points). NaN and infinity are an error. NULL where weights or bits are NULL; any other
    argument that is NULL is as if left out.

    Args:
        weights: a list of numbers: one row of weights
        bits: bits per code: 2, 3, 4 or 8; with 'entropy' any number from 1 to 8, which the codes of the row stay
            within
        group_size: weights that share a scale and a zero point; 32 when left out
        method: 'search' (least squared error; the default up to 4 bits), 'minmax' (the range; the default for 8) or
            'entropy' (codes of variable length, which need no groups and no zero points)
        symmetric: true: no zero points; false when left out
        importance: a number for each input channel, by which the squared error is multiplied in a search, such as the
            mean square of the layer's input; uniform if omitted or NULL

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT quantize([0.1, -0.2, 0.3, 0.4], bits => 4, group_size => 4)['codes'] AS codes").to_pyarrow().to_pylist()
        [{'codes': b'\\x18\\xfd'}]
    """
    return call("quantize", [weights, bits, group_size, method, symmetric, importance])


@overload
def quantize_step(weights: ArrayLike, step: float | ArrayLike) -> Array: ...
@overload
def quantize_step(weights: ArrowStream, step: float | ArrayLike | ArrowStream) -> ArrayStream: ...
def quantize_step(weights: Any, step: float | ArrayLike | ArrowStream) -> Any:
    """Quantizes each row of weights to multiples of a step, in codes of variable length, as quantize does with method
    'entropy' and the step that it finds.

    One step for all rows of a model loses the least for its bytes. NULL where any argument is NULL.

    Args:
        weights: a list of numbers: one row of weights
        step: the distance of neighbouring levels, above 0

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT mse(w, quantize_step(w, 0.01)) < 0.0001 AS near FROM (SELECT [0.1, -0.2, 0.3] AS w)").to_pyarrow().to_pylist()
        [{'near': True}]
    """
    return call("quantize_step", [weights, step])


@overload
def dequantize(quantized: ArrowArray) -> Array: ...
@overload
def dequantize(quantized: ArrowStream) -> ArrayStream: ...
def dequantize(quantized: Any) -> Any:
    """Decodes each quantized value to a row of weights.

    NULL where the value is NULL.

    Args:
        quantized: a quantized value

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT dequantize(quantize([0.1, -0.2, 0.3, 0.4], 8)) AS weights").to_pyarrow().to_pylist()
        [{'weights': [0.10117647796869278, -0.20000001788139343, 0.2988235354423523, 0.40000003576278687]}]
    """
    return call("dequantize", [quantized])


@overload
def quant_params(
    weights: ArrayLike,
    bits: int | ArrayLike,
    group_size: int | ArrayLike | None = None,
    method: str | ArrowArray | None = None,
    symmetric: bool | ArrowArray | None = None,
    importance: ArrayLike | None = None,
) -> Array: ...
@overload
def quant_params(
    weights: ArrayLike | ArrowStream,
    bits: int | ArrayLike | ArrowStream,
    group_size: int | ArrayLike | ArrowStream | None = None,
    method: str | ArrowArray | ArrowStream | None = None,
    symmetric: bool | ArrowArray | ArrowStream | None = None,
    importance: ArrayLike | ArrowStream | None = None,
) -> Array | ArrayStream: ...
def quant_params(
    weights: Any,
    bits: int | ArrayLike | ArrowStream,
    group_size: int | ArrayLike | ArrowStream | None = None,
    method: str | ArrowArray | ArrowStream | None = None,
    symmetric: bool | ArrowArray | ArrowStream | None = None,
    importance: Any | None = None,
) -> Any:
    """Chooses scales and zero points for each row of weights, as quantize does, and gives them without the codes.

    NULL where weights or bits are NULL; any other argument that is NULL is as if left out.

    Args:
        weights: a list of numbers: one row of weights
        bits: bits per code: 2, 3, 4 or 8
        group_size: weights that share a scale and a zero point; 32 when left out
        method: 'search' (least squared error; the default up to 4 bits) or 'minmax' (the range; the default for 8)
        symmetric: true: no zero points; false when left out
        importance: a number for each input channel, by which the squared error is multiplied in a search, such as the
            mean square of the layer's input; uniform if omitted or NULL

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql('''
        ...     SELECT quant_params([0.1, -0.2, 0.3, 0.4], 4, 4, 'minmax', false)['row_scale'] AS
        ...     row_scale
        ... ''').to_pyarrow().to_pylist()
        [{'row_scale': 0.04000000283122063}]
    """
    return call("quant_params", [weights, bits, group_size, method, symmetric, importance])


@overload
def quantize_with(weights: ArrayLike, bits: int | ArrayLike, params: ArrowArray) -> Array: ...
@overload
def quantize_with(
    weights: ArrayLike | ArrowStream, bits: int | ArrayLike | ArrowStream, params: ArrayLike | ArrowStream
) -> Array | ArrayStream: ...
def quantize_with(weights: Any, bits: int | ArrayLike | ArrowStream, params: Any) -> Any:
    """Encodes each row of weights with the parameters given: quantize_with(w, b, quant_params(w, b, ...)) equals
    quantize(w, b, ...).

    NULL where any argument is NULL.

    Args:
        weights: a list of numbers: one row of weights
        bits: bits per code: 2, 3, 4 or 8
        params: scales and zero points, as quant_params or an estimator of your own gives them

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql('''
        ...     SELECT quantize_with(w, 4, quant_params(w, 4)) = quantize(w, 4) AS same FROM (SELECT [0.1,
        ...     -0.2, 0.3] AS w)
        ... ''').to_pyarrow().to_pylist()
        [{'same': True}]
    """
    return call("quantize_with", [weights, bits, params])


@overload
def scales(quantized: ArrowArray) -> Array: ...
@overload
def scales(quantized: ArrowStream) -> ArrayStream: ...
def scales(quantized: Any) -> Any:
    """The step between neighbouring codes, one per group: row_scale * m(scales[g]).

    NULL where the value is NULL.

    Args:
        quantized: a quantized value

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT scales(quantize([0.0, 1.5, 0.0, 3.0], 4, 2, 'minmax')) AS scales").to_pyarrow().to_pylist()
        [{'scales': [0.10000000149011612, 0.20000000298023224]}]
    """
    return call("scales", [quantized])


@overload
def zero_points(quantized: ArrowArray) -> Array: ...
@overload
def zero_points(quantized: ArrowStream) -> ArrayStream: ...
def zero_points(quantized: Any) -> Any:
    """The code that decodes to zero, one per group; it need not be an integer.

    2^(bits-1) where the value is symmetric. NULL where the value is NULL.

    Args:
        quantized: a quantized value

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT zero_points(quantize([0.0, 1.5, -3.0, 0.0], 4, 2, 'minmax')) AS zero_points").to_pyarrow().to_pylist()
        [{'zero_points': [0.0, 15.0]}]
    """
    return call("zero_points", [quantized])


@overload
def codes(quantized: ArrowArray) -> Array: ...
@overload
def codes(quantized: ArrowStream) -> ArrayStream: ...
def codes(quantized: Any) -> Any:
    """The codes, unpacked, one per weight: 0 to 2^bits - 1.

    NULL where the value is NULL.

    Args:
        quantized: a quantized value

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT codes(quantize([0.0, 1.0, 2.0, 3.0], 2, 4, 'minmax')) AS codes").to_pyarrow().to_pylist()
        [{'codes': [0, 1, 2, 3]}]
    """
    return call("codes", [quantized])


@overload
def stored_bytes(quantized: ArrowArray) -> Array: ...
@overload
def stored_bytes(quantized: ArrowStream) -> ArrayStream: ...
def stored_bytes(quantized: Any) -> Any:
    """The bytes that a quantized value takes: codes, scales, zero points and the row's scale; of an entropy-coded one
    the codes and 2 bytes, about what parts take for its length and its step.

    NULL where the value is NULL.

    Args:
        quantized: a quantized value

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT stored_bytes(quantize([0.1, -0.2, 0.3, 0.4], 4)) AS bytes").to_pyarrow().to_pylist()
        [{'bytes': 8}]
    """
    return call("stored_bytes", [quantized])


@overload
def cosine_similarity(a: ArrayLike, b: ArrayLike) -> Array: ...
@overload
def cosine_similarity(a: ArrayLike | ArrowStream, b: ArrayLike | ArrowStream) -> Array | ArrayStream: ...
def cosine_similarity(a: Any, b: Any) -> Any:
    """The cosine of the angle between two rows: 1 for rows that point the same way.

    NULL where a row is NULL.

    Args:
        a: the reference: a list of numbers or a quantized value
        b: what is compared with it: the same number of elements

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT cosine_similarity([1.0, 2.0], quantize([1.0, 2.0], 4)) AS cosine").to_pyarrow().to_pylist()
        [{'cosine': 0.9999999999999998}]
    """
    return call("cosine_similarity", [a, b])


@overload
def sqnr(a: ArrayLike, b: ArrayLike) -> Array: ...
@overload
def sqnr(a: ArrayLike | ArrowStream, b: ArrayLike | ArrowStream) -> Array | ArrayStream: ...
def sqnr(a: Any, b: Any) -> Any:
    """The signal-to-quantization-noise ratio in dB: 10 log10(sum a^2 / sum (a-b)^2).

    Infinity where the rows are equal. NULL where a row is NULL.

    Args:
        a: the reference: a list of numbers or a quantized value
        b: what is compared with it: the same number of elements

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT sqnr(w, quantize(w, 4)) AS db FROM (SELECT [0.1, -0.2, 0.35, 0.4] AS w)").to_pyarrow().to_pylist()
        [{'db': 40.15615477880967}]
    """
    return call("sqnr", [a, b])


@overload
def mse(a: ArrayLike, b: ArrayLike) -> Array: ...
@overload
def mse(a: ArrayLike | ArrowStream, b: ArrayLike | ArrowStream) -> Array | ArrayStream: ...
def mse(a: Any, b: Any) -> Any:
    """The mean squared error: sum (a-b)^2 / n.

    NULL where a row is NULL.

    Args:
        a: the reference: a list of numbers or a quantized value
        b: what is compared with it: the same number of elements

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT mse([1.0, 2.0], [1.0, 2.5]) AS mse").to_pyarrow().to_pylist()
        [{'mse': 0.125}]
    """
    return call("mse", [a, b])


@overload
def error_stats(a: ArrayLike, b: ArrayLike) -> Array: ...
@overload
def error_stats(a: ArrayLike | ArrowStream, b: ArrayLike | ArrowStream) -> Array | ArrayStream: ...
def error_stats(a: Any, b: Any) -> Any:
    """The sums that every error figure is made of: dot, a2, b2, err2, max_abs, n.

    Sum the fields over rows (max_abs by max) to get a tensor's figures. NULL where a row is NULL.

    Args:
        a: the reference: a list of numbers or a quantized value
        b: what is compared with it: the same number of elements

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT error_stats([1.0, 2.0], [1.0, 2.5])['err2'] AS err2").to_pyarrow().to_pylist()
        [{'err2': 0.25}]
    """
    return call("error_stats", [a, b])


@overload
def equalize(
    weights: ArrayLike,
    factors: ArrayLike,
    channel: float | ArrayLike | None = None,
    row_factors: ArrayLike | None = None,
    offsets: ArrayLike | None = None,
) -> Array: ...
@overload
def equalize(
    weights: ArrayLike | ArrowStream,
    factors: ArrayLike | ArrowStream,
    channel: float | ArrayLike | ArrowStream | None = None,
    row_factors: ArrayLike | ArrowStream | None = None,
    offsets: ArrayLike | ArrowStream | None = None,
) -> Array | ArrayStream: ...
def equalize(
    weights: Any,
    factors: Any,
    channel: float | ArrayLike | ArrowStream | None = None,
    row_factors: Any | None = None,
    offsets: Any | None = None,
) -> Any:
    """Multiplies each row of weights by one factor per input channel; the activations are divided by the same
    factors.

    Where the factors of the layer after are folded into this one, the row is multiplied by row_factors[channel] as
    well, and offsets are added. NULL where weights or factors are NULL, or channel where row_factors are given.

    Args:
        weights: a list of numbers: one row of weights
        factors: one factor per element of the row
        channel: the row's number in its tensor, counted from 0
        row_factors: one factor per row of the tensor, given together with channel; all 1 when both are left out
        offsets: one number per element of the row; all 0 when left out

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT equalize([1.0, 2.0], [0.5, 2.0]) AS weights").to_pyarrow().to_pylist()
        [{'weights': [0.5, 4.0]}]
    """
    return call("equalize", [weights, factors, channel, row_factors, offsets])


@overload
def equalization_factors(act_absmax: ArrayLike, weight_absmax: ArrayLike, alpha: float | ArrayLike) -> Array: ...
@overload
def equalization_factors(
    act_absmax: ArrayLike | ArrowStream, weight_absmax: ArrayLike | ArrowStream, alpha: float | ArrayLike | ArrowStream
) -> Array | ArrayStream: ...
def equalization_factors(
    act_absmax: Any, weight_absmax: Any, alpha: float | ArrayLike | ArrowStream
) -> Any:
    """The SmoothQuant factors (arXiv:2211.10438), one per input channel: max(act_absmax^alpha / max(weight_absmax,
    1e-5)^(1-alpha), 1e-5), and where act_absmax is 0 the geometric mean of the others (1 where there are none).

    NULL where any argument is NULL.

    Args:
        act_absmax: the largest magnitude of each input channel's activations
        weight_absmax: the largest magnitude of each input channel's weights
        alpha: 0 leaves the activations alone, 1 the weights

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT equalization_factors([4.0, 1.0], [1.0, 1.0], 0.5) AS factors").to_pyarrow().to_pylist()
        [{'factors': [2.0, 1.0]}]
    """
    return call("equalization_factors", [act_absmax, weight_absmax, alpha])


@overload
def log_equalization_factors(act_absmax: ArrayLike) -> Array: ...
@overload
def log_equalization_factors(act_absmax: ArrowStream) -> ArrayStream: ...
def log_equalization_factors(act_absmax: Any) -> Any:
    """The factors of log equalization (arXiv:2308.15987), one per input channel: max(act_absmax / log2(2 +
    act_absmax), 1e-5), and where act_absmax is 0 the geometric mean of the others (1 where there are none).

    NULL where act_absmax is NULL.

    Args:
        act_absmax: the largest magnitude of each input channel's activations

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT log_equalization_factors([6.0, 2.0]) AS factors").to_pyarrow().to_pylist()
        [{'factors': [2.0, 1.0]}]
    """
    return call("log_equalization_factors", [act_absmax])


@overload
def weight_equalization_factors(sum_squares: ArrayLike) -> Array: ...
@overload
def weight_equalization_factors(sum_squares: ArrowStream) -> ArrayStream: ...
def weight_equalization_factors(sum_squares: Any) -> Any:
    """The factors, one per input channel, that bring the sizes of channels nearer to each other: (m /
    max(sum_squares, 1e-8 m))^(3/8), where m is the mean of sum_squares; 1 where all are 0.

    NULL where sum_squares is NULL.

    Args:
        sum_squares: the sum of the squares of each input channel's weights, as the aggregate channel_sum_squares
            gives it

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT weight_equalization_factors([0.0, 256.0, 256.0, 512.0]) AS factors").to_pyarrow().to_pylist()
        [{'factors': [1000.0, 1.0, 1.0, 0.7711054086685181]}]
    """
    return call("weight_equalization_factors", [sum_squares])


@overload
def time_group(t: float | ArrayLike, edges: ArrayLike) -> Array: ...
@overload
def time_group(t: float | ArrayLike | ArrowStream, edges: ArrowStream) -> ArrayStream: ...
def time_group(t: float | ArrayLike | ArrowStream, edges: Any) -> Any:
    """The number of the group that a timestep belongs to, from 0: how many edges are at most t.

    Timesteps outside the edges are of the first or the last group. NULL where any argument is NULL.

    Args:
        t: a timestep, in the unit of the edges
        edges: ascending timesteps, as time_edges gives them

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT time_group(999, [250.0, 500.0, 750.0]) AS time_group").to_pyarrow().to_pylist()
        [{'time_group': 3}]
    """
    return call("time_group", [t, edges])


@overload
def activation_params(
    lo: float | ArrayLike, hi: float | ArrayLike, bits: int | ArrayLike, symmetric: bool | ArrowArray | None = None
) -> Array: ...
@overload
def activation_params(
    lo: float | ArrayLike | ArrowStream,
    hi: float | ArrayLike | ArrowStream,
    bits: int | ArrayLike | ArrowStream,
    symmetric: bool | ArrowArray | ArrowStream | None = None,
) -> Array | ArrayStream: ...
def activation_params(
    lo: float | ArrayLike | ArrowStream,
    hi: float | ArrayLike | ArrowStream,
    bits: int | ArrayLike | ArrowStream,
    symmetric: bool | ArrowArray | ArrowStream | None = None,
) -> Any:
    """The uniform quantizer of activations from lo to hi: x = scale * (code - zero_point), codes from 0 to 2^bits -
    1.

    The range is widened to include zero. NULL where any argument but symmetric is NULL.

    Args:
        lo: the least activation
        hi: the largest activation
        bits: bits per code: 2 to 8
        symmetric: true: no zero points; false when left out

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT activation_params(-1.0, 2.0, 8) AS params").to_pyarrow().to_pylist()
        [{'params': {'scale': 0.0117647061124444, 'zero_point': 85}}]
    """
    return call("activation_params", [lo, hi, bits, symmetric])


@overload
def encode_as(weights: ArrayLike, encoding: str | ArrowArray, importance: ArrayLike | None = None) -> Array: ...
@overload
def encode_as(
    weights: ArrayLike | ArrowStream, encoding: str | ArrowArray | ArrowStream, importance: ArrayLike | ArrowStream | None = None
) -> Array | ArrayStream: ...
def encode_as(
    weights: Any, encoding: str | ArrowArray | ArrowStream, importance: Any | None = None
) -> Any:
    """Encodes each row of weights as a file format stores it, each row by itself.

    A weight beyond what the encoding holds is an error. NULL where any argument but importance is NULL.

    Args:
        weights: a list of numbers: one row of weights
        encoding: how a file format stores a row: 'F16', 'BF16', 'F32' or 'F64'; a type of GGUF, such as 'Q4_K'; or,
            as compressed-tensors does, codes with a scale for each group: 'int4:g32:symmetric:BF16' (int2, int3, int4
            or int8; g and the group size, or channel; symmetric or asymmetric; the dtype of the scales; and search or
            minmax, which may be left out)
        importance: a number for each input channel, by which the squared error is multiplied in a search, such as the
            mean square of the layer's input; uniform if omitted or NULL

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT encode_as([1.0, -2.5], 'BF16') AS data").to_pyarrow().to_pylist()
        [{'data': b'\\x80? \\xc0'}]
    """
    return call("encode_as", [weights, encoding, importance])


@overload
def decode_as(data: ArrowArray, encoding: str | ArrowArray, length: float | ArrayLike) -> Array: ...
@overload
def decode_as(
    data: ArrowStream, encoding: str | ArrowArray | ArrowStream, length: float | ArrayLike | ArrowStream
) -> ArrayStream: ...
def decode_as(
    data: Any, encoding: str | ArrowArray | ArrowStream, length: float | ArrayLike | ArrowStream
) -> Any:
    """Decodes each row of bytes that a file format stores: the reverse of encode_as.

    NULL where any argument is NULL.

    Args:
        data: the bytes of one row
        encoding: how a file format stores a row: 'F16', 'BF16', 'F32' or 'F64'; a type of GGUF, such as 'Q4_K'; or,
            as compressed-tensors does, codes with a scale for each group: 'int4:g32:symmetric:BF16' (int2, int3, int4
            or int8; g and the group size, or channel; symmetric or asymmetric; the dtype of the scales; and search or
            minmax, which may be left out)
        length: the weights of the row

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT decode_as(X'803F20C0', 'BF16', 2) AS weights").to_pyarrow().to_pylist()
        [{'weights': [1.0, -2.5]}]
    """
    return call("decode_as", [data, encoding, length])


@overload
def hessian_factor(hessian: ArrayLike, damping: float | ArrayLike | None = None) -> Array: ...
@overload
def hessian_factor(hessian: ArrowStream, damping: float | ArrayLike | ArrowStream | None = None) -> ArrayStream: ...
def hessian_factor(hessian: Any, damping: float | ArrayLike | ArrowStream | None = None) -> Any:
    """The upper triangular factor U of the damped inverse of a Hessian H, U'U = (H + damping * mean(diag H))^-1
    (arXiv:2210.17323), with what it took: a struct of damping, dead_channels and factor.

    A channel that was zero throughout counts as the mean one. Where H is not positive definite, ten times the damping
    is tried, up to a thousand times; NULL where that does not do either, or where the Hessian is NULL.

    Args:
        hessian: an upper triangle, as the aggregate hessian gives it
        damping: the share of the mean diagonal that is added to the diagonal; 0.01 when left out

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT hessian_factor([1.0, 0.5, 1.0], 0.01)['damping'] AS damping").to_pyarrow().to_pylist()
        [{'damping': 0.01}]
    """
    return call("hessian_factor", [hessian, damping])


@overload
def gptq(
    weights: ArrayLike, hessian_factor: ArrowArray, bits: int | ArrayLike, group_size: int | ArrayLike | None = None
) -> Array: ...
@overload
def gptq(
    weights: ArrayLike | ArrowStream,
    hessian_factor: ArrayLike | ArrowStream,
    bits: int | ArrayLike | ArrowStream,
    group_size: int | ArrayLike | ArrowStream | None = None,
) -> Array | ArrayStream: ...
def gptq(
    weights: Any,
    hessian_factor: Any,
    bits: int | ArrayLike | ArrowStream,
    group_size: int | ArrayLike | ArrowStream | None = None,
) -> Any:
    """Quantizes each row of weights by GPTQ (arXiv:2210.17323): what rounding one weight loses is made up for by
    those after it, as the inputs of the layer allow.

    Scales and zero points are searched, with the weights as they are by then. Rows are independent once the factor is
    known, so that a join of weights with one factor per layer streams. Gives a quantized value, as quantize does.
    NULL where any argument but group_size is NULL.

    Args:
        weights: a list of numbers: one row of weights
        hessian_factor: the factor of the layer's inputs, as hessian_factor gives it
        bits: bits per code: 2, 3, 4 or 8
        group_size: weights that share a scale and a zero point; 32 when left out

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql('''
        ...     SELECT codes(gptq([0.4, -0.2, 0.3], hessian_factor([2.0, 1.0, 0.0, 2.0, 1.0, 2.0]), 2)) AS
        ...     codes
        ... ''').to_pyarrow().to_pylist()
        [{'codes': [3, 0, 3]}]
    """
    return call("gptq", [weights, hessian_factor, bits, group_size])


def channel_absmax(weights: ArrayLike | ArrowStream) -> Array:
    """The largest magnitude of each element over all rows: per input channel, when a row is an output channel.

    NULL rows are skipped; NULL over no rows. Rows of different lengths are an error.

    Args:
        weights: a list of numbers: one row of weights

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT channel_absmax(w) AS absmax FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS t(w)").to_pyarrow().to_pylist()
        [{'absmax': [2.0, 4.0]}]
    """
    return aggregate("channel_absmax", [weights])


def channel_min(weights: ArrayLike | ArrowStream) -> Array:
    """The smallest value of each element over all rows.

    NULL rows are skipped; NULL over no rows. Rows of different lengths are an error.

    Args:
        weights: a list of numbers: one row of weights

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT channel_min(w) AS min FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS t(w)").to_pyarrow().to_pylist()
        [{'min': [-2.0, -4.0]}]
    """
    return aggregate("channel_min", [weights])


def channel_max(weights: ArrayLike | ArrowStream) -> Array:
    """The largest value of each element over all rows.

    NULL rows are skipped; NULL over no rows. Rows of different lengths are an error.

    Args:
        weights: a list of numbers: one row of weights

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT channel_max(w) AS max FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS t(w)").to_pyarrow().to_pylist()
        [{'max': [1.0, 3.0]}]
    """
    return aggregate("channel_max", [weights])


def channel_sum_squares(weights: ArrayLike | ArrowStream) -> Array:
    """The sum of the squares of each element over all rows.

    NULL rows are skipped; NULL over no rows. Rows of different lengths are an error.

    Args:
        weights: a list of numbers: one row of weights

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql('''
        ...     SELECT channel_sum_squares(w) AS squares FROM (VALUES ([1.0, -4.0]), ([-2.0, 3.0])) AS
        ...     t(w)
        ... ''').to_pyarrow().to_pylist()
        [{'squares': [5.0, 25.0]}]
    """
    return aggregate("channel_sum_squares", [weights])


def time_edges(
    timestep: float | ArrayLike | ArrowStream,
    lo: float | ArrayLike | ArrowStream,
    hi: float | ArrayLike | ArrowStream,
    groups: int | ArrayLike | ArrowStream,
    method: str | ArrowArray | ArrowStream | None = None,
) -> Array:
    """The timesteps at which one group of timesteps ends and the next begins, ascending: at most groups - 1 of them.

    Rows come in any order; rows of the same timestep are one, with the range that holds both. Rows with a NULL but
    for the method are skipped; NULL over no rows.

    Args:
        timestep: a step number, a noise level or a mask ratio
        lo: the least activation at that timestep
        hi: the largest activation at that timestep
        groups: how many groups to make, the same in every row
        method: 'optimal' (the least sum of squared ranges over all timesteps; the default), 'uniform' (equal lengths
            of time) or 'quantile' (as many timesteps in each)

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql('''
        ...     SELECT time_edges(t, lo, hi, 2) AS edges FROM (VALUES (0, -1.0, 9.0), (10, -1.0, 2.0),
        ...     (20, -1.0, 1.0)) AS ranges(t, lo, hi)
        ... ''').to_pyarrow().to_pylist()
        [{'edges': [5.0]}]
    """
    return aggregate("time_edges", [timestep, lo, hi, groups, method])


def hessian(activations: ArrayLike | ArrowStream) -> Array:
    """The mean of x[i] * x[j] over all rows x, in f64: the upper triangle, row after row.

    With the inputs of a layer for rows it says, up to a factor, how the layer's output error depends on the errors of
    its weights: what hessian_factor takes. NULL rows are skipped; NULL over no rows. Rows of different lengths are an
    error.

    Args:
        activations: a list of numbers: a layer's input for one token or pixel

    Example:
        >>> from arrow_quant import Session
        >>> Session().sql("SELECT hessian(x) AS hessian FROM (VALUES ([1.0, 2.0]), ([3.0, -1.0])) AS t(x)").to_pyarrow().to_pylist()
        [{'hessian': [5.0, -0.5, 2.5]}]
    """
    return aggregate("hessian", [activations])
