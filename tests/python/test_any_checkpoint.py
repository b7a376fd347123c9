"""Any checkpoint, any options: each tensor is in the output as quantized, as copied with its meaning, or named as left out."""

import json
import math
import os
import re
import subprocess
import tempfile
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pyarrow.parquet as pq
from checkpoints import DTYPES, fp8, llama_config, load, normal, save, write_json
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from packed_folder import read_packed_folder
from quantized_folder import read_quantized_folder

FORMATS = ["parquet", "arrow", "safetensors", "compressed-tensors", "gguf"]
LAYER = "model.layers.{}.{}"
MODULES = ["self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.experts.1.down_proj", "mlp.gate"]
SIDE = [
    "LICENSE", "README.md", "tokenizer.json", "modeling_x.py", "code/__init__.py", "code/deep/rope.py", "assets/mel.npz",
    "pytorch_model.bin", "onnx/model.onnx", ".git/HEAD", "tokenizer.model", "1_Pooling/config.json",
]  # fmt: skip
WEIGHTS = ["pytorch_model.bin", "onnx/model.onnx"]


def arrow_quant(*arguments):
    path = os.environ.get("ARROW_QUANT", str(Path(__file__).parents[2] / "target/release/arrow-quant"))
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=120)


@st.composite
def layers(draw):
    """The tensors of a file, and what each of them means: the tensor's values in f32, or None where it is a companion."""
    tensors, meant = {}, {}
    seed = 0
    for number in range(draw(st.integers(1, 2))):
        for module in draw(st.lists(st.sampled_from(MODULES), min_size=1, max_size=5, unique=True)):
            seed += 1
            name = LAYER.format(number, module)
            rows, length = draw(st.sampled_from([(32, 64), (8, 96), (33, 40), (64, 256), (3, 7)]))
            weights = normal(rows, length, seed=seed) * draw(st.sampled_from([1, 1, 1e-3, 30]))
            kind = draw(st.sampled_from(["F32", "BF16", "BF16", "F16", "F64", "fp8", "fp8 rows", "fp8 blocks", "cast", "bias"]))
            if kind.startswith("fp8"):
                scale, spread, suffix = scales(weights, kind)
                codes = fp8(weights, spread)
                suffix = draw(st.sampled_from(suffix))
                tensors[f"{name}.weight"] = ("F8_E4M3", codes)
                tensors[f"{name}{suffix}"] = ("F32", scale)
                meant[f"{name}.weight"] = codes.astype(np.float32) * spread
                if draw(st.booleans()):
                    tensors[f"{name}.input_scale"] = ("F32", np.array(0.5))
                continue
            kind = {"cast": "F8_E4M3", "bias": "F32"}.get(kind, kind)
            tensors[f"{name}.weight"] = (kind, weights)
            if kind == "F32":
                tensors[f"{name}.bias"] = ("F32", normal(rows, seed=seed + 100))
    for name, value in {
        "model.embed_tokens.weight": ("BF16", normal(48, 64, seed=200)),
        "model.norm.weight": ("BF16", np.ones(64)),
        "mask": ("BOOL", np.tri(4)),
        "position_ids": ("I64", np.arange(9)[None]),
        "scalar": ("F32", np.array(0.5)),
        "empty": ("F32", np.zeros(0)),
        "model.conv.weight": ("F16", normal(8, 4, 3, 3, seed=201)),
    }.items():
        if draw(st.booleans()):
            tensors[name] = value
    if "model.embed_tokens.weight" in tensors and draw(st.booleans()):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    for name, (dtype, array) in tensors.items():
        if not name.endswith(("_scale", "_scale_inv", ".scale_weight", ".input_scale")):
            meant.setdefault(name, np.asarray(array).astype(DTYPES[dtype]))
    return tensors, meant


def scales(weights, kind):
    """Scales, what they are for each weight, and the ends of names that they may have."""
    rows, length = weights.shape
    if kind == "fp8":
        scale = np.float32(np.abs(weights).max() / 448)
        return np.array(scale), scale, [".weight_scale", ".scale_weight"]
    if kind == "fp8 rows":
        scale = (np.abs(weights).max(1, keepdims=True) / 448).astype(np.float32)
        return scale, scale, [".weight_scale"]
    scale = np.abs(normal(-(-rows // 128), -(-length // 128), seed=rows)) + np.float32(1e-4)
    return scale, scale.repeat(128, 0).repeat(128, 1)[:rows, :length], [".weight_scale_inv"]


@st.composite
def options(draw):
    form = draw(st.sampled_from(FORMATS))
    chosen = ["--format", form]
    if form != "gguf":
        chosen += draw(st.sampled_from([[], ["--group-size", "16"], ["--group-size", "channel"], ["--symmetric"], ["--method", "minmax"]]))
    else:
        chosen += draw(st.sampled_from([[], ["--gguf-type", "Q8_0"], ["--gguf-type", "F16"], ["--misfit", "keep"], ["--misfit", "error"]]))
    if "--gguf-type" not in chosen:
        chosen += draw(st.sampled_from([[], ["--bits", "2"], ["--bits", "8"], ["--bits-for", "up_proj=8"]]))
    if form == "safetensors":
        chosen += draw(st.sampled_from([[], ["--dtype", "F32"], ["--dtype", "BF16"], ["--shard-size", "20000"]]))
    for _ in range(draw(st.integers(0, 2))):
        option = draw(st.sampled_from(["--exclude", "--exclude", "--drop", "--include", "--min-share"]))
        value = "0.3" if option == "--min-share" else draw(st.sampled_from(["q_proj", "mlp", "layers.0", "norm", "embed", "weight$", "scale"]))
        if option != "--min-share" or option not in chosen:
            chosen += [option, value]
    return form, chosen


def written(form, out):
    """The tensors of an output as name -> array, decoded without the program."""
    if form in ("parquet", "arrow"):
        return read_quantized_folder(out)
    if form == "compressed-tensors":
        return read_packed_folder(out)[0]
    if form == "safetensors":
        return {name: array for path in sorted(out.glob("*.safetensors")) for name, (_, array) in load(path).items()}
    found = {}
    for tensor in gguf.GGUFReader(out / "model.gguf").tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        plain = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I8": np.int8, "I32": np.int32, "I64": np.int64}
        kind = tensor.tensor_type.name
        raw = np.ascontiguousarray(tensor.data)
        array = raw.view(plain[kind]) if kind in plain else gguf.quants.dequantize(raw, tensor.tensor_type)
        array = array.astype(ml_dtypes.bfloat16) if kind == "BF16" else array
        found[tensor.name] = array.reshape(shape if math.prod(shape) else [0])
    return found


@settings(
    deadline=None, max_examples=60, derandomize=True, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)  # fmt: skip
@given(
    layers(), options(), st.integers(1, 3), st.booleans(), st.booleans(),
    st.lists(st.sampled_from(SIDE), unique=True), st.sampled_from([None, {"quant_method": "fp8"}]),
)  # fmt: skip
def test_every_tensor_is_accounted_for(model, chosen, shards, indexed, nested, side, said):
    (tensors, meant), (form, chosen) = model, chosen
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "a/in" if nested else "in"), Path(place, "out")
        names = list(tensors)
        shards = min(shards, len(names))
        index = {}
        for number in range(shards):
            file = f"model-{number + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
            save(folder / file, {name: tensors[name] for name in names[number::shards]}, {"format": "pt", "note": "x"})
            index |= dict.fromkeys(names[number::shards], file)
        if indexed and shards > 1:
            write_json(folder / "model.safetensors.index.json", {"weight_map": index})
        write_json(folder / "config.json", llama_config(**({"quantization_config": said} if said else {})))
        for name in side:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        run = ["quantize", folder, *chosen]
        planned = arrow_quant(*run, "--dry-run")
        ran = arrow_quant(*run, "--output", out)
        # A dry run refuses what the run refuses, in the same words.
        assert (planned.returncode, planned.stderr) == (ran.returncode, re.sub(r"(?m)^(quantize|read back|\d+ %).*\n", "", ran.stderr))
        if ran.returncode:
            assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1, ran.stderr
            assert not out.exists()
            return
        check(tensors, meant, form, chosen, planned.stdout, out)
        along = {name for name in side if name not in WEIGHTS and not name.startswith(".")}
        there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        assert along <= there and not there & {*WEIGHTS, ".git/HEAD"}
        assert set(json.loads((out / "arrow_quant.json").read_text())["names"]) <= there
        config = json.loads((out / "config.json").read_text())
        method = (config.pop("quantization_config", None) or {}).get("quant_method")
        assert config == llama_config()
        parts = form in ("parquet", "arrow")
        assert method == ("fp8" if said and parts else form if form == "compressed-tensors" else None)


def check(tensors, meant, form, chosen, planned, out):
    """Every tensor of the input is in the output as the report says, and the dry run said so."""
    rows = {row["name"]: row for row in pq.read_table(out / "report.parquet").to_pylist()}
    found = written(form, out)
    assert rows.keys() == tensors.keys()
    lines = {line.split()[0]: line for line in planned.splitlines() if line.strip()}
    expected = set()
    asked = chosen[chosen.index("--dtype") + 1] if "--dtype" in chosen else None
    for name, row in rows.items():
        note = row["note"] or ""
        said = re.split(r"; little is left|little is left|; -?[\d.inf]+ dB SQNR|-?[\d.inf]+ dB SQNR, where", note)[0]
        assert said in lines[name], (name, note, lines[name])
        if note.startswith(("left out: ", "scale, applied")):
            continue
        expected.add(name)
        if name not in meant:
            # A scale stays beside its tensor, which stays as it is.
            assert form in ("parquet", "arrow") or rows.get(owner(name), row)["dtype"] != "F8_E4M3"
            continue
        values = np.asarray(meant[name])
        array = np.asarray(found[name])
        assert array.size == values.size, name
        array = array.reshape(values.shape)
        if row["bits"] is not None:
            error = np.abs(array.astype(np.float64) - values.astype(np.float64)).max()
            assert error <= row["max_abs_error"] * 1.001 + 1e-12, (name, error, row)
        elif form in ("parquet", "arrow"):
            dtype, source = tensors[name]
            assert array.tobytes() == np.asarray(source).astype(DTYPES[dtype]).tobytes(), name
        else:
            stored = values
            if form == "gguf" and re.search(r"\bF16\b", note):
                stored = stored.astype(np.float32).astype(np.float16)
            elif tensors[name][0].startswith("F8"):
                # Gates are F32 in GGUF: engines multiply by them themselves.
                wide = form == "gguf" and array.dtype == np.float32
                stored = stored.astype(np.float32 if wide else ml_dtypes.bfloat16)
            if asked and stored.dtype.kind not in "biu":
                stored = stored.astype(DTYPES[asked])
            np.testing.assert_array_equal(array.astype(np.float64), stored.astype(np.float64), err_msg=f"{name}: {note}")
    assert found.keys() == expected


def owner(scale):
    """The tensor that a scale belongs to."""
    return re.sub(r"\.(weight_scale(_inv)?|scale_weight|input_scale)$", ".weight", scale)
