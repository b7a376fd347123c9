"""Reads the folder that `arrow-quant quantize` writes."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..functions import dequantize

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class Folder:
    """A quantized model on disk: its tensors, and the quantizers of its activations where it has them."""

    def __init__(self, path):
        self.path = Path(path)
        manifest = self.path / "arrow_quant.json"
        if not manifest.is_file():
            raise FileNotFoundError(f"{manifest}: not found; {self.path} is not a folder that arrow-quant wrote")
        self.manifest = json.loads(manifest.read_text())
        if self.manifest["format_version"] not in (1, 2):
            raise ValueError(f"{manifest}: is of layout {self.manifest['format_version']}; 1 and 2 are read")
        if not self.manifest["complete"]:
            raise ValueError(f"{self.path}: was left by a run that did not finish")
        self.input_scales = self._input_scales()

    def _table(self, name):
        path = self.path / name
        return pq.read_table(path) if path.is_file() else None

    def _input_scales(self):
        table = self._table("equalization.parquet")
        if table is None:
            return {}
        # Those that are folded into other tensors have none.
        lists = zip(table["name"].to_pylist(), table["input_scale"], strict=True)
        return {name: torch.from_numpy(values.values.to_numpy().copy()) for name, values in lists if values.is_valid}

    def activation_params(self):
        """`{name: [row, ...]}`, the rows of a layer in the order of time; empty where there are no activations."""
        table = self._table("activation_params.parquet")
        layers = {}
        for row in [] if table is None else table.to_pylist():
            layers.setdefault(row["name"], []).append(row)
        return {name: sorted(rows, key=lambda row: row["time_group"]) for name, rows in layers.items()}

    def tensors(self):
        """Gives `(name, tensor, quantized)` for every tensor in order; quantized ones are decoded to float32."""
        entries = {entry["name"]: entry for entry in self.manifest["tensors"]}
        pending = {}
        for part in self.manifest["parts"]:
            for name, rows in self._rows(self.path / part["file"]):
                seen = pending.setdefault(name, [])
                seen.append(rows)
                entry = entries[name]
                shape = entry["shape"]
                count = math.prod(shape[: 1 if len(shape) > 3 else -1]) if len(shape) > 1 else 1
                if sum(len(rows) for rows in seen) == count:
                    yield self._tensor(name, entry, pa.concat_tables(pending.pop(name)))
        # A tensor without rows has no elements either.
        for name, entry in entries.items():
            if math.prod(entry["shape"]) == 0:
                yield name, torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]]), False
        if pending:
            raise ValueError(f"{self.path}: rows of {next(iter(pending))} are missing")

    def _rows(self, path):
        """Yields the rows of a part, as tables of one tensor each, in order."""
        columns = ["name", "quantized", "data"]
        if path.suffix == ".parquet":
            table = pq.read_table(path, columns=columns)
        else:
            table = pa.ipc.open_file(path).read_all().select(columns)
        names = table["name"].to_numpy()
        starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1), len(names)]
        for start, end in zip(starts, starts[1:], strict=False):
            if end > start:
                yield str(names[start]), table.slice(start, end - start)

    def _tensor(self, name, entry, table):
        if table["quantized"].null_count == 0:
            rows = np.concatenate([dequantize(chunk).to_numpy() for chunk in table["quantized"].chunks])
            return name, torch.from_numpy(rows).reshape(entry["shape"]), True
        data = b"".join(table["data"].to_pylist())
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{self.path}: tensor {name!r} is {entry['dtype']}, which torch does not have")
        tensor = torch.frombuffer(bytearray(data), dtype=DTYPES[entry["dtype"]])
        return name, tensor.reshape(entry["shape"]), False
