"""Quantizes rows of weights in memory at every width and says what it costs.

    pip install .
    python examples/quantize_arrays.py
"""

import numpy as np

import arrow_quant


def main() -> None:
    weights = np.random.default_rng(0).normal(0, 0.02, (1024, 4096)).astype(np.float32)
    print("bits  bytes       SQNR")
    for bits in (2, 3, 4, 8):
        quantized = arrow_quant.quantize(weights, bits=bits)
        error = weights - arrow_quant.dequantize(quantized).to_numpy()
        decibels = 10 * np.log10(np.sum(np.square(weights)) / np.sum(np.square(error)))
        print(f"{bits:>4}  {quantized.nbytes:>9}  {decibels:5.2f} dB")


if __name__ == "__main__":
    main()
