"""Tiny models of transformers' families: packed, loaded by transformers, and compared with their decoded weights."""

import dataclasses
from pathlib import Path

import pytest
import torch
import transformers
from families import FAMILIES, decoder

CASES = [
    pytest.param(family, tied, id=f"{family.name}, {'tied' if tied else 'untied'}")
    for family in FAMILIES
    for tied in family.ties
]
FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


def output_of(model, inputs):
    with torch.no_grad():
        outputs = model(**inputs)
    for kind in ("logits", "logits_per_image", "last_hidden_state"):
        if kind in outputs:
            return outputs[kind].float()
    raise AssertionError(f"unexpected outputs: {list(outputs)}")


def load(family, folder, dequantize=False):
    how = {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)} if dequantize else {}
    model, report = getattr(transformers, family.model).from_pretrained(folder, output_loading_info=True, **how)
    problems = {kind: found for kind, found in report.items() if found}
    assert not problems, problems
    return model.eval()


@pytest.fixture
def quantize(program, tmp_path):
    """Quantizes a folder and gives the result, and that with its weights decoded."""

    def make(source, *options, group_size=32):
        out, floats = tmp_path / "out", tmp_path / "floats"
        options = ["--format", "compressed-tensors", "--group-size", group_size, "--overwrite", *options]
        program("quantize", source, "--output", out, *options)
        program("quantize", out, "--output", floats, "--exclude", ".", "--format", "safetensors", "--overwrite")
        return out, floats

    return make


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
@pytest.mark.parametrize(("family", "tied"), CASES)
def test_a_packed_model_loads_and_computes_what_its_decoded_weights_do(quantize, tmp_path, family, tied):
    model, source = family.make(tied), tmp_path / "source"
    model.save_pretrained(source)
    exact = output_of(model, family.inputs)
    ways = [(["--symmetric"], family.packed, family.dequantized), ([], False, family.zero_points)]
    # With and without zero points the names are the same.
    for options, packed, dequantized in ways if tied == family.ties[0] else ways[:1]:
        out, floats = quantize(source, *options)
        expected = output_of(load(family, floats), family.inputs)
        away = ((expected - exact).norm() / exact.norm()).item()
        assert (0 < away < 1) if family.quantized else away == 0
        for dequantize, loads in ((False, packed), (True, dequantized)):
            # The second variant of a family differs in its head alone, which the first way that loads shows.
            if not loads or (dequantize and packed and tied != family.ties[0]):
                continue
            got = output_of(load(family, out, dequantize), family.inputs)
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
            near = (got - expected).abs().max()
            print(f"{family.name}: {away:.4f} from full precision, {near:.1e} from the decoded weights, {options}")


def cell(loads, keyword):
    return "no" if not loads else "`dequantize=True`" if keyword else "yes"


def test_the_table_in_the_documentation_is_the_one_that_is_tested():
    rows = []
    for family in FAMILIES:
        symmetric = cell(family.packed or family.dequantized, not family.packed)
        zero_points = cell(family.zero_points, True)
        if not family.quantized:
            symmetric = zero_points = "nothing is quantized"
        rows.append(f"| {family.name} | `{family.model}` | {symmetric} | {zero_points} |")
    assert "\n".join(["|---|---|---|---|", *rows, ""]) in FORMATS.read_text(), "\n".join(rows)


REFUSED = [family for family in FAMILIES if not (family.packed and family.zero_points)]


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.name)
def test_what_the_table_says_does_not_load_still_does_not(quantize, tmp_path, family):
    """Newer versions may load it: then the table changes."""
    source = tmp_path / "source"
    family.make(family.ties[0]).save_pretrained(source)
    ways = [(["--symmetric"], False, family.packed), (["--symmetric"], True, family.dequantized)]
    for options, dequantize, loads in [*ways, ([], True, family.zero_points)]:
        if not loads:
            out, _ = quantize(source, *options)
            with pytest.raises((AssertionError, AttributeError, RuntimeError, ValueError)):
                load(family, out, dequantize)


WIDTHS = [(4, "mlp=8"), (4, "down_proj=2"), (8, "self_attn=3")]


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
@pytest.mark.parametrize("group_size", [32, "channel"])
def test_several_widths_load_packed_and_are_never_decoded_as_one(quantize, tmp_path, group_size):
    """transformers decompresses all modules by one width if it does so at once: that must be an error."""
    family = dataclasses.replace(FAMILIES[0], config=decoder("LlamaConfig", hidden_size=128, intermediate_size=256))
    source = tmp_path / "source"
    family.make(False).save_pretrained(source)
    for bits, rule in WIDTHS:
        options = ["--symmetric", "--bits", bits, "--bits-for", rule]
        out, floats = quantize(source, *options, group_size=group_size)
        got, expected = (output_of(load(family, folder), family.inputs) for folder in (out, floats))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        with pytest.raises((AssertionError, RuntimeError)):
            load(family, out, dequantize=True)
