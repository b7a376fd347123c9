"""Quantizes the weights and activations of the small digits transformer, static and by groups of timesteps.

    pip install . torch safetensors matplotlib scikit-learn
    cargo build --release
    python examples/time_aware_dit.py --output out/time_aware

Calibrates with the model's own sampler, quantizes with `arrow-quant quantize --activations`, and loads the result back
with `arrow_quant.torch`. Measures the squared error of the predicted noise against full precision on held-out digits
and noise, at timesteps over the whole range, for three seeds of calibration and noise; draws digits; and writes

- `results.json` and `results.md`: the tables,
- `time_aware_ranges.png`: the range of activations over time, with the edges of the groups,
- `time_aware_digits.png`: digits drawn by each variant from the same noise, how many a classifier recognizes, and how far
  the pixels are from those of full precision.

Weights are quantized by search, and by GPTQ with Hessians of the same calibration.

Takes about ten minutes of processor time. `--seeds 1 --judge 2 --activation-bits 8` is a quick look.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import torch
from digits_dit import add_noise, alpha_bars, draw_each_digit, load_model, real_digits, train_judge

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from arrow_quant.torch import Calibration, QuantLinear, load, state_dict

ROOT = Path(__file__).parents[1]

MODEL = ROOT / "tests/data/digits_dit"
BITS = (8, 6, 4)
# Timesteps at which the error is measured, one from each of as many equal ranges, and digits at each.
TIMES, DIGITS = 20, 60
# How the weights are quantized; both ways take calibration of the same run.
WEIGHTS = ("full", "4 bits", "4 bits, GPTQ")
VARIANTS = {
    "static": ["--time-groups", "1"],
    "8 groups, uniform": ["--time-groups", "8", "--time-method", "uniform"],
    "8 groups, optimal": ["--time-groups", "8"],
    "one per step": ["--time-groups", "1000"],
    "per token, at run time": ["--time-groups", "1"],
    "8 groups, optimal, equalized 0.5": ["--time-groups", "8", "--equalize", "0.5"],
    "8 groups, optimal, equalized auto": ["--time-groups", "8", "--equalize", "auto"],
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of calibration and noise (default %(default)s)")
    parser.add_argument(
        "--activation-bits", type=int, nargs="+", default=BITS, metavar="N", help="widths measured (default: 8 6 4)"
    )
    parser.add_argument("--judge", type=int, default=10, help="of each digit, drawn and judged (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (default: cores)")
    parser.add_argument("--program", type=Path, default=None, help="arrow-quant (default: target/release/arrow-quant)")
    arguments = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    arguments.program = arguments.program or target / "release/arrow-quant"
    if not arguments.program.is_file():
        parser.error(f"there is no {arguments.program}: build it with cargo build --release, or name it by --program")
    if min(arguments.seeds, arguments.judge, arguments.jobs) < 1:
        parser.error("--seeds, --judge and --jobs must be 1 or more")
    return arguments


def calibrate(activations, hessians, seed):
    """Four of each digit, through the sampler of the model."""
    model = load_model(MODEL)
    with Calibration(model, activations, layers=[name for name, _ in quantizable(model)], hessians=hessians):
        draw_each_digit(model, 4, seed=1000 + seed)


def quantizable(model):
    """The layers that arrow-quant quantizes by default: those of the blocks."""
    return [
        (name, layer)
        for name, layer in model.blocks.named_modules(prefix="blocks")
        if isinstance(layer, torch.nn.Linear)
    ]


def quantize(program, output, *options):
    command = [program, "quantize", MODEL, "--output", output, "--overwrite", *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
    return output


class PerToken:
    """A quantizer of each token's own range, found at run time."""

    def __init__(self, bits):
        self.codes = 2**bits - 1

    def __call__(self, x):
        low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
        scale = ((high - low) / self.codes).clamp(min=1e-30)
        zero_point = torch.round(-low / scale)
        return ((torch.round(x / scale) + zero_point).clamp(0, self.codes) - zero_point) * scale


def full_weight(layer, change):
    """The weights of a layer in full precision, as equalization changes them."""
    weight = layer.weight
    if change.get("factors"):
        weight = weight * torch.tensor(change["factors"])
    if change.get("row_factors"):
        weight = weight * torch.tensor(change["row_factors"])[:, None]
    return weight


def variant(folder, full_weights=False, per_token=None):
    """The model of a folder; with its weights in full precision, or with a range per token, where asked for."""
    model = load(folder, load_model(MODEL))
    original = dict(load_model(MODEL).named_modules())
    path = folder / "equalization.parquet"
    changes = {row["name"]: row for row in pq.read_table(path).to_pylist()} if path.is_file() else {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantLinear):
            if full_weights:
                layer.weight.copy_(full_weight(original[name], changes.get(f"{name}.weight", {})))
            if per_token is not None:
                layer.quantizer = PerToken(per_token)
    return model


held_out = functools.cache(lambda: real_digits()[1])


@torch.no_grad()
def predictions(model, seed):
    """The predicted noise of held-out digits with new noise, at timesteps over the whole range."""
    images, labels = held_out()
    generator = torch.Generator().manual_seed(seed)
    signal, width = alpha_bars(model.config.diffusion_steps), model.config.diffusion_steps // TIMES
    predicted = []
    for index in range(TIMES):
        t = int(torch.randint(index * width, (index + 1) * width, (1,), generator=generator))
        chosen = torch.randperm(len(images), generator=generator)[:DIGITS]
        noise = torch.randn(images[chosen].shape, generator=generator)
        at = torch.full((DIGITS,), t)
        predicted.append(model(add_noise(images[chosen], noise, at, signal), at, labels[chosen]))
    return torch.stack(predicted).double()


def measure(program, work, widths, seed):
    """`{(weights, bits, variant): error}`: the mean squared errors of one seed of calibration and noise."""
    torch.set_num_threads(1)
    activations, hessians = work / f"activations-{seed}.parquet", work / f"hessians-{seed}.parquet"
    calibrate(activations, hessians, seed)
    exact = predictions(load_model(MODEL), seed)
    errors = {}
    for weights, model in weights_alone(program, work, hessians, seed).items():
        errors[weights, None, "weights alone"] = (predictions(model, seed) - exact).square().mean().item()
    for bits in widths:
        for name, options in VARIANTS.items():
            options = ["--bits", "4", "--activations", activations, "--activation-bits", bits, *options]
            per_token = bits if name.startswith("per token") else None
            folder = quantize(program, work / f"folder-{seed}", *options)
            models = {"full": variant(folder, True, per_token), "4 bits": variant(folder, False, per_token)}
            if "--equalize" not in options:
                folder = quantize(program, work / f"folder-{seed}", *options, "--hessians", hessians)
                models["4 bits, GPTQ"] = variant(folder, False, per_token)
            for weights, model in models.items():
                errors[weights, bits, name] = (predictions(model, seed) - exact).square().mean().item()
        print(f"seed {seed}, {bits} bits: measured", file=sys.stderr, flush=True)
    return errors


def weights_alone(program, work, hessians, seed):
    """The models of 4-bit weights whose activations are in full precision."""
    found = {}
    for weights, options in (("4 bits", []), ("4 bits, GPTQ", ["--hessians", hessians])):
        folder = quantize(program, work / f"folder-{seed}", "--bits", "4", *options)
        found[weights] = load_model(MODEL, state_dict(folder))
    return found


def error_table(errors, widths):
    """The errors of static quantization, and the others as a share of them, as Markdown."""
    lines = ["| weights | activations | static | " + " | ".join(list(VARIANTS)[1:]) + " |"]
    lines.append("|" + " --- |" * (len(VARIANTS) + 2))
    for weights in WEIGHTS:
        for bits in widths:
            static = np.array(errors[weights, bits, "static"])
            cells = []
            for name in list(VARIANTS)[1:]:
                if (weights, bits, name) not in errors:
                    cells.append("")
                    continue
                share = np.array(errors[weights, bits, name]) / static
                spread = "" if len(share) == 1 else f" ({share.min():.3f} to {share.max():.3f})"
                cells.append(f"{share.mean():.3f}{spread}")
            lines.append(f"| {weights} | {bits} bits | {static.mean():.2e} | " + " | ".join(cells) + " |")
    for weights in WEIGHTS[1:]:
        alone = np.array(errors[weights, None, "weights alone"])
        lines.append(f"\nWeights of {weights} alone: {alone.mean():.2e} ({alone.min():.2e} to {alone.max():.2e})")
    return "\n".join(lines)


def drawn_variants(program, work):
    """Label and model of everything that is drawn: bits of the weights, then of the activations."""
    yield "full precision", load_model(MODEL)
    for bits in (8, 4, 3, 2):
        for method, options in (("search", []), ("GPTQ", ["--hessians", work / "hessians.parquet"])):
            folder = quantize(program, work / "weights", "--bits", bits, *options)
            yield f"{bits}-bit weights, {method}", load_model(MODEL, state_dict(folder))
    for bits in (8, 4):
        for name, groups in (("static", "1"), ("time-aware", "8")):
            options = [
                "--activations",
                work / "activations.parquet",
                "--time-groups",
                groups,
                "--activation-bits",
                bits,
            ]
            yield f"W4A{bits} {name}", variant(quantize(program, work / "drawn", "--bits", "4", *options))


def draw(program, work, judged, output):
    """Plots ranges, draws digits with every variant, and judges more of them: `{label: (share recognized, distance)}`.

    The distance is that of the pixels from those of full precision, root mean square; white to black is 2.
    """
    torch.set_num_threads(1)
    calibrate(work / "activations.parquet", work / "hessians.parquet", 0)
    plot_ranges(program, work, output / "time_aware_ranges.png")
    judge = train_judge(*real_digits()[0])
    rows, figures, exact = {}, {}, None
    for label, model in drawn_variants(program, work):
        labels, images = draw_each_digit(model, judged, seed=1)
        exact = images if exact is None else exact
        share = (judge(images) == labels).double().mean().item()
        figures[label] = share, (images - exact).double().square().mean().sqrt().item()
        rows[label] = draw_each_digit(model, 1, seed=0)[1]
        print(f"{label}: {share:.1%} recognized", file=sys.stderr, flush=True)
    figure, axes = plt.subplots(len(rows), 10, figsize=(8.2, 0.62 * len(rows) + 0.3), squeeze=False)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for cell, image in zip(line, images, strict=True):
            cell.imshow(image[0], cmap="gray_r", vmin=-1, vmax=1)
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set_color("lightgray")
        share, distance = figures[label]
        text = f"{label}\n{share:.0%} recognized, {distance:.3f} off"
        line[0].set_ylabel(text, rotation=0, ha="right", va="center", labelpad=8, fontsize=9)
    figure.tight_layout(pad=0.3)
    figure.savefig(output / "time_aware_digits.png", dpi=120)
    plt.close(figure)
    return figures


def plot_ranges(program, work, path):
    """The range of some layers' inputs over time, and the edges of eight uniform and optimal groups."""
    activations = work / "activations.parquet"
    rows = pq.read_table(activations).to_pylist()
    layers = ["blocks.0.attn.qkv", "blocks.1.mlp.fc2", "blocks.2.attn.proj", "blocks.2.adaLN_modulation.1"]
    figure, axes = plt.subplots(len(layers), 1, figsize=(7.6, 1.9 * len(layers)), sharex=True)
    folder = quantize(program, work / "ranges", "--bits", "4", "--activations", activations, "--time-groups", "8")
    params = pq.read_table(folder / "activation_params.parquet").to_pylist()
    for axis, layer in zip(axes, layers, strict=True):
        steps = sorted(
            (row["timestep"], min(row["channel_min"]), max(row["channel_max"]))
            for row in rows
            if row["name"] == f"{layer}.weight"
        )
        t, low, high = (np.array(column) for column in zip(*steps, strict=True))
        axis.fill_between(t, low, high, step="mid", color="tab:blue", alpha=0.35, label="range of the activations")
        for group, row in enumerate(row for row in params if row["name"] == f"{layer}.weight"):
            inside = max(row["t_from"], t[0]), min(row["t_to"], t[-1])
            ends = [-row["scale"] * row["zero_point"], row["scale"] * (2 ** row["bits"] - 1 - row["zero_point"])]
            label = "range of the group's quantizer" if group == 0 else None
            axis.hlines(ends, *inside, color="tab:red", linewidth=1.2, label=label)
            if group:
                axis.axvline(row["t_from"], color="gray", linewidth=0.8, linestyle=":")
        axis.set_ylabel("activation")
        axis.set_title(f"input of {layer}", fontsize=9, loc="left")
    axes[0].legend(fontsize=8, loc="center", ncols=2)
    axes[-1].set_xlabel("timestep (999: noise, 0: image)")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work, program = Path(folder), arguments.program
        with ProcessPoolExecutor(arguments.jobs) as pool:
            drawn = pool.submit(draw, program, work, arguments.judge, arguments.output)
            widths = arguments.activation_bits
            seeds = [pool.submit(measure, program, work, widths, seed) for seed in range(arguments.seeds)]
            errors = {}
            for seed in seeds:
                for key, error in seed.result().items():
                    errors.setdefault(key, []).append(error)
            figures = drawn.result()
    lines = [error_table(errors, widths), "", "| variant | recognized | pixels off by |", "| --- | --- | --- |"]
    lines += [f"| {label} | {share:.1%} | {distance:.3f} |" for label, (share, distance) in figures.items()]
    (arguments.output / "results.md").write_text("\n".join(lines) + "\n")
    rows = [
        {"weights": weights, "activation_bits": bits, "variant": name, "errors": values}
        for (weights, bits, name), values in errors.items()
    ]
    results = {
        "noise_errors": rows,
        "recognized": {label: share for label, (share, _) in figures.items()},
        "pixels_off_by": {label: distance for label, (_, distance) in figures.items()},
        "drawn_per_digit": arguments.judge,
        "torch": torch.__version__,
    }
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
