"""Digests of the code and the versions that results depend on."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from spectral_tutorial import (
    analysis,
    data,
    methods,
    models,
    physics,
    splits,
    store,
    training,
)
from spectral_tutorial.pipeline import answers


def digests(*modules: ModuleType) -> list[str]:
    """Digest of each module's source, as it is running."""
    return [LOADED[module.__name__] for module in modules]


def of_methods() -> list[str]:
    """Digests and versions that the answers of methods depend on."""
    return [LOADED["spectral_tutorial.estimators"], *digests(methods), *libraries()]


@cache
def libraries() -> list[str]:
    """Versions of the libraries that the estimators stand on."""
    return [version("scikit-learn"), version("scipy")]


LOADED = {
    module.__name__: store.source_digest(Path(str(module.__file__)))
    for module in (physics, splits, data, models, training, analysis, methods, answers)
}
LOADED["spectral_tutorial.estimators"] = store.fingerprint(
    *(store.source_digest(path) for path in sorted(Path(__file__).parents[1].glob("estimators/*.py")))
)
"""Digests of the code that runs here. Read once, on import: a file that is edited later is not what runs."""
