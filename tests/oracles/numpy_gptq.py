"""GPTQ (arXiv:2210.17323) in NumPy, column by column and in f64: the independent oracle of the `gptq` tests.

It is given the scales and zero points of the groups, which are another function's work, and finds the codes.
"""

import numpy as np


def factor(inputs, damping=0.01):
    """The upper triangular U with U'U = (H + damping * mean(diag H))^-1 for H = mean of x x' over the inputs' rows."""
    inputs = inputs.astype(np.float64)
    hessian = inputs.T @ inputs / len(inputs)
    hessian[np.diag_indices(len(hessian))] += damping * np.diag(hessian).mean()
    return np.linalg.cholesky(np.linalg.inv(hessian)).T


def codes(weights, upper, scales, zero_points, bits, group_size):
    """The codes of weights [rows, columns], given scale and zero point of each group [rows, groups]."""
    left = weights.astype(np.float64)
    found = np.empty(weights.shape, np.int64)
    for column in range(weights.shape[1]):
        scale, zero = scales[:, column // group_size], zero_points[:, column // group_size]
        found[:, column] = np.clip(np.rint(left[:, column] / scale + zero), 0, 2**bits - 1)
        error = (left[:, column] - scale * (found[:, column] - zero)) / upper[column, column]
        left[:, column:] -= np.outer(error, upper[column, column:])
    return found


def output_error(errors, inputs):
    """The mean over inputs of the squared error of a layer's output, for errors [rows, columns] of its weights."""
    inputs = inputs.astype(np.float64)
    return np.einsum("ij,jk,ik->", errors, inputs.T @ inputs / len(inputs), errors)
