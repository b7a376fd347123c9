"""A diffusers pipeline becomes a pipeline: denoisers and text encoders quantized, the rest copied, all of it or nothing."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from checkpoints import load, normal, save, write_json

INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.35.0",
    "feature_extractor": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

QUANTIZED = {
    "text_encoder/model.safetensors": "text_model.encoder.layers.0.mlp.fc1.weight",
    "text_encoder_2/model.safetensors": "encoder.block.0.layer.0.SelfAttention.q.weight",
    "transformer/diffusion_pytorch_model.safetensors": "transformer_blocks.0.attn.to_q.weight",
}
COPIED = [
    "LICENSE.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


@pytest.fixture
def pipeline(tmp_path):
    folder = tmp_path / "flux"
    for seed, (file, name) in enumerate(QUANTIZED.items()):
        save(folder / file, {name: ("F32", normal(96, 128, seed=seed)), "norm.weight": ("F32", np.ones(128))})
        write_json(folder / file.split("/")[0] / "config.json", {"part": file})
    save(folder / "vae/diffusion_pytorch_model.safetensors", {"decoder.mid.to_q.weight": ("F32", normal(64, 64))})
    save(folder / "flux1-dev.safetensors", {"double_blocks.0.img_attn.proj.weight": ("F32", normal(64, 64))})
    for name in [*COPIED, "text_encoder/model.fp16.safetensors", ".gitattributes"]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(name)
    write_json(folder / "model_index.json", INDEX)
    return folder


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def expected(quantized):
    parts = {part for name in quantized for part in [os.path.dirname(name)]}
    own = {f"{part}/{name}" for part in parts for name in ("arrow_quant.json", "report.parquet", "config.json")}
    return own | set(QUANTIZED) | set(COPIED) | {"arrow_quant.json"}


def test_a_pipeline_becomes_a_pipeline(program, pipeline, tmp_path):
    out = tmp_path / "out"
    said = program("quantize", pipeline, "--output", out, "--format", "safetensors")
    assert "quantized: text_encoder, text_encoder_2, transformer\n" in said
    assert "copied as they are: scheduler, tokenizer, vae" in said and "not copied: flux1-dev.safetensors" in said
    assert "3 of 6 tensors quantized" in said
    assert files(out) == expected(QUANTIZED)
    for name in COPIED:
        assert (out / name).read_bytes() == (pipeline / name).read_bytes(), name
    for file, name in QUANTIZED.items():
        before, after = load(pipeline / file), load(out / file)
        assert before.keys() == after.keys()
        error = np.abs(before[name][1] - after[name][1])
        assert 0 < error.max() < 0.02 and (before["norm.weight"][1] == after["norm.weight"][1]).all()
    # Each part is one that is read again, and the whole is one too.
    for path in ("out", "out/transformer"):
        assert "transformer_blocks.0.attn.to_q.weight" in program("inspect", tmp_path / path)
    program("quantize", out, "--output", tmp_path / "again", "--format", "safetensors", "--bits", "8")
    assert files(tmp_path / "again") == expected(QUANTIZED)


def test_a_part_is_chosen(program, fails, pipeline, tmp_path):
    run = ["quantize", pipeline, "--output", tmp_path / "out", "--format", "safetensors", "--overwrite"]
    program(*run, "--component", "vae")
    assert list(load(tmp_path / "out/diffusion_pytorch_model.safetensors")) == ["decoder.mid.to_q.weight"]
    for name in ("vea", "scheduler", "..", "", "vae/../vae"):
        message = fails(*run, "--component", name)
        assert f"has no part '{name}' that holds a model; there are text_encoder, text_encoder_2, transformer, vae" in message
    assert "to_q" in program("quantize", pipeline, "--component", "transformer", "--dry-run")


def test_formats_that_no_pipeline_loads_take_the_denoiser(program, pipeline, tmp_path):
    for form, file in [("gguf", "model.gguf"), ("parquet", "weights/part-00000.parquet")]:
        program("quantize", pipeline, "--output", tmp_path / form, "--format", form)
        assert {"config.json", file} <= files(tmp_path / form)


def test_diffusers_loads_no_compressed_tensors_so_text_encoders_alone_are_packed(program, pipeline, tmp_path):
    said = program("quantize", pipeline, "--output", tmp_path / "out", "--format", "compressed-tensors", "--symmetric")
    assert "quantized: text_encoder, text_encoder_2\n" in said and "copied as they are: scheduler, tokenizer, transformer, vae" in said
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (pipeline / name).read_bytes()
    config = json.loads((tmp_path / "out/text_encoder/config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"


def test_patterns_are_of_the_whole_pipeline(program, fails, pipeline, tmp_path):
    run = ["quantize", pipeline, "--output", tmp_path / "out", "--format", "safetensors", "--overwrite"]
    said = program(*run, "--exclude", "to_q", "--bits-for", "fc1=8")
    assert "2 of 6 tensors quantized" in said
    said = program(*run, "--include", "to_q")
    assert "quantized: transformer\n" in said
    for name in ("text_encoder", "text_encoder_2"):
        assert (tmp_path / "out" / name / "model.safetensors").read_bytes() == (pipeline / name / "model.safetensors").read_bytes()
    assert "--exclude 'nothing' matches no tensor of " in fails(*run, "--exclude", "nothing")


def test_a_dry_run_names_every_part(program, pipeline):
    said = program("quantize", pipeline, "--format", "safetensors", "--dry-run")
    for file, name in QUANTIZED.items():
        assert f"{file.split('/')[0]}:\n" in said and name in said
    assert "copied as they are: scheduler, tokenizer, vae" in said


def test_a_pipeline_is_replaced_whole_and_nothing_of_others_is_removed(program, fails, pipeline, tmp_path):
    run = ["quantize", pipeline, "--output", tmp_path / "out", "--format", "safetensors"]
    program(*run)
    assert "exists already" in fails(*run)
    program(*run, "--overwrite", "--bits", "8")
    (tmp_path / "out/vae/mine.txt").write_text("")
    assert "1 entry that no run wrote: 'vae/mine.txt'" in fails(*run, "--overwrite")
    program(*run, "--overwrite", "--force")
    assert files(tmp_path / "out") == expected(QUANTIZED)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("then", ["--resume", "--overwrite"])
def test_a_run_that_fails_between_parts_is_resumed_or_begun_again(program, fails, pipeline, tmp_path, then):
    weights = pipeline / "transformer/diffusion_pytorch_model.safetensors"
    whole = load(weights)
    broken = {name: (dtype, array * (np.nan if "to_q" in name else 1)) for name, (dtype, array) in whole.items()}
    save(weights, broken)
    run = ["quantize", pipeline, "--output", tmp_path / "out", "--format", "safetensors"]
    assert "only finite weights" in fails(*run)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial").exists()
    assert "was left by a run that did not finish" in fails(*run)
    if then == "--resume":
        assert "has changed since" not in fails(*run, then)
        save(weights, whole)
        assert "has changed since the run began" in fails(*run, then)
        then = "--overwrite"
    save(weights, whole)
    program(*run, then)
    assert files(tmp_path / "out") == expected(QUANTIZED)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("wait", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_a_run_that_is_killed_leaves_nothing_that_looks_whole_and_is_resumed(program, pipeline, tmp_path, wait):
    for file, name in QUANTIZED.items():
        save(pipeline / file, {name: ("F32", normal(1536, 1024))})
    out = tmp_path / "out"
    program("quantize", pipeline, "--output", tmp_path / "whole", "--format", "safetensors")
    path = os.environ.get("ARROW_QUANT", "target/release/arrow-quant")
    run = [path, "quantize", str(pipeline), "--output", str(out), "--format", "safetensors"]
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "out.partial/output/text_encoder").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not out.exists():
        if wait == 0.05:
            program(*run[1:], "--overwrite")
        else:
            program(*run[1:], "--resume")
    assert files(out) == expected(QUANTIZED) == files(tmp_path / "whole")
    for name in QUANTIZED:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
