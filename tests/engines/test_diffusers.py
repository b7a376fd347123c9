"""GGUF files, loaded and run by diffusers."""

import gguf
import pytest
import torch
from diffusers import GGUFQuantizationConfig, SD3Transformer2DModel
from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor
from safetensors.torch import save_file

LAYERS = 2


def small():
    torch.manual_seed(4)
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=LAYERS,
        attention_head_dim=32,
        num_attention_heads=8,
        joint_attention_dim=64,
        caption_projection_dim=256,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=16,
    ).eval()


def halves(tensor):
    """Scale and shift are the other way round in the original's last layers."""
    return torch.cat(tensor.chunk(2)[::-1])


def original(state):
    """The tensors by the names of single files."""
    renamed = {"pos_embed": state["pos_embed.pos_embed"]}

    def take(to, *sources, turned=False):
        for kind in ("weight", "bias"):
            tensor = torch.cat([state[f"{source}.{kind}"] for source in sources])
            renamed[f"{to}.{kind}"] = halves(tensor) if turned else tensor

    take("x_embedder.proj", "pos_embed.proj")
    take("context_embedder", "context_embedder")
    take("final_layer.linear", "proj_out")
    take("final_layer.adaLN_modulation.1", "norm_out.linear", turned=True)
    for number, linear in [("0", "linear_1"), ("2", "linear_2")]:
        take(f"t_embedder.mlp.{number}", f"time_text_embed.timestep_embedder.{linear}")
        take(f"y_embedder.mlp.{number}", f"time_text_embed.text_embedder.{linear}")
    for i in range(LAYERS):
        block, last = f"transformer_blocks.{i}", i == LAYERS - 1
        image, text = f"joint_blocks.{i}.x_block", f"joint_blocks.{i}.context_block"
        take(f"{image}.attn.qkv", *(f"{block}.attn.to_{kind}" for kind in "qkv"))
        take(f"{text}.attn.qkv", *(f"{block}.attn.add_{kind}_proj" for kind in "qkv"))
        take(f"{image}.attn.proj", f"{block}.attn.to_out.0")
        take(f"{image}.adaLN_modulation.1", f"{block}.norm1.linear")
        take(f"{text}.adaLN_modulation.1", f"{block}.norm1_context.linear", turned=last)
        sides = [(image, "ff"), *([] if last else [(text, "ff_context")])]
        for side, ff in sides:
            take(f"{side}.mlp.fc1", f"{block}.{ff}.net.0.proj")
            take(f"{side}.mlp.fc2", f"{block}.{ff}.net.2")
        if not last:
            take(f"{text}.attn.proj", f"{block}.attn.to_add_out")
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def noise_of(model):
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "hidden_states": torch.randn(2, 4, 16, 16, generator=generator),
        "encoder_hidden_states": torch.randn(2, 7, 64, generator=generator),
        "pooled_projections": torch.randn(2, 64, generator=generator),
        "timestep": torch.tensor([900.0, 100.0]),
    }
    with torch.no_grad():
        return model(**inputs).sample


@pytest.mark.parametrize(
    ("kind", "names"),
    [("Q8_0", "single file"), ("Q4_K", "single file"), ("Q5_1", "diffusers"), ("Q2_K", "diffusers")],
)
def test_a_small_sd3_transformer_loads_and_computes_what_its_decoded_weights_do(program, tmp_path, kind, names):
    model, folder = small(), tmp_path / "model"
    model.save_pretrained(folder)
    if names == "single file":
        save_file(original(model.state_dict()), folder / "diffusion_pytorch_model.safetensors")
    out, floats = tmp_path / "out", tmp_path / "floats"
    program("quantize", folder, "--output", out, "--format", "gguf", "--gguf-type", kind)
    program("quantize", out, "--output", floats, "--exclude", ".", "--format", "safetensors")
    reader = gguf.GGUFReader(out / "model.gguf")
    assert reader.get_field("general.architecture").contents() == "sd3"
    quantized = [tensor for tensor in reader.tensors if tensor.tensor_type.name == kind]
    assert len(quantized) >= 17

    config = GGUFQuantizationConfig(compute_dtype=torch.float32)
    how = {"config": str(folder), "torch_dtype": torch.float32}
    loaded = SD3Transformer2DModel.from_single_file(str(out / "model.gguf"), quantization_config=config, **how)
    linear = loaded.transformer_blocks[0].attn.to_q.weight
    assert linear.quant_type == gguf.GGMLQuantizationType[kind]
    decoded = SD3Transformer2DModel.from_single_file(str(floats / "model.safetensors"), **how)
    exact, got, ours = noise_of(model), noise_of(loaded), noise_of(decoded)
    weights = decoded.state_dict()
    for name, parameter in loaded.named_parameters():
        if isinstance(parameter, GGUFParameter):
            # It decodes in half precision.
            theirs = dequantize_gguf_tensor(parameter).float()
            torch.testing.assert_close(theirs, weights[name], rtol=0, atol=4e-3 * weights[name].abs().max().item())
            weights[name].copy_(theirs)
        else:
            assert torch.equal(parameter, weights[name]), name
    error, halves_error = ((got - other).norm() / exact.norm() for other in (exact, ours))
    print(f"{kind}, {names}: {error:.4f} from full precision, {halves_error:.1e} from weights decoded in full")
    assert 0 < halves_error < error / 10
    torch.testing.assert_close(got, noise_of(decoded), rtol=1e-5, atol=1e-6)
