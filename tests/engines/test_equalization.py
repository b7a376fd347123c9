"""Where factors are folded, by the models of diffusers and transformers themselves."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from activation_table import write_activations
from diffusers import DiTTransformer2DModel, FluxTransformer2DModel, SD3Transformer2DModel
from quantized_folder import changed
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers import Qwen3Config, Qwen3ForCausalLM

TOKENS = {"input_ids": torch.arange(24).reshape(2, 12) % 60}


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def language(config, kind, heads):
    def make():
        sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        return kind(config(**sizes, num_attention_heads=4, num_key_value_heads=heads, head_dim=16)), TOKENS

    return make


def sd3():
    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=64,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=8,
    )
    inputs = {"encoder_hidden_states": noise(2, 6, 32), "pooled_projections": noise(2, 32)}
    return model, {"hidden_states": noise(2, 4, 8, 8), "timestep": torch.tensor([500, 20]), **inputs}


def flux():
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    inputs = {"encoder_hidden_states": noise(2, 6, 32), "pooled_projections": noise(2, 32)}
    places = {"img_ids": torch.arange(48).reshape(16, 3) % 5, "txt_ids": torch.zeros(6, 3)}
    return model, {"hidden_states": noise(2, 16, 16), "timestep": torch.tensor([0.5, 0.02]), **inputs, **places}


def dit():
    model = DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8
    )
    labels = {"timestep": torch.tensor([500, 20]), "class_labels": torch.tensor([1, 7])}
    return model, {"hidden_states": noise(2, 4, 8, 8), **labels}


# How many layers are folded, and how many left for run time.
MODELS = {
    "llama": (language(LlamaConfig, LlamaForCausalLM, 4), 14, 0),
    "mistral": (language(MistralConfig, MistralForCausalLM, 4), 14, 0),
    "qwen2": (language(Qwen2Config, Qwen2ForCausalLM, 2), 12, 2),
    "qwen3": (language(Qwen3Config, Qwen3ForCausalLM, 4), 14, 0),
    "sd3": (sd3, 24, 15),
    "flux": (flux, 28, 12),
    "dit": (dit, 10, 6),
}


@torch.no_grad()
def run(model, inputs):
    """What a model gives, and what its layers are fed."""
    seen, hooks = {}, []

    def watch(name):
        def hook(layer, args):
            seen[f"{name}.weight"] = args[0].flatten(0, -2).numpy()

        return hook

    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            hooks.append(layer.register_forward_pre_hook(watch(name)))
    output = model(**inputs)[0]
    for hook in hooks:
        hook.remove()
    return output, seen


@pytest.mark.parametrize("name", MODELS)
def test_a_folded_model_computes_what_it_did(program, tmp_path, name):
    make, folds, left = MODELS[name]
    torch.manual_seed(5)
    model, inputs = make()
    model.eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            # Modulations and biases begin at zero, norms at one.
            if tensor.ndim == 1 or "norm" in key:
                tensor.copy_(tensor + 0.3 * torch.randn(tensor.shape))
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    model.save_config(folder) if hasattr(model, "save_config") else model.config.save_pretrained(folder)
    exact, seen = run(model, inputs)
    activations = write_activations(tmp_path / "acts.parquet", seen)
    out = tmp_path / "out"
    options = ["--activations", activations, "--equalize", 0.5, "--bits", 8]
    program("quantize", folder, "--output", out, *options)
    rows = {row["name"]: row for row in pq.read_table(out / "equalization.parquet").to_pylist()}
    folded = {key for key, row in rows.items() if row["folded_into"]}
    scaled = {key for key, row in rows.items() if row["input_scale"]}
    assert (len(folded), len(scaled)) == (folds, left)
    arrays = changed({key: tensor.numpy() for key, tensor in weights.items()}, out)
    # What is left for run time, as it is done there: the weights take it back.
    for key in scaled:
        arrays[key] = arrays[key] * np.float32(rows[key]["input_scale"])
    model.load_state_dict({key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()})
    got, fed = run(model, inputs)
    assert (got - exact).abs().max() < 1e-4 * exact.abs().max()
    for key in folded:
        # The input that it was calibrated for, divided.
        factors, widest = np.float32(rows[key]["factors"]), np.abs(seen[key]).max()
        assert np.allclose(fed[key], seen[key] / factors, rtol=1e-3, atol=1e-4 * widest / factors.min()), key
