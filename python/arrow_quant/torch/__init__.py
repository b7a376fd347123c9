"""Quantized models in torch: calibration of activations, and models that run with quantized weights and activations.

    from arrow_quant.torch import Calibration, load, state_dict

    with Calibration(model, "activations.parquet"):      # the user's own sampler, unchanged
        sample(model, ...)
    # arrow-quant quantize MODEL --output OUT --bits 4 --activations activations.parquet --time-groups 8
    load("OUT", model)                                    # W4A8, the timestep is learned at each call of the model
    weights = state_dict("OUT")                           # or plain weights, for any other use

Needs torch, numpy and pyarrow.
"""

from .calibration import Calibration
from .layers import ActivationQuantizer, Clock, QuantConv2d, QuantLinear
from .load import load, state_dict

__all__ = ["ActivationQuantizer", "Calibration", "Clock", "QuantConv2d", "QuantLinear", "load", "state_dict"]
