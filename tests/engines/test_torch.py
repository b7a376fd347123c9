"""`arrow_quant.torch`: what calibration writes, and what a loaded model computes."""

import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from arrow_quant.torch import ActivationQuantizer, Calibration, Clock, QuantConv2d, QuantLinear, load, state_dict
from digits_dit import load_model, starting_noise
from quantized_folder import read_quantized_folder
from torch import nn


class Small(nn.Module):
    """A convolution, a linear layer that is called twice, and one that is never called."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.fc = nn.Linear(6, 6)
        self.idle = nn.Linear(6, 6)

    def forward(self, x, timestep):
        x = self.conv(x).flatten(2).transpose(1, 2)
        return self.fc(self.fc(x)) + torch.as_tensor(timestep).flatten()[0]


def images(seed):
    return torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(seed))


def test_calibration_writes_the_statistics_of_every_layer_and_timestep(tmp_path):
    model, path = Small(), tmp_path / "a.parquet"
    seen = {}
    with Calibration(model, path):
        for step, t in enumerate([900, 100.5, 900]):
            x = images(step)
            model(x, timestep=torch.tensor([t, t]))
            inner = nn.functional.conv2d(x, model.conv.weight, model.conv.bias, padding=1, groups=2)
            inner = inner.flatten(2).transpose(1, 2)
            twice = torch.cat([inner, nn.functional.linear(inner, model.fc.weight, model.fc.bias)]).reshape(-1, 6)
            seen.setdefault(("conv.weight", t), []).append(x.movedim(1, -1).reshape(-1, 4))
            seen.setdefault(("fc.weight", t), []).append(twice)
    rows = {}
    for row in pq.read_table(path).to_pylist():
        rows.setdefault((row["name"], row["timestep"]), []).append(row)
    assert set(rows) == set(seen)
    for key, inputs in seen.items():
        # A timestep that comes again after another has a row of its own each time.
        assert len(rows[key]) == len(inputs)
        for row, x in zip(rows[key], inputs, strict=True):
            assert row["tokens"] == len(x)
            np.testing.assert_allclose(row["channel_min"], x.amin(0).detach(), rtol=1e-6)
            np.testing.assert_allclose(row["channel_max"], x.amax(0).detach(), rtol=1e-6)
            np.testing.assert_allclose(row["channel_mean_square"], x.square().mean(0).detach(), rtol=1e-5)
    assert not model._forward_pre_hooks and not model.fc._forward_pre_hooks


def test_hessians_are_the_mean_products_of_the_inputs_of_linear_layers(tmp_path):
    model = Small()
    with Calibration(model, tmp_path / "a.parquet", hessians=tmp_path / "h.parquet"):
        for t in range(3):
            model(images(t), t)
    (row,) = pq.read_table(tmp_path / "h.parquet").to_pylist()
    x = torch.cat([images(t) for t in range(3)])
    with torch.no_grad():
        inner = model.conv(x).flatten(2).transpose(1, 2)
        inputs = torch.cat([inner, model.fc(inner)]).reshape(-1, 6).double().numpy()
    expected = (inputs.T @ inputs / len(inputs))[np.triu_indices(6)]
    assert (row["name"], row["tokens"]) == ("fc.weight", len(inputs))
    np.testing.assert_allclose(row["hessian"], expected, rtol=1e-4, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "h.parquet"}


def test_calibration_learns_the_timestep_where_it_is(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, input_ids, speed=1):
            return self.fc(nn.functional.one_hot(input_ids % 3, 3).float())

    def timesteps(model, call, **options):
        with Calibration(model, tmp_path / "t.parquet", **options):
            call(model)
        return set(pq.read_table(tmp_path / "t.parquet")["timestep"].to_pylist())

    tokens = torch.tensor([[9, 9, 9, 1]])
    assert timesteps(Masked(), lambda model: model(tokens), mask_token_id=9) == {0.75}
    assert timesteps(Masked(), lambda model: model(tokens, 5), timestep=1) == {5.0}
    assert timesteps(Masked(), lambda model: model(tokens, speed=7), timestep="speed") == {7.0}
    with pytest.raises(ValueError, match="has none of the arguments timestep"):
        Calibration(Masked(), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="'gone' is no linear or convolution layer"):
        Calibration(Small(), tmp_path / "t.parquet", layers=["gone"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model(images(0), timestep=torch.tensor([1, 2])), "of one timestep, not of 2"),
        (lambda model: model(images(0), timestep=float("nan")), "must be finite"),
        (lambda model: model(images(0) * float("inf"), 1), "'conv' at timestep 1.0: an activation is NaN or infinite"),
        (lambda model: model.fc(torch.zeros(1, 6)), "'fc' was called outside the model"),
        (lambda model: None, "no layer of the model was called"),
    ],
)
def test_what_cannot_be_calibrated_is_an_error_and_leaves_no_file(tmp_path, call, message):
    model = Small()
    with (
        pytest.raises((ValueError, RuntimeError), match=re.escape(message)),
        Calibration(model, tmp_path / "a.parquet"),
    ):
        call(model)
    assert list(tmp_path.iterdir()) == []
    assert not model._forward_pre_hooks and not model.fc._forward_pre_hooks


@pytest.mark.parametrize(
    "options",
    [
        ["--bits", 2],
        ["--bits", 3, "--symmetric"],
        ["--bits", 4],
        ["--bits", 8, "--format", "arrow"],
        ["--method", "entropy", "--bits", 2.5, "--format", "arrow"],
        ["--method", "entropy", "--target-bpw", 3],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_weights_are_decoded_as_by_the_oracle(program, digits_dit, tmp_path, options):
    program("quantize", digits_dit, "--output", tmp_path / "out", *options)
    weights, expected = state_dict(tmp_path / "out"), read_quantized_folder(tmp_path / "out")
    assert set(weights) == set(expected)
    for name, tensor in weights.items():
        assert np.array_equal(tensor.float().numpy(), np.float32(expected[name])), name
    load_model(digits_dit, weights)


def noise_of(model, t):
    labels = torch.arange(10)
    with torch.no_grad():
        return model(starting_noise(10, seed=5), torch.full((10,), t), labels)


def quantized(program, digits_dit, output, activations, *extra):
    program("quantize", digits_dit, "--output", output, "--bits", 4, "--activations", activations, *extra)
    return output


def test_a_loaded_model_quantizes_by_the_group_of_its_timestep(program, digits_dit, activations, tmp_path):
    folder = quantized(program, digits_dit, tmp_path / "out", activations, "--time-groups", 3, "--activation-bits", 4)
    model = load(folder, load_model(digits_dit))
    params = pq.read_table(folder / "activation_params.parquet").to_pylist()
    name = "blocks.1.mlp.fc1"
    layer = model.get_submodule(name)
    assert isinstance(layer, QuantLinear)
    weight = torch.from_numpy(read_quantized_folder(folder)[f"{name}.weight"])
    inputs = []
    layer.register_forward_hook(lambda module, args, output: inputs.append((args[0], output)))
    for t in (-5, 0, 124, 125, 500, 875, 999, 5000):
        noise_of(model, t)
        x, output = inputs.pop()
        (row,) = [row for row in params if row["name"] == f"{name}.weight" and row["t_from"] <= t < row["t_to"]]
        scale, zero = np.float32(row["scale"]), row["zero_point"]
        codes = np.clip(np.round(x.numpy() / scale) + zero, 0, 15)
        expected = ((codes - zero) * scale) @ weight.numpy().T + layer.bias.numpy()
        np.testing.assert_allclose(output.numpy(), expected, rtol=1e-4, atol=1e-4)
    layer.quantizer.clock.timestep = None
    with pytest.raises(RuntimeError, match="call the whole model"):
        layer(x)


def test_one_group_is_static_and_many_are_one_per_timestep(program, digits_dit, activations, tmp_path):
    def model(name, *extra):
        return load(quantized(program, digits_dit, tmp_path / name, activations, *extra), load_model(digits_dit))

    one, many = model("one", "--time-groups", 1), model("many", "--time-groups", 8)
    rows = pq.read_table(activations).to_pylist()
    for quantizer_of, group_of in ((one, lambda t: None), (many, lambda t: t)):
        for t in (0, 125, 250, 875):
            model = load(tmp_path / "one", load_model(digits_dit))
            for name, layer in model.named_modules():
                if isinstance(layer, QuantLinear):
                    group = [
                        row
                        for row in rows
                        if row["name"] == f"{name}.weight" and group_of(t) in (None, row["timestep"])
                    ]
                    low = min(0.0, *(min(row["channel_min"]) for row in group))
                    high = max(0.0, *(max(row["channel_max"]) for row in group))
                    scale = np.float32((high - low) / 255)
                    zero = int(np.round(-low / float(scale)))
                    layer.quantizer = ActivationQuantizer(Clock(), [], [float(scale)], [zero], 8)
            assert torch.equal(noise_of(model, t), noise_of(quantizer_of, t)), t


@pytest.mark.parametrize("equalize", ["0.5", "auto", "log"])
def test_equalization_alone_changes_the_output_by_rounding_only(program, digits_dit, activations, tmp_path, equalize):
    folder = quantized(program, digits_dit, tmp_path / "out", activations, "--equalize", equalize)
    original = load_model(digits_dit)
    model = load(folder, load_model(digits_dit), activations=False)
    equalized = {row["name"]: row for row in pq.read_table(folder / "equalization.parquet").to_pylist()}
    # Some layers have another before them that takes their factors, some do not.
    assert any(row["folded_into"] for row in equalized.values())
    scaled = {name for name, row in equalized.items() if row["input_scale"]}
    assert scaled
    for name, layer in model.named_modules():
        if isinstance(layer, QuantLinear):
            weight, row = original.state_dict()[f"{name}.weight"], equalized.get(f"{name}.weight", {})
            if row.get("factors"):
                weight = weight * torch.tensor(row["factors"])
            if row.get("row_factors"):
                weight = weight * torch.tensor(row["row_factors"])[:, None]
            layer.weight.copy_(weight)
            assert (layer.input_scale is not None) == (f"{name}.weight" in scaled)
    for t in (0, 400, 999):
        expected, got = noise_of(original, t), noise_of(model, t)
        assert (got - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("method", ["search", "entropy"])
def test_plain_weights_of_an_equalized_folder_fit_the_original_model(program, digits_dit, activations, tmp_path, method):
    folder = quantized(program, digits_dit, tmp_path / "out", activations, "--equalize", "0.5", "--method", method)
    weights = load_model(digits_dit, state_dict(folder)).state_dict()
    running = load(folder, load_model(digits_dit), activations=False)
    assert any(isinstance(layer, QuantLinear) and layer.input_scale is not None for layer in running.modules())
    for t in (0, 999):
        a, b = noise_of(load_model(digits_dit, weights), t), noise_of(running, t)
        assert (a - b).abs().max() < 2e-5 * b.abs().max()
    scales = {row["name"]: row["input_scale"] for row in pq.read_table(folder / "equalization.parquet").to_pylist()}
    for name, tensor in read_quantized_folder(folder, original=False).items():
        expected = np.float32(tensor) * np.float32(scales.get(name) or 1)
        assert np.allclose(weights[name].numpy(), expected, rtol=1e-6), name


def test_a_folder_of_another_model_is_refused(program, digits_dit, activations, tmp_path):
    folder = quantized(program, digits_dit, tmp_path / "out", activations)
    with pytest.raises(ValueError, match="blocks"):
        load(folder, Small())
    with pytest.raises(FileNotFoundError, match="is not a folder that arrow-quant wrote"):
        state_dict(tmp_path)


def test_convolutions_run_quantized(program, tmp_path):
    from safetensors.torch import save_file

    model = Small()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with Calibration(model, tmp_path / "a.parquet"):
        for t in range(4):
            model(images(t), t)
    out = tmp_path / "out"
    options = ["--bits", 8, "--activations", tmp_path / "a.parquet", "--equalize", "0.5"]
    text = program("quantize", tmp_path / "model.safetensors", "--output", out, *options)
    assert "none for 1 quantized tensors without activations, such as idle.weight" in text
    loaded = load(out, Small())
    assert isinstance(loaded.conv, QuantConv2d) and loaded.conv.quantizer is not None and loaded.idle.quantizer is None
    assert {row["name"] for row in pq.read_table(out / "equalization.parquet").to_pylist()} == {"fc.weight"}
    with torch.no_grad():
        exact, got = model(images(9), 2), loaded(images(9), 2)
    assert 0 < (exact - got).abs().max() < 0.1


def test_activations_of_another_library_are_taken(program, digits_dit, activations, tmp_path):
    """Large lists, large strings, whole-number timesteps."""
    table = pq.read_table(activations)
    wide = pa.schema(
        [("name", pa.large_string()), ("timestep", pa.int64()), ("tokens", pa.int32())]
        + [(f"channel_{what}", pa.large_list(pa.float64())) for what in ("min", "max", "mean_square")]
    )
    pq.write_table(table.cast(wide), tmp_path / "wide.parquet", compression="snappy")
    for name, path in (("a", activations), ("b", tmp_path / "wide.parquet")):
        quantized(program, digits_dit, tmp_path / name, path)
    params = [pq.read_table(tmp_path / name / "activation_params.parquet") for name in ("a", "b")]
    assert params[0].equals(params[1])


LARGE = """
import sys, torch
from torch import nn
from arrow_quant.torch import Calibration
import pyarrow.parquet

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) >> 10

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        wide = [nn.Sequential(nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768)) for _ in range(21)]
        self.blocks = nn.ModuleList(wide)

    def forward(self, x, timestep):
        for block in self.blocks:
            x = x + block(x)
        return x

torch.set_num_threads(1)
model, x = Model(), torch.randn(1, 256, 768)
with torch.no_grad():
    model(x, 0)
    before = peak()
    with Calibration(model, sys.argv[1]):
        for t in range(8):
            model(x, t)
print(sum(p.numel() for p in model.parameters()), peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
def test_calibration_of_a_hundred_million_parameters_takes_less_than_300_megabytes(tmp_path):
    environment = {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", LARGE, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    parameters, megabytes = map(int, done.stdout.split())
    assert parameters > 99e6
    assert megabytes < 300
