"""Folders for MLX: mx.quantize gives the same bytes, mx.dequantize the same weights, and mlx-lm runs the models."""

import json

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import load, normal, save, write_json
from mlx_folder import read_mlx_folder
from mlx_lm.utils import load_model

DTYPES = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}
INTEGERS = [("int2", 2), ("int3", 3), ("int4", 4), ("int5", 5), ("int6", 6), ("int8", 8)]
SMALL = [("mxfp4", 32, 4), ("mxfp8", 32, 8), ("nvfp4", 16, 4)]

CONFIGS = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "llama, tied": {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": False},
    "qwen3, tied": {"model_type": "qwen3", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "tie_word_embeddings": False},
    "mixtral": {"model_type": "mixtral", "tie_word_embeddings": False},
    "qwen2_moe": {"model_type": "qwen2_moe", "tie_word_embeddings": False},
    "qwen3_moe": {"model_type": "qwen3_moe", "tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", "tie_word_embeddings": True},
}
WIDTH, VOCABULARY, LAYERS, HEAD = 128, 96, 2, 32


def config_of(family):
    return CONFIGS[family] | {
        "hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": HEAD, "rms_norm_eps": 1e-6, "vocab_size": VOCABULARY, "rope_theta": 10000.0,
        "max_position_embeddings": 128, "num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4,
        "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
        "n_ctx": 64, "n_embd": WIDTH, "n_head": 4, "n_layer": LAYERS, "n_positions": 64, "layer_norm_epsilon": 1e-5,
    }  # fmt: skip


def shapes_of(family):
    """The matrices of a model by the names that transformers gives them, without `.weight`."""
    if family == "gpt2":
        shapes = {"wte": (VOCABULARY, WIDTH), "wpe": (64, WIDTH)}
        for layer in range(LAYERS):
            block = {"attn.c_attn": (128, 384), "attn.c_proj": (128, 128), "mlp.c_fc": (128, 512), "mlp.c_proj": (512, 128)}
            shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
        return shapes
    shapes = {"model.embed_tokens": (VOCABULARY, WIDTH)}
    if not CONFIGS[family]["tie_word_embeddings"]:
        shapes["lm_head"] = (VOCABULARY, WIDTH)
    for layer in range(LAYERS):
        base = f"model.layers.{layer}"
        heads = {"q_proj": 4, "k_proj": 2, "v_proj": 2}
        shapes |= {f"{base}.self_attn.{name}": (count * HEAD, WIDTH) for name, count in heads.items()}
        shapes[f"{base}.self_attn.o_proj"] = (WIDTH, 4 * HEAD)
        if family == "mixtral":
            shapes[f"{base}.block_sparse_moe.gate"] = (4, WIDTH)
            for expert in range(4):
                here = f"{base}.block_sparse_moe.experts.{expert}"
                shapes |= {f"{here}.w1": (256, WIDTH), f"{here}.w2": (WIDTH, 256), f"{here}.w3": (256, WIDTH)}
        elif family in ("qwen2_moe", "qwen3_moe"):
            shapes[f"{base}.mlp.gate"] = (4, WIDTH)
            for expert in range(4):
                here = f"{base}.mlp.experts.{expert}"
                shapes |= {f"{here}.gate_proj": (64, WIDTH), f"{here}.up_proj": (64, WIDTH), f"{here}.down_proj": (WIDTH, 64)}
            if family == "qwen2_moe":
                here = f"{base}.mlp.shared_expert"
                shapes |= {f"{here}.gate_proj": (64, WIDTH), f"{here}.up_proj": (64, WIDTH), f"{here}.down_proj": (WIDTH, 64)}
                shapes[f"{base}.mlp.shared_expert_gate"] = (1, WIDTH)
        else:
            shapes |= {f"{base}.mlp.gate_proj": (256, WIDTH), f"{base}.mlp.up_proj": (256, WIDTH)}
            shapes[f"{base}.mlp.down_proj"] = (WIDTH, 256)
    return shapes


def write_model(folder, family, dtype="F32"):
    """A model of random weights."""
    tensors = {f"{name}.weight": (dtype, normal(*shape, seed=i) * 2) for i, (name, shape) in enumerate(shapes_of(family).items())}
    vectors = {}
    for layer in range(LAYERS):
        if family == "gpt2":
            sizes = {"ln_1": 128, "ln_2": 128, "attn.c_attn": 384, "attn.c_proj": 128, "mlp.c_fc": 512, "mlp.c_proj": 128}
            vectors |= {f"h.{layer}.{name}.bias": normal(size) for name, size in sizes.items()}
            vectors |= {f"h.{layer}.{name}.weight": 1 + normal(128) for name in ("ln_1", "ln_2")}
            continue
        base = f"model.layers.{layer}"
        vectors |= {f"{base}.{name}.weight": 1 + normal(WIDTH) for name in ("input_layernorm", "post_attention_layernorm")}
        if family.startswith("qwen3"):
            vectors |= {f"{base}.self_attn.{name}.weight": 1 + normal(HEAD) for name in ("q_norm", "k_norm")}
        if family in ("qwen2", "qwen2_moe"):
            heads = {"q_proj": 4, "k_proj": 2, "v_proj": 2}
            vectors |= {f"{base}.self_attn.{name}.bias": normal(count * HEAD) for name, count in heads.items()}
    if family == "gpt2":
        vectors |= {"ln_f.weight": 1 + normal(WIDTH), "ln_f.bias": normal(WIDTH)}
    else:
        vectors["model.norm.weight"] = 1 + normal(WIDTH)
    tensors |= {name: (dtype, vector) for name, vector in vectors.items()}
    save(folder / "model.safetensors", tensors, {"format": "pt"})
    write_json(folder / "config.json", config_of(family))


def logits(folder):
    model, _ = load_model(folder)
    tokens = mx.array(np.random.default_rng(5).integers(0, VOCABULARY, (2, 11)))
    return np.array(model(tokens).astype(mx.float32))


def as_bytes(array):
    return np.array(array.view(mx.uint8)).tobytes()


@pytest.mark.parametrize("family", CONFIGS)
def test_mlx_lm_gives_the_logits_of_the_decoded_weights(program, tmp_path, family):
    write_model(tmp_path / "in", family)
    options = ["--mlx-type-for", "o_proj|wpe=mxfp8", "--exclude", "layers.1.*k_proj"] if family != "gpt2" else []
    program("quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", "mlx", *options)
    decoded, layers = read_mlx_folder(tmp_path / "out")
    save(tmp_path / "decoded" / "model.safetensors", {name: ("F32", tensor) for name, tensor in decoded.items()})
    write_json(tmp_path / "decoded" / "config.json", config_of(family))
    theirs, ours = logits(tmp_path / "decoded"), logits(tmp_path / "out")
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
    # Layers and embeddings. gpt2's layers are transposed, routers stay, and of qwen3_moe mlx-lm stacks floats alone.
    expected = {name for name in shapes_of(family) if "gate" not in name.rsplit(".", 1)[-1] or name.endswith("gate_proj")}
    if family == "qwen3_moe":
        expected = {name for name in expected if ".experts." not in name}
    if family == "gpt2":
        expected = {"wte", "wpe"}
    else:
        expected.discard("model.layers.1.self_attn.k_proj")
    assert set(layers) == expected


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_mlx_lm_runs_in_the_floats_of_the_source(program, tmp_path, dtype):
    write_model(tmp_path / "in", "qwen3", dtype)
    program("quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", "mlx", "--group-size", 64)
    decoded, _ = read_mlx_folder(tmp_path / "out")
    save(tmp_path / "decoded" / "model.safetensors", {name: (dtype, tensor) for name, tensor in decoded.items()})
    write_json(tmp_path / "decoded" / "config.json", config_of("qwen3"))
    theirs, ours = logits(tmp_path / "decoded"), logits(tmp_path / "out")
    cosine = (theirs * ours).sum() / np.sqrt((theirs**2).sum() * (ours**2).sum())
    assert cosine > (0.999999 if dtype == "F32" else 0.999), cosine


@pytest.mark.parametrize("method", ["minmax", "search"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_are_what_mlx_makes_and_decodes(program, tmp_path, dtype, method):
    kinds = [(f"{kind}.{size}", kind, {"bits": bits, "group_size": size}) for kind, bits in INTEGERS for size in (32, 64, 128)]
    kinds += [(f"{kind}.0", kind, {"bits": bits, "group_size": size, "mode": kind}) for kind, size, bits in SMALL]
    weights = {name: normal(24, 256, seed=i) for i, (name, _, _) in enumerate(kinds)}
    for rows in weights.values():
        rows[3] = 0
        rows[4, :64] = rows[4, 0]
        rows[5] = np.round(rows[5] * 64) / 64
    for size in (32, 64, 128):
        of_size = {f"{name}.weight": (dtype, weights[name]) for name, _, said in kinds if said.get("mode") or said["group_size"] == size}
        save(tmp_path / f"in{size}" / "model.safetensors", of_size)
        write_json(tmp_path / f"in{size}" / "config.json", {"model_type": "llama"})
        rules = [f"--mlx-type-for=^{kind}[.]={kind}" for kind in dict.fromkeys(kind for _, kind, _ in kinds)]
        run = ["quantize", tmp_path / f"in{size}", "--output", tmp_path / f"out{size}", "--format", "mlx", "--group-size", size]
        program(*run, "--method", method, *rules)
        program(
            "quantize", tmp_path / f"out{size}", "--output", tmp_path / f"back{size}", "--format", "safetensors", "--exclude", ".",
            "--dtype", "F32",
        )  # fmt: skip
    for name, kind, said in kinds:
        size = said["group_size"] if "mode" not in said else 64
        tensors = mx.load(str(tmp_path / f"out{size}" / "model.safetensors"))
        layer = [tensors[f"{name}.{part}"] for part in ("weight", "scales", "biases") if f"{name}.{part}" in tensors]
        source = mx.array(weights[name].astype(np.float32)).astype(DTYPES[dtype])
        made = mx.quantize(source, **said)
        assert [part.dtype for part in layer] == [part.dtype for part in made], name
        if method == "minmax":
            assert [as_bytes(part) for part in layer] == [as_bytes(part) for part in made], name
        # Small floats have no dtype of their own, and are decoded in f32.
        more = {"dtype": mx.float32} if "mode" in said else {}
        theirs = np.array(mx.dequantize(*layer, **said, **more).astype(mx.float32))
        ours = load(tmp_path / f"back{size}" / "model.safetensors")[f"{name}.weight"][1].astype(np.float32)
        if "mode" in said:
            # What is copied is in BF16, which holds every product.
            theirs = np.array(mx.array(theirs).astype(mx.bfloat16).astype(mx.float32))
        np.testing.assert_array_equal(ours.view(np.uint32) & 0x7FFFFFFF, theirs.view(np.uint32) & 0x7FFFFFFF, err_msg=name)
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
        if method == "search" and kind != "mxfp8":
            original = np.array(source.astype(mx.float32)).astype(np.float64)
            error = lambda back: ((original - np.array(back.astype(mx.float32))) ** 2).sum()
            assert error(mx.array(theirs)) < error(mx.dequantize(*made, **said, **more)), name


def test_stacks_of_experts_are_read_and_written(program, tmp_path):
    name = "model.layers.0.mlp.switch_mlp.up_proj"
    source = normal(3, 16, 128)
    save(tmp_path / "in" / "model.safetensors", {f"{name}.weight": ("BF16", source)})
    write_json(tmp_path / "in" / "config.json", {"model_type": "qwen3_moe"})
    program("quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", "mlx", "--method", "minmax")
    tensors = mx.load(str(tmp_path / "out" / "model.safetensors"))
    made = mx.quantize(mx.array(source.astype(np.float32)).astype(mx.bfloat16), group_size=32, bits=4)
    for part, expected in zip(("weight", "scales", "biases"), made, strict=True):
        assert tensors[f"{name}.{part}"].shape == expected.shape
        assert as_bytes(tensors[f"{name}.{part}"]) == as_bytes(expected)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]["mode"] == "affine"
