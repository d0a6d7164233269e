"""Numbers as text for the page: whole numbers of 12 bits, two base64 digits each.

A weight matrix takes 2 characters a weight this way, against 2.7 as float16 in base64; the test of parity with the
trained network says whether the precision suffices. ``unpack`` in ``common.js`` is the way back.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST = 2047
"""Whole numbers from -LARGEST to LARGEST can be packed."""

_DIGITS = np.frombuffer(f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}+/".encode(), np.uint8)


def pack(values: ArrayLike) -> str:
    """Write whole numbers from -2047 to 2047, in C order, as text.

    Raises
    ------
    ValueError
        If a number is not whole or out of range.
    """
    whole = np.asarray(values, float).ravel()
    if not (np.abs(whole) <= LARGEST).all() or (whole != np.round(whole)).any():
        raise ValueError(f"found values that cannot be packed; expected whole numbers from -{LARGEST} to {LARGEST}")
    shifted = whole.astype(np.int64) + LARGEST + 1
    return _DIGITS[np.stack([shifted >> 6, shifted & 63], axis=1)].tobytes().decode()


def unpack(text: str) -> NDArray[np.float64]:
    """Read what :func:`pack` wrote, as a flat array."""
    places = np.zeros(128, np.int64)
    places[_DIGITS] = np.arange(64)
    high, low = places[np.frombuffer(text.encode(), np.uint8)].reshape(-1, 2).T
    return (64 * high + low - LARGEST - 1).astype(float)


def pack_layer(weights: ArrayLike, bias: ArrayLike) -> dict[str, Any]:
    """Describe an affine layer, weights ``(rows, columns)``, with one scale a row.

    Rounded are the running sums along a row, not the weights: neighboring bins of a spectrum are nearly equal, so the
    errors of neighboring weights cancel.
    """
    matrix, offset = np.asarray(weights, float), np.asarray(bias, float)
    scale = np.abs(matrix).max(axis=1) / (LARGEST - 1)
    scale[scale == 0] = 1.0
    whole = np.diff(np.round(np.cumsum(matrix / scale[:, None], axis=1)), axis=1, prepend=0.0)
    rows, columns = matrix.shape
    return {
        "rows": rows,
        "columns": columns,
        "weights": pack(whole),
        "scale": [float(f"{value:.9g}") for value in scale],
        "bias": [float(f"{value:.9g}") for value in offset],
    }


def unpack_layer(layer: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights ``(rows, columns)`` and bias as the page has them."""
    whole = unpack(layer["weights"]).reshape(layer["rows"], layer["columns"])
    return whole * np.asarray(layer["scale"])[:, None], np.asarray(layer["bias"])


def pack_range(values: ArrayLike, low: float, high: float) -> dict[str, Any]:
    """Describe an array of any shape by whole numbers that divide ``[low, high]``; what lies outside is clipped."""
    array = np.nan_to_num(np.asarray(values, float), nan=low, posinf=high, neginf=low)
    shares = (np.clip(array, low, high) - low) / (high - low)
    return {"low": low, "high": high, "shape": list(array.shape), "values": pack(np.round((2 * shares - 1) * LARGEST))}
