"""What the tests with torch are fed."""

import pytest


@pytest.fixture(scope="session")
def activations(digits_dit, tmp_path_factory):
    """Activations of the digits transformer's blocks, of eight steps of its sampler."""
    import torch
    from arrow_quant.torch import Calibration
    from digits_dit import draw_each_digit, load_model

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("calibration") / "activations.parquet"
    model = load_model(digits_dit)
    layers = [name for name, layer in model.blocks.named_modules(prefix="blocks") if isinstance(layer, torch.nn.Linear)]
    with Calibration(model, path, layers=layers):
        draw_each_digit(model, 1, seed=3, steps=8)
    return path
