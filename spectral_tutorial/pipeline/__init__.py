"""The stages, data, runs and analysis: what each depends on, and how its files are made.

A stage's fingerprint covers its part of the configuration, the code it uses, the versions of NumPy and torch, and the
fingerprints of the stages it reads. So an edit of the physics, say, makes everything again, and a changed caption
nothing.
"""

from pathlib import Path

from spectral_tutorial.data import LackingError
from spectral_tutorial.methods import METHODS
from spectral_tutorial.pipeline.answers import KEPT_SPECTRA
from spectral_tutorial.pipeline.networks import NetworkStages
from spectral_tutorial.pipeline.readers import ReaderStages
from spectral_tutorial.store import Stage

__all__ = ["KEPT_SPECTRA", "Pipeline"]


class Pipeline(NetworkStages, ReaderStages):
    """Stages of one configuration; asking for one makes what is missing.

    Parameters
    ----------
    config : Config
        The five files.
    overwrite : bool
        Whether the results of another configuration in the same folder may be deleted.

    Raises
    ------
    store.StoreError
        If the folder holds something else, and `overwrite` does not allow to delete it or it is no experiment.
    """

    def data_seeds(self, name: str) -> tuple[int, ...]:
        """Return the data seeds over which a variant of the network, or a method, is measured."""
        return self.method_seeds if name in METHODS else self.config.meta.data_seed

    def measured(self, name: str, data_seed: int) -> Path:
        """Return the folder with ``trajectory.csv``, ``seed_status.csv`` and ``predictions-SPLIT.npy``."""
        return (self.asked if name in METHODS else self.analyzed)(name, data_seed)

    def stage(self, name: str, data_seed: int) -> Stage:
        """Return the stage with what a variant or a method answered."""
        return (self.method_stage if name in METHODS else self.analysis_stage)(name, data_seed)

    def is_measured(self, name: str) -> bool:
        """Whether the analysis of a variant or a method is finished, for all its data seeds."""
        try:
            return self.finished([self.stage(name, seed) for seed in self.data_seeds(name)])
        except LackingError:
            return False
