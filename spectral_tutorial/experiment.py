"""An experiment: a configuration, a folder, and everything that can be asked of them.

Asking computes what is missing on the way, leaves it in the folder, and finds it there the next time, whoever asks.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import matplotlib.figure
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spectral_tutorial import analysis, cores, figures, limits, methods, models, store
from spectral_tutorial.analysis import ID_SPLIT, OOD_SPLIT, Predictions
from spectral_tutorial.config import Config, load
from spectral_tutorial.data import MissingSpectraError
from spectral_tutorial.methods import METHODS, Fitted, Method, Network, get_estimator, get_method, get_network, names_of
from spectral_tutorial.plots import PLOTS
from spectral_tutorial.reading import config_error, show, wrong_name
from spectral_tutorial.stages import KEPT_SPECTRA, Stages

log = logging.getLogger(__name__)


class Experiment(Stages):
    """A configuration, the folder of its results, and everything that can be asked of them.

    StoreError if the folder holds something else, or another experiment and `overwrite` is false.

    The five files are `config`; :meth:`from_yaml` reads them. With `overwrite` an earlier experiment in the same folder
    may be deleted; without `keep_spectra` spectra are not written down, but made again from their seeds whenever they
    are asked for. ``reported`` holds the labels of the two reported components, x first, and ``world`` the forward
    model.
    """

    def __init__(self, config: Config, *, overwrite: bool = False, keep_spectra: bool = True) -> None:
        super().__init__(config, overwrite=overwrite, keep_spectra=keep_spectra)
        self._overwrite = overwrite
        self._bounds: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._tables: dict[tuple[str, ...], pd.DataFrame] = {}

    @classmethod
    def from_yaml(cls, path: str | Path, *, exp_dir: str | Path | None = None, overwrite: bool = False) -> Self:
        """Open the experiment of a meta file; `exp_dir` stands in for the one that the file names.

        ConfigError if one of the five files cannot be used; nothing has been written then.
        """
        config = load(path)
        return cls(config if exp_dir is None else config.in_folder(exp_dir), overwrite=overwrite)

    def variation(self, name: str, changes: Mapping[str, Any] | None = None) -> "Experiment":
        """Open an experiment that differs from this one in some keys, in the folder ``variations/NAME`` of this one.

        Its spectra are not written down: their seeds bring them back. `name` is one of the ``variations`` of
        analysis.yaml, or a new one if `changes` are given: new values by dotted key, see :meth:`Config.with_changes`.

        ConfigError if there is no such variation, or a value cannot be used. StoreError if the folder holds a variation
        with other changes.
        """
        alone: dict[str, Any] = {"analysis.variations": {}}  # it has none of its own, wherever its changes come from
        config = self.config.variation(name) if changes is None else self.config.with_changes(alone | dict(changes))
        if expected := wrong_name(name, self.config.analysis.variations):
            raise config_error("variation", "", show(name), expected)
        self._folder.record()
        inner = config.in_folder(self.directory / "variations" / name)
        return Experiment(inner, overwrite=self._overwrite, keep_spectra=False)

    def __repr__(self) -> str:
        return f"Experiment({self.config.file!r} -> {self.directory})"

    @property
    def names(self) -> Mapping[str, str]:
        """What figures call each component, by label: its name in analysis.yaml, or the label itself."""
        return self.config.names

    # --- training ---------------------------------------------------------------------------------------------------

    def train(self, method: str = "network") -> pd.DataFrame:
        """Train what is not trained yet and return the losses, a row a checkpoint of each run.

        Columns method, data_seed, training_seed, step, epoch, train_loss, val_loss; means over all L outputs.
        """
        histories = []
        for data_seed in get_network(method).data_seeds(self.config):
            for training_seed, folder in self._runs(method, data_seed).items():
                history = store.read_table(folder / "history.csv")
                for name, value in (("training_seed", training_seed), ("data_seed", data_seed), ("method", method)):
                    history.insert(0, name, value)
                histories.append(history)
        return pd.concat(histories, ignore_index=True)

    def outputs(
        self,
        flux: NDArray[np.float32],
        method: str = "network",
        step: int | None = None,
        *,
        data_seed: int | None = None,
        hidden: bool = False,
    ) -> NDArray[np.float32]:
        """Return what every seed's network makes of flux ``(N, W)`` at a checkpoint: all outputs ``(S, N, L)``.

        With `hidden`, what its last layer reads them from, ``(S, N, H)``; TypeError if it is no sequence of layers.
        """
        network = models.template(self.builder(get_network(method).settings(self.config)))
        network = models.without_last(network) if hidden else network
        inputs = self.transform(method, data_seed=data_seed).transform(flux)
        state = self.weights(method, step, data_seed=data_seed)
        return models.predict(network, state, torch.from_numpy(inputs)).numpy()

    def estimator(self, method: str, *, data_seed: int | None = None) -> Fitted:
        """Return a method's fitted estimator, an object in scikit-learn's form."""
        task, settings = self._task(method, self._seed(data_seed)), self._settings(method)
        with cores.one_blas_thread():
            return get_estimator(method).fit(task, **settings)

    def trajectories(self, method: str = "network") -> pd.DataFrame:
        """Error, bias and slope at every checkpoint of every run (columns ``analysis.TRAJECTORY_COLUMNS``)."""
        return self._table(method, "trajectory")

    def seed_status(self, method: str = "network") -> pd.DataFrame:
        """Return what became of each run: method, data_seed, training_seed, status."""
        return self._table(method, "seed_status")

    def final_errors(self, method: str = "network", split: str = ID_SPLIT) -> pd.DataFrame:
        """Each run's row at its last checkpoint, for one evaluation split, with its status."""
        self._check_split(split)
        last = self._last(method)
        return last[last["split"] == split].reset_index(drop=True)

    def _last(self, method: str) -> pd.DataFrame:
        return analysis.with_status(
            analysis.final(self._table(method, "trajectory")), self._table(method, "seed_status")
        )

    def _table(self, method: str, table: str) -> pd.DataFrame:
        stages = self._predicted(method).values()
        key = (method, table, *(stage.fingerprint for stage in stages))
        if key not in self._tables:
            parts = [store.read_table(stage.directory / f"{table}.csv") for stage in stages]
            self._tables[key] = pd.concat(parts, ignore_index=True)
        return self._tables[key].copy()

    def predictions(
        self, method: str = "network", split: str = OOD_SPLIT, *, data_seed: int | None = None
    ) -> Predictions:
        """Return what every seed predicted at every checkpoint, for the first spectra of an evaluation split.

        ValueError if the split is learned from, or there is none of that name, or the method was not measured on this
        data seed, naming what there is.
        """
        self._check_split(split)
        seed, stages = self._seed(data_seed), self._predicted(method)
        if seed not in stages:
            expected = ", ".join(map(str, stages))
            raise ValueError(f"no predictions of {method} for data seed {seed}; expected one of {expected}")
        values = store.open_array(stages[seed].directory / f"predictions-{split}.npy")
        truth = self._spectra(split, seed).abundance[: values.shape[2], self.world.index(self.reported)]
        steps = self._table(method, "trajectory")["step"].unique()
        return Predictions(get_method(method).training_seeds(self.config), steps, truth, values, self.reported)

    def gap_report(self, *names: str) -> pd.DataFrame:
        """Median error of each method over live runs beside the Cramér-Rao bound (columns ``analysis.REPORT_COLUMNS``).

        Of the methods that are named, or of the core ones. Writes ``analysis/*.csv`` too; the files hold everything
        that is finished, whatever is asked for here.
        """
        shown = list(names) or names_of(Method, core=True)
        for name in shown:
            self._predicted(name)
        known = dict.fromkeys([*METHODS, *shown])
        finished = [name for name in known if name in shown or self._is_predicted(name)]
        networks = [name for name in finished if isinstance(get_method(name), Network)]
        kinds = {"trajectory_data": "trajectory", "seed_status": "seed_status"} if networks else {}
        tables = {file: pd.concat([self._table(n, kind) for n in networks]) for file, kind in kinds.items()}
        errors = pd.concat([self._last(n).astype({"training_seed": "Int64"}) for n in finished], ignore_index=True)
        bounds = {
            (seed, split, label): float(value)
            for seed in errors["data_seed"].unique().tolist()
            for split in self._evaluated
            for label, value in zip(self.reported, self._bound(split, seed).mean(axis=0), strict=True)
        }
        tables["ratio_by_noise"] = self.ratio_by_noise(*finished)
        report = tables["gap_report"] = analysis.gap_report(errors, bounds, tables["ratio_by_noise"])
        for name, table in tables.items():
            self._folder.publish(f"analysis/{name}.csv", table.to_csv(index=False).encode())
        return pd.concat([report[report["method"] == name] for name in shown], ignore_index=True)

    def ratio_by_noise(self, *names: str) -> pd.DataFrame:
        """Squared error over the Cramér-Rao bound on ``test``, all together and by thirds of the noise level.

        Columns method, component, all, low, high, quietest, middle, noisiest, see
        :func:`analysis.pooled_ratio_by_noise`.
        """
        tables = []
        for name in names or names_of(Method, core=True):
            status, parts = self.seed_status(name), []
            for seed in self._predicted(name):
                predictions = self.predictions(name, data_seed=seed)
                error = np.square(predictions.last[analysis.alive(status, seed)] - predictions.truth)
                noise = self._spectra(OOD_SPLIT, seed).noise_level[: error.shape[1]]
                parts.append((error, self._bound(OOD_SPLIT, seed), noise))
            table = analysis.pooled_ratio_by_noise(parts)
            table.insert(0, "component", self.reported)
            table.insert(0, "method", name)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def bound(
        self,
        split: str = OOD_SPLIT,
        *,
        data_seed: int | None = None,
        continuum: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Cramér-Rao bound ``(N, K)`` of a split's first spectra: the temperature is unknown, and what training shows.

        With `continuum`, directions of log flux ``(Q, W)`` are unknown instead of the temperature, see
        :func:`limits.cramer_rao`.
        It is that of the reported abundances; those of other components in ``train`` are unknown, too.
        """
        self._check_known(split)
        return self._bound(split, self._seed(data_seed), continuum)

    def _bound(self, split: str, seed: int, continuum: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        if continuum is None and (split, seed) in self._bounds:
            return self._bounds[split, seed]
        spectra, some = self._spectra(split, seed), slice(0, KEPT_SPECTRA)
        unknown = self.world.index(self._unknown(self._spectra("train", seed)))
        star = spectra.temperature[some], spectra.abundance[some], spectra.noise_level[some]
        bound = limits.cramer_rao(self.world, *star, unknown, continuum)[:, : len(self.reported)]
        if continuum is None:
            self._bounds[split, seed] = bound
        return bound

    @property
    def reference_points(self) -> dict[str, NDArray[np.float64]]:
        """Landmarks of the error plane: methods that do not look at the spectrum, judged on ``test``."""
        return limits.reference_points(*(self.data(split).of(*self.reported) for split in ("train", OOD_SPLIT)))

    def _check_split(self, split: str) -> None:
        if split not in self._evaluated:
            raise ValueError(f"no predictions for {split!r}; expected one of {', '.join(self._evaluated)}")

    # --- the recipe -------------------------------------------------------------------------------------------------

    def plot(self, name: str) -> matplotlib.figure.Figure:
        """Draw one of ``PLOTS``, leave it as ``plots/NAME.png`` and return it."""
        if name not in PLOTS:
            raise ValueError(f"no plot {name!r}; expected one of {', '.join(PLOTS)}")
        figure = PLOTS[name](self)
        self._folder.publish(f"plots/{name}.png", figures.png(figure))
        return figure

    def run(self, *, everything: bool = False) -> None:
        """Do what the flags of the meta file ask for, with the core methods or, if asked, `everything`."""
        if self.config.meta.generate_data:
            self._generate_all()
        if self.config.meta.run_training:
            self._train_all(everything)
        if self.config.meta.run_analysis:
            self._analyze_all(everything)
        self._plot_all()

    def _generate_all(self) -> None:
        """Generate every split of every data seed."""
        for seed in self.config.meta.data_seed:
            for split in self.splits:
                self._spectra(split, seed)

    def _train_all(self, everything: bool) -> None:
        """Train all networks that this experiment has spectra for."""
        self.possible(names_of(Network, core=not everything), self.train)

    def _analyze_all(self, everything: bool) -> pd.DataFrame:
        """Return the gap report of the core methods, or of all; then the variations of analysis.yaml are computed."""
        if everything:  # variations that cannot be used are refused before anything is computed
            self._variations()
        report = self.gap_report(*self.possible(names_of(Method, core=not everything), self.trajectories))
        if everything and self.config.analysis.variations:
            self.variations_report()
        return report

    def _plot_all(self) -> None:
        """Draw every plot whose ingredients are there or may be made."""
        for name in PLOTS:
            try:
                self.plot(name)
            except store.MissingError as missing:
                log.warning("no plot %s: %s", name, missing)

    def possible(self, names: Iterable[str], compute: Callable[[str], Any]) -> list[str]:
        """Compute what can be; a method that misses a kind of spectrum here is named and left out."""
        done = []
        for name in names:
            try:
                compute(name)
                done.append(name)
            except MissingSpectraError as missing:
                log.warning("%s is left out: %s", name, missing)
        return done

    def _variations(self) -> dict[str, list[str]]:
        """Methods that are asked in each variation of analysis.yaml."""
        return {name: methods.asked_in(self.config, name) for name in self.config.analysis.variations}

    def variations_report(self) -> pd.DataFrame:
        """Error over the Cramér-Rao bound in every variation of analysis.yaml, for the methods asked there.

        Leaves each variation's own tables in its folder. Columns variation, those of :meth:`ratio_by_noise`, and place,
        whether the component is the first or the second of its pair.
        """
        tables = []
        for name, asked in self._variations().items():
            inner = self.variation(name)
            done = inner.possible(asked, inner.trajectories)
            inner.gap_report(*done)
            place = dict(zip(inner.reported, ("first of the pair", "second of the pair"), strict=True))
            table = inner.ratio_by_noise(*done)
            table.insert(0, "variation", name)
            tables.append(table.assign(place=table["component"].map(place)))
        return pd.concat(tables, ignore_index=True)
