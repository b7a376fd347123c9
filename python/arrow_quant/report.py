"""The report of a run and of its errors: one row per tensor, as a table, as HTML, as a chart."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from ._lib import report_section

if TYPE_CHECKING:
    from ._lib import Array

__all__ = ["Plan", "Report"]

# Rows of a table in a notebook; the rest is one call away.
SHOWN = 60


class _Tensors:
    """One row per tensor. Anything that takes Arrow data takes it."""

    def __init__(self, table: Array) -> None:
        self._table = table

    def __arrow_c_schema__(self) -> Any:
        return self._table.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
        return self._table.__arrow_c_array__(requested_schema)

    def __len__(self) -> int:
        return len(self._table)

    def to_pyarrow(self) -> Any:
        """A `pyarrow.Table`, one row per tensor."""
        import pyarrow as pa

        return pa.Table.from_batches([self._table.to_pyarrow()])

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, one row per tensor; needs pandas."""
        return self.to_pyarrow().to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """One dict per tensor."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

    def _summary(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._summary()}>"

    def _repr_html_(self) -> str:
        rows = self.to_pylist()
        names = list(rows[0]) if rows else []
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(row[name]))}</td>" for name in names) + "</tr>" for row in rows[:SHOWN]
        )
        more = f"<p>{len(rows) - SHOWN} more tensors: <code>to_pandas()</code></p>" if len(rows) > SHOWN else ""
        return f"<p>{escape(self._summary())}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.1f} TB"


class Plan(_Tensors):
    """The plan of `quantize_model(..., dry_run=True)`: the choice for each tensor and its bytes before and after."""

    def _summary(self) -> str:
        rows = self.to_pylist()
        chosen = sum(row["bits"] is not None for row in rows)
        before, after = (sum(row[name] for row in rows) for name in ("bytes_in", "bytes_out"))
        return f"{chosen} of {len(rows)} tensors would be quantized: {_bytes(before)} to {_bytes(after)}"


class Report(_Tensors):
    """The report of a run: one row per tensor (name, shape, dtype, bits, group_size, bits_per_weight, sqnr_db, cosine, mse,
    max_abs_error, bytes_in, bytes_out, seconds, note), and the figures over all in `summary`.
    """

    def __init__(self, table: Array, summary: dict[str, Any]) -> None:
        super().__init__(table)
        self.summary = summary

    @property
    def output(self) -> str:
        """The folder."""
        return str(self.summary["output"])

    @property
    def sqnr_db(self) -> float | None:
        """The signal-to-quantization-noise ratio over all quantized weights in dB; None where nothing was lost."""
        value = self.summary["sqnr_db"]
        return None if value is None else float(value)

    @property
    def bits_per_weight(self) -> float | None:
        """Stored bits by quantized weights, all parameters counted; None where nothing was quantized."""
        value = self.summary["bits_per_weight"]
        return None if value is None else float(value)

    def _summary(self) -> str:
        figures = self.summary
        quality = "" if self.bits_per_weight is None else f" at {self.bits_per_weight:.3f} bits"
        if self.sqnr_db is not None:
            quality += f", {self.sqnr_db:.2f} dB SQNR"
        return (
            f"{figures['quantized_tensors']} of {figures['tensors']} tensors quantized{quality}; "
            f"{_bytes(figures['bytes_in'])} to {_bytes(figures['file_bytes'])} in {figures['seconds']:.1f} s"
        )

    def _repr_html_(self) -> str:
        return report_section(self)

    def plot(self) -> Any:
        """A `matplotlib` figure: the SQNR of each quantized tensor by layer, and the size before and after.

        Needs matplotlib.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        quantized = [row for row in self.to_pylist() if row["sqnr_db"] is not None]
        figure = Figure(figsize=(10, 4), layout="constrained")
        ratios, sizes = figure.subplots(1, 2, width_ratios=[3, 1])
        modules: dict[str, list[tuple[float, float]]] = {}
        for position, row in enumerate(quantized):
            layer = next((int(part) for part in row["name"].split(".") if part.isdigit()), None)
            module = ".".join(part for part in row["name"].split(".") if not part.isdigit()).removesuffix(".weight")
            at = position if layer is None else layer
            modules.setdefault(module, []).append((at, row["sqnr_db"]))
        for module, points in modules.items():
            ratios.plot(*zip(*points, strict=True), marker="o", label=module)
        ratios.xaxis.set_major_locator(MaxNLocator(integer=True))
        ratios.set(xlabel="layer", ylabel="SQNR (dB)", title="Signal to quantization noise")
        if 0 < len(modules) <= 12:
            ratios.legend(fontsize="x-small")
        figures = (self.summary["bytes_in"] / 1e6, self.summary["file_bytes"] / 1e6)
        sizes.bar(["before", "after"], figures)
        sizes.set(ylabel="size (MB)", title="Size")
        return figure
