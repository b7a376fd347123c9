"""The timestep of a denoiser's call, found in its arguments."""

import inspect
import math

import torch

NAMES = ("timestep", "timesteps", "t", "time", "sigma", "sigmas", "noise_level")
TOKENS = ("input_ids", "tokens", "x")


class Timestep:
    """Reads the timestep from the arguments of a denoiser's call.

    `argument` is the name of the argument, or its position; by default the first of `timestep`, `timesteps`, `t`,
    `time`, `sigma`, `sigmas`, `noise_level` that the denoiser's `forward` has. With `mask_token_id`, for masked
    diffusion, the timestep is the share of tokens that are masked instead (of `input_ids`, `tokens` or `x`, or the
    argument named).
    """

    def __init__(self, denoiser, argument=None, mask_token_id=None):
        parameters = list(inspect.signature(denoiser.forward).parameters)
        wanted = TOKENS if mask_token_id is not None else NAMES
        if argument is None:
            argument = next((name for name in wanted if name in parameters), None)
            if argument is None:
                held = "timestep" if mask_token_id is None else "tokens"
                raise ValueError(
                    f"{type(denoiser).__name__}.forward({', '.join(parameters)}) has none of the arguments "
                    f"{', '.join(wanted)}: name the one that holds the {held}"
                )
        self.name = argument if isinstance(argument, str) else None
        if self.name is None:
            self.position = argument
        else:
            self.position = parameters.index(argument) if argument in parameters else None
        self.mask_token_id = mask_token_id

    def __call__(self, args, kwargs):
        """Returns the timestep of a call, as a float.

        Raises ValueError where there is none, where it is not finite, or where the samples of a batch have several.
        """
        if self.name is not None and self.name in kwargs:
            value = kwargs[self.name]
        elif self.position is not None and self.position < len(args):
            value = args[self.position]
        else:
            raise ValueError(f"the denoiser was called without its argument {self.name or self.position}")
        if self.mask_token_id is not None:
            return float((torch.as_tensor(value) == self.mask_token_id).double().mean())
        values = torch.as_tensor(value).detach().double().flatten().unique().tolist()
        if len(values) != 1:
            raise ValueError(f"one call of the denoiser must be of one timestep, not of {len(values)}")
        if not math.isfinite(values[0]):
            raise ValueError(f"the timestep of a call must be finite, not {values[0]}")
        return values[0]
