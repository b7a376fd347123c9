"""Sessions and queries of the Python package."""

import asyncio
import signal
import threading
import time
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import arrow_quant


@pytest.fixture
def session(digits_dit):
    session = arrow_quant.Session(threads=2)
    session.register("layers", digits_dit)
    return session


def test_a_model_is_a_table(session):
    query = session.sql("SELECT name, count(*) AS rows FROM layers GROUP BY name ORDER BY name")
    table = query.to_pyarrow()
    assert table.column_names == ["name", "rows"]
    assert table.num_rows > 5
    # It can be read again, and by others.
    assert pa.table(query) == table
    assert pl.DataFrame(query).height == table.num_rows
    assert pa.schema(query) == table.schema
    assert sum(len(batch) for batch in query) == table.num_rows


def test_optional_arguments_are_skipped_by_name(session):
    query = "SELECT codes(quantize([0.5, -0.25, 0.1], 4, {})) AS codes"
    named, whole = (session.sql(query.format(a)).to_pyarrow() for a in ("symmetric => true", "32, 'search', true"))
    assert named == whole
    assert named != session.sql(query.format("32, 'search', false")).to_pyarrow()
    with pytest.raises(arrow_quant.ArrowQuantError, match="bits must be 2, 3, 4 or 8"):
        session.sql("SELECT quantize([0.5], 5, symmetric => true)").to_pyarrow()


def test_parameters_are_values(session):
    query = session.sql(
        "SELECT $text AS text, $number AS number, $yes AS yes, mse($row, $array) AS mse",
        text="it's", number=2.5, yes=True, row=[1.0, 2.0], array=np.array([1.0, 2.5]),
    )
    row = query.to_pyarrow().to_pylist()[0]
    assert row == {"text": "it's", "number": 2.5, "yes": True, "mse": 0.125}
    count = session.sql("SELECT count(*) AS n FROM layers WHERE module = $module", module="head").to_pyarrow()
    assert count["n"].to_pylist()[0] >= 0


def test_parameters_reach_what_is_done_at_once(session):
    session.sql("CREATE TABLE made AS SELECT $x AS x, $rows AS rows", x=b"ab", rows=[1, 2])
    assert session.sql("SELECT * FROM made").to_pyarrow().to_pylist() == [{"x": b"ab", "rows": [1, 2]}]


def test_a_name_that_is_taken_is_taken_over(session, digits_dit, tmp_path):
    for source in (digits_dit, pa.table({"x": [1]}), digits_dit, digits_dit):
        session.register("again", source)
        assert session.sql("SELECT count(*) AS n FROM again").to_pyarrow().num_rows == 1
    with pytest.raises(arrow_quant.FileError):
        session.register("again", tmp_path / "missing")
    assert session.sql("SELECT count(DISTINCT name) AS n FROM again").to_pyarrow()["n"].to_pylist()[0] > 5


def test_arrow_tables_are_registered_without_a_copy(session):
    weights = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))
    session.register("t", pa.table({"w": weights}))
    back = session.sql("SELECT w FROM t").to_pyarrow()["w"].chunk(0)
    assert back.buffers()[-1].address == weights.buffers()[-1].address
    session.register("t", pl.DataFrame({"x": [1, 2, 3]}))
    assert session.sql("SELECT sum(x) AS s FROM t").to_pyarrow()["s"].to_pylist() == [6]


def test_statements_without_a_table_are_done_at_once(session, digits_dit):
    session.sql(f"CREATE EXTERNAL TABLE again STORED AS SAFETENSORS LOCATION '{digits_dit}'")
    assert session.sql("SELECT count(*) AS n FROM again").to_pyarrow()["n"].to_pylist()[0] > 5


def test_asyncio_goes_on_while_a_query_runs(session):
    async def run():
        tables = await asyncio.gather(
            session.sql_async("SELECT count(*) AS n FROM layers"),
            session.sql_async("SELECT max(sqnr(weights, quantize(weights, 4))) AS db FROM layers WHERE weights IS NOT NULL"),
        )
        return [table.num_rows for table in tables]

    async def tick(ticks):
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.001)

    async def both():
        ticks = []
        ticking = asyncio.create_task(tick(ticks))
        started = time.monotonic()
        counts = await run()
        took = time.monotonic() - started
        ticking.cancel()
        return counts, max(b - a for a, b in pairwise([started, *ticks])) < max(0.5 * took, 0.05)

    assert asyncio.run(both()) == ([1, 1], True)


def test_cancelling_ends_a_query(session):
    query = "SELECT sum(value % 7) FROM range(0, 10000000000000)"

    async def run():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(session.sql_async(query), 0.3)

    # It returns when the executor's threads have ended, and the query would take minutes.
    started = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started < 30


def test_a_session_serves_several_threads(session):
    counts = []

    def count():
        counts.append(session.sql("SELECT count(*) AS n FROM layers").to_pyarrow()["n"].to_pylist()[0])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 4 and len(set(counts)) == 1


def test_control_c_stops_a_query(session):
    # Far more rows than are added up while the test waits.
    query = session.sql("SELECT sum(value % 7) FROM range(0, 10000000000000)")
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        query.to_pyarrow()
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("query", "exception", "message"),
    [
        ("SELEC 1", "QueryError", "SELEC"),
        ("SELECT nothing FROM layers", "QueryError", "nothing"),
        ("SELECT $x", "QueryError", "the query has $x, for which nothing is given"),
        ("CREATE TABLE layers AS SELECT 1", "QueryError", "already exists"),
        ("SELECT quantize(weights, 5) FROM layers", "QueryError", "quantize: bits must be 2, 3, 4 or 8, not 5"),
        ("SELECT quantize([1.0, 'NaN'::double], 4)", "DataError", "element 1 is NaN"),
        ("SELECT * FROM safetensors('no/such/file')", "FileError", "no/such/file"),
    ],
)
def test_what_is_wrong_is_named(session, query, exception, message):
    with pytest.raises(arrow_quant.ArrowQuantError) as raised:
        session.sql(query).to_pyarrow()
    assert type(raised.value) is getattr(arrow_quant, exception), str(raised.value)
    assert message in str(raised.value)


def test_a_parameter_that_the_query_does_not_have_is_named(session):
    with pytest.raises(arrow_quant.QueryError, match="y is given, which the query does not have"):
        session.sql("SELECT 1", y=2)


def test_what_cannot_be_registered_is_named(session, tmp_path):
    with pytest.raises(arrow_quant.FileError, match="missing"):
        session.register("x", tmp_path / "missing")
    with pytest.raises(arrow_quant.ArgumentError, match="must be a path or an Arrow table"):
        session.register("x", pa.array([1, 2]))
    with pytest.raises(arrow_quant.ArgumentError, match="threads must be 1 to 4096"):
        arrow_quant.Session(threads=0)
