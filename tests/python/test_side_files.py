"""What a model needs beside its weights: all of it is in the output, and nothing that no longer holds."""

import json
import os

import pytest
from checkpoints import llama, llama_config, load, normal, save, write_json

FORMATS = ["parquet", "safetensors", "compressed-tensors", "gguf"]

ALONG = [
    "LICENSE.md",
    "README.md",
    "added_tokens.json",
    "assets/voices/a.npy",
    "chat_template.jinja",
    "configuration_x.py",
    "feature_extractor/preprocessor_config.json",
    "modeling_x.py",
    "ops/__init__.py",
    "ops/kernels/rope.py",
    "scheduler/scheduler_config.json",
    "sentencepiece.bpe.model",
    "tekken.json",
    "tiktoken/qwen.tiktoken",
    "tokenizer.json",
    "video_preprocessor_config.json",
    "vocab.bpe",
]
WEIGHTS = ["consolidated.00.pth", "onnx/model.onnx", "onnx/model.onnx_data", "original/model.safetensors", "pytorch_model.bin"]
GONE = [
    ".cache/huggingface/a.lock",
    ".git/HEAD",
    "__pycache__/modeling_x.pyc",
    "earlier/arrow_quant.json",
    "earlier/config.json",
    "model.safetensors.index.json.bak/../pytorch_model.bin.index.json",
]


def write(folder, names):
    for name in names:
        path = os.path.normpath(folder / name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("{}" if path.endswith("json") else name)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "in"
    save(folder / "model.safetensors", llama(), metadata={"format": "pt", "ss_note": "a\"b", "_quantization_metadata": "{}"})
    write_json(folder / "config.json", llama_config(auto_map={"AutoModel": "modeling_x.X"}))
    write(folder, [*ALONG, *WEIGHTS, *GONE])
    return folder


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("given", ["", "model.safetensors"])
def test_everything_beside_the_weights_is_copied_and_in_the_manifest(program, model, tmp_path, form, given):
    out = tmp_path / "out"
    said = program("quantize", model / given, "--output", out, "--format", form)
    assert f"not copied: {', '.join(WEIGHTS)}" in said
    there = files(out)
    own = {"arrow_quant.json", "report.parquet", "config.json", "model.safetensors", "model.gguf"}
    assert {name for name in there - own if not name.startswith("weights/part-")} == set(ALONG)
    for name in ALONG:
        assert (out / name).read_bytes() == (model / name).read_bytes()
    listed = json.loads((out / "arrow_quant.json").read_text())["names"]
    assert set(ALONG) < set(listed) and set(listed) <= there
    # All of it is ours: nothing of it stands in the way of the next run.
    program("quantize", model, "--output", out, "--format", "safetensors", "--overwrite")
    write(out, ["ops/mine.py"])
    os.remove(model / "ops/kernels/rope.py")
    program("quantize", model, "--output", tmp_path / "again", "--format", form)
    assert not (tmp_path / "again/ops/kernels").exists()


def test_a_file_of_somebody_else_in_a_copied_folder_is_not_removed(program, fails, model, tmp_path):
    out = tmp_path / "out"
    run = ["quantize", model, "--output", out]
    program(*run)
    write(out, ["ops/kernels/mine.py", "notes/mine.txt"])
    assert "2 entries that no run wrote, such as 'notes'" in fails(*run, "--overwrite")
    assert (out / "ops/kernels/mine.py").exists()
    program(*run, "--overwrite", "--force")
    assert not (out / "ops/kernels/mine.py").exists() and (out / "ops/kernels/rope.py").exists()


def test_a_dry_run_says_what_stays_behind(program, model):
    assert f"not copied: {', '.join(WEIGHTS)}" in program("quantize", model, "--dry-run")


@pytest.mark.parametrize("form", ["safetensors", "compressed-tensors"])
def test_the_pairs_of_the_header_stay_but_for_those_of_a_quantization(program, model, tmp_path, form):
    program("quantize", model, "--output", tmp_path / "out", "--format", form)
    raw = (tmp_path / "out" / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"] == {"format": "pt", "ss_note": 'a"b'}


def test_outputs_inside_the_model_are_not_copied_into_each_other(program, model):
    for _ in range(2):
        for form in FORMATS:
            program("quantize", model, "--output", model / f"out-{form}", "--format", form, "--overwrite")
            assert not [name for name in files(model / f"out-{form}") if name.startswith(("out-", "earlier"))]


def test_an_output_that_is_quantized_again_keeps_what_was_copied_once(program, model, tmp_path):
    program("quantize", model, "--output", tmp_path / "a", "--format", "parquet", "--bits", "8")
    program("quantize", tmp_path / "a", "--output", tmp_path / "b", "--format", "safetensors")
    assert files(tmp_path / "b") == {*ALONG, "arrow_quant.json", "report.parquet", "config.json", "model.safetensors"}


def test_what_a_run_makes_itself_goes_before_a_file_of_that_name(program, model, tmp_path):
    write(model, ["report.parquet", "arrow_quant.json.tmp", "weights/readme.txt", "weights/part-00000.parquet"])
    program("quantize", model, "--output", tmp_path / "out")
    program("compare", model, tmp_path / "out")
    assert (tmp_path / "out/report.parquet").read_bytes()[:4] == b"PAR1"
    assert (tmp_path / "out/weights/readme.txt").exists()


def test_what_cannot_be_read_is_an_error_before_anything_is_written(fails, model, tmp_path):
    (model / "merges.txt").symlink_to(tmp_path / "nowhere")
    for more in (["--dry-run"], ["--output", tmp_path / "out"]):
        message = fails("quantize", model, *more)
        assert "merges.txt: cannot open: " in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_links_are_copied_as_files_and_no_circle_is_followed(program, model, tmp_path):
    write(tmp_path / "blobs", ["5f3a", "lib/util.py"])
    (model / "vocab.json").symlink_to(tmp_path / "blobs/5f3a")
    (model / "lib").symlink_to(tmp_path / "blobs/lib")
    (model / "loop").symlink_to(model)
    (tmp_path / "blobs/lib/up").symlink_to("..")
    os.mkfifo(model / "pipe")
    said = program("quantize", model, "--output", tmp_path / "out")
    for name in ("vocab.json", "lib/util.py"):
        assert (tmp_path / "out" / name).is_file() and not (tmp_path / "out" / name).is_symlink()
    assert not (tmp_path / "out/loop").exists() and "pipe (no file)" in said


def test_a_dense_layer_that_modules_json_names_keeps_its_weights(program, model, tmp_path):
    save(model / "2_Dense/model.safetensors", {"linear.weight": ("F32", normal(64, 64))})
    write_json(model / "modules.json", [{"idx": 0, "path": ""}, {"idx": 2, "path": "2_Dense"}])
    program("quantize", model, "--output", tmp_path / "out", "--format", "safetensors")
    assert load(tmp_path / "out/2_Dense/model.safetensors").keys() == {"linear.weight"}
    assert len(load(tmp_path / "out/model.safetensors")) == len(llama())


def test_an_adapter_keeps_its_configuration(program, tmp_path):
    base = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save(tmp_path / "in/adapter_model.safetensors", {base + "A.weight": ("F32", normal(8, 64)), base + "B.weight": ("F32", normal(64, 8))})
    write_json(tmp_path / "in/adapter_config.json", {"peft_type": "LORA"})
    for given in ("in", "in/adapter_model.safetensors"):
        program("quantize", tmp_path / given, "--output", tmp_path / "out", "--format", "safetensors", "--overwrite")
        assert json.loads((tmp_path / "out/adapter_config.json").read_text()) == {"peft_type": "LORA"}


def test_of_a_file_among_other_models_what_bears_its_name_is_copied(program, tmp_path):
    for name in ("flux1-dev", "other"):
        save(tmp_path / f"in/{name}.safetensors", {"double_blocks.0.img_attn.proj.weight": ("F32", normal(64, 64))})
    write(tmp_path / "in", ["flux1-dev.yaml", "other.yaml", "put_models_here", "more/notes.txt"])
    program("quantize", tmp_path / "in/flux1-dev.safetensors", "--output", tmp_path / "out", "--format", "gguf")
    assert files(tmp_path / "out") == {"arrow_quant.json", "report.parquet", "model.gguf", "flux1-dev.yaml"}
