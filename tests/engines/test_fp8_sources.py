"""A language model in fp8, of which some layers are kept: each output loads, and computes what was meant."""

import json

import pytest
import torch
from families import FAMILIES
from safetensors.torch import load_file, save_file
from test_language_models import load, output_of

(LLAMA,) = (family for family in FAMILIES if family.name == "Llama")


def in_fp8(model, folder, suffix):
    """Saves a model in fp8, and puts what its weights now stand for into the model."""
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if "_proj" in name]:
        weights = tensors[name]
        scale = weights.abs().amax() / 448 if suffix == "weight_scale" else weights.abs().amax().reshape(1, 1) / 448
        tensors[name] = (weights / scale).to(torch.float8_e4m3fn)
        tensors[name.removesuffix("weight") + suffix] = scale
        model.get_parameter(name).data.copy_(tensors[name].float() * scale)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    if suffix == "weight_scale_inv":
        config["quantization_config"]["weight_block_size"] = [128, 128]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("suffix", ["weight_scale", "weight_scale_inv"])
@pytest.mark.parametrize("form", ["safetensors", "compressed-tensors"])
def test_kept_layers_of_an_fp8_model_load_as_what_they_stand_for(program, tmp_path, form, suffix):
    model, source, kept = LLAMA.make(False), tmp_path / "source", tmp_path / "kept"
    in_fp8(model, source, suffix)
    exact = output_of(model, LLAMA.inputs)
    options = ["--format", form, "--symmetric", "--group-size", 32]
    program("quantize", source, "--output", kept, *options, "--exclude", ".")
    torch.testing.assert_close(output_of(load(LLAMA, kept), LLAMA.inputs), exact, rtol=1e-2, atol=1e-2)

    out, floats = tmp_path / "out", tmp_path / "floats"
    program("quantize", source, "--output", out, *options, "--exclude", "down_proj|q_proj")
    program("quantize", out, "--output", floats, "--exclude", ".", "--format", "safetensors")
    got, expected = (load(LLAMA, folder) for folder in (out, floats))
    for name, module in got.named_modules():
        if name.endswith(("down_proj", "q_proj")):
            meant = model.get_submodule(name).weight
            # fp8 becomes BF16.
            assert torch.equal(module.weight.float(), meant.to(torch.bfloat16).float())
    got, expected = (output_of(one, LLAMA.inputs) for one in (got, expected))
    # The decoded weights are rounded to BF16; transformers decodes to the dtype of the model, here F32.
    assert (got - expected).norm() / expected.norm() < 5e-3
    assert 0 < (got - exact).norm() / exact.norm() < 0.5
