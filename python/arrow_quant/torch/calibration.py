"""Calibration: what the inputs of a model's layers look like at every timestep."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from .timestep import Timestep

_LIST = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("timestep", pa.float64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("channel_min", _LIST, nullable=False),
        pa.field("channel_max", _LIST, nullable=False),
        pa.field("channel_mean_square", _LIST, nullable=False),
    ]
)
HESSIAN_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("hessian", pa.list_(pa.float64()), nullable=False),
    ]
)
# What is kept before it is written, in bytes.
BUFFER = 16 << 20


class Calibration:
    """Writes the table of activations while a sampler runs, as `arrow-quant quantize --activations` takes it.

        with Calibration(model, "activations.parquet"):
            sample(model, ...)

    `model` is the denoiser: the module that is called once per step (of a diffusers pipeline, `pipe.transformer` or
    `pipe.unet`). The inputs of its linear and convolution layers are measured, or of those in `layers` (names of
    modules). `timestep` and `mask_token_id` say how the timestep is learned: see `Timestep`.

    The file has one row per layer and timestep (several where a timestep comes again after others): `name` (of the
    weight tensor), `timestep`, `tokens` (input vectors seen), and per input channel `channel_min`, `channel_max` and
    `channel_mean_square`. Memory holds the statistics of one timestep and a buffer of 16 MiB. The file appears under
    its name when the block ends without an error.

    With `hessians`, a path, the inputs of the linear layers are correlated as well: one row per layer with `name`,
    `tokens` and `hessian`, the mean of `x[i] * x[j]` over all tokens of all timesteps, the upper triangle row after
    row. That takes the square of its width for every layer, in memory and in time.

    Raises ValueError where no timestep can be learned, a name in `layers` is no such layer, or an activation is NaN or
    infinite (the message names layer and timestep); RuntimeError where the block ends without a call of the model.
    """

    def __init__(self, model, path, *, timestep=None, mask_token_id=None, layers=None, hessians=None):
        self.path = Path(path)
        self._model = model
        self._learn = Timestep(model, timestep, mask_token_id)
        found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
        for name in layers or ():
            if name not in found:
                raise ValueError(f"{name!r} is no linear or convolution layer of the model")
        self._layers = found if layers is None else {name: found[name] for name in layers}
        self._hessians = None if hessians is None else Path(hessians)
        self._products = {}
        self._timestep = None
        self._sums = {}
        self._rows = []
        self._written = 0

    def __enter__(self):
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")
        # One block, and sums that stay where they are: small arrays between those of the model would keep its memory
        # from being used again.
        self._values, self._filled = np.empty(BUFFER // 4, np.float32), 0
        self._hooks = [self._model.register_forward_pre_hook(self._step, with_kwargs=True)]
        for name, module in self._layers.items():
            self._hooks.append(module.register_forward_pre_hook(self._measure(name, module)))
        return self

    def __exit__(self, kind, error, trace):
        for hook in self._hooks:
            hook.remove()
        try:
            if kind is None:
                self._flush()
                self._write()
        finally:
            self._writer.close()
            if kind is not None or not self._written:
                self._partial.unlink()
        if kind is None and not self._written:
            raise RuntimeError("no layer of the model was called: there is nothing to calibrate with")
        if kind is None:
            if self._hessians is not None:
                self._write_hessians()
            self._partial.rename(self.path)

    def _step(self, module, args, kwargs):
        timestep = self._learn(args, kwargs)
        if timestep != self._timestep:
            self._flush()
            self._timestep = timestep

    def _measure(self, name, module):
        @torch.no_grad()
        def hook(module, args):
            if self._timestep is None:
                raise ValueError(f"layer {name!r} was called outside the model: its timestep is not known")
            x = args[0].detach().float()
            # All dimensions but that of the channels.
            x = x.movedim(-3, -1).flatten(0, -2) if isinstance(module, nn.Conv2d) else x.flatten(0, -2)
            if not len(x):
                return
            low, high = torch.aminmax(x, dim=0)
            squares = x.square().sum(0)
            if name not in self._sums:
                self._sums[name] = [0, low.clone(), high.clone(), squares.clone()]
            sums = self._sums[name]
            if sums[0] == 0:
                for kept, new in zip(sums[1:], (low, high, squares), strict=True):
                    kept.copy_(new)
            else:
                torch.minimum(sums[1], low, out=sums[1])
                torch.maximum(sums[2], high, out=sums[2])
                sums[3] += squares
            sums[0] += len(x)
            if self._hessians is not None and isinstance(module, nn.Linear):
                self._correlate(name, x)

        return hook

    def _correlate(self, name, x):
        if name not in self._products:
            self._products[name] = [0, torch.zeros(x.shape[1], x.shape[1], device=x.device)]
        self._products[name][0] += len(x)
        self._products[name][1].addmm_(x.T, x)

    def _write_hessians(self):
        partial = self._hessians.with_name(self._hessians.name + ".partial")
        with pq.ParquetWriter(partial, HESSIAN_SCHEMA, compression="zstd") as writer:
            for name, (tokens, products) in self._products.items():
                mean = products.cpu().double().numpy() / tokens
                triangle = mean[np.triu_indices(len(mean))]
                hessian = pa.ListArray.from_arrays(pa.array([0, len(triangle)], pa.int32()), pa.array(triangle))
                columns = [
                    pa.array([f"{name}.weight"]),
                    pa.array([tokens]),
                    hessian.cast(HESSIAN_SCHEMA.field("hessian").type),
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=HESSIAN_SCHEMA))
        partial.rename(self._hessians)

    def _flush(self):
        """Makes rows of the statistics of the timestep that has ended."""
        for name, sums in self._sums.items():
            tokens, width = sums[0], len(sums[1])
            if tokens == 0:
                continue
            if self._filled + 3 * width > len(self._values):
                self._write()
            if 3 * width > len(self._values):
                self._values = np.empty(3 * width, np.float32)
            row = self._values[self._filled : self._filled + 3 * width].reshape(3, width)
            for into, values in zip(row, sums[1:], strict=True):
                torch.from_numpy(into).copy_(values)
            row[2] /= tokens
            if not np.isfinite(row).all():
                raise ValueError(f"layer {name!r} at timestep {self._timestep}: an activation is NaN or infinite")
            self._rows.append((f"{name}.weight", self._timestep, tokens, row))
            self._filled += 3 * width
            sums[0] = 0

    def _write(self):
        if self._rows:
            names, timesteps, tokens, values = zip(*self._rows, strict=True)
            offsets = np.cumsum([0, *(row.shape[1] for row in values)], dtype=np.int32)
            columns = [pa.array(names), pa.array(timesteps), pa.array(tokens, pa.int64())]
            for field, numbers in zip(SCHEMA.names[3:], zip(*values, strict=True), strict=True):
                flat = pa.array(np.concatenate(numbers))
                columns.append(pa.ListArray.from_arrays(offsets, flat, type=SCHEMA.field(field).type))
            self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
            self._written += len(self._rows)
        self._rows, self._filled = [], 0
