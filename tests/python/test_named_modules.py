"""What is quantized by default, and how compressed-tensors names it: as loaders compare names with those of modules."""

import json

import numpy as np
import pytest
from checkpoints import llama, llama_config, load, normal, quantized_layers, save, write_json
from packed_folder import named, read_packed_folder


def packed(program, folder, *options):
    program("quantize", folder, "--output", folder / "out", "--format", "compressed-tensors", "--symmetric", *options)
    config = json.loads((folder / "out" / "config.json").read_text())["quantization_config"]
    return config, load(folder / "out" / "model.safetensors")


def targets(config):
    return [target for group in config["config_groups"].values() for target in group["targets"]]


@pytest.mark.parametrize("head", ["tied", "both", "missing", "untied"])
def test_a_head_is_ignored_whether_the_file_has_it_or_not(program, tmp_path, head):
    tensors = llama(head=head == "untied")
    if head == "both":
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save(tmp_path / "model.safetensors", tensors)
    write_json(tmp_path / "config.json", llama_config(tie_word_embeddings=head in ("tied", "both")))
    config, found = packed(program, tmp_path)
    assert "lm_head" in config["ignore"] and not named("lm_head", targets(config))
    # As other programs call the same modules: with a prefix, or with one more around the language model.
    for module in ("lm_head", "model.lm_head", "language_model.lm_head", "embed_out", "cls.predictions.decoder", "score"):
        assert named(module, config["ignore"]) and not named(module, targets(config)), module
    for module in (name.removesuffix(".weight") for name in quantized_layers(llama())):
        for prefix in ("", "language_model.", "model.language_model."):
            assert named(prefix + module, targets(config)) and not named(prefix + module, config["ignore"])
        assert f"{module}.weight_packed" in found


def test_a_head_that_is_to_be_quantized_is_not_ignored(program, tmp_path):
    save(tmp_path / "model.safetensors", llama())
    write_json(tmp_path / "config.json", llama_config())
    config, found = packed(program, tmp_path, "--include", "lm_head")
    assert named("lm_head", targets(config)) and not named("lm_head", config["ignore"])
    assert [name for name in found if name.endswith("_packed")] == ["lm_head.weight_packed"]
    assert named("model.layers.0.mlp.down_proj", config["ignore"])


def test_two_towers_with_layers_of_one_name_are_told_apart(program, tmp_path):
    tensors = {f"{tower}.layers.{layer}.fc1.weight": ("F32", normal(32, 64)) for tower in ("vision", "text") for layer in (0, 1)}
    save(tmp_path / "model.safetensors", tensors)
    write_json(tmp_path / "config.json", {})
    config, _ = packed(program, tmp_path, "--exclude", "vision", "--bits-for", r"text\.layers\.1=8")
    assert targets(config) == ["text.layers.1.fc1", "text.layers.0.fc1"], "the widest group first"
    assert [name for name in config["ignore"] if "layers" in name] == ["vision.layers.0.fc1", "vision.layers.1.fc1"]
    _, modules = read_packed_folder(tmp_path / "out")
    assert sorted(modules) == ["text.layers.0.fc1", "text.layers.1.fc1"]


def gpt2():
    shapes = {"attn.c_attn": (64, 192), "attn.c_proj": (64, 64), "mlp.c_fc": (64, 256), "mlp.c_proj": (256, 64)}
    return {f"transformer.h.0.{name}.weight": ("F32", normal(*shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("model_type", ["gpt2", "imagegpt", "gpt_bigcode"])
def test_layers_that_are_stored_the_other_way_round_are_not_packed(program, tmp_path, model_type):
    save(tmp_path / "model.safetensors", gpt2() | {"transformer.h.0.attn.bias": ("F32", np.ones((1, 1, 8, 8)))})
    write_json(tmp_path / "config.json", {"model_type": model_type})
    config, found = packed(program, tmp_path)
    if model_type == "gpt_bigcode":
        assert len([name for name in found if name.endswith("_packed")]) == 4
        return
    assert sorted(found) == sorted([*gpt2(), "transformer.h.0.attn.bias"]) and config["config_groups"] == {}
    assert "stored as [inputs, outputs]" in program("quantize", tmp_path, "--format", "compressed-tensors", "--dry-run")


LEFT = [
    "model.decoder.embed_positions.weight",
    "gpt_neox.embed_in.weight",
    "deberta.encoder.rel_embeddings.weight",
    "embeddings.register_tokens",
    "model.layers.0.mlp.experts.gate_up_proj_bias",
    "model.layers.0.mlp.shared_expert_gate.weight",
    "model.layers.0.ffn.gate.weight",
    "model.layers.0.mlp.gate.wg.weight",
    "layers.0.feed_forward.router.weight",
    "visual.positional_embedding",
    "query_tokens",
    "backbone.layers.0.mixer.A_log",
    "swin.layers.0.attention.relative_position_bias_table",
]
TAKEN = ["layers.0.mlp.gate_proj.weight", "blocks.0.ffn.gate.0.weight", "layers.0.mlp.experts.gate_up_proj", "h.0.proj_out.weight"]


@pytest.mark.parametrize("form", ["parquet", "safetensors", "gguf"])
def test_only_what_a_linear_layer_takes_is_quantized_by_default(program, tmp_path, form):
    save(tmp_path / "model.safetensors", {name: ("F32", normal(64, 64)) for name in LEFT + TAKEN})
    lines = [line for line in program("quantize", tmp_path, "--format", form, "--dry-run").splitlines() if line.startswith((*LEFT, *TAKEN))]
    assert len(lines) == len(LEFT + TAKEN)
    quantized = [line.split()[0] for line in lines if "copied unchanged" not in line]
    assert sorted(quantized) == sorted(TAKEN)


@pytest.mark.parametrize(("architecture", "name"), [("eomt", "query.weight"), ("siglip", "head.probe"), ("ctrl", "w.weight")])
def test_what_a_class_of_the_architecture_does_not_put_in_a_linear_layer_is_copied(program, tmp_path, architecture, name):
    save(tmp_path / "model.safetensors", {name: ("F32", normal(64, 64)), "layers.0.fc1.weight": ("F32", normal(64, 64))})
    for model_type, config in [(architecture, {}), ("llava", {"vision_config": {"model_type": architecture}}), ("bert", {})]:
        write_json(tmp_path / "config.json", {"model_type": model_type} | config)
        said = program("quantize", tmp_path, "--dry-run")
        assert ("1 of 2 tensors would be quantized" in said) == (model_type != "bert"), said
