"""From a checkpoint to a folder of quantized weights, as `arrow-quant quantize` does it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, overload

from . import _lib
from .exceptions import ArgumentError
from .report import Plan, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Unpack

__all__ = ["Plan", "Report", "quantize_model"]

Path: TypeAlias = "str | os.PathLike[str]"
Progress: TypeAlias = "Callable[[int, int], object] | bool | None"
Patterns: TypeAlias = "str | Sequence[str]"


if TYPE_CHECKING:

    class Options(TypedDict, total=False):
        """The options beside the paths; `quantize_model` describes each."""

        bits: float | None
        group_size: int | str | None
        method: str | None
        symmetric: bool
        include: Patterns
        exclude: Patterns
        drop: Patterns
        min_share: float | None
        bits_for: Patterns | Mapping[str, float]
        min_sqnr: float | None
        target_size: int | str | None
        target_bpw: float | None
        threads: int | None
        memory_limit: int | str | None
        batch: bool
        resume: bool
        overwrite: bool
        force: bool
        no_check: bool
        format: str | None
        dtype: str | None
        shard_size: int | str | None
        gguf_type: str | None
        gguf_type_for: Patterns | Mapping[str, str]
        comfy_type: str | None
        comfy_type_for: Patterns | Mapping[str, str]
        mlx_type: str | None
        mlx_type_for: Patterns | Mapping[str, str]
        misfit: str | None
        gguf_architecture: str | None
        gguf_pre: str | None
        activations: Path | None
        time_groups: int | None
        time_method: str | None
        activation_bits: int | None
        activation_symmetric: bool
        equalize: float | str | None
        profile: str | None
        component: str | None
        hessians: Path | None
        spec: Mapping[str, object] | None
        progress: Progress


@overload
def quantize_model(
    path: Path, output: Path, *, dry_run: Literal[False] = False, **options: Unpack[Options]
) -> Report: ...
@overload
def quantize_model(
    path: Path, output: Path | None = None, *, dry_run: Literal[True], **options: Unpack[Options]
) -> Plan: ...
@overload
def quantize_model(
    path: Path, output: Path | None = None, *, dry_run: bool, **options: Unpack[Options]
) -> Report | Plan: ...
def quantize_model(
    path: Path,
    output: Path | None = None,
    *,
    bits: float | None = None,
    group_size: int | str | None = None,
    method: str | None = None,
    symmetric: bool = False,
    include: Patterns = (),
    exclude: Patterns = (),
    drop: Patterns = (),
    min_share: float | None = None,
    bits_for: Patterns | Mapping[str, float] = (),
    min_sqnr: float | None = None,
    target_size: int | str | None = None,
    target_bpw: float | None = None,
    threads: int | None = None,
    memory_limit: int | str | None = None,
    batch: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    dry_run: bool = False,
    no_check: bool = False,
    format: str | None = None,
    dtype: str | None = None,
    shard_size: int | str | None = None,
    gguf_type: str | None = None,
    gguf_type_for: Patterns | Mapping[str, str] = (),
    misfit: str | None = None,
    gguf_architecture: str | None = None,
    gguf_pre: str | None = None,
    comfy_type: str | None = None,
    comfy_type_for: Patterns | Mapping[str, str] = (),
    mlx_type: str | None = None,
    mlx_type_for: Patterns | Mapping[str, str] = (),
    activations: Path | None = None,
    time_groups: int | None = None,
    time_method: str | None = None,
    activation_bits: int | None = None,
    activation_symmetric: bool = False,
    equalize: float | str | None = None,
    profile: str | None = None,
    component: str | None = None,
    hessians: Path | None = None,
    spec: Mapping[str, object] | None = None,
    progress: Progress = None,
) -> Report | Plan:
    """Quantizes a model into a folder.

    Args:
        path: a safetensors or GGUF file, a folder of shards, a diffusers folder, one that compressed-tensors packed
            or MLX quantized, or an output folder of this function.
        output: the folder to make.
        bits: bits per code: 2, 3, 4 or 8; with `method` 'entropy' any number from 1 to 8; 4 when left out, or the profile's.
        group_size: weights that share a scale and a zero point, or 'channel': all of a row; 32 when left out, or the
            profile's.
        method: 'search' (least squared error; the default up to 4 bits, and of 'mlx'), 'minmax', or 'entropy': codes of variable
            length, for storage.
        symmetric: without zero points.
        include: patterns of the tensors to quantize, instead of the default choice.
        exclude: patterns of tensors to leave as they are.
        drop: patterns of tensors to leave out of the output.
        min_share: fail, before anything is written, if less than this share of the parameters would be quantized: 0 to 1.
        bits_for: bits by pattern, as `{"mlp": 2}` or `"mlp=2"`; the last match counts.
        min_sqnr: more bits for the tensors whose signal-to-noise ratio would be lower than this, in dB; fails before anything
            is written where 8 bits do not reach it. With 'entropy' each tensor gets the largest step that keeps it.
        target_size: choose the bits of each tensor for the least error, so that all take at most this, in bytes or as "4GB";
            with 'entropy' one step for all.
        target_bpw: the same by bits per quantized weight, scales and zero points counted.
        threads: threads to use; all cores when left out.
        memory_limit: resident memory to stay below, in bytes or as "800MB".
        batch: read the whole model to memory first.
        resume: resume an interrupted run; one that was begun with `overwrite` replaces the folder.
        overwrite: replace the folder, or the rest of an interrupted run, unless it holds files that no run wrote.
        force: with `overwrite`, replace the folder with all that is in it. Files that the run reads are never replaced.
        dry_run: write nothing and give a `Plan`; weights are read only where bits are chosen by
            measurement, and for `fp8` and `nvfp4` of `comfy`, whose scale is one for a whole tensor.
        no_check: skip verification of the written files.
        format: the output format: 'parquet' (the default) or 'arrow', or for other programs 'safetensors',
            'compressed-tensors', 'gguf', 'comfy' or 'mlx'.
        dtype: the floats of 'safetensors': 'F16', 'BF16', 'F32' or 'F64'; as in the source when left out.
        shard_size: the most bytes of a safetensors file, or as "2GB"; 5 GB when left out.
        gguf_type: the type of the quantized tensors of 'gguf', such as 'Q4_K'; by `bits` when left out.
        gguf_type_for: types by pattern, as `{"ffn_down": "Q6_K"}` or `"ffn_down=Q6_K"`; the last match counts.
        misfit: a tensor whose rows are not whole blocks of its type: 'fallback' (to a type of 32 weights where that fits; the
            default), 'keep' (copy unchanged) or 'error'.
        gguf_architecture: the `general.architecture` of 'gguf', such as 'flux'; by the tensors' names when left out.
        gguf_pre: the `tokenizer.ggml.pre` of 'gguf', such as 'qwen2', where the tokenizer's split pattern is not known.
        comfy_type: the type of the layers of 'comfy': 'int8' (the default), 'int8-rows', 'w4a8', 'w6a8', 'w4a4', 'fp8',
            'nvfp4' or 'mxfp8'.
        comfy_type_for: types by pattern, as `{"mlp": "w4a8"}`; the last match counts.
        mlx_type: the type of the layers of 'mlx': 'int2', 'int3', 'int4', 'int5', 'int6', 'int8', 'mxfp4', 'mxfp8' or 'nvfp4';
            by `bits` when left out.
        mlx_type_for: types by pattern, as `{"down_proj": "int6"}`; the last match counts.
        activations: a file of activations that calibration wrote: make a quantizer for the input of each quantized layer.
        time_groups: groups of timesteps with a quantizer of their own; 8 when left out, or the profile's.
        time_method: how time is cut: 'optimal' (the default), 'uniform' or 'quantile'.
        activation_bits: bits per activation: 2 to 8; 8 when left out, or the profile's.
        activation_symmetric: activation quantizers whose zero point is the middle code.
        equalize: trade range between activations and weights: a number from 0 to 1, 'auto' or 'log'; or, without
            `activations`, among the channels of the weights: 'weights'.
        component: take this part of a diffusers pipeline alone, such as 'transformer'; when left out, of a pipeline all denoisers
            and text encoders are quantized and the rest is copied (with `format` 'safetensors', or text encoders alone with
            'compressed-tensors'; with other formats the denoiser alone is taken).
        profile: named settings, of which single ones may be changed: 'edge', 'local' or 'cloud'.
        hessians: a file of Hessians that calibration wrote: quantize the tensors that it names by GPTQ, for the least error of
            the layers' outputs. Not with `equalize`: they are those of inputs that are not equalized.
        spec: all options that change the result in one mapping, by their names here, instead of single ones.
        progress: called as `progress(done, total)`, in bytes of the source; what it raises stops the run. Each pass over the
            weights counts its own bytes, from 0 to `total`: those before weights are quantized (for bits that are chosen by
            measurement, and for `equalize` 'auto' and 'weights'), the one that quantizes, and for other formats than parts
            the one after. Those of parts that are read back count twice in the one that quantizes: once written, once read
            back. When left out, a bar of tqdm in a notebook and on a terminal, where tqdm is installed. False shows nothing,
            True a bar in any case.

    Returns:
        The `Report`: one row per tensor and the figures over all. With `dry_run`, the `Plan`.

    Raises:
        ArgumentError: when an option is not accepted.
        ArrowQuantError: when a goal cannot be reached.
        FileError: when the model cannot be read or the folder not be written.
        DataError: when the weights cannot be quantized.
        KeyboardInterrupt: on Ctrl-C; `resume=True` continues from there.
    """
    options = {
        "bits": bits,
        "group_size": group_size,
        "method": method,
        "symmetric": symmetric,
        "include": _patterns(include),
        "exclude": _patterns(exclude),
        "drop": _patterns(drop),
        "min_share": min_share,
        "bits_for": _rules(bits_for),
        "min_sqnr": min_sqnr,
        "target_size": target_size,
        "target_bpw": target_bpw,
        "format": format,
        "dtype": dtype,
        "shard_size": shard_size,
        "gguf_type": gguf_type,
        "gguf_type_for": _rules(gguf_type_for),
        "misfit": misfit,
        "gguf_architecture": gguf_architecture,
        "gguf_pre": gguf_pre,
        "comfy_type": comfy_type,
        "comfy_type_for": _rules(comfy_type_for),
        "mlx_type": mlx_type,
        "mlx_type_for": _rules(mlx_type_for),
        "activations": None if activations is None else os.fspath(activations),
        "time_groups": time_groups,
        "time_method": time_method,
        "activation_bits": activation_bits,
        "activation_symmetric": activation_symmetric,
        "equalize": equalize,
        "hessians": None if hessians is None else os.fspath(hessians),
    }
    # Not by comparison: 0 equals False, and is a value that is refused or counts.
    given = {name: value for name, value in options.items() if not (value is None or value is False or value == [])}
    if spec is None:
        spec = given
    elif given or profile is not None:
        raise ArgumentError(f"spec= holds every option that changes the result; {min(given, default='profile')}= is given as well")
    settings = {
        "profile": profile,
        "component": component,
        "threads": threads,
        "memory_limit": memory_limit,
        "batch": batch,
        "existing": {"resume": resume, "overwrite": overwrite, "force": force},
        "no_check": no_check,
        "dry_run": dry_run,
    }
    with _progress(progress) as tell:
        outcome = _lib.quantize_model(
            os.fspath(path), None if output is None else os.fspath(output), dict(spec), settings, tell
        )
    if dry_run:
        return Plan(outcome["table"])
    return Report(outcome["table"], json.loads(outcome["summary"]))


def _patterns(patterns: Patterns) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _rules(rules: Patterns | Mapping[str, object]) -> list[str]:
    """Returns the rules as `PATTERN=VALUE`."""
    return [f"{pattern}={value}" for pattern, value in rules.items()] if isinstance(rules, Mapping) else _patterns(rules)


@contextmanager
def _progress(progress: Progress) -> Iterator[Callable[[int, int, str], object] | None]:
    """Returns the callable that reports the progress of each pass."""
    if callable(progress):
        yield lambda done, total, _: progress(done, total)
        return
    if progress is False or (progress is None and not (sys.stderr.isatty() or _in_notebook())):
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if progress:
            raise
        yield None
        return
    with tqdm(unit="B", unit_scale=True) as bar:
        begun = ""

        def tell(done: int, total: int, name: str) -> None:
            nonlocal begun
            if name != begun:
                begun = name
                bar.set_description(name, refresh=False)
                bar.reset(total)
            bar.update(done - bar.n)
            if done == total:
                # The end of a short pass would come too soon after its start to be drawn.
                bar.refresh()

        yield tell


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
