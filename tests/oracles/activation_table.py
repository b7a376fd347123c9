"""The table of activations that `--activations` takes, made with NumPy and pyarrow alone."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LISTS = [pa.field(f"channel_{what}", pa.list_(pa.float32()), nullable=False) for what in ("min", "max", "mean_square")]
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("timestep", pa.float64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        *LISTS,
    ]
)


def write_activations(path, inputs):
    """The table that calibration writes, of one timestep: `{tensor: [tokens, channels]}`."""
    rows = [
        {
            "name": name,
            "timestep": 0.0,
            "tokens": len(x),
            "channel_min": x.min(0),
            "channel_max": x.max(0),
            "channel_mean_square": (x.astype(np.float64) ** 2).mean(0),
        }
        for name, x in inputs.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return path
