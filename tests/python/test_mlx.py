"""Folders for mlx-lm: written as its format says, read back as what they stand for, and what is refused."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints import LLAMA, llama, llama_config, load, normal, save, write_json
from mlx_folder import decode, read_mlx_folder

LAYERS = {f"model.layers.0.{name}" for name in LLAMA} | {"model.embed_tokens", "lm_head"}
NAME = "model.layers.0.mlp.down_proj"


@pytest.fixture
def source(tmp_path):
    save(tmp_path / "in" / "model.safetensors", llama(), {"format": "pt"})
    write_json(tmp_path / "in" / "config.json", llama_config())
    return tmp_path / "in"


def least(measured):
    """The least SQNR of a comparison, of the tensors that lost something."""
    return min(tensor["sqnr_db"] for tensor in measured["tensors"] if tensor.get("sqnr_db") is not None)


def quantize(program, source, output, *more):
    return program("quantize", source, "--output", output, "--format", "mlx", *more)


@pytest.mark.parametrize(
    "options",
    [
        ["--bits", 2, "--group-size", 128],
        ["--bits", 3, "--bits-for", "mlp=8", "--method", "minmax"],
        ["--mlx-type", "int6", "--group-size", 64],
        ["--mlx-type", "mxfp4", "--mlx-type-for", "down_proj=nvfp4", "--mlx-type-for", "q_proj=mxfp8"],
        ["--mlx-type", "int5", "--mlx-type-for", "embed=int8", "--exclude", "v_proj"],
    ],
    ids=str,
)
def test_a_folder_holds_what_it_says_and_reads_back(program, compare, source, tmp_path, options):
    quantize(program, source, tmp_path / "out", *options)
    decoded, layers = read_mlx_folder(tmp_path / "out")
    assert set(layers) == LAYERS - ({"model.layers.0.self_attn.v_proj"} if "v_proj" in options else set())
    read = ["--format", "safetensors", "--dtype", "F32", "--exclude", "."]
    program("quantize", tmp_path / "out", "--output", tmp_path / "back", *read)
    back = load(tmp_path / "back" / "model.safetensors")
    assert set(back) == set(decoded) == set(llama())
    for name, (_, tensor) in back.items():
        np.testing.assert_array_equal(tensor, decoded[name].astype(np.float32), err_msg=name)
    assert "quantization" not in json.loads((tmp_path / "back" / "config.json").read_text())
    report = pq.read_table(tmp_path / "out" / "report.parquet").to_pylist()
    measured = compare(source, tmp_path / "out")
    for row in report:
        if row["name"].removesuffix(".weight") in layers:
            said = layers[row["name"].removesuffix(".weight")]
            assert (row["bits"], row["group_size"]) == (said["bits"], said["group_size"])
            original = load(source / "model.safetensors")[row["name"]][1].astype("float32")
            noise = ((original - back[row["name"]][1]) ** 2).sum()
            assert row["sqnr_db"] == pytest.approx(10 * np.log10((original**2).sum() / noise), abs=0.1)
    assert least(measured) > 9


def test_inspect_names_the_codes_and_sql_sees_the_weights(program, source, tmp_path):
    quantize(program, source, tmp_path / "out", "--mlx-type-for", "down_proj=nvfp4")
    listed = program("inspect", tmp_path / "out")
    assert "MLX_INT4" in listed and "MLX_NVFP4" in listed and ".scales" not in listed and ".biases" not in listed
    query = f"SELECT count(*) AS n, max(array_length(weights)) AS m FROM '{tmp_path / 'out'}' WHERE name = '{NAME}.weight'"
    assert program("sql", query, "--format", "csv").split() == ["n,m", "128,256"]


@pytest.mark.parametrize("form", ["parquet", "gguf", "compressed-tensors", "comfy", "mlx"])
def test_a_folder_is_a_source_for_every_format(program, compare, source, tmp_path, form):
    quantize(program, source, tmp_path / "out", "--mlx-type", "int8")
    program("quantize", tmp_path / "out", "--output", tmp_path / "again", "--format", form)
    assert least(compare(tmp_path / "out", tmp_path / "again")) > 18


def test_a_dry_run_says_the_sizes_and_the_reasons(program, source, tmp_path):
    tensors = llama() | {
        "odd.weight": ("BF16", normal(8, 48)),
        "conv.weight": ("BF16", normal(8, 4, 3)),
        "table": ("BF16", normal(8, 64)),
        "double.bias": ("F64", normal(8)),
    }
    save(source / "model.safetensors", tensors)
    write_json(source / "config.json", llama_config(tie_word_embeddings=True))
    listed = program("quantize", source, "--format", "mlx", "--dry-run")
    assert "rows of 48 are not whole groups of 32, as int4 of MLX asks" in listed
    assert "MLX quantizes linear layers and embeddings alone" in listed and "learned table" in listed
    assert "tied to the embedding" in listed and "stored as F32, since MLX has no F64" in listed
    quantize(program, source, tmp_path / "out")
    kept, layers = read_mlx_folder(tmp_path / "out")
    assert set(layers) == LAYERS - {"lm_head"} and kept["double.bias"].dtype == np.float32
    said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]
    assert said == {"group_size": 32, "bits": 4, "mode": "affine", "lm_head": False, "odd": False}


def test_files_are_cut_with_an_index(program, source, tmp_path):
    quantize(program, source, tmp_path / "out", "--shard-size", "40kB")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 2 and {f"{NAME}.{part}" for part in ("weight", "scales", "biases")} < set(index)
    assert len({index[f"{NAME}.{part}"] for part in ("weight", "scales", "biases")}) == 1
    assert set(read_mlx_folder(tmp_path / "out")[1]) == LAYERS


def test_a_saved_plan_holds_the_types(program, source, tmp_path):
    program("plan", source, "--output", tmp_path / "plan", "--format", "mlx", "--mlx-type-for", "q_proj=mxfp4")
    rows = pq.read_table(tmp_path / "plan" / "choices.parquet").to_pylist()
    types = {row["name"]: row["type"] for row in rows}
    assert types["model.layers.0.self_attn.q_proj.weight"] == "mxfp4" and types[f"{NAME}.weight"] == "int4"
    program("run", tmp_path / "plan", "--output", tmp_path / "out")
    assert read_mlx_folder(tmp_path / "out")[1]["model.layers.0.self_attn.q_proj"]["mode"] == "mxfp4"


def test_small_weights_and_options_that_do_not_fit(program, fails, source, tmp_path):
    tensors = llama() | {f"{NAME}.weight": ("F16", normal(128, 256) * 1e-6)}
    save(source / "model.safetensors", tensors)
    listed = program("quantize", source, "--format", "mlx", "--bits", 8, "--dry-run")
    assert "int8 with scales of F16 needs 3.8e-6" in listed
    listed = program("quantize", source, "--format", "mlx", "--mlx-type", "nvfp4", "--dry-run")
    assert "nvfp4, whose scales are E4M3 alone, needs 2.3e-2" in listed
    listed = program("quantize", source, "--format", "mlx", "--method", "minmax", "--dry-run")
    assert "int4 with MLX's least scale, 1e-7, needs 4.0e-7" in listed
    run = ["quantize", source, "--output", tmp_path / "out", "--format", "mlx"]
    assert "must be 32, 64 or 128 with --format mlx, not 16" in fails(*run, "--group-size", 16)
    assert "must be one of int2, int3" in fails(*run, "--mlx-type", "int7", expect=2)
    assert "cannot be used with" in fails(*run, "--mlx-type", "int6", "--bits", 4, expect=2)
    assert "matches no quantized tensor" in fails(*run, "--mlx-type-for", "absent=int6")
    (source / "config.json").unlink()
    assert "config.json: is missing: mlx-lm writes into it" in fails(*run)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, said: tensors.pop(f"{NAME}.biases"), "is codes of int4 and lacks its biases"),
        (lambda tensors, said: tensors.update({f"{NAME}.biases": ("BF16", normal(127, 8))}), "its biases is BF16 of shape"),
        (lambda tensors, said: said.update(bits=7), "is codes of 7 bits, as config.json says"),
        (lambda tensors, said: said.update({NAME: {"bits": 8, "group_size": 32}}), "which are not codes of 8 bits"),
        (lambda tensors, said: said.update({NAME: False}), "config.json says that it is not quantized"),
        (lambda tensors, said: said.clear(), "config.json does not say of how many bits"),
    ],
)
def test_a_layer_that_contradicts_itself_is_named(program, fails, source, tmp_path, change, message):
    quantize(program, source, tmp_path / "out")
    tensors = load(tmp_path / "out" / "model.safetensors")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    said = config.pop("quantization")
    config.pop("quantization_config")
    # Only the layer in question.
    parts = {name: tensor for name, tensor in tensors.items() if name.startswith(NAME)}
    change(parts, said)
    save(tmp_path / "bad" / "model.safetensors", parts)
    write_json(tmp_path / "bad" / "config.json", config | ({"quantization": said} if said else {}))
    for command in (["inspect", tmp_path / "bad"], ["quantize", tmp_path / "bad", "--dry-run"]):
        error = fails(*command)
        assert f"model.safetensors: tensor '{NAME}.weight'" in error and message in error and error.count("\n") == 1, error


def test_the_oracle_decodes_what_mlx_documents():
    words = np.array([[0xC6ABC, 0, 0, 0]], np.uint32)
    codes = decode(words, np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32), {"bits": 4, "group_size": 32, "mode": "affine"})
    assert codes[0, :5].tolist() == [12, 11, 10, 6, 12]
