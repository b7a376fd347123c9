"""The digits diffusion transformer in NumPy, without torch: what its layers are fed, and what it predicts.

An independent oracle, written from the architecture (arXiv:2212.09748, the parameter names of the reference
implementation) and plain on purpose; `examples/digits_dit.py` is the same model in torch.

    weights = load_file("tests/data/digits_dit/model.safetensors")
    inputs = layer_inputs(weights, per_digit=4, steps=10, seed=0)    # {"blocks.0.attn.qkv.weight": [n, 128], ...}
"""

import math

import numpy as np

HEADS, SIDE, PATCH, CLASSES, STEPS = 4, 8, 2, 10, 1000


def sincos(positions, size):
    """[n] positions to [n, size]: `size/2` cosines, then `size/2` sines."""
    frequencies = np.exp(-math.log(10000) * np.arange(size // 2, dtype=np.float32) / (size // 2))
    angles = np.asarray(positions, np.float32)[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def normalize(x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-6)


def softmax(x):
    exp = np.exp(x - x.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


class Dit:
    """`Dit(weights)(x, t, labels)` predicts the noise in x [n, 1, 8, 8]; `watch(name, inputs)` sees layers' inputs."""

    def __init__(self, weights, watch=None):
        self.weights = {name: np.asarray(tensor, np.float32) for name, tensor in weights.items()}
        self.watch = watch or (lambda name, inputs: None)
        self.depth = sum(name.endswith("attn.qkv.weight") for name in weights)

    def linear(self, name, x):
        self.watch(f"{name}.weight", x.reshape(-1, x.shape[-1]))
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def attention(self, name, x):
        batch, tokens, hidden = x.shape
        qkv = self.linear(f"{name}.qkv", x).reshape(batch, tokens, 3, HEADS, hidden // HEADS)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        mixed = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(hidden // HEADS)) @ v
        return self.linear(f"{name}.proj", mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, hidden))

    def modulation(self, name, condition, count):
        rows = self.linear(f"{name}.adaLN_modulation.1", silu(condition))
        return [part[:, None, :] for part in np.split(rows, count, axis=-1)]

    def block(self, name, x, condition):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(name, condition, 6)
        x = x + gate_a * self.attention(f"{name}.attn", normalize(x) * (1 + scale_a) + shift_a)
        hidden = gelu(self.linear(f"{name}.mlp.fc1", normalize(x) * (1 + scale_m) + shift_m))
        return x + gate_m * self.linear(f"{name}.mlp.fc2", hidden)

    def __call__(self, x, t, labels):
        grid = SIDE // PATCH
        patches = (
            x.reshape(-1, grid, PATCH, grid, PATCH).transpose(0, 1, 3, 2, 4).reshape(len(x), grid * grid, PATCH**2)
        )
        kernel = self.weights["x_embedder.proj.weight"]
        tokens = patches @ kernel.reshape(len(kernel), -1).T + self.weights["x_embedder.proj.bias"]
        rows, columns = np.divmod(np.arange(grid * grid), grid)
        tokens = tokens + np.concatenate([sincos(axis, len(kernel) // 2) for axis in (rows, columns)], axis=-1)
        time = sincos(t, self.weights["t_embedder.mlp.0.weight"].shape[1])
        time = self.linear("t_embedder.mlp.2", silu(self.linear("t_embedder.mlp.0", time)))
        condition = time + self.weights["y_embedder.embedding_table.weight"][labels]
        for index in range(self.depth):
            tokens = self.block(f"blocks.{index}", tokens, condition)
        shift, scale = self.modulation("final_layer", condition, 2)
        out = self.linear("final_layer.linear", normalize(tokens) * (1 + scale) + shift)
        out = out.reshape(len(x), grid, grid, PATCH, PATCH).transpose(0, 1, 3, 2, 4)
        return out.reshape(len(x), 1, SIDE, SIDE)


def signal_left():
    """The cosine schedule: the share of signal power left at each timestep."""
    at = np.arange(STEPS + 1) / STEPS
    signal = np.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - signal[1:] / signal[:-1], 0.999)).astype(np.float32)


def draw(model, per_digit, steps, seed, visit=None):
    """Draws every digit `per_digit` times by DDIM without guidance: [10 * per_digit, 1, 8, 8] in [-1, 1].

    `visit(x, t, labels, predicted)` sees each step.
    """
    labels = np.repeat(np.arange(CLASSES), per_digit)
    x = np.random.default_rng(seed).standard_normal((len(labels), 1, SIDE, SIDE), np.float32)
    signal = signal_left()
    timesteps = [step * STEPS // steps for step in reversed(range(steps))]
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        predicted = model(x, np.full(len(x), t), labels)
        if visit:
            visit(x, t, labels, predicted)
        image = np.clip((x - np.sqrt(1 - signal[t]) * predicted) / np.sqrt(signal[t]), -1, 1)
        predicted = (x - np.sqrt(signal[t]) * image) / np.sqrt(1 - signal[t])
        left = np.float32(1) if following is None else signal[following]
        x = np.sqrt(left) * image + np.sqrt(1 - left) * predicted
    return x


def layer_inputs(weights, per_digit, steps, seed):
    """What each layer is fed while digits are drawn: {tensor: float32 [tokens over all steps, input channels]}."""
    seen = {}
    draw(Dit(weights, lambda name, inputs: seen.setdefault(name, []).append(inputs)), per_digit, steps, seed)
    return {name: np.concatenate(inputs) for name, inputs in seen.items()}
