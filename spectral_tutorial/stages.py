"""Three kinds of stage: spectra, what is fitted to them, and what that predicts. Asking for one makes what is missing.

A stage's fingerprint covers its part of the configuration, the code it uses (whatever its modules import), the versions
of the libraries, and the fingerprints of the stages it reads. So an edit of the physics makes everything again, and a
changed caption nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from spectral_tutorial import analysis, cores, data, methods, models, physics, predictions, splits, store, training
from spectral_tutorial.analysis import Moments
from spectral_tutorial.config import Config
from spectral_tutorial.data import InputTransform, LackingError, Spectra
from spectral_tutorial.folder import ExperimentFolder
from spectral_tutorial.methods import COMPOSED, Estimator, Fitted, Network, Task, get_estimator, get_method, get_network
from spectral_tutorial.reading import resolve_callable
from spectral_tutorial.sections import RESERVED_SPLITS, Split, TrainingConfig
from spectral_tutorial.store import Stage

log = logging.getLogger(__name__)

KEPT_SPECTRA = 4096
"""Spectra of a split whose predictions are kept; errors are measured on all of them."""

SEEDS_AT_ONCE = 16
"""Networks trained in one batch: more would not be faster and would need more memory."""

CODE = {
    "spectra": store.closure_digest(data),
    "networks": store.closure_digest(data, training),
    "estimators": store.closure_digest(methods),
    "predictions": store.closure_digest(predictions),
}
"""Digests of the code that runs here. Taken once, on import: a file that is edited later is not what runs."""

LIBRARIES = [version("scikit-learn"), version("scipy")]
"""Versions of what the estimators stand on."""


class Stages:
    """The stages of one configuration.

    Parameters
    ----------
    config : Config
        The five files.
    overwrite : bool
        Whether the results of another configuration in the same folder may be deleted.
    keep_spectra : bool
        Whether spectra of the configured data seeds are written down. Others never are: a seed brings them back.

    Raises
    ------
    store.StoreError
        If the folder holds something else, and `overwrite` does not allow to delete it or it is no experiment.
    """

    def __init__(self, config: Config, overwrite: bool = False, keep_spectra: bool = True) -> None:
        self.config = config
        self.reported = config.reported
        self.folder = ExperimentFolder(config.exp_dir, config.as_dict(), overwrite, config.file)
        self.splits = splits.complete(config.distribution.splits)
        self.evaluated = [name for name in self.splits if name not in splits.LEARNED_FROM]
        self.added = RESERVED_SPLITS
        self._kept = config.meta.data_seed if keep_spectra else ()
        self._in_memory: dict[tuple[str, int, str], Spectra] = {}
        self._described: set[int] = set()

    @cached_property
    def world(self) -> physics.World:
        """The forward model."""
        return physics.World.from_config(self.config.spectra)

    @cached_property
    def _added(self) -> dict[str, Split]:
        """Splits of interventions, which of many lines are so large that they wait to be asked for."""
        return methods.added_splits(self.config, self.splits)

    def _resolve(self, name: str, key: str) -> Callable[..., Any]:
        """Return the function or class that a ``module:name`` of the configuration means."""
        return resolve_callable(name, self.config.directory, key=key, file=self.config.file)

    # --- spectra ----------------------------------------------------------------------------------------------------

    def spectra(self, split: str, data_seed: int) -> Spectra:
        """Return a split's spectra: mapped from their files, or made again where they are not kept."""
        stage = self.spectra_stage(split, data_seed)
        if data_seed not in self._kept:
            key = (split, data_seed, stage.fingerprint)
            if key not in self._in_memory:
                room = partial(store.create_array, self.folder.path, name=None)
                self._in_memory[key] = self._generate(split, data_seed, lambda shape, dtype, _: room(shape, dtype))
            return self._in_memory[key]
        self.folder.produce([stage], "generate_data", lambda _: self._write_spectra(stage, split, data_seed))
        if self.config.meta.generate_data and data_seed not in self._described:
            self._describe(data_seed)
        arrays = {name: store.open_array(stage.directory / f"{name}.npy") for name in data.ROW_ARRAYS}
        return Spectra(wavelength=self.world.wavelength, labels=self.world.labels, **arrays)

    def spectra_stage(self, split: str, data_seed: int) -> Stage:
        """Return the stage with a split's spectra; it is asked for its fingerprint where these are not kept, too."""
        made_of: list[Any]
        if split == COMPOSED:
            made_of = [self.spectra_stage("train", data_seed).fingerprint, self.reported, LIBRARIES]
        else:
            distribution = self._split(split)
            names = splits.callables(distribution.distribution)
            own = [store.code_digest(self._resolve(name, "callable")) for name in names]
            made_of = [self._described_world, distribution.model_dump(mode="json"), [split, data_seed], own]
        fingerprint = store.fingerprint(*made_of, np.__version__, CODE["spectra"])
        return Stage(self.folder.path / f"data/seed-{data_seed}" / split, fingerprint)

    @cached_property
    def _described_world(self) -> dict[str, Any]:
        return self.config.spectra.model_dump(mode="json")

    def _split(self, name: str) -> Split:
        found = self.splits.get(name) or self._added.get(name)
        if found is None:
            raise LackingError(f"no split {name}: there is no pair of lines but the reported one")
        return found

    def _generate(self, split: str, data_seed: int, room: Callable[..., NDArray[Any]]) -> Spectra:
        """Make spectra anew, in arrays that ``room(shape, dtype, name)`` gives."""
        if split == COMPOSED:
            train, rng = self.spectra("train", data_seed), data.stream(data_seed, "train", COMPOSED)
            return data.compose(train, *self.reported, len(train) // 4, rng)
        distribution, spectra = self._split(split), self.config.spectra
        out = {name: room(*shape, name) for name, shape in data.array_shapes(spectra, distribution).items()}
        directory = self.config.directory
        return data.generate(spectra, distribution, name=split, seed=data_seed, directory=directory, out=out)

    def _write_spectra(self, stage: Stage, split: str, data_seed: int) -> None:
        log.info("data seed %d: generating %s", data_seed, split)
        with stage.write() as folder:
            made = self._generate(split, data_seed, partial(store.create_array, folder))
            if split == COMPOSED:
                for name in data.ROW_ARRAYS:
                    np.save(folder / f"{name}.npy", getattr(made, name))
            del made  # Windows renames no folder with files that are open

    def _describe(self, data_seed: int) -> None:
        """Write what all splits of a data seed share, where it is not there already."""
        described = {
            "data_seed": data_seed,
            "spectra": self._described_world,
            "splits": {name: split.model_dump(mode="json") for name, split in self.splits.items()},
        }
        self.folder.publish(f"data/seed-{data_seed}/metadata.json", store.json_bytes(described))
        self.folder.publish(f"data/seed-{data_seed}/wavelength.npy", store.array_bytes(self.world.wavelength))
        self._described.add(data_seed)

    # --- fitted: networks -------------------------------------------------------------------------------------------

    def learned_from(self, name: str, data_seed: int) -> Spectra:
        """Return the spectra that a method learns from."""
        method = get_method(name)
        train, shown = self.spectra(method.split, data_seed), method.shown
        if shown is None:
            return train
        count = len(train) // 4 if shown.count is None else min(shown.count, len(train))
        return data.replace_last(train, self.spectra(shown.split, data_seed).take(slice(0, count)))

    def runs(self, name: str, data_seed: int) -> dict[int, Path]:
        """Return the folder of each training seed's run: ``history.csv`` and ``step-*.safetensors``."""
        stages = self.run_stages(name, data_seed)
        seeds = list(stages)
        for first in range(0, len(seeds), SEEDS_AT_ONCE):
            batch = [stages[seed] for seed in seeds[first : first + SEEDS_AT_ONCE]]
            self.folder.produce(batch, "run_training", partial(self._train, name, data_seed, stages))
        return {seed: stage.directory for seed, stage in stages.items()}

    def run_stages(self, name: str, data_seed: int) -> dict[int, Stage]:
        """Return the stage of each training seed's run."""
        method = get_network(name)
        settings, shown = method.settings(self.config), method.shown
        own = [self._resolve(settings.model_type, "model_type")] if ":" in settings.model_type else []
        read = [method.split, analysis.ID_SPLIT, *([shown.split] if shown else [])]
        made_of = [
            settings.model_dump(mode="json", exclude=methods.WITHOUT_EFFECT),
            [self.spectra_stage(split, data_seed).fingerprint for split in read],
            [asdict(shown) if shown else None],
            [np.__version__, torch.__version__, CODE["networks"]],
            [store.code_digest(module) for module in own],
        ]
        folder = self.folder.path / "runs"
        return {
            seed: Stage(folder / f"seed-{seed}/data-{data_seed}" / name, store.fingerprint(*made_of, seed))
            for seed in method.training_seeds(self.config)
        }

    def _train(self, name: str, data_seed: int, stages: Mapping[int, Stage], todo: list[Stage]) -> None:
        chosen = {seed: stage for seed, stage in stages.items() if stage in todo}
        settings = get_network(name).settings(self.config)
        pairs = self.tensors(name, data_seed)
        log.info("data seed %d: training %s, seeds %s", data_seed, name, ", ".join(map(str, chosen)))
        with ExitStack() as stack:
            folders = [stack.enter_context(stage.write()) for stage in chosen.values()]
            bar = stack.enter_context(tqdm(desc=f"{name}, {len(chosen)} seeds", unit="step", disable=None))

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            history = training.train(
                settings,
                self.builder(settings),
                *pairs,
                seeds=list(chosen),
                on_checkpoint=partial(store.write_checkpoint, folders),
                on_step=advance,
            )
            for place, folder in enumerate(folders):
                losses = {"train_loss": history.train_loss[place], "val_loss": history.val_loss[place]}
                table = pd.DataFrame({"step": history.step, "epoch": history.epoch, **losses})
                table.to_csv(folder / "history.csv", index=False)

    def tensors(self, name: str, data_seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return inputs and targets of a network's training split and of ``val``, as it sees them.

        Inputs that are large lie in a nameless file and not in memory.
        """
        transform, pairs = self.transform(name, data_seed), []
        for spectra in (self.learned_from(name, data_seed), self.spectra(analysis.ID_SPLIT, data_seed)):
            room = store.create_array(self.folder.path, spectra.flux.shape, np.dtype(np.float32))
            inputs, targets = transform.transform(spectra.flux, room), spectra.abundance.astype(np.float32)
            pairs.append((torch.from_numpy(inputs), torch.from_numpy(targets)))
        return pairs

    def transform(self, name: str, data_seed: int) -> InputTransform:
        """Return what is done to flux before a network reads it, fitted on its training split."""
        kind = get_network(name).settings(self.config).input_transform
        return InputTransform(kind).fit(self.learned_from(name, data_seed).flux)

    def builder(self, settings: TrainingConfig) -> training.Build:
        """Return what makes one network of the given settings."""
        name = settings.model_type
        network = models.MODELS.get(name) or self._resolve(name, "model_type")
        return models.builder(network, self.config.spectra, settings)

    def weights(self, name: str, data_seed: int, step: int | None = None) -> training.State:
        """Return the weights of all seeds at a checkpoint, the last by default, stacked along a first axis S."""
        runs = list(self.runs(name, data_seed).values())
        if step is None:
            step = int(store.read_table(runs[0] / "history.csv")["step"].iloc[-1])
        loaded = [store.read_checkpoint(folder, step) for folder in runs]
        return {key: torch.stack([weights[key] for weights in loaded]) for key in loaded[0]}

    def networks(
        self, name: str, data_seed: int, step: int | None = None
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return a function from inputs ``(N, W)`` to all seeds' outputs ``(S, N, L)`` at one checkpoint."""
        state = self.weights(name, data_seed, step)
        model = training.template(self.builder(get_network(name).settings(self.config)))
        return lambda inputs: training.predict(model, state, torch.from_numpy(inputs)).numpy()

    def _trained(self, name: str, data_seed: int) -> predictions.Predictor:
        runs = self.runs(name, data_seed)
        history = [store.read_table(folder / "history.csv") for folder in runs.values()]
        steps, losses = history[0]["step"].to_numpy(), np.stack([table["val_loss"] for table in history])
        transform, columns = self.transform(name, data_seed), self.world.index(self.reported)
        split, loss = get_network(name).split, get_network(name).settings(self.config).loss_function
        abundances = (self.spectra(one, data_seed).abundance for one in (split, analysis.ID_SPLIT))
        constant = training.constant_loss(loss, *abundances)

        def predict(flux: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
            inputs = transform.transform(flux)
            # One checkpoint at a time: those of hundreds of seeds together would not fit into memory.
            return (self.networks(name, data_seed, int(step))(inputs)[:, :, columns] for step in steps)

        def status(val: Moments) -> list[str]:
            return analysis.classify(val.output_std, losses, constant)

        return predictions.Predictor(list(runs), steps, history[0]["epoch"].to_numpy(), predict, status)

    # --- fitted: estimators -----------------------------------------------------------------------------------------

    def task(self, name: str, data_seed: int) -> Task:
        """Return what an estimator is given to learn from."""
        train, val = self.learned_from(name, data_seed), self.spectra(analysis.ID_SPLIT, data_seed)
        present = np.asarray(train.labels)[(train.abundance != 0).any(axis=0)].tolist()
        labels = dict.fromkeys([*self.reported, *present])  # one that is there and not read would mislead
        return Task(self.config, tuple(labels), train, val)

    def estimator(self, name: str, data_seed: int) -> Fitted:
        """Return the fitted estimator of a method."""
        return get_estimator(name).fit(self.task(name, data_seed), **self._settings(name))

    def _settings(self, name: str) -> dict[str, int]:
        table = self.choice(name)
        return {} if table is None else {str(key): int(value) for key, value in table.iloc[0, :-1].items()}

    def choice(self, name: str) -> pd.DataFrame | None:
        """Return the settings that were tried on ``val``, the chosen ones first; None where nothing is chosen."""
        choose = getattr(get_method(name), "choose", None)
        if choose is None:
            return None
        stage = self._choice_stage(name)

        def make(_: list[Stage]) -> None:
            log.info("choosing the settings of %s", name)
            tried = choose(self.task(name, self.config.meta.data_seed[0]))
            with stage.write() as folder:
                pd.DataFrame(tried).to_csv(folder / "choice.csv", index=False)

        self.folder.produce([stage], "run_analysis", make)
        return store.read_table(stage.directory / "choice.csv")

    def _choice_stage(self, name: str) -> Stage:
        made_of = self._fit_made_of(name, self.config.meta.data_seed[0])
        return Stage(self.folder.path / "analysis" / name / "choice", store.fingerprint(*made_of))

    def _fit_made_of(self, name: str, data_seed: int) -> list[Any]:
        read = (get_estimator(name).split, analysis.ID_SPLIT)
        prints = [self.spectra_stage(split, data_seed).fingerprint for split in read]
        return [prints, [name, *self.reported], LIBRARIES, CODE["estimators"]]

    # --- predictions ------------------------------------------------------------------------------------------------

    def predicted(self, name: str) -> dict[int, Stage]:
        """Return, by data seed, stages with ``trajectory.csv``, ``seed_status.csv`` and ``predictions-SPLIT.npy``."""
        stages = self.prediction_stages(name)
        self.folder.produce(stages.values(), "run_analysis", partial(self._predict, name, stages))
        return stages

    def is_predicted(self, name: str) -> bool:
        """Whether the predictions of a method are finished, for all its data seeds."""
        try:
            return all(map(self.folder.is_current, self.prediction_stages(name).values()))
        except LackingError:
            return False

    def prediction_stages(self, name: str) -> dict[int, Stage]:
        """Return the stage with a method's predictions, for each of its data seeds."""
        method, found = get_method(name), {}
        for data_seed in method.data_seeds(self.config):
            fit: list[Any]
            if isinstance(method, Network):
                fit = [[stage.fingerprint for stage in self.run_stages(name, data_seed).values()]]
            else:
                fit = self._fit_made_of(name, data_seed)
                fit += [self._choice_stage(name).fingerprint] if method.choose else []
            read = [self.spectra_stage(split, data_seed).fingerprint for split in self.evaluated]
            kept = [list(self.reported), KEPT_SPECTRA, CODE["predictions"]]
            folder = self.folder.path / "analysis" / name / f"data-{data_seed}"
            found[data_seed] = Stage(folder, store.fingerprint(fit, read, kept))
        return found

    def _predict(self, name: str, stages: Mapping[int, Stage], todo: list[Stage]) -> None:
        """Let a method read the evaluated splits of each data seed; estimators are fitted with a core each."""
        method, chosen = get_method(name), {seed: stage for seed, stage in stages.items() if stage in todo}
        # What they need is made first: only the thread that holds the experiment's lock may make anything.
        splits = {seed: {split: self.spectra(split, seed) for split in self.evaluated} for seed in chosen}
        if isinstance(method, Estimator):
            fit = partial(method.fit, **self._settings(name))
            tasks = {seed: self.task(name, seed) for seed in chosen}

        def make(data_seed: int) -> None:
            log.info("data seed %d: predictions of %s", data_seed, name)
            if isinstance(method, Network):
                fitted = self._trained(name, data_seed)
            else:
                fitted = predictions.one_seed(fit(tasks[data_seed]).predict)
            found = predictions.evaluate(fitted, splits[data_seed], self.reported, KEPT_SPECTRA, name, data_seed)
            with chosen[data_seed].write() as folder:
                found.trajectory.to_csv(folder / "trajectory.csv", index=False)
                found.seed_status.to_csv(folder / "seed_status.csv", index=False)
                for split, values in found.predictions.items():
                    np.save(folder / f"predictions-{split}.npy", values)

        if isinstance(method, Network):
            for data_seed in chosen:
                make(data_seed)
        else:
            cores.parallel_map(make, chosen)
