"""Many experiments from one file: a base experiment, a grid of changes, and one table that grows as results arrive.

:func:`load` turns ``SWEEP.yaml`` into a :class:`Sweep`, with every cell of the grid checked before anything is
computed. :meth:`Sweep.run` computes the cells that are not finished, in this process or on any executor, and leaves in
the sweep's folder::

    table.csv                     a row for each cell, method, component and split, in the order of the grid
    failures.csv                  cells that failed in the last run, and why; absent if none did
    seconds.csv                   how long each cell took: for forecasts, and no part of the results
    cells/DIGEST/                 a finished cell: report.csv, and status.json with what it was made from
    experiments/DIGEST/           the cell's whole experiment, where the file says ``keep: true``
    spectral-tutorial-sweep.json  the versions that were used; the folder is known as a sweep's by this file
"""

from spectral_tutorial.sweep.cells import Cell, SweepFile
from spectral_tutorial.sweep.sweeps import Sweep, load

__all__ = ["Cell", "Sweep", "SweepFile", "load"]
