"""GPTQ through SQL on the digits diffusion transformer, fed what its layers see while it draws, against NumPy."""

import ml_dtypes  # registers bfloat16 with NumPy, for safetensors
import numpy as np
import numpy_gptq
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy_dit import Dit, draw, layer_inputs
from quantized_folder import decode_row, decode_scale, decode_zero_point, read_quantized_folder, unpack_codes
from safetensors.numpy import load_file

assert ml_dtypes.bfloat16 is not None
GROUP = 32


@pytest.fixture(scope="module")
def layers(digits_dit):
    """The blocks' matrices, and what each is fed while digits are drawn, twice: {name: (weights, fed, held out)}."""
    weights = load_file(digits_dit / "model.safetensors")
    fed, held_out = (layer_inputs(weights, per_digit=1, steps=10, seed=seed) for seed in (0, 1))
    names = [name for name in fed if name.startswith("blocks.")]
    return {name: (weights[name].astype(np.float32), fed[name], held_out[name]) for name in names}


@pytest.fixture(scope="module")
def quantized(program, root, digits_dit, layers, tmp_path_factory):
    """Runs the recipe: {bits: {name: rows}}, and the factors: {name: (damping, upper triangle)}."""
    folder = tmp_path_factory.mktemp("gptq")
    inputs = [(name, row) for name, (_, fed, _) in layers.items() for row in fed]
    table = {
        "name": [name for name, _ in inputs],
        "input": pa.array([row for _, row in inputs], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(table), folder / "inputs.parquet")
    recipe = (root / "sql" / "quantize.sql").read_text()
    script = f"""
        CREATE EXTERNAL TABLE inputs STORED AS PARQUET LOCATION '{folder}/inputs.parquet';
        CREATE TABLE hessian_factors AS SELECT name, hessian_factor(hessian(input)) AS factor FROM inputs GROUP BY name;
        CREATE VIEW changes AS SELECT NULL AS name, NULL AS factors, NULL AS row_factors, NULL AS offsets,
            NULL AS back_factors, NULL AS back_row_factors, NULL AS back_offsets, NULL AS importance, NULL AS stored_as
            WHERE false;
        COPY (SELECT name, factor['damping'] AS damping, arrow_cast(factor['factor'], 'List(Float32)') AS upper
              FROM hessian_factors) TO '{folder}/factors.parquet';
    """
    for bits in (2, 3):
        script += f"""
            CREATE TABLE choices AS SELECT DISTINCT name, {bits} AS bits, {GROUP} AS group_size, 'search' AS method,
            false AS symmetric FROM layers WHERE name LIKE 'blocks.%.weight';
            COPY ({recipe}) TO '{folder}/{bits}.parquet';
            DROP TABLE choices;
        """
    program("sql", script, "--table", f"layers={digits_dit}")
    factors = pq.read_table(folder / "factors.parquet").to_pylist()
    upper = {}
    for row in factors:
        side = layers[row["name"]][0].shape[1]
        matrix = np.zeros((side, side))
        matrix[np.triu_indices(side)] = row["upper"]
        upper[row["name"]] = (row["damping"], matrix)
    rows = {}
    for bits in (2, 3):
        for row in sorted(pq.read_table(folder / f"{bits}.parquet").to_pylist(), key=lambda row: row["channel"]):
            if row["quantized"] is None:
                continue
            rows.setdefault(bits, {}).setdefault(row["name"], []).append(row)
    return rows, upper


def test_the_factor_is_that_of_numpy(layers, quantized):
    for name, (damping, upper) in quantized[1].items():
        want = numpy_gptq.factor(layers[name][1])
        assert damping == 0.01
        np.testing.assert_allclose(upper, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("bits", [2, 3])
def test_the_codes_are_those_of_numpy(layers, quantized, bits):
    for name, (weights, fed, held_out) in layers.items():
        rows = [row["quantized"] for row in quantized[0][bits][name]]
        ours = np.array([unpack_codes(row["codes"], bits, row["length"]) for row in rows])
        scales = np.array(
            [[row["row_scale"] * decode_scale(code) for code in row["scales"]] for row in rows], np.float32
        )
        zeros = np.array([[decode_zero_point(code, bits) for code in row["zero_points"]] for row in rows], np.float64)
        theirs = numpy_gptq.codes(weights, quantized[1][name][1], scales.astype(np.float64), zeros, bits, GROUP)
        assert np.mean(ours == theirs) > 0.999, name
        # With a factor of NumPy's own, a weight between two codes may go the other way; the error does not.
        theirs = numpy_gptq.codes(weights, numpy_gptq.factor(fed), scales.astype(np.float64), zeros, bits, GROUP)
        scales, zeros = (np.repeat(values, GROUP, axis=1) for values in (scales, zeros))
        ours, theirs = (
            numpy_gptq.output_error(weights - scales * (codes - zeros), held_out) for codes in (ours, theirs)
        )
        assert ours == pytest.approx(theirs, rel=0.02), name


@pytest.mark.parametrize("bits", [2, 3])
def test_the_output_error_is_at_least_a_fifth_below_that_of_search(
    program, digits_dit, layers, quantized, tmp_path, bits
):
    program("quantize", digits_dit, "--output", tmp_path / "search", "--bits", bits)
    parts = pq.read_table(tmp_path / "search" / "weights").to_pylist()
    kept = []
    for name, (weights, _, held_out) in layers.items():
        gptq, search = (
            np.array([decode_row(row["quantized"]) for row in sorted(rows, key=lambda row: row["channel"])])
            for rows in (quantized[0][bits][name], [row for row in parts if row["name"] == name])
        )
        kept.append(
            numpy_gptq.output_error(weights - gptq, held_out) / numpy_gptq.output_error(weights - search, held_out)
        )
    assert np.mean(kept) <= 0.8, kept


def test_a_run_with_hessians_gives_the_codes_of_the_recipe(program, digits_dit, layers, quantized, tmp_path):
    """From a file of Hessians as calibration writes it; NumPy's sums differ from the aggregate's in the last bits."""
    triangles = {}
    for name, (_, fed, _) in layers.items():
        mean = fed.astype(np.float64).T @ fed.astype(np.float64) / len(fed)
        triangles[name] = mean[np.triu_indices(len(mean))]
    table = {
        "name": list(triangles),
        "tokens": [len(fed) for _, fed, _ in layers.values()],
        "hessian": pa.array(list(triangles.values()), pa.list_(pa.float64())),
    }
    pq.write_table(pa.table(table), tmp_path / "hessians.parquet")
    options = ["--bits", "2", "--hessians", tmp_path / "hessians.parquet", "--overwrite"]
    printed = program("quantize", digits_dit, "--output", tmp_path / "out", *options)
    assert f"{len(layers)} tensors quantized by GPTQ" in printed
    report = {row["name"]: row for row in pq.read_table(tmp_path / "out" / "report.parquet").to_pylist()}
    decoded = read_quantized_folder(tmp_path / "out")
    for name, (weights, _, held_out) in layers.items():
        assert report[name]["note"].startswith("GPTQ, damping 0.01")
        recipe = np.array([decode_row(row["quantized"]) for row in quantized[0][2][name]])
        ours, recipe = (numpy_gptq.output_error(weights - other, held_out) for other in (decoded[name], recipe))
        assert ours == pytest.approx(recipe, rel=0.02), name


def test_the_numpy_model_draws_digits(digits_dit):
    """The oracle itself: its drawings are images, mostly black or white, not noise."""
    drawn = draw(Dit(load_file(digits_dit / "model.safetensors")), per_digit=1, steps=25, seed=3)
    assert drawn.shape == (10, 1, 8, 8)
    assert np.mean(np.abs(drawn) > 0.5) > 0.7
