#!/usr/bin/env bash
# mlx-lm 0.32.2 with mlx 0.32.4 (PyPI wheels): a head in the file that is left out without a word.
#
# A Llama checkpoint has `lm_head.weight`, and its config.json says nothing of `tie_word_embeddings`. transformers takes the model for
# untied, which is the default of LlamaConfig. mlx-lm takes it for tied: it drops the head and multiplies by the embedding, so that
# all logits are others. Where config.json says "tie_word_embeddings": false, as transformers writes it, they are right.
# ArrowQuant copies what config.json says. With --format mlx a quantized head then makes mlx-lm refuse the folder, since only the
# head's weight is dropped and its scales are not.
#
# Prints what became of each case. Exits with 1 if one of them ends otherwise than said here.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check "mlx[cpu]==0.32.4" mlx-lm==0.32.2

cat > "$work/probe.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import load_model

SIZES = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
LAYER = "model.layers.0."
SHAPES = {f"{LAYER}self_attn.{name}_proj.weight": (64, 64) for name in "qkvo"}
SHAPES |= {f"{LAYER}mlp.{name}_proj.weight": (64, 64) for name in ("gate", "up", "down")}
SHAPES |= {"model.embed_tokens.weight": (64, 64), "lm_head.weight": (64, 64)}
SHAPES |= {f"{name}.weight": (64,) for name in ("model.norm", f"{LAYER}input_layernorm", f"{LAYER}post_attention_layernorm")}

(case, folder) = sys.argv[1], Path(sys.argv[2])
folder.mkdir()
mx.random.seed(0)
tensors = {name: mx.random.normal(shape) for name, shape in SHAPES.items()}
if case == "quantized":
    codes, scales, biases = mx.quantize(tensors["lm_head.weight"], group_size=64, bits=8)
    tensors |= {"lm_head.weight": codes, "lm_head.scales": scales, "lm_head.biases": biases}
mx.save_safetensors(str(folder / "model.safetensors"), tensors)
config = SIZES | {"model_type": "llama", "rms_norm_eps": 1e-6}
if case == "said":
    config["tie_word_embeddings"] = False
if case == "quantized":
    config["quantization"] = {"group_size": 64, "bits": 8}
(folder / "config.json").write_text(json.dumps(config))
try:
    model, _ = load_model(folder)
except ValueError:
    print("refused")
    sys.exit()
hidden = model.model(mx.array([[1, 2, 3]]))
logits = model(mx.array([[1, 2, 3]]))
right = mx.allclose(logits, hidden @ tensors["lm_head.weight"].T, rtol=1e-3, atol=1e-3).item()
print("right" if right else "wrong_logits")
PYTHON

changed=0
while read -r case expected; do
    end=$("$work/venv/bin/python" "$work/probe.py" "$case" "$work/$case" 2> "$work/log" || { cat "$work/log"; echo failed; })
    echo "$case: $end"
    if [ "$end" != "$expected" ]; then
        echo "  changed: expected $expected"
        changed=1
    fi
done <<'CASES'
said right
unsaid wrong_logits
quantized refused
CASES
exit "$changed"
