"""Layers with quantized weights and activations."""

from bisect import bisect_right

import torch
import torch.nn.functional as F
from torch import nn


class Clock:
    """The timestep of the running call of the denoiser: set once per call, read by every layer."""

    def __init__(self):
        self.timestep = None


class ActivationQuantizer:
    """Rounds activations to the codes of the quantizer that their timestep has.

    Group `g` holds the timesteps `t` with `edges[g - 1] <= t < edges[g]`; `scales[g]` and `zero_points[g]` are its
    quantizer: `x = scale * (code - zero_point)`, codes from 0 to `2**bits - 1`.
    """

    def __init__(self, clock, edges, scales, zero_points, bits):
        if not len(edges) + 1 == len(scales) == len(zero_points):
            raise ValueError(f"{len(edges)} edges take {len(edges) + 1} scales and zero points, not {len(scales)}")
        self.clock, self.edges, self.bits = clock, list(edges), bits
        self.scales, self.zero_points = list(scales), list(zero_points)

    def group(self):
        """Returns the group of the clock's timestep."""
        if not self.edges:
            return 0
        if self.clock.timestep is None:
            raise RuntimeError("the layer's quantizer depends on the timestep, and none was set: call the whole model")
        return bisect_right(self.edges, self.clock.timestep)

    def __call__(self, x):
        group = self.group()
        scale, zero_point = self.scales[group], self.zero_points[group]
        codes = (torch.round(x / scale) + zero_point).clamp(0, 2**self.bits - 1)
        return (codes - zero_point) * scale


class _Quantized(nn.Module):
    """The base of both layers: the weights as decoded, and what is done to the input."""

    def __init__(self, layer, weight, quantizer=None, input_scale=None):
        super().__init__()
        if weight.shape != layer.weight.shape:
            raise ValueError(f"the weights are {list(weight.shape)}, the layer's {list(layer.weight.shape)}")
        self.register_buffer("weight", weight.to(layer.weight))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        self.register_buffer("input_scale", None if input_scale is None else input_scale.to(layer.weight))
        self.quantizer = quantizer

    def prepare(self, x):
        """Returns the input as the quantizer decodes it."""
        if self.input_scale is not None:
            x = x * self.input_scale
        return x if self.quantizer is None else self.quantizer(x)


class QuantLinear(_Quantized):
    """A linear layer: the weights of `layer` replaced by decoded ones, the input scaled and quantized first.

    `input_scale` is one number per input channel, of an equalized layer; `quantizer` an `ActivationQuantizer`, or None
    to leave the input as it is. The computation is in floats: it gives what integer arithmetic would, not its speed.
    """

    def forward(self, x):
        return F.linear(self.prepare(x), self.weight, self.bias)


class QuantConv2d(_Quantized):
    """A convolution with quantized weights and input: see `QuantLinear`. Convolutions are not equalized."""

    def __init__(self, layer, weight, quantizer=None, input_scale=None):
        if layer.padding_mode != "zeros":
            raise ValueError(f"convolutions are padded with zeros, not with {layer.padding_mode!r}")
        super().__init__(layer, weight, quantizer, input_scale)
        self.options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}

    def forward(self, x):
        return F.conv2d(self.prepare(x), self.weight, self.bias, **self.options)
