"""The functions of the Python package: what they take, what they give, what they refuse."""

import importlib.util
import subprocess
import sys
import threading
import time
from pathlib import Path

import arro3.core
import entropy_value
import ml_dtypes
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from quantized_folder import decode_row

import arrow_quant
from arrow_quant import _lib

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = [function for function in _lib.functions() if not function["section"].startswith("Table")]


def generator():
    spec = importlib.util.spec_from_file_location("generate_functions", ROOT / "python" / "generate_functions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(count=40, length=96, seed=1):
    return np.random.default_rng(seed).normal(0, 0.02, (count, length)).astype(np.float32)


def lists(values, data_type=pa.float32()):
    return pa.array([None if row is None else list(row) for row in values], pa.list_(data_type))


def address(array):
    """Where the values of a PyArrow array lie."""
    return array.buffers()[-1].address


def test_every_function_of_the_list_is_there_as_it_would_be_written_today():
    assert len(FUNCTIONS) >= 17
    for function in FUNCTIONS:
        assert function["name"] in arrow_quant.__all__
        assert callable(getattr(arrow_quant, function["name"]))
    written = (ROOT / "python" / "arrow_quant" / "functions.py").read_text()
    assert written == generator().source(), "make docs writes arrow_quant/functions.py"


@pytest.mark.parametrize("bits", [1, 1.7, 2.5, 4, 8])
@pytest.mark.parametrize("length", [1, 5, 96, 5000])
def test_entropy_coded_values_decode_as_the_format_says(bits, length):
    weights = np.random.default_rng(length).standard_t(3, (20, length)).astype(np.float32)
    quantized = arrow_quant.quantize(weights, bits, method="entropy")
    decoded = arrow_quant.dequantize(quantized).to_numpy()
    want = np.stack([entropy_value.decode(value) for value in quantized.to_pylist()])
    np.testing.assert_array_equal(decoded, want)
    used = 8 * sum(len(value["codes"]) for value in quantized.to_pylist()) / weights.size
    assert used <= bits or length < 96


def test_levels_outside_every_table_decode_as_the_format_says():
    weights = np.float32([[0.5, -3e5, 7.0, 1e6, -1e6, 0.0] * 20])
    for step in (1.0, 3.0, 1000.0, 1e6):
        quantized = arrow_quant.quantize_step(weights, step)
        decoded = arrow_quant.dequantize(quantized).to_numpy()
        np.testing.assert_array_equal(decoded[0], entropy_value.decode(quantized.to_pylist()[0]))
        assert np.abs(decoded - weights).max() <= 6 * step


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_values_decode_as_the_format_says(bits):
    weights = rows()
    quantized = arrow_quant.quantize(weights, bits)
    decoded = arrow_quant.dequantize(quantized).to_numpy()
    want = np.stack([decode_row(value) for value in quantized.to_pylist()])
    np.testing.assert_array_equal(decoded, want)
    error = 10 * np.log10(np.sum(weights.astype(np.float64) ** 2) / np.sum((weights - decoded.astype(np.float64)) ** 2))
    assert error > {2: 8, 3: 14, 4: 20, 8: 44}[bits]


def test_the_same_rows_give_the_same_values_whatever_holds_them():
    weights = rows()
    want = arrow_quant.quantize(weights, 4, 16).to_pylist()
    array = lists(weights)
    fixed = pa.FixedSizeListArray.from_arrays(weights.ravel(), weights.shape[1])
    large = array.cast(pa.large_list(pa.float32()))
    for same in (array, fixed, large, arro3.core.Array(array), arrow_quant.as_array(weights)):
        assert arrow_quant.quantize(same, 4, 16).to_pylist() == want
    sliced = pa.concat_arrays([lists(rows(3)), array, lists(rows(2))]).slice(3, len(array))
    assert arrow_quant.quantize(sliced, bits=4, group_size=16).to_pylist() == want
    for stream in (pa.chunked_array([array[:7], array[7:7], array[7:]]), pl.Series(array)):
        assert arrow_quant.quantize(stream, 4, 16).to_pyarrow().to_pylist() == want
    wide = arrow_quant.quantize(weights.astype(np.float64), 4, 16).to_pylist()
    assert wide == want
    strided = np.concatenate([weights, weights], axis=1)[:, : weights.shape[1]]
    assert arrow_quant.quantize(strided, 4, 16).to_pylist() == want
    assert arrow_quant.quantize(weights[0], 4, 16).to_pylist() == want[:1]


def test_results_are_taken_by_the_others():
    quantized = arrow_quant.quantize(rows(), 4)
    assert pa.array(quantized).type == pa.array(arro3.core.Array(quantized)).type
    decoded = arrow_quant.dequantize(quantized)
    assert pl.Series(pa.array(decoded)).len() == pl.Series(arrow_quant.dequantize(pa.chunked_array([quantized]))).len() == 40


def test_neither_arguments_nor_results_are_copied():
    weights = rows()
    assert address(arrow_quant.as_array(weights).to_pyarrow()) == weights.ctypes.data
    array = lists(weights)
    assert address(arrow_quant.as_array(array).to_pyarrow()) == address(array)
    decoded = arrow_quant.dequantize(arrow_quant.quantize(array, 8))
    assert address(decoded.to_pyarrow()) == address(decoded.to_pyarrow())
    assert decoded.to_numpy().ctypes.data == address(decoded.to_pyarrow())
    batch = pa.record_batch({"name": pa.array([f"t{i}" for i in range(40)]), "weights": array})
    result = arrow_quant.quantize(batch, 4).to_pyarrow()
    assert address(result.column("name")) == address(batch.column("name"))


def test_an_array_outlives_the_numpy_array_that_it_points_into():
    weights = rows()
    kept = arrow_quant.as_array(weights)
    want = weights.copy()
    del weights
    rows(seed=2)
    np.testing.assert_array_equal(kept.to_numpy(), want)


def test_tables_keep_their_columns_and_all_their_batches():
    table = pa.table({"name": [f"t{i}" for i in range(40)], "weights": lists(rows())})
    batches = table.to_batches(max_chunksize=9)
    stream = arrow_quant.quantize(pa.Table.from_batches(batches), 4)
    assert isinstance(stream, arrow_quant.ArrayStream)
    result = pa.table(stream)
    assert result.column_names == ["name", "quantized"]
    assert [len(batch) for batch in result.to_batches()] == [9, 9, 9, 9, 4]
    assert result["quantized"].to_pylist() == arrow_quant.quantize(rows(), 4).to_pylist()
    back = arrow_quant.dequantize(result).to_pyarrow()
    assert back.column_names == ["name", "weights"]


def test_a_stream_holds_one_batch_at_a_time():
    made = []

    def batches():
        for i in range(5):
            made.append(i)
            yield pa.record_batch({"weights": lists(rows(4, seed=i))})

    schema = pa.schema({"weights": pa.list_(pa.float32())})
    stream = arrow_quant.quantize(pa.RecordBatchReader.from_batches(schema, batches()), 4)
    assert made == []
    for i, batch in enumerate(stream):
        assert made == list(range(i + 1))
        assert len(batch) == 4
    assert len(made) == 5


def test_an_error_of_a_generator_comes_out_of_the_stream():
    def batches():
        yield pa.record_batch({"weights": lists(rows(4))})
        raise OSError("the disk is gone")

    schema = pa.schema({"weights": pa.list_(pa.float32())})
    stream = arrow_quant.quantize(pa.RecordBatchReader.from_batches(schema, batches()), 4)
    with pytest.raises(arrow_quant.ArrowQuantError, match="the disk is gone") as raised:
        list(stream)
    # Not of the values: what another library raised is no kind of ours.
    assert type(raised.value) is arrow_quant.ArrowQuantError


def test_control_c_in_a_generator_stays_control_c():
    def batches():
        raise KeyboardInterrupt
        yield

    schema = pa.schema({"weights": pa.list_(pa.float32())})
    stream = arrow_quant.quantize(pa.RecordBatchReader.from_batches(schema, batches()), 4)
    with pytest.raises(KeyboardInterrupt):
        list(stream)


def test_a_stream_is_read_once():
    def stream():
        return arrow_quant.quantize(pa.chunked_array([lists(rows(4))]), 4)

    read, given = stream(), stream()
    assert len(read.to_pylist()) == 4
    assert list(read) == []
    pa.chunked_array(given)
    for call in (read.to_pyarrow, read.to_numpy, read.__arrow_c_stream__, given.to_pyarrow, lambda: next(given)):
        with pytest.raises(arrow_quant.ArrowQuantError, match="the stream has been"):
            call()


def test_a_stream_that_is_read_by_its_own_source_is_an_error():
    def batches():
        yield pa.record_batch({"weights": lists(rows(4))})
        next(streams[0])

    schema = pa.schema({"weights": pa.list_(pa.float32())})
    streams = [arrow_quant.quantize(pa.RecordBatchReader.from_batches(schema, batches()), 4)]
    with pytest.raises(arrow_quant.ArrowQuantError, match="the stream is being read"):
        list(streams[0])


def test_errors_have_the_same_words_through_the_c_interface():
    stream = arrow_quant.quantize(pa.chunked_array([lists([[1.0, float("nan")]])]), 4)
    with pytest.raises(pa.ArrowInvalid, match="External error: quantize: row 0, element 1 is NaN"):
        pa.chunked_array(stream)


def test_streams_cut_differently_meet_row_by_row():
    a, b = lists(rows(seed=1)), lists(rows(seed=2))
    want = arrow_quant.mse(a, b).to_pylist()
    left, right = pa.chunked_array([a[:7], a[7:30], a[30:]]), pa.chunked_array([b[:19], b[19:]])
    assert arrow_quant.mse(left, right).to_pyarrow().to_pylist() == want
    assert arrow_quant.mse(left, b).to_pyarrow().to_pylist() == want
    with pytest.raises(arrow_quant.ArrowQuantError, match="different numbers of rows"):
        arrow_quant.mse(left, b[:20]).to_pyarrow()


def test_one_row_stands_for_all():
    weights, factors = rows(), np.linspace(1, 2, 96, dtype=np.float32)
    result = arrow_quant.equalize(weights, factors).to_numpy()
    np.testing.assert_allclose(result, weights * factors, rtol=1e-6)


def test_a_batch_of_one_row_stands_for_all():
    batch = pa.record_batch({"a": lists([[1.0, 2.0]]), "b": [1]})
    other = lists([[1.0, 2.5], [3.0, 2.0]])
    assert arrow_quant.mse(batch, other).to_pylist() == [0.125, 2.0]


def test_aggregates_over_streams_that_are_cut_differently():
    t, lo = np.arange(6.0), np.arange(6.0)
    whole = arrow_quant.time_edges(t, lo, lo + 1, 2).to_pylist()
    streams = [pa.chunked_array([a[:2], a[2:]]) if i else pa.chunked_array([a[:5], a[5:]]) for i, a in enumerate((t, lo, lo + 1))]
    assert arrow_quant.time_edges(*streams, 2).to_pylist() == whole
    with pytest.raises(arrow_quant.ArgumentError, match="groups must be given where method is"):
        arrow_quant.time_edges(t, lo, lo + 1, None, "uniform")


def test_aggregates_are_those_of_numpy():
    weights = rows()
    stream = pa.chunked_array([lists(weights[:11]), lists(weights[11:])])
    for given in (weights, lists(weights), stream, pa.table({"weights": stream})):
        assert arrow_quant.channel_absmax(given).to_numpy()[0].tolist() == np.abs(weights).max(axis=0).tolist()
    squares = arrow_quant.channel_sum_squares(weights).to_numpy()[0]
    np.testing.assert_allclose(squares, (weights.astype(np.float64) ** 2).sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u4"])
def test_arrays_without_elements(dtype):
    for shape, lengths in (((0, 64), []), ((3, 0), [0, 0, 0]), ((0,), [0])):
        array = np.zeros(shape, dtype)
        quantized = arrow_quant.quantize(array, 4)
        assert [row["length"] for row in quantized.to_pylist()] == lengths
        assert arrow_quant.as_array(array).to_numpy().size == 0
    assert arrow_quant.as_array(np.zeros((0, 64), dtype)).to_numpy().shape == (0, 64)


def test_arrays_that_are_gathered_or_widened():
    weights = rows(16, 96)
    want = arrow_quant.quantize(weights, 4).to_pylist()
    wide = np.concatenate([weights, weights], axis=1)
    for same in (np.asfortranarray(weights), wide[:, :96], weights[::-1][::-1], weights.T.copy().T):
        assert arrow_quant.quantize(same, 4).to_pylist() == want
    narrow = weights.astype(ml_dtypes.bfloat16)
    assert arrow_quant.quantize(narrow, 4).to_pylist() == arrow_quant.quantize(narrow.astype(np.float32), 4).to_pylist()


def test_results_are_arrays_for_numpy():
    decoded = arrow_quant.dequantize(arrow_quant.quantize(rows(4), 8))
    assert np.asarray(decoded).shape == (4, 96)
    assert np.asarray(decoded, dtype=np.float64).dtype == np.float64


def test_bits_may_be_a_column():
    weights = rows(4)
    bits = np.array([2, 3, 4, 8])
    values = arrow_quant.quantize(weights, bits).to_pylist()
    assert [value["bits"] for value in values] == [2, 3, 4, 8]
    assert arrow_quant.quantize(weights, np.int64(3)).to_pylist()[0]["bits"] == 3


def test_what_is_left_out_has_its_default():
    weights = rows(2)
    value = arrow_quant.quantize(weights, 8, symmetric=True).to_pylist()[0]
    assert (value["group_size"], value["zero_points"]) == (32, None)
    assert value == arrow_quant.quantize(weights, 8, 32, "minmax", True).to_pylist()[0]


MASKED = pa.StructArray.from_arrays([lists([[1.0], [5.0], [3.0]])], ["weights"], mask=pa.array([False, True, False]))


class Fake:
    """An array that NumPy would not make."""

    def __init__(self, **interface):
        self.__array_interface__ = {"version": 3, "typestr": "<f4", "shape": (2, 2), "data": (64, True), **interface}


WRONG = [
    (lambda: arrow_quant.quantize(MASKED, 4), "ArgumentError", "1 rows of the table are null; a table has none"),
    (lambda: arrow_quant.channel_absmax(MASKED), "ArgumentError", "1 rows of the table are null; a table has none"),
    (lambda: arrow_quant.Session().register("t", MASKED), "ArgumentError", "1 rows of the table are null"),
    (lambda: arrow_quant.quantize(np.ma.masked_less(rows(), 0), 4), "ArgumentError", "quantize: weights has a mask"),
    (lambda: arrow_quant.quantize(Fake(shape=(2**62, 4)), 4), "ArgumentError", "passes what memory holds"),
    (lambda: arrow_quant.quantize(Fake(shape=(-1, 4)), 4), "ArgumentError", "quantize: weights is no array"),
    (lambda: arrow_quant.quantize(Fake(data=b"1234"), 4), "ArgumentError", "quantize: weights is no array"),
    (lambda: arrow_quant.quantize(pa.Array.from_buffers(pa.null(), 2**40, [None]), 4), "DataError", "rows of an array would pass 2147483647"),
    (lambda: arrow_quant.quantize(pa.record_batch({"weights": lists([[1.0]]), "quantized": [1]}), 4), "ArgumentError", "the table has a column 'quantized' already"),
    (lambda: arrow_quant.quantize(pa.array(["a"]), 4), "ArgumentError", "quantize: weights must be a list of numbers, not Utf8"),
    (lambda: arrow_quant.quantize(rows(), 5), "ArgumentError", "quantize: bits must be 2, 3, 4 or 8, not 5"),
    (lambda: arrow_quant.quantize(rows(), 2**80), "ArgumentError", "quantize: bits must fit 64 bits"),
    (lambda: arrow_quant.quantize(rows(), "4"), "ArgumentError", "quantize: bits must be a number: 2, 3, 4 or 8, or 1 to 8 with method 'entropy', not Utf8"),
    (lambda: arrow_quant.quantize(rows(), 4, 0), "ArgumentError", "quantize: group_size must be 1 to 4294967295, not 0"),
    (lambda: arrow_quant.quantize(rows(), 4, 32, "hqq"), "ArgumentError", "method must be 'search', 'minmax' or 'entropy', not 'hqq'"),
    (lambda: arrow_quant.quantize(rows(), None), "ArgumentError", "quantize takes 2 to 6 arguments"),
    (lambda: arrow_quant.quantize([1.0, 2.0], 4), "ArgumentError", "quantize: weights must be an Arrow array"),
    (lambda: arrow_quant.quantize(np.array([["a"]]), 4), "ArgumentError", "not a NumPy array of <U1"),
    (lambda: arrow_quant.quantize(np.zeros((2, 2, 2)), 4), "ArgumentError", "must have one or two dimensions, not 3"),
    (lambda: arrow_quant.quantize(pa.record_batch({"a": [1]}), 4), "ArgumentError", "the batch must have a column 'weights'; it has a"),
    (lambda: arrow_quant.quantize(lists([[1.0, float("nan")]]), 4), "DataError", "quantize: row 0, element 1 is NaN"),
    (lambda: arrow_quant.quantize(lists([[1.0], [None]]), 4), "DataError", "quantize: row 1, element 0 is null"),
    (lambda: arrow_quant.dequantize(rows()), "ArgumentError", "dequantize: quantized must be a quantized value"),
    (lambda: arrow_quant.mse(rows(), rows(length=5)), "DataError", "mse: row 0: "),
    (lambda: arrow_quant.mse(rows(), rows(7)), "ArgumentError", "mse: an argument has 7 rows where another has 40"),
    (lambda: arrow_quant.channel_absmax(pa.array([1.5])), "ArgumentError", "channel_absmax: weights must be a list of numbers"),
]


@pytest.mark.parametrize(("call", "exception", "message"), WRONG)
def test_what_is_wrong_is_named(call, exception, message):
    with pytest.raises(arrow_quant.ArrowQuantError) as raised:
        call()
    assert type(raised.value) is getattr(arrow_quant, exception)
    assert message in str(raised.value)


def test_a_row_is_counted_from_the_start_of_a_stream():
    weights = rows(40)
    weights[33, 5] = np.inf
    array = lists(weights)
    with pytest.raises(arrow_quant.DataError, match="row 33, element 5 is inf"):
        arrow_quant.quantize(pa.chunked_array([array[:30], array[30:]]), 4).to_pyarrow()


def test_the_message_is_that_of_the_command_line():
    command = [sys.executable, "-m", "arrow_quant", "sql", "SELECT quantize([1.0], 5)"]
    done = subprocess.run(command, capture_output=True, text=True)
    with pytest.raises(arrow_quant.ArgumentError) as raised:
        arrow_quant.quantize(np.ones(1, np.float32), 5)
    assert (done.returncode, done.stderr) == (1, f"error: {raised.value}\n")


def test_other_threads_run_meanwhile():
    weights = rows(3000, 4096)
    times, started, done = [], threading.Event(), threading.Event()

    def work():
        started.set()
        times.append(time.perf_counter())
        arrow_quant.quantize(weights, 4)
        times.append(time.perf_counter())
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    started.wait()
    ticks = []
    while not done.is_set():
        ticks.append(time.perf_counter())
        time.sleep(0.001)
    worker.join()
    # Were the lock held, there would be one gap as long as the call.
    gaps = np.diff([times[0], *[tick for tick in ticks if times[0] < tick < times[1]], times[1]])
    assert gaps.max() < (times[1] - times[0]) / 2


FORKED = """
import os, sys
import numpy as np, arrow_quant

weights = np.ones((200, 4096), np.float32)
def work():
    return len(arrow_quant.quantize(weights, 4)), arrow_quant.Session().sql("SELECT 1 AS x").to_pyarrow().num_rows

want = work()
child = os.fork()
if child == 0:
    os._exit(0 if work() == want else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_forked_process_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0\n", "")


MEASURE = """
import sys
import numpy as np, arrow_quant

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

weights = np.random.default_rng(1).standard_normal((16384, 8192), dtype=np.float32)
arrow_quant.quantize(weights[:64], 4, 32, "minmax")
open("/proc/self/clear_refs", "w").write("5")
before = peak()
quantized = arrow_quant.quantize(weights, 4, 32, "minmax")
print(peak() - before - quantized.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own figures")
def test_the_peak_is_the_output_and_64_megabytes():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64e6
