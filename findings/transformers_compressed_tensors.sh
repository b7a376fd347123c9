#!/usr/bin/env bash
# transformers 5.24.0 with compressed-tensors 0.20.0 (PyPI wheels): packed checkpoints that load to wrong weights, or not at all.
#
# Each model is packed by compressed-tensors' own compressor, which also reads it back, and is loaded by from_pretrained.
# - Two groups of 4 and 8 bits: with CompressedTensorsConfig(dequantize=True) all layers are decoded by the first group. The
#   others get wrong weights, without a warning. Without it all are right.
# - Zero points: without dequantize=True the empty modules expect them unpacked, and no checkpoint fits.
# - T5: without dequantize=True loading asks a packed layer for `weight`, which it does not have.
# - Experts with zero points: with dequantize=True their zero points are not handed to the decompressor.
# ArrowQuant therefore puts the widest group first, so that the first case is an error, and docs/formats.md says what loads how.
#
# Prints what became of each case. Exits with 1 if one of them ends otherwise than said here. Installs torch: several gigabytes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    torch==2.15.0 transformers==5.24.0 compressed-tensors==0.20.0 accelerate==1.15.0 safetensors==0.8.0

cat > "$work/probe.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
import transformers
from compressed_tensors.compressors import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import load_file, save_file

SIZES = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}


def group(bits, targets, symmetric=True):
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": 32}
    return {"targets": targets, "weights": weights, "format": "pack-quantized"}


LLAMA = (transformers.LlamaForCausalLM, transformers.LlamaConfig(**SIZES))
T5 = (transformers.T5EncoderModel, transformers.T5Config(vocab_size=64, d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=4))
EXPERTS = (transformers.MixtralForCausalLM, transformers.MixtralConfig(**SIZES, num_key_value_heads=4, num_local_experts=2))
ATTENTION, MLP, EXPERT, T5_LAYER = r"re:.*self_attn\.\w_proj$", r"re:.*mlp\.\w+_proj$", r"re:.*experts\.\d\.w\d$", r"re:.*\.(q|k|v|o|wi|wo)$"
CASES = {
    "two_widths": (LLAMA, [(".self_attn.", group(4, [ATTENTION])), (".mlp.", group(8, [MLP]))]),
    "zero_points": (LLAMA, [("_proj.", group(4, [ATTENTION, MLP], False))]),
    "t5": (T5, [(".layer.", group(4, [T5_LAYER]))]),
    "experts": (EXPERTS, [(".experts.", group(4, [EXPERT], False))]),
}
NEVER = ("norm", "bias", "embed", "shared", "lm_head", "gate.")


def pack(folder, model, groups):
    """Packs the layers of a saved model; returns what they decode to."""
    model.save_pretrained(folder)
    tensors, expected = load_file(folder / "model.safetensors"), {}
    for name in [name for name in tensors if not any(part in name for part in NEVER)]:
        (found,) = [group for part, group in groups if part in name] or [None]
        if found is None:
            continue
        scheme = QuantizationScheme.model_validate(found)
        weight, bits = tensors.pop(name), scheme.weights.num_bits
        parts = weight.unflatten(1, (-1, 32))
        scale = parts.abs().amax(2) / (2 ** (bits - 1) - 1)
        state = {"weight": weight, "weight_scale": scale}
        if not scheme.weights.symmetric:
            state["weight_zero_point"] = torch.ones_like(scale, dtype=torch.int8)
        packed = PackedQuantizationCompressor.compress(state, scheme)
        expected[name] = PackedQuantizationCompressor.decompress(dict(packed), scheme)["weight"]
        assert (expected[name] - weight).abs().max() <= scale.max() * 1.01
        tensors |= {name.removesuffix("weight") + kind: tensor.contiguous() for kind, tensor in packed.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    said = json.loads((folder / "config.json").read_text())
    said["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head", r"re:.*\.gate$", r"re:.*self_attn.*"] if groups[0][0] == ".experts." else ["lm_head"],
        "config_groups": {f"group_{number}": group for number, (_, group) in enumerate(groups)},
    }
    (folder / "config.json").write_text(json.dumps(said))
    return expected


def outcome(model, folder, expected, dequantize):
    how = {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)} if dequantize else {}
    try:
        loaded = type(model).from_pretrained(folder, **how)
        loaded(torch.arange(8)[None])
        # Experts are one tensor in memory.
        weights = {name: loaded.get_parameter(name) for name in expected if ".experts." not in name}
    except (AttributeError, RuntimeError) as error:
        return f"{type(error).__name__}"
    right = all(torch.allclose(weights[name], expected[name], atol=1e-6) for name in weights)
    return "right" if right else "wrong_weights"


(case, folder, dequantize) = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "dequantize"
(kind, config), groups = CASES[case]
torch.manual_seed(0)
model = kind(config)
print(outcome(model, folder, pack(folder, model, groups), dequantize))
PYTHON

changed=0
while read -r case way expected; do
    end=$("$work/venv/bin/python" "$work/probe.py" "$case" "$work/$case-$way" "$way" 2> "$work/log" || { cat "$work/log"; echo failed; })
    echo "$case, $way: $end"
    if [ "$end" != "$expected" ]; then
        echo "  changed: expected $expected"
        changed=1
    fi
done <<'CASES'
two_widths packed right
two_widths dequantize wrong_weights
zero_points packed RuntimeError
zero_points dequantize right
t5 packed AttributeError
t5 dequantize right
experts dequantize RuntimeError
CASES
exit "$changed"
