"""Tiny models with random weights, one for each family of transformers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import transformers

TOKENS = torch.tensor([[5, 17, 3, 99, 42, 8, 61, 7], [11, 2, 87, 35, 6, 73, 19, 4]])
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128}
# Ids beyond the vocabulary are refused by embeddings.
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
DECODER = {**SIZES, **IDS, "intermediate_size": 128, "num_key_value_heads": 2, "max_position_embeddings": 64}
ENCODER = {**SIZES, **IDS, "intermediate_size": 128, "max_position_embeddings": 64}
T5 = {**IDS, "vocab_size": 128, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
SEQUENCES = {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :5]}
IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclasses.dataclass(frozen=True)
class Family:
    """A class of models, the configuration of a tiny one, and inputs for it."""

    name: str
    model: str
    config: Callable[[], Any]
    inputs: dict[str, Any] = dataclasses.field(default_factory=lambda: {"input_ids": TOKENS})
    # The tied and untied variants that exist.
    ties: tuple[bool, ...] = (False, True)
    # Packed without zero points: it loads without a keyword, and with `dequantize=True`.
    packed: bool = True
    dequantized: bool = True
    # Packed with zero points, it loads with `dequantize=True`.
    zero_points: bool = True
    # It has linear modules that the format can hold.
    quantized: bool = True

    def make(self, tied: bool) -> Any:
        config = self.config()
        for part in (config, config.get_text_config()):
            part.tie_word_embeddings = tied
        torch.manual_seed(3)
        model = getattr(transformers, self.model)(config).eval()
        # Fresh biases and scales are all alike: a loader that loses them would go unnoticed.
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() < 2:
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        return model


def decoder(name: str, **more: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, name)(**{**DECODER, **more})


def encoder(name: str, **more: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, name)(**{**ENCODER, **more})


def llava() -> Any:
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, image_size=32, patch_size=16, projection_dim=64),
        text_config=transformers.LlamaConfig(**DECODER),
        image_token_id=127,
    )


def gemma3() -> Any:
    return transformers.Gemma3Config(
        text_config={**DECODER, "head_dim": 16},
        vision_config={**VISION, "image_size": 32, "patch_size": 16},
        mm_tokens_per_image=4,
        image_token_id=127,
    )


def qwen2_5_vl() -> Any:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 64}
    return transformers.Qwen2_5_VLConfig(
        text_config={**DECODER, "rope_parameters": rope}, vision_config={**vision, "fullatt_block_indexes": [1]}
    )


def clip() -> Any:
    text = {**ENCODER, "projection_dim": 64}
    return transformers.CLIPConfig(
        text_config=text, vision_config={**VISION, "image_size": 32, "patch_size": 16}, projection_dim=64
    )


ONE_OF_TWO = {"num_experts_per_tok": 2}
FAMILIES = [
    Family("Llama", "LlamaForCausalLM", decoder("LlamaConfig")),
    Family("Qwen2", "Qwen2ForCausalLM", decoder("Qwen2Config")),
    Family("Qwen3", "Qwen3ForCausalLM", decoder("Qwen3Config", head_dim=16)),
    Family("Gemma2", "Gemma2ForCausalLM", decoder("Gemma2Config", head_dim=16)),
    Family("Gemma3 text", "Gemma3ForCausalLM", decoder("Gemma3TextConfig", head_dim=16)),
    Family("Gemma3", "Gemma3ForConditionalGeneration", gemma3, packed=False),
    Family("Mistral", "MistralForCausalLM", decoder("MistralConfig")),
    Family("Phi", "PhiForCausalLM", decoder("PhiConfig")),
    Family("Phi3", "Phi3ForCausalLM", decoder("Phi3Config")),
    Family("SmolLM3", "SmolLM3ForCausalLM", decoder("SmolLM3Config")),
    Family("Olmo2", "Olmo2ForCausalLM", decoder("Olmo2Config")),
    Family("Cohere", "CohereForCausalLM", decoder("CohereConfig")),
    Family("Granite", "GraniteForCausalLM", decoder("GraniteConfig")),
    Family("StableLM", "StableLmForCausalLM", decoder("StableLmConfig")),
    Family("Starcoder2", "Starcoder2ForCausalLM", decoder("Starcoder2Config")),
    Family("Mixtral", "MixtralForCausalLM", decoder("MixtralConfig", num_local_experts=4), zero_points=False),
    Family(
        "Qwen3 MoE",
        "Qwen3MoeForCausalLM",
        decoder("Qwen3MoeConfig", head_dim=16, num_experts=4, moe_intermediate_size=64, **ONE_OF_TWO),
        zero_points=False,
    ),
    Family(
        "Qwen2 MoE",
        "Qwen2MoeForCausalLM",
        decoder(
            "Qwen2MoeConfig",
            num_experts=4,
            moe_intermediate_size=64,
            shared_expert_intermediate_size=64,
            **ONE_OF_TWO,
        ),
        zero_points=False,
    ),
    Family(
        "DeepSeek V3",
        "DeepseekV3ForCausalLM",
        decoder(
            "DeepseekV3Config",
            num_key_value_heads=4,
            n_routed_experts=4,
            n_group=2,
            topk_group=1,
            moe_intermediate_size=64,
            first_k_dense_replace=1,
            q_lora_rank=32,
            kv_lora_rank=32,
            qk_rope_head_dim=16,
            qk_nope_head_dim=16,
            v_head_dim=16,
            **ONE_OF_TWO,
        ),
        zero_points=False,
    ),
    Family(
        "GPT-OSS",
        "GptOssForCausalLM",
        decoder("GptOssConfig", head_dim=16, num_local_experts=4, sliding_window=16, **ONE_OF_TWO),
    ),
    Family("OPT", "OPTForCausalLM", lambda: transformers.OPTConfig(**ENCODER, ffn_dim=128, word_embed_proj_dim=64)),
    Family("GPT-2", "GPT2LMHeadModel", lambda: transformers.GPT2Config(**IDS, vocab_size=128, n_embd=64, n_layer=2, n_head=4, n_positions=64), quantized=False),
    Family("GPT-J", "GPTJForCausalLM", lambda: transformers.GPTJConfig(**IDS, vocab_size=128, n_embd=64, n_layer=2, n_head=4, n_positions=64, rotary_dim=16)),
    Family("GPT-NeoX", "GPTNeoXForCausalLM", encoder("GPTNeoXConfig")),
    Family("Falcon", "FalconForCausalLM", encoder("FalconConfig"), packed=False),
    Family("BLOOM", "BloomForCausalLM", lambda: transformers.BloomConfig(**IDS, vocab_size=128, hidden_size=64, n_layer=2, n_head=4)),
    Family("Mamba", "MambaForCausalLM", lambda: transformers.MambaConfig(**IDS, vocab_size=128, hidden_size=64, state_size=16, num_hidden_layers=2, time_step_rank=32), packed=False),
    Family("Mamba2", "Mamba2ForCausalLM", lambda: transformers.Mamba2Config(**IDS, vocab_size=128, hidden_size=64, state_size=16, num_hidden_layers=2, num_heads=8, head_dim=16, n_groups=2), packed=False),
    Family("BERT", "BertForMaskedLM", encoder("BertConfig")),
    Family("BERT classifier", "BertForSequenceClassification", encoder("BertConfig"), ties=(True,)),
    Family("RoBERTa", "RobertaForMaskedLM", encoder("RobertaConfig")),
    Family("DistilBERT", "DistilBertForMaskedLM", lambda: transformers.DistilBertConfig(pad_token_id=0, vocab_size=128, dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=64)),
    Family("ELECTRA", "ElectraForMaskedLM", encoder("ElectraConfig", embedding_size=32)),
    Family("DeBERTa", "DebertaV2ForMaskedLM", encoder("DebertaV2Config", relative_attention=True, pos_att_type=["c2p", "p2c"])),
    Family("ModernBERT", "ModernBertForMaskedLM", encoder("ModernBertConfig", cls_token_id=1, sep_token_id=2), packed=False),
    Family("T5", "T5ForConditionalGeneration", lambda: transformers.T5Config(**T5, decoder_start_token_id=0), SEQUENCES, packed=False),
    Family("T5 encoder", "T5EncoderModel", lambda: transformers.T5Config(**T5), ties=(True,), packed=False),
    Family("UMT5", "UMT5ForConditionalGeneration", lambda: transformers.UMT5Config(**T5, feed_forward_proj="gated-gelu", decoder_start_token_id=0), SEQUENCES, packed=False),
    Family("UMT5 encoder", "UMT5EncoderModel", lambda: transformers.UMT5Config(**T5, feed_forward_proj="gated-gelu"), ties=(True,), packed=False),
    Family("BART", "BartForConditionalGeneration", lambda: transformers.BartConfig(**IDS, vocab_size=128, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=64, decoder_start_token_id=2), SEQUENCES),
    Family(
        "Whisper",
        "WhisperForConditionalGeneration",
        lambda: transformers.WhisperConfig(**IDS, vocab_size=128, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_source_positions=16, max_target_positions=32, num_mel_bins=32, decoder_start_token_id=1),
        {"input_features": torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(5)), "decoder_input_ids": TOKENS[:, :5]},
    ),
    Family("LLaVA", "LlavaForConditionalGeneration", llava),
    Family("Qwen2.5-VL", "Qwen2_5_VLForConditionalGeneration", qwen2_5_vl),
    Family("CLIP", "CLIPModel", clip, {"input_ids": TOKENS, "pixel_values": IMAGE}, ties=(False,)),
    Family("CLIP text", "CLIPTextModel", lambda: transformers.CLIPTextConfig(**ENCODER), ties=(False,)),
    Family("ViT", "ViTForImageClassification", lambda: transformers.ViTConfig(**VISION, image_size=32, patch_size=16, num_labels=3), {"pixel_values": IMAGE}, ties=(False,), packed=False),
    Family("DINOv2", "Dinov2Model", lambda: transformers.Dinov2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=16), {"pixel_values": IMAGE}, ties=(False,), packed=False, dequantized=False, zero_points=False),
]  # fmt: skip
