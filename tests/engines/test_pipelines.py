"""A pipeline of diffusers whose parts were quantized where they lie, loaded and run."""

import shutil

import diffusers
import torch
from denoisers import DENOISERS
from families import FAMILIES

(FLUX,) = (one for one in DENOISERS if one.model == "FluxTransformer2DModel")
(CLIP,) = (one for one in FAMILIES if one.name == "CLIP text")

ABSENT = dict.fromkeys(("tokenizer", "text_encoder_2", "tokenizer_2"))


def run(pipeline):
    """One step from given embeddings: no tokenizer is at hand."""
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(1, 6, 32, generator=generator)
    pooled = pipeline.text_encoder(**CLIP.inputs).pooler_output[:1, :32]
    options = {"height": 8, "width": 8, "num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "latent"}
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        images = pipeline(
            prompt_embeds=embeddings, pooled_prompt_embeds=pooled.detach(), generator=generator, **options
        ).images
    return images


def test_parts_of_a_pipeline_are_quantized_in_its_folder(program, tmp_path):
    source, packed, decoded = tmp_path / "source", tmp_path / "packed", tmp_path / "decoded"
    pipeline = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKL(latent_channels=4, block_out_channels=(32,), norm_num_groups=8),
        text_encoder=CLIP.make(False),
        transformer=FLUX.make().to(torch.float32),
        **ABSENT,
    )
    pipeline.save_pretrained(source)
    for folder in (packed, decoded):
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("text_encoder", "transformer"))
    program("quantize", source / "transformer", "--output", packed / "transformer", "--format", "safetensors")
    program("quantize", source / "text_encoder", "--output", packed / "text_encoder", "--format", "compressed-tensors", "--symmetric")
    for part in ("text_encoder", "transformer"):
        program("quantize", packed / part, "--output", decoded / part, "--exclude", ".", "--format", "safetensors")
    whole = tmp_path / "whole"
    program("quantize", source, "--output", whole, "--format", "safetensors")
    exact, got, expected = (
        run(diffusers.DiffusionPipeline.from_pretrained(folder, **ABSENT)) for folder in (source, packed, decoded)
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert 0 < (got - exact).norm() / exact.norm() < 1

    # The whole folder becomes a pipeline.
    got = run(diffusers.DiffusionPipeline.from_pretrained(whole, **ABSENT))
    assert 0 < (got - exact).norm() / exact.norm() < 1

    # The same transformer as GGUF.
    program("quantize", source / "transformer", "--output", tmp_path / "gguf", "--format", "gguf", "--gguf-type", "Q8_0")
    how = {"quantization_config": diffusers.GGUFQuantizationConfig(compute_dtype=torch.float32)}
    transformer = diffusers.FluxTransformer2DModel.from_single_file(
        str(tmp_path / "gguf" / "model.gguf"), config=str(source / "transformer"), torch_dtype=torch.float32, **how
    )
    got = run(diffusers.DiffusionPipeline.from_pretrained(source, transformer=transformer, **ABSENT))
    assert 0 < (got - exact).norm() / exact.norm() < 0.05
