"""Orthogonal matrices that spread outliers over all channels."""

import numpy as np


def orthogonal(size: int) -> np.ndarray:
    """Return an orthogonal matrix (size, size) that spreads every channel over all:
    a Hadamard matrix with random signs, or a random one if there is none."""
    draws = np.random.default_rng(0)
    matrix = hadamard(size)
    if matrix is None:
        return np.linalg.qr(draws.standard_normal((size, size)))[0]
    return matrix * draws.choice((-1.0, 1.0), (size, 1)) / np.sqrt(size)


def hadamard(size: int) -> np.ndarray | None:
    """Return a Hadamard matrix, from 1, 2 and Paley's construction (J. Math. Phys.
    1933) by doubling; None if that gives none of this size."""
    if size in (1, 2):
        return np.array([[1.0, 1.0], [1.0, -1.0]])[:size, :size]
    prime = size - 1
    if size % 4 == 0 and all(prime % n for n in range(2, int(prime**0.5) + 1)):
        squares = {n * n % prime for n in range(1, prime)}
        residue = np.array([0] + [1 if n in squares else -1 for n in range(1, prime)])
        index = np.arange(prime)
        matrix = np.ones((size, size))
        matrix[1:, 0] = -1
        matrix[1:, 1:] = residue[(index[None] - index[:, None]) % prime] + np.eye(prime)
        return matrix
    half = hadamard(size // 2) if size % 2 == 0 else None
    return None if half is None else np.kron([[1.0, 1.0], [1.0, -1.0]], half)
