"""Draws digits with the small diffusion transformer and with quantized variants of it, as one picture.

    pip install torch safetensors matplotlib pyarrow ml_dtypes scikit-learn
    arrow-quant quantize tests/data/digits_dit --bits 4 --output out/digits-4bit
    arrow-quant quantize tests/data/digits_dit --bits 2 --output out/digits-2bit
    python examples/draw_digits.py --model tests/data/digits_dit \\
        --weights "4 bit=out/digits-4bit" "2 bit=out/digits-2bit" --output digits.png

Rows are variants, columns the digits 0 to 9. Every variant starts from the same noise, so what differs between the rows
is the work of quantization alone. A variant is a safetensors file, a folder with `model.safetensors`, or a folder that
`arrow-quant quantize` wrote, which is decoded here with NumPy (`tests/oracles/quantized_folder.py`).

Takes a few seconds. `--judge 20` draws 20 more of each digit (about ten seconds of work per variant) and writes beside
each variant how many of them a classifier trained on real digits recognizes, and how far the variant's pixels are from
those of full precision (root mean square; white to black is 2). A digit stays a digit long after its pixels have moved:
compare variants by the latter.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from digits_dit import draw_each_digit, load_model, real_digits, train_judge

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ORACLES = Path(__file__).parents[1] / "tests" / "oracles"
DIGITS = 10


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder with config.json and model.safetensors")
    parser.add_argument(
        "--weights",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="a variant: its label, and its safetensors file or folder",
    )
    parser.add_argument("--output", type=Path, required=True, help="picture to write (.png, .svg, .pdf)")
    parser.add_argument("--samples", type=int, default=1, help="rows per variant (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default %(default)s)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the model's)")
    parser.add_argument("--guidance", type=float, help="guidance (default: the model's)")
    parser.add_argument("--judge", type=int, default=0, metavar="N", help="judge N more of each digit (default: none)")
    arguments = parser.parse_args()
    if arguments.samples < 1 or arguments.judge < 0:
        parser.error("--samples must be 1 or more, --judge 0 or more")
    names = {"full precision"}
    for weights in arguments.weights:
        name, _, path = weights.partition("=")
        if not (name and path):
            parser.error(f"--weights takes NAME=FILE, not {weights!r}")
        if not Path(path).exists():
            parser.error(f"--weights {weights}: there is no {path}")
        if name in names:
            parser.error(f"--weights {weights}: there is already a row {name!r}")
        names.add(name)
    return arguments


def load_variant(model, path):
    """The model of a folder with the weights of a variant in its place."""
    path = Path(path)
    if path.is_file():
        return load_model(model, path)
    if not (path / "weights").is_dir():
        return load_model(model, path / "model.safetensors")
    sys.path.insert(0, str(ORACLES))
    from quantized_folder import read_quantized_folder

    tensors = read_quantized_folder(path)
    return load_model(model, {name: torch.from_numpy(np.float32(tensor)) for name, tensor in tensors.items()})


def describe(models, per_digit, options):
    """The share of each model's digits that the judge recognizes, and their distance to the first model's, as text."""
    judge = train_judge(*real_digits()[0])
    original, lines = None, {}
    for name, model in models.items():
        labels, images = draw_each_digit(model, per_digit, **options)
        lines[name] = f"\n{(judge(images) == labels).double().mean():.0%} recognized"
        if original is None:
            original = images
        else:
            lines[name] += f"\ndiffers by {(images - original).square().mean().sqrt():.3f}"
    return lines


def figure(variants):
    """A grid of images, given as label: [10 * samples, 1, 8, 8]; columns are digits."""
    samples = len(next(iter(variants.values()))) // DIGITS
    rows = len(variants) * samples
    canvas, axes = plt.subplots(rows, DIGITS, figsize=(0.6 * DIGITS + 1.4, 0.6 * rows + 0.3), squeeze=False)
    for variant, (label, images) in enumerate(variants.items()):
        grid = images.reshape(DIGITS, samples, *images.shape[2:])
        for index in range(samples):
            for digit in range(DIGITS):
                cell = axes[variant * samples + index, digit]
                cell.imshow(grid[digit, index], cmap="gray_r", vmin=-1, vmax=1)
                cell.set(xticks=[], yticks=[])
                cell.spines[:].set_color("lightgray")
        first = axes[variant * samples, 0]
        first.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8, fontsize=9)
    for digit in range(DIGITS):
        axes[0, digit].set_title(str(digit), fontsize=10)
    canvas.tight_layout(pad=0.3)
    return canvas


def main():
    arguments = parse_arguments()
    models = {"full precision": load_model(arguments.model)}
    for weights in arguments.weights:
        name, _, path = weights.partition("=")
        models[name] = load_variant(arguments.model, path)

    options = {"steps": arguments.steps, "guidance": arguments.guidance}
    lines = describe(models, arguments.judge, options | {"seed": arguments.seed + 1}) if arguments.judge else {}
    variants = {
        name + lines.get(name, ""): draw_each_digit(model, arguments.samples, arguments.seed, **options)[1]
        for name, model in models.items()
    }

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure(variants).savefig(arguments.output, dpi=120)


if __name__ == "__main__":
    main()
