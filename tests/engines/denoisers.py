"""Tiny models with random weights, one for each class of diffusers that loads a single file, and inputs for them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffusers
import torch


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


TIME = torch.tensor([500.0])
WIDTH = {"num_attention_heads": 2, "attention_head_dim": 32}
WAN = {
    **WIDTH,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
VIDEO = {"hidden_states": noise(1, 4, 2, 8, 8), "timestep": TIME, "encoder_hidden_states": noise(1, 6, 32)}
IDS = {"img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(6, 3)}
FLUX = {
    "hidden_states": noise(1, 16, 16),
    "encoder_hidden_states": noise(1, 6, 32),
    "timestep": torch.tensor([0.5]),
    **IDS,
}
FOUR = {"img_ids": torch.zeros(16, 4), "txt_ids": torch.zeros(6, 4)}
UNET = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
}
UP = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "sample_size": 8}


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A class of models, the configuration of a tiny one, and the inputs of one step."""

    model: str
    config: dict[str, Any]
    inputs: dict[str, Any]
    # For a class that stands for several kinds of models.
    kind: str = ""

    @property
    def cls(self) -> Any:
        return getattr(diffusers, self.model)

    def make(self) -> Any:
        torch.manual_seed(4)
        model = self.cls(**self.config).eval()
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                # Some are made of zeros, or of nothing at all.
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.1 if parameter.dim() > 1 else 0.05))
                if parameter.dim() < 2:
                    parameter.add_(0.5)
        return model.to(torch.bfloat16)

    def output_of(self, model: Any, dtype: torch.dtype) -> torch.Tensor:
        """The last of what a model computes, with inputs in a dtype."""

        def cast(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(cast(one) for one in value)
            if isinstance(value, dict):
                return {key: cast(one) for key, one in value.items()}
            is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
            return value.to(dtype) if is_float else value

        with torch.no_grad():
            output = model(**cast(self.inputs), return_dict=False)
        while isinstance(output, (list, tuple)):
            output = output[-1]
        return output.float()


DENOISERS = [
    Denoiser(
        "SD3Transformer2DModel",
        {**WIDTH, "sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 2, "joint_attention_dim": 32, "caption_projection_dim": 64, "pooled_projection_dim": 32, "pos_embed_max_size": 8, "dual_attention_layers": (0,), "qk_norm": "rms_norm"},
        {"hidden_states": noise(1, 4, 8, 8), "encoder_hidden_states": noise(1, 6, 32), "pooled_projections": noise(1, 32), "timestep": TIME},
    ),
    Denoiser(
        "FluxTransformer2DModel",
        {**WIDTH, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 32, "pooled_projection_dim": 32, "guidance_embeds": True, "axes_dims_rope": (8, 12, 12)},
        {**FLUX, "pooled_projections": noise(1, 32), "guidance": torch.tensor([4.0])},
    ),
    Denoiser(
        "ChromaTransformer2DModel",
        {**WIDTH, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 32, "axes_dims_rope": (8, 12, 12), "approximator_num_channels": 64, "approximator_hidden_dim": 64, "approximator_layers": 2},
        FLUX,
    ),
    Denoiser(
        "Flux2Transformer2DModel",
        {**WIDTH, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 32, "timestep_guidance_channels": 32, "axes_dims_rope": (8, 8, 8, 8)},
        {**FLUX, **FOUR, "guidance": torch.tensor([4.0])},
    ),
    Denoiser(
        "Flux3Transformer2DModel",
        {**WIDTH, "in_channels": 16, "cond_in_channels": 16, "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 32, "timestep_channels": 32, "axes_dims_rope": (8, 8, 8, 8)},
        {**FLUX, **FOUR},
    ),
    Denoiser(
        "ErnieImageTransformer2DModel",
        {"hidden_size": 64, "num_attention_heads": 2, "num_layers": 2, "ffn_hidden_size": 64, "in_channels": 4, "out_channels": 4, "text_in_dim": 32, "rope_axes_dim": (8, 12, 12)},
        {"hidden_states": noise(1, 4, 4, 4), "timestep": TIME, "text_bth": noise(1, 6, 32), "text_lens": torch.tensor([6])},
    ),
    Denoiser(
        "LTXVideoTransformer3DModel",
        {**WIDTH, "in_channels": 8, "out_channels": 8, "cross_attention_dim": 64, "num_layers": 2, "caption_channels": 32},
        {"hidden_states": noise(1, 32, 8), "encoder_hidden_states": noise(1, 6, 32), "timestep": TIME, "encoder_attention_mask": torch.ones(1, 6), "num_frames": 2, "height": 4, "width": 4},
    ),
    Denoiser(
        "MochiTransformer3DModel",
        {**WIDTH, "num_layers": 2, "pooled_projection_dim": 32, "in_channels": 4, "text_embed_dim": 32, "time_embed_dim": 32, "max_sequence_length": 6},
        {**VIDEO, "encoder_attention_mask": torch.ones(1, 6).bool()},
    ),
    Denoiser(
        "HunyuanVideoTransformer3DModel",
        {**WIDTH, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 32, "pooled_projection_dim": 32, "rope_axes_dim": (8, 12, 12)},
        {**VIDEO, "encoder_attention_mask": torch.ones(1, 6), "pooled_projections": noise(1, 32), "guidance": torch.tensor([4096.0])},
    ),
    Denoiser(
        "AuraFlowTransformer2DModel",
        {**WIDTH, "sample_size": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "joint_attention_dim": 32, "caption_projection_dim": 64, "pos_embed_max_size": 64},
        {"hidden_states": noise(1, 4, 8, 8), "encoder_hidden_states": noise(1, 6, 32), "timestep": torch.tensor([0.5])},
    ),
    Denoiser(
        "Lumina2Transformer2DModel",
        {"sample_size": 8, "in_channels": 4, "hidden_size": 64, "num_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 32, "axes_dim_rope": (8, 12, 12), "axes_lens": (32, 32, 32), "cap_feat_dim": 32},
        {"hidden_states": noise(1, 4, 8, 8), "timestep": torch.tensor([0.5]), "encoder_hidden_states": noise(1, 6, 32), "encoder_attention_mask": torch.ones(1, 6).bool()},
    ),
    Denoiser(
        "SanaTransformer2DModel",
        {**WIDTH, "in_channels": 4, "out_channels": 4, "num_layers": 2, "num_cross_attention_heads": 2, "cross_attention_head_dim": 32, "cross_attention_dim": 64, "caption_channels": 32, "sample_size": 8},
        {"hidden_states": noise(1, 4, 8, 8), "encoder_hidden_states": noise(1, 6, 32), "timestep": TIME},
    ),
    Denoiser("WanTransformer3DModel", WAN, VIDEO),
    Denoiser("WanTransformer3DModel", {**WAN, "image_dim": 32, "added_kv_proj_dim": 64}, {**VIDEO, "encoder_hidden_states_image": noise(1, 5, 32)}, "image to video"),
    Denoiser(
        "WanVACETransformer3DModel",
        {**WAN, "vace_layers": [0], "vace_in_channels": 8},
        {**VIDEO, "control_hidden_states": noise(1, 8, 2, 8, 8)},
    ),
    Denoiser("SkyReelsV2Transformer3DModel", WAN, VIDEO),
    Denoiser("ChronoEditTransformer3DModel", WAN, VIDEO),
    Denoiser(
        "HiDreamImageTransformer2DModel",
        {**WIDTH, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1, "caption_channels": [32, 32], "text_emb_dim": 32, "axes_dims_rope": (8, 12, 12), "max_resolution": (16, 16), "llama_layers": [0, 0]},
        {"hidden_states": noise(1, 4, 8, 8), "timesteps": TIME, "encoder_hidden_states_t5": noise(1, 6, 32), "encoder_hidden_states_llama3": noise(1, 1, 6, 32), "pooled_embeds": noise(1, 32)},
    ),
    Denoiser(
        "CosmosTransformer3DModel",
        {**WIDTH, "in_channels": 4, "out_channels": 4, "num_layers": 2, "text_embed_dim": 32, "adaln_lora_dim": 32, "max_size": (4, 16, 16), "concat_padding_mask": False},
        {**VIDEO, "fps": 16},
    ),
    Denoiser(
        "QwenImageTransformer2DModel",
        {**WIDTH, "in_channels": 16, "out_channels": 4, "num_layers": 2, "joint_attention_dim": 32, "axes_dims_rope": (8, 12, 12)},
        {"hidden_states": noise(1, 16, 16), "encoder_hidden_states": noise(1, 6, 32), "encoder_hidden_states_mask": torch.ones(1, 6).bool(), "timestep": torch.tensor([0.5]), "img_shapes": [[(1, 4, 4)]]},
    ),
    Denoiser(
        "QwenImage21Transformer2DModel",
        {**WIDTH, "in_channels": 16, "out_channels": 16, "num_layers": 2, "context_in_dim": 32, "axes_dims_rope": (8, 12, 12)},
        {"hidden_states": noise(1, 16, 16), "encoder_hidden_states": noise(1, 6, 32), "timestep": torch.tensor([0.5]), "img_shapes": [[(1, 4, 4)]], "img_mask": torch.tensor([[False] * 6 + [True] * 4])},
    ),
    Denoiser(
        "Krea2Transformer2DModel",
        {**WIDTH, "in_channels": 16, "num_layers": 2, "num_key_value_heads": 1, "intermediate_size": 64, "timestep_embed_dim": 32, "text_hidden_dim": 32, "num_text_layers": 2, "text_num_attention_heads": 1, "text_num_key_value_heads": 1, "text_intermediate_size": 64, "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 1, "axes_dims_rope": (8, 12, 12)},
        {"hidden_states": noise(1, 16, 16), "encoder_hidden_states": noise(1, 6, 2, 32), "timestep": torch.tensor([0.5]), "position_ids": torch.zeros(22, 3)},
    ),
    Denoiser(
        "ZImageTransformer2DModel",
        {"in_channels": 4, "dim": 64, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 32, "axes_dims": [8, 12, 12], "axes_lens": [64, 32, 32]},
        {"x": [noise(4, 1, 8, 8)], "t": torch.tensor([0.5]), "cap_feats": [noise(6, 32)]},
    ),
    Denoiser(
        "LTX2VideoTransformer3DModel",
        {**WIDTH, "in_channels": 8, "out_channels": 8, "cross_attention_dim": 64, "audio_in_channels": 8, "audio_out_channels": 8, "audio_num_attention_heads": 2, "audio_attention_head_dim": 16, "audio_cross_attention_dim": 32, "num_layers": 2, "caption_channels": 32},
        {"hidden_states": noise(1, 32, 8), "audio_hidden_states": noise(1, 4, 8), "encoder_hidden_states": noise(1, 6, 32), "audio_encoder_hidden_states": noise(1, 6, 32), "timestep": TIME, "num_frames": 2, "height": 4, "width": 4, "audio_num_frames": 4},
    ),
    Denoiser(
        "MotifVideoTransformer3DModel",
        {**WIDTH, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1, "text_embed_dim": 32, "rope_axes_dim": (8, 12, 12)},
        VIDEO,
    ),
    Denoiser(
        "UNet2DConditionModel",
        {**UNET, **UP},
        {"sample": noise(1, 4, 8, 8), "timestep": TIME, "encoder_hidden_states": noise(1, 6, 32)},
        "SD1",
    ),
    Denoiser(
        "UNet2DConditionModel",
        {**UNET, **UP, "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80},
        {"sample": noise(1, 4, 8, 8), "timestep": TIME, "encoder_hidden_states": noise(1, 6, 32), "added_cond_kwargs": {"text_embeds": noise(1, 32), "time_ids": torch.ones(1, 6)}},
        "SDXL",
    ),
    Denoiser(
        "ControlNetModel",
        {**UNET, "conditioning_embedding_out_channels": (16, 32)},
        {"sample": noise(1, 4, 8, 8), "timestep": TIME, "encoder_hidden_states": noise(1, 6, 32), "controlnet_cond": noise(1, 3, 16, 16)},
    ),
    Denoiser(
        "StableCascadeUNet",
        {"in_channels": 4, "out_channels": 4, "timestep_ratio_embedding_dim": 32, "conditioning_dim": 64, "block_out_channels": (64, 64), "num_attention_heads": (2, 2), "down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1), "clip_text_pooled_in_channels": 32, "clip_text_in_channels": 32, "clip_image_in_channels": 32},
        {"sample": noise(1, 4, 8, 8), "timestep_ratio": torch.tensor([0.0]), "clip_text_pooled": noise(1, 1, 32), "clip_text": noise(1, 6, 32), "clip_img": noise(1, 1, 32)},
    ),
    Denoiser(
        "AutoencoderKL",
        {"block_out_channels": (32, 64), "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 8},
        {"sample": noise(1, 3, 16, 16)},
    ),
]  # fmt: skip
