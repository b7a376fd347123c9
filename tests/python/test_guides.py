"""The guides' commands run, from first to last, on tiny models of the kinds that they are about."""

import os
import re
import subprocess

import masked_language_models
import numpy as np
import pytest
from activation_table import write_activations
from checkpoints import llama, llama_config, normal, save, write_json

PROGRAM = "arrow-quant"


def flux(folder):
    """A single file with the names of Flux, in BF16."""
    blocks = {
        "double_blocks.0.img_attn.qkv": (768, 256),
        "double_blocks.0.img_attn.proj": (256, 256),
        "double_blocks.0.img_mlp.0": (1024, 256),
        "double_blocks.0.img_mlp.2": (256, 1024),
        "double_blocks.0.txt_attn.qkv": (768, 256),
        "single_blocks.0.linear1": (1792, 256),
        "single_blocks.0.linear2": (256, 1280),
        "img_in": (256, 64),
        "final_layer.linear": (64, 256),
    }
    tensors = {f"{name}.weight": ("BF16", normal(*shape, seed=i)) for i, (name, shape) in enumerate(blocks.items())}
    tensors |= {f"{name}.bias": ("BF16", normal(shape[0], seed=9)) for name, shape in blocks.items()}
    save(folder / "flux1-dev.safetensors", tensors)


def sd3(folder):
    """The folder of a transformer as diffusers writes it."""
    names = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "ff.net.0.proj", "ff.net.2"]
    tensors = {f"transformer_blocks.0.{name}.weight": ("BF16", normal(256, 256, seed=i)) for i, name in enumerate(names)}
    tensors["pos_embed.proj.weight"] = ("BF16", normal(256, 16, 2, 2))
    for place in (folder / "transformer", folder / "pipeline/transformer"):
        save(place / "diffusion_pytorch_model.safetensors", tensors)
        write_json(place / "config.json", {"_class_name": "SD3Transformer2DModel"})
    save(folder / "pipeline/text_encoder/model.safetensors", {"layer.0.fc.weight": ("BF16", normal(256, 256))})
    write_json(folder / "pipeline/text_encoder/config.json", {"architectures": ["CLIPTextModelWithProjection"]})
    index = {
        "_class_name": "StableDiffusion3Pipeline",
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    }
    write_json(folder / "pipeline/model_index.json", index)


def dream(folder):
    masked_language_models.dream(folder / "Dream-7B")


def qwen(folder):
    config = llama_config(architectures=["Qwen2ForCausalLM"], model_type="qwen2")
    save(folder / "Qwen/model.safetensors", llama())
    write_json(folder / "Qwen/config.json", config)


def encoder(folder):
    layer = "encoder.layer.0."
    names = ["attention.self.query", "attention.self.key", "attention.output.dense", "intermediate.dense"]
    tensors = {f"{layer}{name}.weight": ("F32", normal(128, 128, seed=i)) for i, name in enumerate(names)}
    tensors["embeddings.word_embeddings.weight"] = ("F32", normal(96, 128))
    save(folder / "encoder/model.safetensors", tensors)
    write_json(folder / "encoder/config.json", {"architectures": ["BertModel"], "model_type": "bert"})


def blocks(folder):
    shapes = {"attn.q": (128, 128), "attn.k": (128, 128), "mlp.fc1": (256, 128), "mlp.fc2": (128, 256)}
    tensors = {
        f"blocks.{block}.{name}.weight": ("F32", normal(*shape, seed=10 * block + i))
        for block in range(2)
        for i, (name, shape) in enumerate(shapes.items())
    }
    save(folder / "MODEL/model.safetensors", tensors)
    inputs = {name: np.random.default_rng(1).normal(0, 1, (64, 128)).astype(np.float32) for name in tensors if "fc2" not in name}
    write_activations(folder / "activations.parquet", inputs)


# What each guide starts from.
STARTS = {
    "bits": blocks,
    "calibrate": blocks,
    "comfyui": flux,
    "diffusers": sd3,
    "embeddings": encoder,
    "llama_cpp": dream,
    "mlx": qwen,
    "vllm": qwen,
}


def test_every_guide_is_tried(root):
    assert {path.stem for path in (root / "docs/guides").glob("*.md")} == set(STARTS)


@pytest.mark.parametrize("guide", STARTS)
def test_the_commands_of_a_guide_run(root, tmp_path, guide):
    STARTS[guide](tmp_path)
    places = tmp_path / "bin"
    places.mkdir()
    (places / PROGRAM).symlink_to(os.environ.get("ARROW_QUANT", root / "target/release/arrow-quant"))
    environment = os.environ | {"PATH": f"{places}:{os.environ['PATH']}"}
    commands = re.findall(r"```sh\n(.*?)```", (root / f"docs/guides/{guide}.md").read_text(), re.DOTALL)
    assert commands
    for command in commands:
        done = subprocess.run(
            ["bash", "-e", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    # Each output that a guide names is there, and its run quantized something.
    outputs = set(re.findall(r"--output (\S+)", "".join(commands)))
    assert outputs
    for output in outputs:
        assert any((tmp_path / output).rglob("report.parquet"))
