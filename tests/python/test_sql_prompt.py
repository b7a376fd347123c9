"""`arrow-quant sql`: tables by path, the forms of results, scripts in files."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import normal, save

QUERY = "SELECT name, channel, weights FROM 'MODEL' WHERE channel < 2 ORDER BY channel"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m odel")
    save(folder / "model.safetensors", {"a|b.weight": ("F32", normal(3, 4, seed=5))})
    return folder


def rows(model):
    return normal(3, 4, seed=5)[:2].tolist()


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_a_path_stands_for_a_table(program, model, name):
    said = program("sql", QUERY.replace("MODEL", str(model / name)), "--format", "json")
    got = json.loads(said)
    assert [row["channel"] for row in got] == [0, 1]
    assert [row["name"] for row in got] == ["a|b.weight"] * 2
    for row, wanted in zip(got, rows(model), strict=True):
        assert row["weights"] == pytest.approx(wanted, rel=1e-6)


def test_an_output_folder_and_a_table_beside_it_are_read_by_path(program, model, tmp_path):
    program("quantize", model, "--output", tmp_path / "OUT", "--bits", "8")
    query = f"SELECT count(*) AS n FROM '{tmp_path}/OUT'"
    assert program("sql", query, "--format", "csv") == "n\n3\n"
    pq.write_table(pa.table({"x": [1, 2, None]}), tmp_path / "t.parquet")
    query = f"SELECT x FROM '{tmp_path}/t.parquet' ORDER BY x"
    assert program("sql", query, "--format", "csv") == 'x\n1\n2\n""\n'


@pytest.mark.parametrize("kind", ["TABLE", "VIEW", "OR REPLACE TABLE", "TABLE IF NOT EXISTS"])
def test_a_table_that_is_made_goes_before_a_path(program, model, kind):
    script = f"CREATE {kind} \"{model}\" AS SELECT 7 AS x; SELECT x FROM '{model}'"
    assert json.loads(program("sql", script, "--format", "ndjson")) == {"x": 7}


def test_what_is_not_there_is_one_line(fails, model, tmp_path):
    missing = tmp_path / "missing.safetensors"
    assert str(missing) in fails("sql", f"SELECT * FROM '{missing}'")
    assert "nothing" in fails("sql", "SELECT * FROM nothing")
    (tmp_path / "empty").mkdir()
    assert "empty" in fails("sql", f"SELECT * FROM '{tmp_path}/empty'")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((model / "model.safetensors").read_bytes()[:100])
    assert str(cut) in fails("sql", f"SELECT * FROM '{cut}'")


def test_every_form_has_all_rows(program, model):
    query = QUERY.replace("MODEL", str(model))
    got = list(csv.reader(io.StringIO(program("sql", query, "--format", "csv"))))
    assert got[0] == ["name", "channel", "weights"] and [row[:2] for row in got[1:]] == [["a|b.weight", "0"], ["a|b.weight", "1"]]
    for row, wanted in zip(got[1:], rows(model), strict=True):
        assert json.loads(row[2]) == pytest.approx(wanted, rel=1e-6)
    lines = program("sql", query, "--format", "ndjson").splitlines()
    assert [json.loads(line)["channel"] for line in lines] == [0, 1]
    markdown = program("sql", query, "--format", "markdown").splitlines()
    assert markdown[:2] == ["| name | channel | weights |", "|---|---|---|"]
    assert len(markdown) == 4 and markdown[2].startswith(r"| a\|b.weight | 0 | [")
    blocks = program("sql", query, "--format", "line").split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["   name = a|b.weight"] * 2
    many = "SELECT value FROM generate_series(1, 100) ORDER BY value"
    assert program("sql", many, "--format", "csv").splitlines() == ["value", *map(str, range(1, 101))]
    assert len(program("sql", many, "--format", "csv", "--max-rows", "3").splitlines()) == 4
    assert program("sql", "SELECT 1 AS x WHERE false", "--format", "json") == "[]\n"


def test_nulls_and_what_is_no_number_have_a_form(program):
    query = "SELECT NULL AS a, 'x,\"y' AS b, arrow_cast('NaN', 'Float32') AS c, x'00ff' AS d"
    assert json.loads(program("sql", query, "--format", "json")) == [{"a": None, "b": 'x,"y', "c": None, "d": "00ff"}]
    assert program("sql", query, "--format", "csv") == 'a,b,c,d\n,"x,""y",NaN,00ff\n'


def test_a_file_of_statements_runs(program, fails, tmp_path):
    script = tmp_path / "script.sql"
    script.write_text("CREATE TABLE t AS SELECT 2 AS x;\n-- a comment\nSELECT x + 1 AS y FROM t;\n")
    assert program("sql", "-f", script, "--format", "csv") == "y\n3\n"
    assert "missing.sql" in fails("sql", "--file", tmp_path / "missing.sql")


def test_optional_arguments_are_skipped_by_name(program):
    query = "SELECT codes(quantize([0.5, -0.25, 0.1], 4, {})) AS codes"
    named, whole = (program("sql", query.format(a)) for a in ("symmetric => true", "32, 'search', true"))
    assert named == whole
