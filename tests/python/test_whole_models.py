"""What a path means: a whole model, never a part of it, and never two at once."""

import json

import gguf
import numpy as np
import pytest
from checkpoints import llama, llama_config, load, normal, save, write_json


def names(program, path):
    return sorted(json.loads(line)["name"] for line in program("inspect", path, "--json").splitlines())


def shards(folder, numbers, of, stem="model"):
    for number in numbers:
        save(folder / f"{stem}-{number:05}-of-{of:05}.safetensors", {f"layers.{number}.up_proj.weight": ("F32", normal(64, 64))})


ALL = [f"layers.{number}.up_proj.weight" for number in (1, 2, 3)]


@pytest.mark.parametrize("index", [True, False])
def test_one_shard_stands_for_all(program, tmp_path, index):
    shards(tmp_path, (1, 2, 3), 3)
    if index:
        weight_map = {name: f"model-{number:05}-of-00003.safetensors" for number, name in enumerate(ALL, 1)}
        write_json(tmp_path / "model.safetensors.index.json", {"weight_map": weight_map})
    for path in (tmp_path, tmp_path / "model-00001-of-00003.safetensors", tmp_path / "model-00003-of-00003.safetensors"):
        assert names(program, path) == ALL


def test_shards_that_are_missing_are_named(fails, tmp_path):
    shards(tmp_path, (1, 3), 3)
    for path in (tmp_path, tmp_path / "model-00003-of-00003.safetensors"):
        message = fails("quantize", path, "--output", tmp_path / "out")
        assert "is one of 3 files of a model, of which 1 are missing: model-00002-of-00003.safetensors" in message
        assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def split(folder, numbers, of):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        writer = gguf.GGUFWriter(str(folder / f"m-{number:05}-of-{of:05}.gguf"), "flux")
        writer.add_uint16("split.no", number - 1)
        writer.add_uint16("split.count", of)
        writer.add_int32("split.tensors.count", of)
        writer.add_tensor(f"blk.{number}.ffn_up.weight", normal(64, 256, seed=number).astype(np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def test_a_split_gguf_is_one_model_and_is_written_as_one(program, fails, tmp_path):
    split(tmp_path / "in", (1, 2, 3), 3)
    for number, path in enumerate((tmp_path / "in", tmp_path / "in" / "m-00002-of-00003.gguf")):
        out = tmp_path / f"out{number}"
        program("quantize", path, "--output", out, "--format", "gguf", "--gguf-type", "Q8_0")
        reader = gguf.GGUFReader(out / "model.gguf")
        assert sorted(tensor.name for tensor in reader.tensors) == [f"blk.{number}.ffn_up.weight" for number in (1, 2, 3)]
        assert not [key for key in reader.fields if key.startswith("split.")]
        assert "general.architecture" in reader.fields
    renamed = tmp_path / "alone" / "renamed.gguf"
    renamed.parent.mkdir()
    (tmp_path / "in" / "m-00001-of-00003.gguf").rename(renamed)
    assert "says that it is one of 3 files of a model, and 1 were found" in fails("inspect", renamed)
    assert "m-00001-of-00003.gguf" in fails("inspect", tmp_path / "in")


@pytest.mark.parametrize("beside", ["consolidated.safetensors", "adapter_model.safetensors", "model.fp16.safetensors", "x.gguf"])
@pytest.mark.parametrize("sharded", [True, False])
def test_of_two_models_that_of_the_usual_name_is_taken_and_the_other_is_said(program, tmp_path, beside, sharded):
    if sharded:
        shards(tmp_path, (1, 2, 3), 3)
    else:
        save(tmp_path / "model.safetensors", {name: ("F32", normal(64, 64)) for name in ALL})
    if beside.endswith("gguf"):
        (tmp_path / beside).write_bytes(b"GGUF")
    else:
        save(tmp_path / beside, {"other.weight": ("F32", normal(64, 64))})
    assert names(program, tmp_path) == ALL
    said = f"not read, since they are no part of the model: {beside}"
    assert said in program("inspect", tmp_path)
    assert said in program("quantize", tmp_path, "--dry-run")
    assert said in program("quantize", tmp_path, "--output", tmp_path.parent / "said_out", "--overwrite")


def test_several_models_without_the_usual_name_are_listed(fails, tmp_path):
    for name in ("ae", "flux1-dev"):
        save(tmp_path / f"{name}.safetensors", {f"{name}.weight": ("F32", normal(64, 64))})
    message = fails("quantize", tmp_path, "--output", tmp_path / "out")
    assert "give the path of one: ae.safetensors, flux1-dev.safetensors" in message


def test_the_denoiser_of_a_pipeline_is_taken_before_files_at_its_root(program, tmp_path):
    for name in ("ae", "flux1-dev", "transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model"):
        save(tmp_path / f"{name}.safetensors", {f"{name.split('/')[0]}.weight": ("F32", normal(64, 64))})
    write_json(tmp_path / "model_index.json", {"_class_name": "FluxPipeline"})
    assert names(program, tmp_path) == ["transformer.weight"]


def test_an_index_of_a_variant_is_read_and_the_plain_file_goes_before_it(program, tmp_path):
    shards(tmp_path, (1,), 1, "diffusion_pytorch_model.fp16")
    weight_map = {ALL[0]: "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"}
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.fp16.json"
    write_json(index, {"weight_map": weight_map})
    assert names(program, tmp_path) == names(program, index) == ALL[:1]
    save(tmp_path / "diffusion_pytorch_model.safetensors", {"plain.weight": ("F32", normal(64, 64))})
    assert names(program, tmp_path) == ["plain.weight"]
    assert weight_map[ALL[0]] in program("inspect", tmp_path)


def test_a_model_without_tensors_is_one_line(program, fails, tmp_path):
    save(tmp_path / "empty.safetensors", {})
    writer = gguf.GGUFWriter(str(tmp_path / "vocab.gguf"), "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    for name in ("empty.safetensors", "vocab.gguf"):
        for form in ("parquet", "arrow", "safetensors", "gguf"):
            message = fails("quantize", tmp_path / name, "--output", tmp_path / "out", "--format", form)
            assert "without any tensor" in message and message.count("\n") == 1
        assert "0 tensors in 1 file" in program("inspect", tmp_path / name)


def test_metadata_of_null_is_none(program, tmp_path):
    save(tmp_path / "model.safetensors", llama())
    raw = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = b'{"__metadata__":null,' + raw[9 : 8 + length]
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
    write_json(tmp_path / "config.json", llama_config())
    program("quantize", tmp_path, "--output", tmp_path / "out", "--format", "safetensors")
    assert load(tmp_path / "out" / "model.safetensors").keys() == llama().keys()
