"""Pipelines of diffusers, quantized whole or in parts, loaded and run."""

import shutil

import diffusers
import pytest
import torch
import transformers
from denoisers import DENOISERS
from families import FAMILIES

(FLUX,) = (one for one in DENOISERS if one.model == "FluxTransformer2DModel")
(CLIP,) = (one for one in FAMILIES if one.name == "CLIP text")
(T5,) = (one for one in FAMILIES if one.name == "T5 encoder")
ABSENT = {"tokenizer": None, "tokenizer_2": None}


@pytest.fixture
def source(tmp_path):
    pipeline = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKL(latent_channels=4, block_out_channels=(32,), norm_num_groups=8),
        text_encoder=CLIP.make(False),
        text_encoder_2=T5.make(True),
        transformer=FLUX.make().to(torch.float32),
        **ABSENT,
    )
    pipeline.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def run(folder, **parts):
    """Two steps, the text as tokens: no tokenizer is at hand."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, **ABSENT, **parts)
    options = {"height": 8, "width": 8, "num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "latent"}
    with torch.no_grad():
        pooled = pipeline.text_encoder(**CLIP.inputs).pooler_output[:1, :32]
        embeddings = pipeline.text_encoder_2(**T5.inputs).last_hidden_state[:1, :, :32]
        generator = torch.Generator().manual_seed(3)
        return pipeline(
            prompt_embeds=embeddings, pooled_prompt_embeds=pooled, generator=generator, **options
        ).images


def away(got, exact):
    return ((got - exact).norm() / exact.norm()).item()


def test_a_pipeline_becomes_one_that_loads_and_runs(program, source, tmp_path):
    exact = run(source)
    for bits, most in ((4, 1), (8, 0.1)):
        program("quantize", source, "--output", tmp_path / str(bits), "--format", "safetensors", "--bits", bits)
        assert 0 < away(run(tmp_path / str(bits)), exact) < most


def test_a_packed_t5_is_decompressed_at_once(program, source, tmp_path):
    """So says docs/cli.md; the pipeline's own way to load it fails in transformers."""
    packed, decoded = tmp_path / "packed", tmp_path / "decoded"
    program("quantize", source, "--output", packed, "--format", "compressed-tensors", "--symmetric")
    shutil.copytree(packed, decoded, ignore=lambda folder, names: {name for name in names if "text_encoder" in name})
    for part in ("text_encoder", "text_encoder_2"):
        program("quantize", packed / part, "--output", decoded / part, "--exclude", ".", "--format", "safetensors")
    with pytest.raises(AttributeError, match="weight"):
        run(packed)
    how = {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)}
    encoder = transformers.T5EncoderModel.from_pretrained(packed, subfolder="text_encoder_2", **how)
    got = run(packed, text_encoder_2=encoder)
    torch.testing.assert_close(got, run(decoded), rtol=1e-5, atol=1e-5)
    assert 0 < away(got, run(source)) < 1


def test_a_gguf_transformer_takes_its_place(program, source, tmp_path):
    run_one = ["quantize", source, "--component", "transformer", "--output", tmp_path / "gguf"]
    program(*run_one, "--format", "gguf", "--gguf-type", "Q8_0")
    how = {"quantization_config": diffusers.GGUFQuantizationConfig(compute_dtype=torch.float32)}
    transformer = diffusers.FluxTransformer2DModel.from_single_file(
        str(tmp_path / "gguf" / "model.gguf"), config=str(source / "transformer"), torch_dtype=torch.float32, **how
    )
    assert 0 < away(run(source, transformer=transformer), run(source)) < 0.05
