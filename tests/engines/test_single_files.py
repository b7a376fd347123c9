"""GGUF files of tiny models, one for each class of diffusers that loads a single file, run in bfloat16."""

from pathlib import Path

import gguf
import pytest
import torch
from denoisers import DENOISERS
from diffusers import GGUFQuantizationConfig

HALF = torch.bfloat16
KIND = "Q4_0"


@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda one: f"{one.model} {one.kind}".strip())
def test_a_gguf_file_runs_in_bfloat16_as_its_decoded_weights_do(program, tmp_path, denoiser):
    source, out, floats = tmp_path / "source", tmp_path / "out", tmp_path / "floats"
    denoiser.make().save_pretrained(source)
    program("quantize", source, "--output", out, "--format", "gguf", "--gguf-type", KIND)
    program("quantize", out, "--output", floats, "--exclude", ".", "--format", "safetensors")

    def output_of(path, dtype, **how):
        model = denoiser.cls.from_single_file(str(path), config=str(source), torch_dtype=dtype, **how)
        return denoiser.output_of(model.eval(), dtype)

    exact = output_of(source / "diffusion_pytorch_model.safetensors", torch.float32)
    expected = output_of(floats / "model.safetensors", torch.float32)
    got = output_of(out / "model.gguf", HALF, quantization_config=GGUFQuantizationConfig(compute_dtype=HALF))
    away, near = ((one - expected).norm() / exact.norm() for one in (exact, got))
    quantized = sum(tensor.tensor_type.name == KIND for tensor in gguf.GGUFReader(out / "model.gguf").tensors)
    print(f"{denoiser.model}: {quantized} tensors, {away:.4f} from full precision, {near:.4f} from decoded")
    assert quantized > 0 and away > 0
    assert near < 0.02


def test_the_classes_in_the_documentation_are_those_that_are_tested():
    text = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text()
    classes = ", ".join(dict.fromkeys(f"`{denoiser.model}`" for denoiser in DENOISERS))
    assert f"{classes}." in " ".join(text.split())
