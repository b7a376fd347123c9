"""One odd tensor never stops the others: it is excluded or dropped, and a dry run says what the run would say."""

import json
import re

import ml_dtypes
import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints import fp8, llama, llama_config, load, normal, save, write_json

FORMATS = ["parquet", "arrow", "safetensors", "compressed-tensors", "gguf"]
ODD = "model.layers.0.mlp.odd"


def shape_of_nothing():
    return {f"{ODD}.weight": ("F8_E4M3", normal(96, 160)), f"{ODD}.weight_scale_inv": ("F32", normal(2, 3))}


def two_scales():
    scale = ("F32", np.array(0.01))
    return {f"{ODD}.weight": ("F8_E4M3", fp8(normal(64, 64), 0.01)), f"{ODD}.weight_scale": scale, f"{ODD}.scale_weight": scale}


def scale_of_another_type():
    return {f"{ODD}.weight": ("F8_E5M2", normal(64, 64)), f"{ODD}.weight_scale": ("I32", np.ones((64, 1)))}


def head():
    return {"lm_head.weight": ("F8_E4M3", normal(96, 160)), "lm_head.weight_scale": ("F32", normal(2, 3))}


KINDS = [shape_of_nothing, two_scales, scale_of_another_type, head]


def write(folder, odd):
    save(folder / "model.safetensors", llama() | odd)
    write_json(folder / "config.json", llama_config())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMATS)
def test_an_fp8_tensor_whose_scale_cannot_be_told_is_excluded_or_dropped(program, fails, tmp_path, kind, form):
    odd = kind()
    write(tmp_path / "in", odd)
    codes = next(iter(odd))
    name = re.escape(codes.removesuffix(".weight"))
    run = ["quantize", tmp_path / "in", "--format", form]
    if form not in ("parquet", "arrow") or kind is not head:
        for more in (["--dry-run"], ["--output", tmp_path / "out"]):
            message = fails(*run, *more)
            assert f"tensor '{codes}'" in message and message.count("\n") == 1, message
            assert "--exclude leaves it as it is, --drop leaves it out" in message, message
    for option in ("--exclude", "--drop"):
        out = tmp_path / option
        said = program(*run, "--output", out, option, name)
        assert "7 of " in said, said
        notes = report(out)
        assert set(odd) <= set(notes)
        if option == "--drop":
            assert all(notes[one] == f"left out: matches '{name}'" for one in odd)
        if form in ("safetensors", "compressed-tensors"):
            found = load(out / "model.safetensors")
            assert {one for one in found if one in odd} == (set(odd) if option == "--exclude" else set())
            if option == "--exclude":
                assert found[codes][0] == odd[codes][0] and "which no loader decodes" in notes[codes]
                dtype = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}[odd[codes][0]]
                assert found[codes][1].tobytes() == np.asarray(odd[codes][1]).astype(dtype).tobytes()
        if form == "gguf":
            assert notes[codes].startswith("left out: ")


def report(out):
    rows = pq.read_table(out / "report.parquet").to_pylist()
    return {row["name"]: row["note"] or "" for row in rows}


@pytest.mark.parametrize("form", FORMATS)
def test_a_dry_run_says_of_every_tensor_what_the_report_says(program, tmp_path, form):
    weights = np.asarray(normal(256, 256))
    more = {
        "model.layers.0.mlp.one.weight": ("F8_E4M3", fp8(weights, 0.01)),
        "model.layers.0.mlp.one.weight_scale": ("F32", np.array(0.01)),
        "model.layers.0.mlp.one.input_scale": ("F32", np.array(0.5)),
        "model.layers.0.mlp.cast.weight": ("F8_E4M3", weights),
        "mask": ("BOOL", np.tri(8)),
        "model.layers.0.mlp.narrow.weight": ("BF16", normal(64, 40)),
        "model.layers.0.mlp.gone.weight": ("BF16", normal(64, 64)),
        "model.layers.0.mlp.kept.weight": ("BF16", normal(64, 64)),
    }
    write(tmp_path / "in", more | two_scales())
    options = ["--exclude", "kept|odd", "--drop", "gone", "--bits-for", "o_proj=8", "--format", form]
    planned = program("quantize", tmp_path / "in", *options, "--dry-run")
    ran = program("quantize", tmp_path / "in", *options, "--output", tmp_path / "out")
    notes = report(tmp_path / "out")
    lines = {line.split()[0]: line for line in planned.splitlines() if line.strip()}
    assert len(notes) == len(llama()) + len(more) + 3
    for name, note in notes.items():
        assert note in lines[name], (note, lines[name])
    share = next(line for line in planned.splitlines() if "of the parameters quantized" in line)
    assert share in ran.splitlines()
    count = re.search(r"(\d+) of (\d+) tensors would be quantized", planned).groups()
    assert f"{count[0]} of {count[1]} tensors quantized" in ran
    vllm = [line for line in planned.splitlines() if line.startswith("vLLM")]
    assert vllm == [line for line in ran.splitlines() if line.startswith("vLLM")] == []


def test_a_scale_is_not_dropped_from_the_tensor_that_needs_it(program, fails, tmp_path):
    write(tmp_path / "in", {f"{ODD}.weight": ("F8_E4M3", normal(64, 64)), f"{ODD}.weight_scale": ("F32", np.array(2.0))})
    run = ["quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", "safetensors"]
    message = fails(*run, "--drop", "weight_scale")
    assert f"tensor '{ODD}.weight': cannot stay without its scale '{ODD}.weight_scale'" in message
    program(*run, "--drop", "odd")
    assert not [name for name in load(tmp_path / "out/model.safetensors") if "odd" in name]


def test_of_two_scales_one_may_be_dropped(program, tmp_path):
    odd = two_scales()
    write(tmp_path / "in", odd)
    program("quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", "safetensors", "--drop", "scale_weight", "--exclude", "odd")
    found = load(tmp_path / "out/model.safetensors")
    np.testing.assert_array_equal(
        found[f"{ODD}.weight"][1].astype(np.float32),
        (odd[f"{ODD}.weight"][1].astype(np.float32) * np.float32(0.01)).astype(ml_dtypes.bfloat16).astype(np.float32),
    )


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_not_read_or_not_finite_is_dropped_too(program, fails, tmp_path, form):
    bad = normal(64, 64)
    bad[3, 5] = np.nan
    base = "model.layers.0.mlp.gptq"
    odd = {
        "model.layers.0.mlp.bad.weight": ("F32", bad),
        f"{base}.qweight": ("I32", np.ones((8, 64))),
        f"{base}.qzeros": ("I32", np.ones((1, 8))),
        f"{base}.scales": ("F16", np.ones((1, 64))),
    }
    write(tmp_path / "in", odd)
    run = ["quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", form]
    assert "GPTQ" in fails(*run) and "mlp.bad" in fails(*run, "--drop", "gptq")
    program(*run, "--drop", r"\.gptq\.", "--drop", "bad", "--overwrite")
    program("inspect", tmp_path / "out")


def test_an_output_folder_without_some_tensors(program, tmp_path, compare):
    write(tmp_path / "in", {})
    program("quantize", tmp_path / "in", "--output", tmp_path / "a", "--drop", "q_proj|embed", "--bits", "8")
    listed = [json.loads(line)["name"] for line in program("inspect", tmp_path / "a", "--json").splitlines()]
    assert len(listed) == len(llama()) - 2 and not [name for name in listed if "q_proj" in name]
    program("quantize", tmp_path / "a", "--output", tmp_path / "b", "--drop", "k_proj", "--format", "safetensors", "--exclude", "v_proj")
    assert sorted(load(tmp_path / "b/model.safetensors")) == sorted(name for name in listed if "k_proj" not in name)
    program("compare", tmp_path / "a", tmp_path / "b")


def test_a_pattern_that_drops_nothing_or_everything_is_an_error(fails, tmp_path):
    write(tmp_path / "in", {})
    run = ["quantize", tmp_path / "in", "--output", tmp_path / "out"]
    assert "--drop 'nothing' matches no tensor of " in fails(*run, "--drop", "nothing")
    assert "has no tensor that is not dropped" in fails(*run, "--drop", ".")


def test_a_share_that_is_too_low_is_an_error_before_anything_is_written(program, fails, tmp_path):
    write(tmp_path / "in", {"model.layers.0.mlp.experts.gate_up_proj": ("BF16", normal(8, 256, 128))})
    run = ["quantize", tmp_path / "in", "--format", "compressed-tensors"]
    for more in (["--dry-run"], ["--output", tmp_path / "out"]):
        message = fails(*run, "--min-share", "0.8", *more)
        assert "0.8 is not reached: " in message and "experts.gate_up_proj" in message, message
    assert not (tmp_path / "out").exists()
    said = program(*run, "--min-share", "0.3", "--output", tmp_path / "out")
    assert "% of the parameters quantized; the largest of the others: model.layers.0.mlp.experts.gate_up_proj" in said
    figures = json.loads(program(*run, "--output", tmp_path / "out", "--overwrite", "--json"))
    quantized = sum(256 * 128 * 3 if "mlp" in name else 0 for name in ["mlp"]) + 4 * 128 * 128
    everything = sum(int(np.prod(array.shape)) for _, array in llama().values()) + 8 * 256 * 128
    assert figures["quantized_share"] == pytest.approx(quantized / everything)
    assert "must be a number from 0 to 1" in fails(*run, "--min-share", "80", "--dry-run", expect=2)


@pytest.mark.parametrize("options", [["--bits-for", "k_proj=8"], ["--exclude", "up_proj"]])
def test_fused_layers_of_different_widths_are_said_for_vllm(program, tmp_path, options):
    write(tmp_path / "in", {})
    for form in FORMATS:
        said = program("quantize", tmp_path / "in", "--format", form, "--dry-run", *options)
        assert ("vLLM fuses these layers and will refuse them" in said) == (form == "compressed-tensors")


def test_a_tensor_that_lost_far_more_than_the_others_is_named(program, tmp_path):
    tensors = llama()
    spiky = normal(128, 128)
    spiky[:, ::32] *= 300
    tensors["model.layers.0.self_attn.o_proj.weight"] = ("F32", spiky)
    save(tmp_path / "in/model.safetensors", tensors)
    run = ["quantize", tmp_path / "in", "--output", tmp_path / "out", "--overwrite", "--method", "minmax", "--group-size", "channel"]
    said = program(*run)
    assert "dB below others of their width: model.layers.0.self_attn.o_proj.weight" in said or "below 3 dB SQNR: model" in said, said
    figures = json.loads(program(*run, "--json"))
    assert figures["far_below"] == ["model.layers.0.self_attn.o_proj.weight"]
    assert "where others of its width have" in report(tmp_path / "out")["model.layers.0.self_attn.o_proj.weight"]
