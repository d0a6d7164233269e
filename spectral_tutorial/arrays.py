"""What a person brings, arrays or a CSV file, looked at before it is used."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.reading import config_error, one_of, show

Table = tuple[NDArray[np.float64], NDArray[np.float64], dict[str, NDArray[Any]]]
"""Wavelengths ``(W,)``, flux ``(N, W)``, and other columns ``(N,)`` by name."""


def numbers(values: Any, name: str, unit: str | None = None) -> NDArray[Any]:
    """Real numbers as an array, astropy's quantities in `unit` (in their own if None); refuses masks."""
    parts = values if isinstance(values, list | tuple) else [values]  # a list of masked arrays would lose its masks
    masks = [part.mask for part in parts if not callable(getattr(part, "mask", None)) and hasattr(part, "mask")]
    if count := sum(int(np.sum(mask)) for mask in masks):
        raise ValueError(f"{name} has {count} masked values; expected none: leave those bins or those spectra out")
    if any(hasattr(part, "unit") for part in parts):
        values = _without_unit(parts if isinstance(values, list | tuple) else values, name, unit)
    found = np.asarray(values)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds values of type {found.dtype}; expected numbers")
    return found if unit is None else found.astype(np.float64)


def _without_unit(values: Any, name: str, unit: str | None) -> NDArray[Any]:
    from astropy import units  # whoever has quantities has astropy

    try:
        quantity = units.Quantity(values)
        return np.asarray(quantity.value if unit is None else quantity.to_value(unit))
    except (units.UnitConversionError, TypeError) as problem:
        expected = f"a unit that converts to {unit}" if unit else "one unit" if unit is None else "no unit"
        raise ValueError(f"{name}: {problem}; expected {expected}") from None


def checked_flux(flux: NDArray[Any]) -> NDArray[np.float32]:
    """Flux as it is stored; refuses what is not finite, or would not be the same number in single precision."""
    bad = ~np.isfinite(flux).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"flux is not finite in {bad.sum()} of {len(flux)} spectra, the first of them number {row} counted from 0; "
            "expected finite numbers: leave those bins or those spectra out"
        )
    largest, single = float(np.abs(flux).max(initial=0.0)), np.finfo(np.float32)
    # Six digits of dynamic range are left below the brightest bin.
    if largest and not 1e6 * float(single.tiny) < largest < float(single.max):
        raise ValueError(f"flux is at most {largest:.3g}; expected a unit in which it is between 1e-31 and 3e38")
    return flux.astype(np.float32, copy=False)


def words_or_numbers(values: ArrayLike, name: str) -> NDArray[Any]:
    """Words, or real numbers, as an array: what may be known of spectra."""
    found = np.asarray(values)
    return found if found.dtype.kind == "U" else numbers(values, f"nuisance {name}")


# --- a CSV file

FINITE = "a finite number, with a point before its decimals"


def read_table(path: str | Path, labels: Sequence[str], nuisance: Sequence[str]) -> Table:
    """Read the table that :meth:`spectral_tutorial.data.Spectra.from_csv` describes, once, row by row.

    ConfigError if the file cannot be read, or is no such table: one sentence with its line and column.
    """
    file, asked = str(path), (*labels, *nuisance)
    lines = csv_lines(path, file)
    line, header = next(lines, (1, []))
    grid = _grid(file, line, header, asked)
    named = [header.index(name) for name in asked]
    words: list[int] = []
    rows: list[NDArray[np.float64]] = []
    said: list[list[str]] = []
    for line, cells in lines:
        if len(cells) != len(header):
            found = f"{len(cells)} cells between commas"
            raise config_error(file, f"line {line}", found, f"{len(header)}, one for each column of the header")
        if not rows:  # a nuisance is in words if it begins with one
            words = [k for k in named[len(labels) :] if cells[k] and not _is_number(cells[k])]
        if empty := [header[k] for k, cell in enumerate(cells) if not cell]:
            raise config_error(file, f"line {line}, column {empty[0]}", "an empty cell", "a value in every cell")
        rows.append(_row(file, line, {name: cells[k] for k, name in enumerate(header) if k not in words}))
        said.append([cells[k] for k in words])
    if not rows:
        raise config_error(file, "", "no line below the header", "one for each spectrum")
    numeric = [name for k, name in enumerate(header) if k not in words]
    columns: dict[str, NDArray[Any]] = dict(zip(numeric, np.array(rows).T, strict=True))
    columns |= {header[k]: text for k, text in zip(words, np.array(said).T, strict=True)}
    flux = np.stack([columns.pop(name) for name in header if name not in asked], axis=1)
    return grid, flux, columns


def csv_lines(path: str | Path, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line that is neither empty nor a comment; messages name the file as `file`."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                if any(cells) and not cells[0].startswith("#"):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except (OSError, ValueError, csv.Error) as problem:  # a ValueError: no UTF-8, or no path
        reason = getattr(problem, "strerror", None) or problem
        raise config_error(file, "", f"what cannot be read ({reason})", "a CSV file in UTF-8") from None


def _grid(file: str, line: int, header: list[str], asked: Sequence[str]) -> NDArray[np.float64]:
    """Return the wavelengths among a table's columns; the others are those that are asked for."""
    at = f"line {line}"
    if any(mark in name for name in header for mark in ";\t"):
        raise config_error(file, at, "cells between semicolons or tabs", "commas between them, and decimal points")
    if twice := [name for k, name in enumerate(header) if name in header[:k]]:
        raise config_error(file, at, f"the column {show(twice[0])} a second time", "each once")
    if missing := [name for name in asked if name not in header]:
        valid = [name for name in header if not _is_number(name)]
        expected = f"it to be {one_of(valid, missing[0])}" if valid else "a header with the names of columns"
        raise config_error(file, at, f"no column {show(missing[0])}", expected)
    if twice := [name for k, name in enumerate(asked) if name in asked[:k]]:
        raise config_error(file, at, f"the column {show(twice[0])} asked for twice", "each once")
    last, grid = 0.0, []
    for k, name in enumerate(header):
        if name in asked:
            continue
        if not _is_number(name) or float(name) <= last:
            expected = f"a wavelength in nm above {last:g}, or a column named as label or nuisance"
            raise config_error(file, f"{at}, column {k + 1}", show(name), expected)
        grid.append(last := float(name))
    if not grid:
        raise config_error(file, at, "no wavelengths" if header else "nothing", "a header with wavelengths in nm")
    return np.array(grid)


def _row(file: str, line: int, cells: dict[str, str]) -> NDArray[np.float64]:
    """Return a row's numbers."""
    if wrong := [name for name, cell in cells.items() if not _is_number(cell)]:
        raise config_error(file, f"line {line}, column {wrong[0]}", show(cells[wrong[0]]), FINITE)
    return np.array([float(cell) for cell in cells.values()])


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell
    except ValueError:
        return False
