"""Trains the small diffusion transformer of `digits_dit.py` on scikit-learn's 8x8 digits.

    pip install torch scikit-learn numpy safetensors tqdm
    python examples/train_digits_dit.py --output tests/data/digits_dit

Takes no data but scikit-learn's own (1,797 digits; a fifth of them is held out) and about 1 GB of memory. The default
{steps} steps take about 10 minutes on one CPU core (17 on a busy one); `--steps 20 --drawn 2` shows in a minute that
everything runs. The same seed, thread count and torch version on the same kind of CPU give the same weights.

Writes into the output folder:

    model.safetensors   the moving average of the weights, rounded to bfloat16
    config.json         the architecture and how to sample it
    metrics.json        measured on the rounded weights: error of the predicted noise on held-out digits per range of
                        timesteps, and how many drawn digits an independent classifier recognizes; the loss curve, the
                        time and the versions
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import safetensors
import sklearn
import torch
import torch.nn.functional as F
from digits_dit import (
    DigitsDiT,
    DiTConfig,
    add_noise,
    alpha_bars,
    draw_each_digit,
    load_model,
    noise_mse,
    real_digits,
    train_judge,
)
from safetensors.torch import save_file
from tqdm import tqdm

STEPS = 3000
LABEL_DROPOUT = 0.1  # the share of training images without a label, which guidance needs
WEIGHT_DECAY = 0.01
MAX_GRADIENT = 1.0


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.format(steps=STEPS), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write (made if it is not there)")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images per step (default %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="its peak (default %(default)s)")
    parser.add_argument(
        "--average", type=float, default=0.998, help="decay of the average of the weights (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and noise (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; one is fastest on a busy machine")
    parser.add_argument("--drawn", type=int, default=50, help="of each digit, to judge the model (default %(default)s)")
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.batch, arguments.threads, arguments.drawn) < 1:
        parser.error("--steps, --batch, --threads and --drawn must be 1 or more")
    if not 0 <= arguments.average < 1:
        parser.error("--average must be at least 0 and below 1")
    return arguments


def learning_rate(step, steps, peak):
    """A linear warm-up over the first 5 % of the steps, then half a cosine down to zero."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def move_average(average, model, step, decay):
    """Moves the averaged weights towards the model's; faster in the first steps, when the average is still young."""
    decay = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def train(config, digits, held_out, arguments):
    """Gives the averaged model and the loss curve: a list of {step, train_loss, held_out_loss}."""
    torch.manual_seed(arguments.seed)
    model = DigitsDiT(config)
    average = DigitsDiT(config).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    signal = alpha_bars(config.diffusion_steps)
    images, labels = digits
    report_every = max(100, arguments.steps // 10)
    losses, curve = [], []

    progress = tqdm(range(arguments.steps), desc="train", unit="step", mininterval=1)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps, arguments.learning_rate)
        chosen = torch.randint(len(images), (arguments.batch,))
        t = torch.randint(config.diffusion_steps, (arguments.batch,))
        noise = torch.randn(arguments.batch, *images.shape[1:])
        shown = torch.where(torch.rand(arguments.batch) < LABEL_DROPOUT, config.num_classes, labels[chosen])
        loss = F.mse_loss(model(add_noise(images[chosen], noise, t, signal), t, shown), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
        optimizer.step()
        move_average(average, model, step, arguments.average)

        losses.append(loss.item())
        if (step + 1) % report_every == 0 or step + 1 == arguments.steps:
            point = {
                "step": step + 1,
                "train_loss": float(np.mean(losses)),
                "held_out_loss": noise_mse(average, *held_out, draws=1).mean().item(),
            }
            losses.clear()
            curve.append(point)
            progress.set_postfix(train=f"{point['train_loss']:.4f}", held_out=f"{point['held_out_loss']:.4f}")
    return average.eval(), curve


def nearest_distance(images, reference):
    """The mean distance of an image to the nearest one of the reference, in pixels' units ([-1, 1])."""
    return torch.cdist(images.flatten(1), reference.flatten(1)).min(dim=1).values.mean().item()


def measure(model, digits, held_out, per_digit):
    """Measures the model, for `metrics.json`."""
    judge = train_judge(*digits)
    labels, drawn = draw_each_digit(model, per_digit, seed=0)
    correct = (judge(drawn) == labels).double()
    errors = noise_mse(model, *held_out)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_noise_mse": noise_mse(model, *digits, draws=1).mean().item(),
        "held_out_noise_mse": errors.mean().item(),
        "held_out_noise_mse_by_timestep": errors.tolist(),
        "recognized": correct.mean().item(),
        "recognized_by_digit": correct.reshape(-1, per_digit).mean(dim=1).tolist(),
        "drawn_digits": len(drawn),
        "judge_accuracy_on_held_out": (judge(held_out[0]) == held_out[1]).double().mean().item(),
        # near that of the held-out digits the model draws; far below, it would recite its training images
        "distance_to_nearest_training_image": nearest_distance(drawn, digits[0]),
        "distance_of_held_out_digits": nearest_distance(held_out[0], digits[0]),
    }


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    digits, held_out = real_digits()
    config = DiTConfig()

    started = time.monotonic()
    average, curve = train(config, digits, held_out, arguments)
    seconds = time.monotonic() - started

    arguments.output.mkdir(parents=True, exist_ok=True)
    config.save(arguments.output)
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in average.state_dict().items()}
    # one metadata entry only: safetensors writes several in a random order, and the file would differ every time
    save_file(weights, arguments.output / "model.safetensors", metadata={"format": "pt"})

    metrics = measure(load_model(arguments.output), digits, held_out, arguments.drawn)
    metrics |= {
        "steps": arguments.steps,
        "batch": arguments.batch,
        "seed": arguments.seed,
        "train_seconds": round(seconds, 1),
        "threads": arguments.threads,
        "machine": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "safetensors": safetensors.__version__,
        },
        "curve": curve,
    }
    (arguments.output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{metrics['parameters']:,} parameters, {arguments.steps} steps in {seconds:.0f} s")
    print(f"held-out noise MSE {metrics['held_out_noise_mse']:.4f}, training {metrics['train_noise_mse']:.4f}")
    print(f"{metrics['recognized']:.1%} of {metrics['drawn_digits']} drawn digits recognized")


if __name__ == "__main__":
    main()
