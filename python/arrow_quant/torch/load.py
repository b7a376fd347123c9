"""Quantized folders into torch models."""

import torch
from torch import nn

from .folder import Folder
from .layers import ActivationQuantizer, Clock, QuantConv2d, QuantLinear
from .timestep import Timestep


def state_dict(folder, dtype=torch.float32):
    """Returns the weights of a folder that `arrow-quant quantize` wrote, decoded: `{name: tensor}`.

    Quantized tensors are of `dtype`, the others as stored. The weights fit the original model, with nothing to be done to
    its activations: of an equalized folder, scales of inputs are multiplied into the weights, and factors that are folded
    into other tensors stay there.
    """
    folder = Folder(folder)
    weights = {}
    for name, tensor, quantized in folder.tensors():
        if name in folder.input_scales:
            tensor = tensor * folder.input_scales[name]
        weights[name] = tensor.to(dtype) if quantized else tensor
    return weights


def load(folder, model, *, timestep=None, mask_token_id=None, activations=True):
    """Puts a quantized folder into `model`, the module that is called once per step, and returns it.

    Linear and convolution layers whose weights are quantized become `QuantLinear` and `QuantConv2d`; the input of those
    with activation quantizers is quantized by the one of the timestep, which each call of `model` sets: `timestep` and
    `mask_token_id` say how it is learned, as in `Calibration`. With `activations=False` inputs are left in full
    precision. Everything else is loaded as decoded. Layers of the folder that have no activation quantizer take their
    input as it is.

    Raises ValueError where names or shapes of the folder and the model differ.
    """
    folder = Folder(folder)
    params = folder.activation_params() if activations else {}
    clock = Clock()
    state, replaced = {}, {}
    for name, tensor, quantized in folder.tensors():
        module = _module(model, name)
        scale = folder.input_scales.get(name)
        if quantized and isinstance(module, nn.Linear | nn.Conv2d):
            kind = QuantLinear if isinstance(module, nn.Linear) else QuantConv2d
            try:
                replaced[name.removesuffix(".weight")] = (
                    kind,
                    tensor,
                    _quantizer(params.pop(name, None), clock),
                    scale,
                )
            except ValueError as error:
                raise ValueError(f"{folder.path}: {name}: {error}") from None
        state[name] = tensor if scale is None else tensor * scale
    if params:
        raise ValueError(f"{folder.path}: {next(iter(params))} has activation quantizers, but is no layer of the model")
    missing, unexpected = _load_state(model, state)
    if missing or unexpected:
        what = f"lacks {missing[0]}" if missing else f"has {unexpected[0]}, which the model does not have"
        raise ValueError(f"{folder.path}: {what}")
    for name, (kind, weight, quantizer, scale) in replaced.items():
        parent, _, leaf = name.rpartition(".")
        layer = kind(model.get_submodule(name), weight, quantizer, scale)
        setattr(model.get_submodule(parent), leaf, layer)
    if any(quantizer is not None and quantizer.edges for _, _, quantizer, _ in replaced.values()):
        learn = Timestep(model, timestep, mask_token_id)
        model.register_forward_pre_hook(
            lambda module, args, kwargs: setattr(clock, "timestep", learn(args, kwargs)), with_kwargs=True
        )
    return model


def _module(model, name):
    """Returns the module that a weight belongs to, or None."""
    if not name.endswith(".weight"):
        return None
    try:
        return model.get_submodule(name.removesuffix(".weight"))
    except AttributeError:
        return None


def _load_state(model, state):
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return missing, unexpected


def _quantizer(rows, clock):
    if rows is None:
        return None
    edges = [row["t_from"] for row in rows[1:]]
    return ActivationQuantizer(
        clock, edges, [row["scale"] for row in rows], [row["zero_point"] for row in rows], rows[0]["bits"]
    )
