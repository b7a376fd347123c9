"""The bytes of every output of MiniLM. A change that is meant to change them puts the digests that this prints in their place."""

import hashlib

import pytest

FORMATS = ["parquet", "arrow", "safetensors", "compressed-tensors", "gguf", "mlx"]
# The manifest names the version of the program, and the report has seconds.
LEFT_OUT = {"arrow_quant.json", "report.parquet"}


def digests(folder, model):
    """The SHA-256 of each file that is no copy of one of the model's, by its name."""
    found = {}
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if file.is_dir() or str(name) in LEFT_OUT:
            continue
        source = model / name
        if not source.is_file() or source.read_bytes() != file.read_bytes():
            found[str(name)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_bytes_that_it_had(program, minilm, root, tmp_path, form, bits):
    program("quantize", minilm, "--output", tmp_path / "out", "--bits", bits, "--format", form, "--no-check")
    lines = (line.split() for line in (root / "tests/data/minilm_digests.txt").read_text().splitlines())
    expected = {file: digest for digest, of_form, of_bits, file in lines if (of_form, of_bits) == (form, str(bits))}
    found = digests(tmp_path / "out", minilm)
    assert found == expected, "\n".join(f"{digest} {form} {bits} {file}" for file, digest in sorted(found.items()))
