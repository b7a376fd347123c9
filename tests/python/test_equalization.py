"""`--equalize` where factors are folded into the layers before: NumPy's networks compute what they did."""

import json

import gguf
import ml_dtypes
import numpy as np
import pyarrow.parquet as pq
import pytest
from activation_table import write_activations
from numpy_dit import Dit, gelu, layer_inputs, normalize, silu
from quantized_folder import changed, read_quantized_folder
from safetensors.numpy import load_file, save_file

def equalization(folder):
    return {row["name"]: row for row in pq.read_table(folder / "equalization.parquet").to_pylist()}


# --- the digits transformer ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(digits_dit, tmp_path_factory):
    """The weights of the digits transformer, and what its blocks are fed."""
    weights = load_file(digits_dit / "model.safetensors")
    inputs = layer_inputs(weights, per_digit=1, steps=6, seed=1)
    inputs = {name: x for name, x in inputs.items() if name.startswith("blocks.")}
    return weights, write_activations(tmp_path_factory.mktemp("acts") / "acts.parquet", inputs)


def noise_of(weights, scales=None, model=Dit):
    """What the digits transformer predicts, the inputs of some layers scaled."""
    scales = scales or {}

    class Scaled(model):
        def linear(self, name, x):
            return super().linear(name, x * scales.get(f"{name}.weight", np.float32(1)))

    x = np.random.default_rng(5).standard_normal((10, 1, 8, 8), np.float32)
    return np.stack([Scaled(weights)(x, np.full(10, t), np.arange(10)) for t in (0, 300, 999)])


@pytest.mark.parametrize("alpha", ["0.5", "auto", "log", "weights"])
def test_the_digits_transformer_computes_what_it_did(program, digits_dit, digits, tmp_path, alpha):
    weights, activations = digits
    out = tmp_path / "out"
    given = [] if alpha == "weights" else ["--activations", activations]
    text = program("quantize", digits_dit, "--output", out, *given, "--equalize", alpha)
    rows = equalization(out)
    scales = {name: np.float32(row["input_scale"]) for name, row in rows.items() if row["input_scale"]}
    folded = {name: row["folded_into"] for name, row in rows.items() if row["folded_into"]}
    # Whatever alpha is chosen: modulations have a SiLU before them and the second layers of the MLPs a GELU.
    assert {name.split(".", 2)[2] for name in folded} <= {"attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight"}
    assert {name.split(".", 2)[2] for name in scales} <= {"adaLN_modulation.1.weight", "mlp.fc2.weight"}
    assert folded and scales
    if alpha != "auto":
        assert (len(folded), len(scales)) == (9, 6)
    assert f"{len(folded) + len(scales)} layers equalized, {len(folded)} of them folded" in text
    for name, into in folded.items():
        giver = "attn.qkv" if name.endswith("proj.weight") else "adaLN_modulation.1"
        assert into == [f"{name.rsplit('.', 3)[0]}.{giver}.{part}" for part in ("weight", "bias")]
        # Left to choose, alpha may be that of factors that are all alike.
        assert alpha == "auto" or max(rows[name]["factors"]) > min(rows[name]["factors"])
    exact, got = noise_of(weights), noise_of(changed(weights, out), scales)
    assert np.abs(got - exact).max() < 2e-5 * np.abs(exact).max()
    # Without the scales, or with the producers as they were, it is another function.
    assert np.abs(noise_of(changed(weights, out)) - exact).max() > 1e-2 * np.abs(exact).max()


def test_factors_by_the_weights_alone_are_those_of_numpy(program, digits_dit, tmp_path):
    weights = load_file(digits_dit / "model.safetensors")
    program("quantize", digits_dit, "--output", tmp_path / "out", "--equalize", "weights")
    rows = equalization(tmp_path / "out")
    scaled = {name: row for name, row in rows.items() if row["input_scale"]}
    folded = {name: row for name, row in rows.items() if row["folded_into"]}
    assert (len(scaled), len(folded)) == (6, 9)
    for name, row in scaled.items():
        sums = np.square(np.float64(weights[name])).sum(axis=0)
        assert np.allclose(row["factors"], (sums.mean() / sums) ** 0.375, rtol=1e-6), name
    for name, row in folded.items():
        sums = np.square(np.float64(weights[name])).sum(axis=0)
        # A modulation's are divided by a power of two.
        units = np.log2((sums.mean() / sums) ** 0.375 / row["factors"])
        assert np.ptp(units) < 1e-5 and abs(units[0] - round(units[0])) < 1e-5, name
        assert round(units[0]) == 0 or name.endswith(("qkv.weight", "fc1.weight"))


def test_what_carries_factors_is_stored_as_it_is_computed(program, digits_dit, digits, tmp_path):
    weights, activations = digits
    out = tmp_path / "out"
    program("quantize", digits_dit, "--output", out, "--bits", 8, "--activations", activations, "--equalize", 0.5)
    stored, expected, rows = read_quantized_folder(out, original=False), changed(weights, out), equalization(out)
    for name, tensor in stored.items():
        if name.endswith(".weight") and tensor.ndim == 2 and name.startswith("blocks."):
            assert np.abs(tensor - expected[name]).max() < 0.01 * np.abs(expected[name]).max(), name
        elif rows.get(name):
            # With the digits that it has then.
            assert tensor.dtype == np.float32 and np.allclose(tensor, expected[name], rtol=3e-7, atol=1e-7), name
        else:
            assert np.array_equal(np.float32(tensor), np.float32(weights[name])), name
    notes = {row["name"]: row["note"] for row in pq.read_table(out / "report.parquet").to_pylist()}
    assert notes["blocks.0.attn.proj.weight"] == (
        "equalized, folded into blocks.0.attn.qkv.weight, blocks.0.attn.qkv.bias"
    )
    assert notes["blocks.0.attn.qkv.weight"] == (
        "equalized, folded into blocks.0.adaLN_modulation.1.weight, blocks.0.adaLN_modulation.1.bias; "
        "divided by the factors of blocks.0.attn.proj.weight"
    )
    assert notes["blocks.0.mlp.fc2.weight"] == "equalized by input_scale"
    assert "divided by the factors of blocks.1.attn.qkv.weight, blocks.1.mlp.fc1.weight" in notes[
        "blocks.1.adaLN_modulation.1.bias"
    ]


@pytest.mark.parametrize("options", [["safetensors", "--dtype", "F32"], ["safetensors"], ["gguf", "--gguf-type", "Q8_0"]])
def test_exports_are_equalized_where_nothing_is_left_for_run_time(program, digits_dit, digits, tmp_path, options):
    weights, activations = digits
    out = tmp_path / "out"
    extra = ["--bits", 8] if options[0] == "safetensors" else []
    text = program(
        "quantize", digits_dit, "--output", out, "--activations", activations, "--equalize", 0.5, *extra, "--format", *options
    )
    rows = equalization(out)
    assert not any(row["input_scale"] for row in rows.values())
    folded = {name for name, row in rows.items() if row["folded_into"]}
    assert len(folded) == 9
    assert "6 left as they are, such as blocks.0.adaLN_modulation.1.weight: what gives its input" in text
    notes = {row["name"]: row["note"] for row in pq.read_table(out / "report.parquet").to_pylist()}
    assert "equalized, folded into blocks.2.adaLN_modulation.1.weight" in notes["blocks.2.mlp.fc1.weight"]
    assert "not equalized: what gives its input is not linear in it" in notes["blocks.2.mlp.fc2.weight"]
    if options[0] == "safetensors":
        stored = load_file(out / "model.safetensors")
    else:
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(out / "model.gguf").tensors}
        assert {tensors[name].tensor_type for name in rows if name.endswith("bias")} == {gguf.GGMLQuantizationType.F32}
        stored = {
            name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(weights[name].shape)
            for name, tensor in tensors.items()
        }
    exact, got = noise_of(weights), noise_of(stored)
    assert np.abs(got - exact).max() < 0.05 * np.abs(exact).max()
    expected = folded_by_hand(weights, rows)
    assert expected.keys() == rows.keys()
    for name, tensor in expected.items():
        assert np.abs(np.float32(stored[name]) - tensor).max() < 0.01 * np.abs(tensor).max(), name
        if stored[name].dtype == np.float32 and name.endswith("bias"):
            assert np.allclose(stored[name], tensor, rtol=1e-6, atol=1e-6), name


def folded_by_hand(weights, rows):
    """The tensors of the digits transformer that change, from the factors of its layers alone."""
    modulations = [name for name in weights if name.startswith("blocks.") and "adaLN" in name]
    parts = {name: np.split(np.float32(weights[name]), 6) for name in modulations}
    layers = {}
    for block in sorted({name.rsplit(".adaLN", 1)[0] for name in parts}):
        modulation, qkv = f"{block}.adaLN_modulation.1", f"{block}.attn.qkv"
        for layer, first in ((qkv, 0), (f"{block}.mlp.fc1", 3)):
            s = np.float32(rows[f"{layer}.weight"]["factors"])
            layers[f"{layer}.weight"] = np.float32(weights[f"{layer}.weight"]) * s
            matrix, bias = parts[f"{modulation}.weight"], parts[f"{modulation}.bias"]
            for part in (first, first + 1):
                matrix[part] = matrix[part] / s[:, None]
            bias[first], bias[first + 1] = bias[first] / s, (bias[first + 1] + 1) / s - 1
        s = np.float32(rows[f"{block}.attn.proj.weight"]["factors"])
        layers[f"{block}.attn.proj.weight"] = np.float32(weights[f"{block}.attn.proj.weight"]) * s
        # Values are the last third of what the layer gives.
        given, bias = layers[f"{qkv}.weight"], np.float32(weights[f"{qkv}.bias"])
        given[-len(s) :], bias[-len(s) :] = given[-len(s) :] / s[:, None], bias[-len(s) :] / s
        layers[f"{qkv}.bias"] = bias
    return layers | {name: np.concatenate(of_tensor) for name, of_tensor in parts.items()}


def half(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


class HalfModulation(Dit):
    """The digits transformer in a program that stores and computes modulations in bfloat16."""

    def modulation(self, name, condition, count):
        self.weights |= {key: half(tensor) for key, tensor in self.weights.items() if key.startswith(f"{name}.adaLN")}
        return [half(part) for part in super().modulation(name, condition, count)]

    def block(self, name, x, condition):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(name, condition, 6)
        fed = half(half(half(normalize(x)) * half(1 + scale_a)) + shift_a)
        x = x + gate_a * self.attention(f"{name}.attn", fed)
        fed = half(half(half(normalize(x)) * half(1 + scale_m)) + shift_m)
        return x + gate_m * self.linear(f"{name}.mlp.fc2", gelu(self.linear(f"{name}.mlp.fc1", fed)))


def test_a_folded_modulation_loses_nothing_in_a_program_that_computes_in_bfloat16(program, digits_dit, tmp_path):
    weights = load_file(digits_dit / "model.safetensors")
    inputs = layer_inputs(weights, per_digit=1, steps=6, seed=1)
    # A channel that sticks out, by which the factors of the others become small or its own large.
    wide = lambda x: x * np.where(np.arange(x.shape[1]) == 3, 1000, 1)
    inputs = {name: wide(x) for name, x in inputs.items() if name.startswith("blocks.")}
    activations = write_activations(tmp_path / "acts.parquet", inputs)
    out = tmp_path / "out"
    program("quantize", digits_dit, "--output", out, "--activations", activations, "--equalize", 0.5)
    rows = equalization(out)
    for name, row in rows.items():
        if name.endswith(("qkv.weight", "fc1.weight")):
            assert 1 <= max(row["factors"]) < 2, name
    scales = {name: np.float32(row["input_scale"]) for name, row in rows.items() if row["input_scale"]}
    # Without what is left for run time: the weights take it back.
    folded = {name: tensor * scales.get(name, 1) for name, tensor in changed(weights, out).items()}
    exact = noise_of(weights)
    plain, got = (noise_of(all, model=HalfModulation) for all in (weights, folded))
    assert np.square(got - exact).mean() < 1.5 * np.square(plain - exact).mean()


# --- a block of LLaMA ----------------------------------------------------------------------------------------------

HIDDEN, INNER, HEADS = 32, 64, 4
BLOCK = "model.layers.0"


def llama(heads, dtype):
    """The weights of a block with so many heads for keys and values, some channels of its norms wide."""
    noise = np.random.default_rng(7)
    narrow = HIDDEN // HEADS * heads
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (narrow, HIDDEN),
        "self_attn.v_proj": (narrow, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    weights = {f"{BLOCK}.{name}.weight": noise.standard_normal(shape) * 0.2 for name, shape in shapes.items()}
    for name in ("input_layernorm", "post_attention_layernorm"):
        weights[f"{BLOCK}.{name}.weight"] = np.exp(noise.standard_normal(HIDDEN))
    weights[f"{BLOCK}.self_attn.v_proj.bias"] = noise.standard_normal(narrow)
    return {name: tensor.astype(dtype) for name, tensor in weights.items()}


def llama_block(weights, x, watch=lambda name, inputs: None, scales=None):
    """What a block computes (without rotation, which concerns queries and keys alone)."""
    weights = {name.removeprefix(f"{BLOCK}."): np.float32(tensor) for name, tensor in weights.items()}

    def linear(name, x):
        watch(f"{BLOCK}.{name}.weight", x)
        x = x * (scales or {}).get(f"{BLOCK}.{name}.weight", np.float32(1))
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)

    def norm(name, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weights[f"{name}.weight"]

    def heads(x):
        parts = x.reshape(len(x), -1, HIDDEN // HEADS).transpose(1, 0, 2)
        return parts.repeat(HEADS // len(parts), axis=0)

    inner = norm("input_layernorm", x)
    q, k, v = (heads(linear(f"self_attn.{name}_proj", inner)) for name in "qkv")
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(HIDDEN // HEADS)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (scores / scores.sum(-1, keepdims=True)) @ v
    x = x + linear("self_attn.o_proj", mixed.transpose(1, 0, 2).reshape(len(x), HIDDEN))
    inner = norm("post_attention_layernorm", x)
    return x + linear("mlp.down_proj", silu(linear("mlp.gate_proj", inner)) * linear("mlp.up_proj", inner))


def llama_folder(folder, heads, dtype, model_type="llama"):
    weights, inputs = llama(heads, dtype), {}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    x = np.random.default_rng(8).standard_normal((24, HIDDEN)).astype(np.float32) * 2
    llama_block(weights, x, lambda name, seen: inputs.setdefault(name, seen))
    return weights, x, write_activations(folder.parent / f"{folder.name}.parquet", inputs)


@pytest.mark.parametrize(("heads", "dtype"), [(HEADS, np.float32), (HEADS, ml_dtypes.bfloat16), (2, np.float16)])
def test_a_block_of_llama_computes_what_it_did(program, tmp_path, heads, dtype):
    weights, x, activations = llama_folder(tmp_path / "model", heads, dtype)
    out = tmp_path / "out"
    # Of layers that share an input, one is not quantized, but must follow the others.
    options = ["--activations", activations, "--equalize", 0.5, "--exclude", "k_proj"]
    program("quantize", tmp_path / "model", "--output", out, "--bits", 8, *options)
    rows = equalization(out)
    q, k, v, o = (f"{BLOCK}.self_attn.{name}_proj.weight" for name in "qkvo")
    gate, up, down = (f"{BLOCK}.mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
    folded = {name: row["folded_into"] for name, row in rows.items() if row["folded_into"]}
    expected = {name: [f"{BLOCK}.input_layernorm.weight"] for name in (q, k, v)}
    expected |= {name: [f"{BLOCK}.post_attention_layernorm.weight"] for name in (gate, up)}
    expected |= {down: [up]} | ({o: [v, f"{BLOCK}.self_attn.v_proj.bias"]} if heads == HEADS else {})
    assert folded == expected
    scales = {name: np.float32(row["input_scale"]) for name, row in rows.items() if row["input_scale"]}
    # Several channels share a value where there are fewer heads for them.
    assert set(scales) == (set() if heads == HEADS else {o})
    assert rows[q]["factors"] == rows[k]["factors"] == rows[v]["factors"] != rows[gate]["factors"]
    exact, got = llama_block(weights, x), llama_block(changed(weights, out), x, scales=scales)
    assert np.abs(got - exact).max() < 1e-5 * np.abs(exact).max()
    stored = read_quantized_folder(out, original=False)
    # A matrix that is carried keeps its dtype, a norm gets all the digits that it has then.
    assert stored[k].dtype == dtype and np.array_equal(stored[k], changed(weights, out)[k].astype(dtype))
    norm = f"{BLOCK}.input_layernorm.weight"
    assert stored[norm].dtype == np.float32 and np.allclose(stored[norm], changed(weights, out)[norm], rtol=3e-7)
    # Nothing but the rounding of 8 bits, in the channels as they were and as they are.
    for got in (llama_block(read_quantized_folder(out), x), llama_block(stored, x, scales=scales)):
        assert np.abs(got - exact).max() < 0.02 * np.abs(exact).max()


def test_factors_of_one_input_are_those_of_all_that_take_it(program, tmp_path):
    weights, _, activations = llama_folder(tmp_path / "model", HEADS, np.float32)
    out = tmp_path / "out"
    program("quantize", tmp_path / "model", "--output", out, "--activations", activations, "--equalize", 0.5)
    (row,) = [row for row in pq.read_table(activations).to_pylist() if row["name"].endswith("q_proj.weight")]
    widest = np.maximum(np.abs(row["channel_min"]), np.abs(row["channel_max"]))
    layers = [weights[f"{BLOCK}.self_attn.{name}_proj.weight"] for name in "qkv"]
    factors = np.sqrt(widest / np.max([np.abs(layer).max(0) for layer in layers], axis=0))
    got = np.float32(equalization(out)[f"{BLOCK}.self_attn.q_proj.weight"]["factors"])
    assert np.allclose(got, factors, rtol=1e-5)


def test_a_folder_with_nothing_left_for_run_time_is_a_model_like_any(program, compare, fails, tmp_path):
    weights, x, activations = llama_folder(tmp_path / "model", HEADS, np.float32)
    _, _, other = llama_folder(tmp_path / "other", 2, np.float32)
    program("quantize", tmp_path / "model", "--output", tmp_path / "out", "--bits", 8, "--activations", activations, "--equalize", 0.5)
    program("quantize", tmp_path / "out", "--output", tmp_path / "again", "--bits", 8, "--format", "safetensors")
    again = load_file(tmp_path / "again" / "model.safetensors")
    exact, once = (llama_block(all, x) for all in (weights, read_quantized_folder(tmp_path / "out", original=False)))
    assert np.abs(once - exact).max() < 0.1 * np.abs(exact).max()
    assert np.abs(llama_block(again, x) - once).max() < 0.001 * np.abs(exact).max()
    tensors = {row["name"]: row for row in compare(tmp_path / "model", tmp_path / "out")["tensors"]}
    assert tensors[f"{BLOCK}.input_layernorm.weight"]["max_abs_error"] < 1e-6
    assert all(row["sqnr_db"] > 35 for row in tensors.values() if row.get("sqnr_db")), tensors
    # A scale that is left for run time is no model that another program could read.
    program("quantize", tmp_path / "other", "--output", tmp_path / "scaled", "--activations", other, "--equalize", 0.5)
    error = fails("quantize", tmp_path / "scaled", "--output", tmp_path / "no")
    assert "is equalized for inputs that are scaled" in error


def test_packed_exports_are_equalized(program, compare, tmp_path):
    weights, x, activations = llama_folder(tmp_path / "model", 2, np.float32)
    out, plain = tmp_path / "out", tmp_path / "plain"
    options = ["--activations", activations, "--equalize", 0.5, "--format", "compressed-tensors", "--json"]
    summary = json.loads(program("quantize", tmp_path / "model", "--output", out, "--bits", 8, *options))
    # The output of attention cannot be folded where heads share their values, and is as it would be without.
    assert (summary["equalized_tensors"], summary["folded_tensors"]) == (6, 6)
    program("quantize", tmp_path / "model", "--output", plain, "--bits", 8, "--format", "compressed-tensors")
    packed, unequal = (load_file(folder / "model.safetensors") for folder in (out, plain))
    same = {name for name in packed if np.array_equal(packed[name], unequal[name])}
    assert {name for name in same if "packed" in name} == {f"{BLOCK}.self_attn.o_proj.weight_packed"}
    for row in compare(tmp_path / "model", out)["tensors"]:
        assert "n" not in row or row["sqnr_db"] is None or row["sqnr_db"] > 35, row
    # As another program reads it, without knowing of the factors.
    program("quantize", out, "--output", tmp_path / "read", "--bits", 8, "--format", "safetensors")
    exact, got = (llama_block(all, x) for all in (weights, load_file(tmp_path / "read" / "model.safetensors")))
    assert np.abs(got - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("model_type", ["phi", "gemma", None])
def test_architectures_that_the_table_does_not_have_are_not_folded(program, tmp_path, model_type):
    _, _, activations = llama_folder(tmp_path / "model", HEADS, np.float32, model_type)
    out = tmp_path / "out"
    program("quantize", tmp_path / "model", "--output", out, "--activations", activations, "--equalize", 0.5)
    rows = equalization(out)
    assert len(rows) == 7 and all(row["input_scale"] and row["folded_into"] is None for row in rows.values())
    options = ["--activations", activations, "--equalize", 0.5, "--format", "safetensors"]
    text = program("quantize", tmp_path / "model", "--output", tmp_path / "plain", *options)
    said = f"does not have {model_type}" if model_type else "config.json does not say what the model is"
    assert "0 layers equalized" in text and "7 left as they are" in text and said in text
