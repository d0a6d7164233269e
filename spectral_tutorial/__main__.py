"""``python -m spectral_tutorial``: see :mod:`spectral_tutorial.cli`."""

import sys

from spectral_tutorial.cli import main

if __name__ == "__main__":
    sys.exit(main())
