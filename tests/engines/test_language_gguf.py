"""A language model's GGUF file, quantized again, and loaded by transformers."""

import gguf
import numpy as np
import pytest
import torch
import transformers
from families import DECODER, FAMILIES, IDS
from test_language_models import output_of

(LLAMA,) = (family for family in FAMILIES if family.name == "Llama")
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def name_of(name):
    name = name.replace("model.layers.", "blk.")
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def rotated(weight, heads):
    """The order of rows that llama.cpp rotates."""
    return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def write(model, path):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(DECODER["num_hidden_layers"])
    writer.add_context_length(DECODER["max_position_embeddings"])
    writer.add_embedding_length(DECODER["hidden_size"])
    writer.add_feed_forward_length(DECODER["intermediate_size"])
    writer.add_head_count(DECODER["num_attention_heads"])
    writer.add_head_count_kv(DECODER["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(DECODER["vocab_size"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{number}>" for number in range(DECODER["vocab_size"])])
    writer.add_token_scores([0.0] * DECODER["vocab_size"])
    writer.add_token_types([1] * DECODER["vocab_size"])
    writer.add_bos_token_id(IDS["bos_token_id"])
    writer.add_eos_token_id(IDS["eos_token_id"])
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        for kind, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if kind in name:
                values = rotated(values, DECODER[heads])
        writer.add_tensor(name_of(name), np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(folder):
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    return output_of(loaded.eval(), LLAMA.inputs)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1", "BF16"])
def test_a_file_that_was_quantized_again_loads_as_what_its_blocks_decode_to(program, tmp_path, kind):
    model, source, out = LLAMA.make(False), tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write(model, source / "model.gguf")
    exact = output_of(model, LLAMA.inputs)
    torch.testing.assert_close(load(source), exact, rtol=1e-4, atol=1e-5)
    program("quantize", source, "--output", out, "--format", "gguf", "--gguf-type", kind)
    got = load(out)
    # The blocks, decoded by the library of the format.
    for tensor in gguf.GGUFReader(out / "model.gguf").tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        name = next(name for name in model.state_dict() if name_of(name) == tensor.name)
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                order = rotated(np.arange(len(values))[:, None], DECODER[heads])[:, 0]
                values = values[np.argsort(order)]
        model.get_parameter(name).data.copy_(torch.from_numpy(np.float32(values)))
    torch.testing.assert_close(got, output_of(model, LLAMA.inputs), rtol=1e-4, atol=1e-5)
    assert 0 < (got - exact).norm() / exact.norm() < 0.5
