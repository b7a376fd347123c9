"""Dream and LLaDA as llama.cpp has them: names, keys and vocabulary as the gguf package knows them."""

import json

import gguf
import masked_language_models
import numpy as np
import pyarrow.parquet as pq
import pytest
from activation_table import write_activations
from masked_language_models import (
    ADDED,
    BLOCKS,
    FEED,
    HEAD,
    HEADS,
    HEADS_KV,
    HIDDEN,
    MERGES,
    SETTINGS,
    TEXTS,
    VOCABULARY,
    matrix,
)
from safetensors.numpy import save_file

FIGURES = ("sqnr_db", "cosine", "mse", "max_abs_error", "n")


@pytest.fixture
def dream(tmp_path):
    return masked_language_models.dream(tmp_path / "dream")


@pytest.fixture
def llada(tmp_path):
    return masked_language_models.llada(tmp_path / "llada")


def permuted(x, heads):
    """As llama.cpp's converter orders the rows of queries and keys of LLaDA."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def meant(name, x):
    if "transformer" not in name:
        return x
    return permuted(x, HEADS) if "q_proj" in name else permuted(x, HEADS_KV) if "k_proj" in name else x


def export(program, folder, out, *options):
    summary = program("quantize", folder, "--output", out, "--format", "gguf", *options)
    assert ": verified" in summary
    return gguf.GGUFReader(out / "model.gguf")


@pytest.mark.parametrize("which", ["dream", "llada"])
def test_tensors_have_the_names_and_rows_that_the_converter_gives_them(program, tmp_path, request, which):
    folder, tensors = request.getfixturevalue(which)
    architecture = gguf.MODEL_ARCH[which.upper()]
    names = gguf.get_tensor_name_map(architecture, BLOCKS)
    expected = {names.get_name(name, try_suffixes=(".weight", ".bias")): name for name in tensors}
    floats = export(program, folder, tmp_path / "floats", "--gguf-type", "F32")
    assert {tensor.name for tensor in floats.tensors} == set(expected)
    for tensor in floats.tensors:
        source = expected[tensor.name]
        assert (tensor.data == meant(source, tensors[source])).all(), source
    blocks = export(program, folder, tmp_path / "blocks", "--bits", "4")
    plain = export(program, folder, tmp_path / "plain", "--bits", "4", "--gguf-architecture", which)
    plain = {tensor.name: tensor for tensor in plain.tensors}
    assert set(plain) == set(tensors)
    for tensor in blocks.tensors:
        source = expected[tensor.name]
        assert tensor.tensor_type == plain[source].tensor_type
        # Blocks lie within rows: encoding and permuting rows go in either order.
        assert (tensor.data == meant(source, plain[source].data)).all(), source
    kinds = {tensor.name: tensor.tensor_type.name for tensor in blocks.tensors}
    assert kinds["blk.1.attn_q.weight"] == "Q4_K" and kinds["token_embd.weight"] == kinds["output.weight"] == "F32"


@pytest.mark.parametrize("which", ["dream", "llada"])
def test_keys_and_vocabulary_are_those_of_the_converter(program, tmp_path, request, which):
    folder, _ = request.getfixturevalue(which)
    reader = export(program, folder, tmp_path / "out", "--bits", "4")
    got = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    keys, arch = gguf.Keys, which
    expected = {
        keys.General.ARCHITECTURE: arch,
        keys.General.TYPE: "model",
        keys.General.QUANTIZATION_VERSION: 2,
        keys.General.FILE_TYPE: gguf.LlamaFileType.MOSTLY_Q4_K_S,
        keys.LLM.BLOCK_COUNT.format(arch=arch): BLOCKS,
        keys.LLM.CONTEXT_LENGTH.format(arch=arch): {"dream": 2048, "llada": 4096}[which],
        keys.LLM.EMBEDDING_LENGTH.format(arch=arch): HIDDEN,
        keys.LLM.FEED_FORWARD_LENGTH.format(arch=arch): FEED,
        keys.LLM.VOCAB_SIZE.format(arch=arch): VOCABULARY,
        keys.Attention.HEAD_COUNT.format(arch=arch): HEADS,
        keys.Attention.HEAD_COUNT_KV.format(arch=arch): HEADS_KV,
        keys.Attention.CAUSAL.format(arch=arch): False,
        keys.Attention.LAYERNORM_RMS_EPS.format(arch=arch): np.float32({"dream": 1e-6, "llada": 1e-5}[which]),
        keys.Rope.DIMENSION_COUNT.format(arch=arch): HEAD,
        keys.Rope.FREQ_BASE.format(arch=arch): {"dream": 1e6, "llada": 5e5}[which],
        keys.Tokenizer.MODEL: "gpt2",
        keys.Tokenizer.PRE: {"dream": "qwen2", "llada": "bailingmoe"}[which],
        keys.Tokenizer.MASK_ID: 21,
    }
    expected |= {"dream": {keys.General.NAME: "Dream-tiny"}, "llada": {keys.Diffusion.SHIFT_LOGITS: False}}[which]
    kinds = gguf.TokenType
    tokens = {i: (text, kinds.NORMAL) for i, text in enumerate(TEXTS)}
    tokens |= {i: (text, kinds.CONTROL if special else kinds.USER_DEFINED) for i, (text, special) in ADDED.items()}
    tokens = [tokens.get(i, (f"[PAD{i}]", kinds.UNUSED)) for i in range(VOCABULARY)]
    expected[keys.Tokenizer.LIST] = [text for text, _ in tokens]
    expected[keys.Tokenizer.TOKEN_TYPE] = [int(kind) for _, kind in tokens]
    vocabulary = gguf.SpecialVocab(folder, load_merges=True)
    expected[keys.Tokenizer.MERGES] = vocabulary.merges or [f"{a} {b}" for a, b in MERGES]
    for what, key in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"), ("mask", "mask")]:
        if what in vocabulary.special_token_ids:
            expected[f"tokenizer.ggml.{key}_token_id"] = vocabulary.special_token_ids[what]
    expected[keys.Tokenizer.EOS_ID] = expected[keys.Tokenizer.PAD_ID] = 20
    if which == "dream":
        expected[keys.Tokenizer.BOS_ID] = 20
    expected[keys.Tokenizer.ADD_BOS] = which == "llada"
    expected[keys.Tokenizer.CHAT_TEMPLATE] = vocabulary.chat_template
    assert vocabulary.chat_template == SETTINGS["chat_template"]
    assert got == expected


def test_what_llama_cpp_cannot_do_without_is_asked_for(program, fails, llada, tmp_path):
    folder, tensors = llada
    command = ["quantize", folder, "--output", tmp_path / "out", "--format", "gguf", "--dry-run"]
    config, tokenizer = folder / "config.json", folder / "tokenizer.json"
    whole, words = config.read_text(), tokenizer.read_text()
    tokenizer.write_text(words.replace("p{N}", "p{Nd}"))
    assert "splits text by a pattern that is not known" in fails(*command)
    program(*command, "--gguf-pre", "llama-bpe")
    tokenizer.unlink()
    assert "has no tokenizer" in fails(*command)
    tokenizer.write_text(words)
    config.write_text(whole.replace('"rope_theta"', '"theta"'))
    assert "config.json: must say rope_theta, a number, for llama.cpp to run a llada model" in fails(*command)
    config.write_text(whole.replace(f'"n_heads": {HEADS}', '"n_heads": 3'))
    assert "which is not that of 3 heads" in fails(*command)
    config.write_text(whole)
    program(*command)
    save_file(tensors | {"model.extra.weight": matrix(4, HIDDEN, 1)}, folder / "model.safetensors")
    error = fails(*command)
    assert "tensor 'model.extra.weight': is none of the tensors that llama.cpp has for llada" in error
    program(*command, "--gguf-architecture", "llada")
    assert "--gguf-pre needs" in fails(*command, "--gguf-architecture", "llada", "--gguf-pre", "qwen2")


@pytest.mark.parametrize("which", ["dream", "llada"])
def test_compare_finds_the_tensors_and_rows_of_the_source(program, compare, fails, tmp_path, request, which):
    folder, tensors = request.getfixturevalue(which)
    floats, blocks, plain = (tmp_path / name for name in ("floats", "blocks", "plain"))
    export(program, folder, floats, "--gguf-type", "F32")
    export(program, folder, blocks, "--gguf-type", "Q8_0")
    export(program, folder, plain, "--gguf-type", "Q8_0", "--gguf-architecture", which)
    moved = {name for name, x in tensors.items() if (meant(name, x) != x).any()}
    assert (which == "dream") == (not moved)
    for pair in [(folder, floats), (floats, folder)]:
        rows = compare(*pair)["tensors"]
        assert len(rows) == len(tensors) and {row["difference"] for row in rows} == {"identical"}
        source = "name" if pair[0] == folder else "candidate_name"
        assert {row[source] for row in rows} == set(tensors)
        assert {row[source] for row in rows if row["reordered"]} == moved
    # With the names of the source, the same blocks in the order of its rows: compared by name alone.
    by_name = {row["name"]: row for row in compare(folder, plain)["tensors"]}
    for row in compare(folder, blocks)["tensors"]:
        assert row.pop("candidate_name").startswith(("blk.", "token_embd", "output"))
        assert row.pop("reordered") == (row["name"] in moved)
        expected = by_name[row["name"]]
        assert row["difference"] == expected["difference"] and ("n" not in row or row["sqnr_db"] > 40)
        # The sums are those of the same rows in another order.
        assert {key: x for key, x in row.items() if key in FIGURES} == pytest.approx(
            {key: x for key, x in expected.items() if key in FIGURES}, rel=1e-12
        )
    assert "such as" not in program("compare", floats, blocks)
    text = program("compare", folder, blocks)
    assert f"{len(tensors)} tensors are there by the names that llama.cpp has" in text
    assert f"the rows of {len(moved)} are in its order" in text
    # What neither has is named on both sides.
    save_file(tensors | {"model.extra.weight": matrix(4, HIDDEN, 1)}, folder / "model.safetensors")
    missing = [row["name"] for row in compare(folder, blocks)["tensors"] if "missing" in row["difference"]]
    assert missing == ["model.extra.weight"]


@pytest.mark.parametrize("which", ["dream", "llada"])
def test_factors_are_folded_into_the_norms_and_the_rows_of_up(program, compare, tmp_path, request, which):
    folder, tensors = request.getfixturevalue(which)
    noise = np.random.default_rng(4)
    matrices = {name: x for name, x in tensors.items() if x.ndim == 2 and (".layers." in name or ".blocks." in name)}
    widths = np.exp(noise.standard_normal(max(HIDDEN, FEED)))
    inputs = {name: noise.standard_normal((8, x.shape[1])) * widths[: x.shape[1]] for name, x in matrices.items()}
    activations = write_activations(tmp_path / "acts.parquet", {name: np.float32(x) for name, x in inputs.items()})
    out = tmp_path / "out"
    options = ["--gguf-type", "Q8_0", "--activations", activations, "--equalize", 0.5]
    stored = {tensor.name: tensor for tensor in export(program, folder, out, *options).tensors}
    rows = {row["name"]: row for row in pq.read_table(out / "equalization.parquet").to_pylist()}
    # With half as many heads for values as for queries the output of attention is left alone.
    assert sum(bool(row["folded_into"]) for row in rows.values()) == 6 * BLOCKS
    notes = {row["name"]: row["note"] for row in pq.read_table(out / "report.parquet").to_pylist()}
    alone = [name for name, note in notes.items() if note and "not equalized: " in note]
    assert len(alone) == BLOCKS and all("o_proj" in name or "attn_out" in name for name in alone)
    assert "has 128 rows, not 256 for its 256 channels" in notes[alone[0]]
    (norm,) = [name for name in tensors if ".0." in name and name.endswith(("input_layernorm.weight", "attn_norm.weight"))]
    (query,) = [name for name in tensors if ".0." in name and name.endswith("q_proj.weight")]
    assert np.allclose(stored["blk.0.attn_norm.weight"].data, tensors[norm] / np.float32(rows[query]["factors"]), rtol=1e-6)
    # Measured in the channels and rows of the source.
    for row in compare(folder, out)["tensors"]:
        assert "n" not in row or row["sqnr_db"] is None or row["sqnr_db"] > 35, row


def test_a_configuration_that_transformers_5_wrote_is_read(program, fails, dream, tmp_path):
    folder, _ = dream
    before = export(program, folder, tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    theta = config.pop("rope_theta")
    del config["rope_scaling"]
    config |= {"dtype": "bfloat16", "rope_parameters": {"rope_theta": theta, "rope_type": "default"}}
    (folder / "config.json").write_text(json.dumps(config))
    after = export(program, folder, tmp_path / "b")
    assert before.data.tobytes() == after.data.tobytes()
    config["rope_parameters"]["rope_type"] = "yarn"
    (folder / "config.json").write_text(json.dumps(config))
    run = ["quantize", folder, "--output", tmp_path / "c", "--format", "gguf"]
    assert "has rope_scaling, which is not written to GGUF" in fails(*run)
