"""Entropy-coded weights in output folders: what the files take, what another program decodes, what Python is told."""

import json

import arrow_quant
import entropy_value
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from quantized_folder import part_paths, read_quantized_folder
from safetensors.numpy import load_file


def chunk_bits(folder):
    """The bits a quantized weight takes in the column chunks of the parts, and those of its codes."""
    stored = codes = weights = 0
    for path in part_paths(folder):
        metadata = pq.ParquetFile(path).metadata
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            columns = map(group.column, range(group.num_columns))
            stored += sum(c.total_compressed_size for c in columns if c.path_in_schema.startswith("quantized."))
        quantized = pq.read_table(path, columns=["quantized"])["quantized"].combine_chunks().drop_null()
        weights += pc.sum(quantized.field("length")).as_py() or 0
        codes += pc.sum(pc.binary_length(quantized.field("codes"))).as_py() or 0
    return 8 * stored / weights, 8 * codes / weights


@pytest.mark.parametrize("options", [("--bits", 2.5), ("--target-bpw", 2.5), ("--min-sqnr", 14)])
def test_a_folder_decodes_by_another_program_to_what_the_report_says(program, digits_dit, tmp_path, options):
    out = tmp_path / "out"
    run = json.loads(program("quantize", digits_dit, "--output", out, "--method", "entropy", *options, "--json"))
    reference, decoded = load_file(digits_dit / "model.safetensors"), read_quantized_folder(out)
    report = {row["name"]: row for row in pq.read_table(out / "report.parquet").to_pylist()}
    signal = noise = 0
    for name, weights in reference.items():
        if report[name]["bits"] is None:
            np.testing.assert_array_equal(decoded[name], weights)
            continue
        lost = weights.astype(np.float64) - decoded[name]
        signal, noise = signal + np.sum(weights.astype(np.float64) ** 2), noise + np.sum(lost**2)
    assert run["sqnr_db"] == pytest.approx(10 * np.log10(signal / noise), rel=1e-6)


def test_a_row_takes_hardly_more_in_a_part_than_its_codes(program, minilm, tmp_path):
    choice = ["--include", "weight$", "--exclude", "position|token_type|word"]
    out = tmp_path / "out"
    run = json.loads(program("quantize", minilm, "--output", out, "--method", "entropy", "--target-bpw", 2.5, *choice, "--json"))
    stored, codes = chunk_bits(out)
    # What is counted is no less than what is stored, and rows of 384 weights take little more than a byte beside their codes.
    assert stored <= run["bits_per_weight"] <= 2.5
    assert run["bits_per_weight"] > 0.995 * 2.5
    assert stored - codes < 1.5 * 8 / 384
    # 4 dB above the search, which has 10.46 dB at 2.57 bits
    assert run["sqnr_db"] > 14.2


def test_python_writes_the_files_of_the_program(program, digits_dit, tmp_path):
    program("quantize", digits_dit, "--output", tmp_path / "a", "--method", "entropy", "--bits", 2.5, "--bits-for", "mlp=3.5")
    report = arrow_quant.quantize_model(
        digits_dit, tmp_path / "b", method="entropy", bits=2.5, bits_for={"mlp": 3.5}, progress=False
    )
    assert [path.read_bytes() for path in part_paths(tmp_path / "a")] == [path.read_bytes() for path in part_paths(tmp_path / "b")]
    assert {row["bits"] for row in report.to_pylist()} == {0, None}
    plan = arrow_quant.quantize_model(digits_dit, method="entropy", target_bpw=3, dry_run=True, progress=False)
    steps = {row["step"] for row in plan.to_pylist()} - {None}
    assert len(steps) >= 1 and {row["method"] for row in plan.to_pylist()} == {"entropy", None}
    with pytest.raises(arrow_quant.ArgumentError, match="bits= must be 2, 3, 4 or 8, not 2.5: any number from 1 to 8 needs method= entropy"):
        arrow_quant.quantize_model(digits_dit, tmp_path / "c", bits=2.5, progress=False)


def test_a_folder_is_exported_as_the_floats_that_it_decodes_to(program, digits_dit, tmp_path):
    program("quantize", digits_dit, "--output", tmp_path / "out", "--method", "entropy", "--bits", 2.5, "--format", "arrow")
    program("quantize", tmp_path / "out", "--output", tmp_path / "floats", "--format", "safetensors", "--dtype", "F32", "--exclude", ".")
    exported = load_file(tmp_path / "floats" / "model.safetensors")
    for name, weights in read_quantized_folder(tmp_path / "out").items():
        np.testing.assert_array_equal(exported[name], weights)


def test_a_value_of_a_part_can_be_read_alone(program, digits_dit, tmp_path):
    program("quantize", digits_dit, "--output", tmp_path / "out", "--method", "entropy", "--bits", 2)
    quantized = pq.read_table(part_paths(tmp_path / "out")[0])["quantized"].combine_chunks().drop_null()
    (weights,) = arrow_quant.dequantize(quantized.slice(5, 1)).to_pylist()
    np.testing.assert_array_equal(np.float32(weights), entropy_value.decode(quantized[5].as_py()))
    assert isinstance(quantized, pa.StructArray)
