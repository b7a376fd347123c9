"""`--activations` weights the searches of other formats: the error as the layer's output sees it, by NumPy."""

import gguf
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed_folder import read_packed_folder
from safetensors.numpy import save_file

T = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """A model, the file of its activations, and for each tensor the weights and how much each of a row counts."""
    folder = tmp_path_factory.mktemp("importance")
    random = np.random.default_rng(5)
    weights = {
        "blocks.0.fc.weight": random.standard_t(4, (48, 512)).astype(np.float32) * np.float32(0.02),
        "blocks.1.fc.weight": random.normal(0, 0.05, (40, 256)).astype(np.float32),
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    rows, counts = [], {}
    for name, tensor in weights.items():
        # Two timesteps of unlike numbers of tokens: what counts is the mean over tokens.
        squares, tokens = np.exp(random.normal(0, 2, (2, tensor.shape[1]))).astype(np.float32), [10, 30]
        for step in range(2):
            bound = np.sqrt(squares[step])
            rows.append((name, float(step), tokens[step], -bound, bound, squares[step]))
        counts[name] = (10 * squares[0] + 30 * squares[1]) / 40
    names = ["name", "timestep", "tokens", "channel_min", "channel_max", "channel_mean_square"]
    table = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    pq.write_table(pa.table(table), folder / "activations.parquet")
    return folder, weights, counts


def outputs(program, folder, out, *options):
    """The folders that are made with and without the activations."""
    for name, more in [("plain", []), ("weighted", ["--activations", folder / "activations.parquet"])]:
        program("quantize", folder, "--output", out / name, *options, *more)
    return out / "plain", out / "weighted"


def error(weights, decoded, counts):
    return (counts * (weights.astype(np.float64) - decoded) ** 2).sum()


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_the_error_that_counts_goes_down_in_searched_blocks(program, layers, tmp_path, kind):
    folder, weights, counts = layers
    errors = {}
    for out in outputs(program, folder, tmp_path, "--format", "gguf", "--gguf-type", kind, "--misfit", "error"):
        for tensor in gguf.GGUFReader(out / "model.gguf").tensors:
            decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            errors[out.name, tensor.name] = error(weights[tensor.name], decoded, counts[tensor.name])
    for name in weights:
        ratio = errors["weighted", name] / errors["plain", name]
        print(f"{kind} {name}: {ratio:.3f}")
        assert ratio < 0.95, (kind, name, ratio)


def test_blocks_of_32_stay_as_the_reference_makes_them(program, layers, tmp_path):
    plain, weighted = outputs(program, layers[0], tmp_path, "--format", "gguf", "--gguf-type", "Q4_0")
    assert (plain / "model.gguf").read_bytes() == (weighted / "model.gguf").read_bytes()


def test_the_error_that_counts_goes_down_in_packed_codes(program, layers, tmp_path):
    folder, weights, counts = layers
    plain, weighted = outputs(program, folder, tmp_path, "--format", "compressed-tensors", "--bits", "4")
    name = "blocks.0.fc.weight"
    ratio = error(weights[name], read_packed_folder(weighted)[0][name], counts[name])
    ratio /= error(weights[name], read_packed_folder(plain)[0][name], counts[name])
    assert ratio < 0.95, ratio


def test_names_may_be_a_dictionary(program, layers, tmp_path):
    folder, _, _ = layers
    table = pq.read_table(folder / "activations.parquet")
    encoded = table.set_column(0, "name", table["name"].dictionary_encode())
    for kind, table in {"text": table, "dictionary": encoded}.items():
        pq.write_table(table, folder / f"{kind}.parquet")
        run = ["quantize", folder, "--output", tmp_path / kind, "--format", "gguf", "--gguf-type", "Q4_K"]
        program(*run, "--activations", folder / f"{kind}.parquet")
    assert (tmp_path / "text/model.gguf").read_bytes() == (tmp_path / "dictionary/model.gguf").read_bytes()
