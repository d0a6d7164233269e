"""Three kinds of stage: spectra, what is fitted to them, and what that predicts. Asking for one makes what is missing.

A stage's fingerprint covers its part of the configuration, the code it uses (whatever its modules import), the versions
of the libraries, and the fingerprints of the stages it reads. So an edit of the physics makes everything again, and a
changed caption nothing.
"""

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

from spectral_tutorial import analysis, cores, data, digests, methods, models, splits, store, training
from spectral_tutorial.config import Config
from spectral_tutorial.data import InputTransform, MissingSpectraError, Room, Spectra
from spectral_tutorial.folder import open_folder
from spectral_tutorial.methods import COMPOSED, RECOMBINED, Network, Task, get_estimator, get_method, get_network
from spectral_tutorial.models import State
from spectral_tutorial.physics import World
from spectral_tutorial.reading import config_error, resolve_callable, show
from spectral_tutorial.sections import RESERVED_SPLITS, Split, TrainingConfig
from spectral_tutorial.store import Stage

log = logging.getLogger(__name__)

KEPT_SPECTRA = 4096  #: spectra of a split whose predictions are kept; errors are measured on all of them
MADE_AGAIN = (RECOMBINED, "many_combinations")
"""Large splits, never written down: what they are made of brings them back."""

SEEDS_AT_ONCE = 16  #: networks trained in one batch: more would not be faster and would need more memory
CODE = {
    "spectra": digests.closure_digest(data),
    "networks": digests.closure_digest(data, training),
    "estimators": digests.closure_digest(methods),
    "predictions": digests.closure_digest(analysis),
}
"""Digests of the code that runs here. Taken once, on import: a file that is edited later is not what runs."""

LIBRARIES = [version("scikit-learn"), version("scipy")]  #: versions of what the estimators stand on


class Stages:
    """The stages of one configuration, in its folder; parameters and errors as for an Experiment."""

    def __init__(self, config: Config, *, overwrite: bool = False, keep_spectra: bool = True) -> None:
        if not isinstance(config, Config):
            expected = "a configuration; a file is opened by Experiment.from_yaml(PATH)"
            raise config_error("Experiment", "", show(config), expected)
        self.config, self.reported = config, config.reported
        self._sections = config.as_dict()
        self._folder = open_folder(config.exp_dir, self._sections, overwrite, config.file)
        self.world = World.from_config(config.spectra)
        self._splits = splits.complete(config.distribution.splits)
        self._described = {name: _plain(split) for name, split in self._splits.items()}
        self._evaluated = [name for name in self._splits if name not in splits.LEARNED_FROM]
        self._kept = config.meta.data_seed if keep_spectra else ()
        self._in_memory: dict[str, Spectra] = {}
        self._published: set[int] = set()

    @property
    def directory(self) -> Path:
        """The folder of the results."""
        return self._folder.path

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of all splits, ``val`` and ``oracle_train`` included where the file has none."""
        return tuple(self._splits)

    def _seed(self, data_seed: int | None) -> int:
        seed = self.config.meta.data_seed[0] if data_seed is None else data_seed
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"data_seed: found {show(seed)}; expected a whole number from 0")
        return int(seed)

    def _resolve(self, name: str, key: str) -> Callable[..., Any]:
        """Return the function or class that a ``module:name`` of the configuration means."""
        return resolve_callable(name, self.config.directory, key=key, file=self.config.file)

    # --- spectra ----------------------------------------------------------------------------------------------------

    def data(self, split: str, *, data_seed: int | None = None) -> Spectra:
        """Return a split's spectra, for the first data seed unless another is named.

        ValueError if there is no such split, naming those there are.
        """
        self._check_known(split)
        return self._spectra(split, self._seed(data_seed))

    def _check_known(self, split: str) -> None:
        if split not in (valid := (*self._splits, *RESERVED_SPLITS)):
            raise ValueError(f"no split {split!r}; expected one of {', '.join(valid)}")

    def _spectra(self, split: str, data_seed: int) -> Spectra:
        """Return a split's spectra: mapped from their files, or made again where they are not kept."""
        stage = self._spectra_stage(split, data_seed)
        if data_seed not in self._kept or split in MADE_AGAIN:
            if stage.fingerprint not in self._in_memory:
                room: Room = lambda _, *of: store.create_array(self.directory, None, *of)  # noqa: E731
                self._in_memory[stage.fingerprint] = self._generate(split, data_seed, room)
            return self._in_memory[stage.fingerprint]
        with self._folder.pending([stage], "generate_data") as todo:
            if todo:
                log.info("data seed %d: generating %s", data_seed, split)
                with stage.write() as folder:  # no array is left open: Windows would not rename the folder
                    self._generate(split, data_seed, partial(store.create_array, folder))
        if self.config.meta.generate_data and data_seed not in self._published:
            self._describe(data_seed)
        arrays: dict[str, Any] = {name: store.open_array(stage.directory / f"{name}.npy") for name in data.ROW_ARRAYS}
        return Spectra(wavelength=self.world.wavelength, labels=self.world.labels, **arrays)

    def _spectra_stage(self, split: str, data_seed: int) -> Stage:
        """Return the stage with a split's spectra; its fingerprint counts where these are not kept, too."""
        made_of: list[Any]
        if split == COMPOSED:
            made_of = [self._spectra_stage("train", data_seed).fingerprint, self.reported, LIBRARIES]
        elif split == RECOMBINED:
            made_of = [self._fit_made_of("decoder", data_seed), self._choice_stage("decoder").fingerprint]
        else:
            if split not in self._described:
                self._described[split] = _plain(self._split(split))
            distribution, callables = self._described[split]
            own = [digests.code_digest(self._resolve(name, "callable")) for name in callables]
            made_of = [self._sections["spectra"], distribution, [split, data_seed], own]
        fingerprint = store.fingerprint(*made_of, np.__version__, CODE["spectra"])
        return Stage(self.directory / f"data/seed-{data_seed}" / split, fingerprint)

    def _split(self, name: str) -> Split:
        """Return a split of the file, or one that only interventions learn from: of many lines these are large."""
        if name not in self._splits and name not in self._added:
            raise MissingSpectraError(f"no split {name}: there is no pair of lines but the reported one")
        return self._splits.get(name) or self._added[name]

    @cached_property
    def _added(self) -> dict[str, Split]:
        return splits.added(self._splits, self.config.spectra.labels, self.reported)

    def _generate(self, split: str, data_seed: int, room: Room) -> Spectra:
        """Make spectra anew, in arrays that `room` gives."""
        if split in (COMPOSED, RECOMBINED):
            train, rng = self._spectra("train", data_seed), data.stream(data_seed, "train", split)
            if split == COMPOSED:
                made = data.compose(train, *self.reported, len(train) // 4, rng)
            else:
                task, settings = self._task("decoder", data_seed), self._settings("decoder")
                with cores.one_blas_thread():
                    made = methods.recombined(task, get_estimator("decoder").fit(task, **settings), rng)
            for name in data.ROW_ARRAYS:
                array = getattr(made, name)
                room(name, array.shape, array.dtype)[:] = array
            return made
        chosen, directory = self._split(split), self.config.directory
        return data.generate(
            self.config.spectra, chosen, name=split, seed=data_seed, directory=directory, world=self.world, room=room
        )

    def _describe(self, data_seed: int) -> None:
        """Write what all splits of a data seed share, where it is not there already."""
        configured = {name: self._described[name][0] for name in self._splits}
        described = {"data_seed": data_seed, "spectra": self._sections["spectra"], "splits": configured}
        self._folder.publish(f"data/seed-{data_seed}/metadata.json", store.json_bytes(described))
        self._folder.publish(f"data/seed-{data_seed}/wavelength.npy", store.array_bytes(self.world.wavelength))
        self._published.add(data_seed)

    # --- fitted: networks -------------------------------------------------------------------------------------------

    def _runs(self, name: str, data_seed: int) -> dict[int, Path]:
        """Return the folder of each training seed's run: ``history.csv`` and ``step-*.safetensors``."""
        stages = self._run_stages(name, data_seed)
        for first in range(0, len(stages), SEEDS_AT_ONCE):
            batch = dict(list(stages.items())[first : first + SEEDS_AT_ONCE])
            with self._folder.pending(batch.values(), "run_training") as todo:
                if todo:
                    self._train(name, data_seed, {seed: stage for seed, stage in batch.items() if stage in todo})
        return {seed: stage.directory for seed, stage in stages.items()}

    def _run_stages(self, name: str, data_seed: int) -> dict[int, Stage]:
        """Return the stage of each training seed's run."""
        method = get_network(name)
        settings, shown = method.settings(self.config), method.shown
        own = [self._resolve(settings.model_type, "model_type")] if ":" in settings.model_type else []
        read = [method.split, analysis.ID_SPLIT, *([shown.split] if shown else [])]
        made_of = [
            settings.model_dump(mode="json", exclude=methods.WITHOUT_EFFECT),
            [self._spectra_stage(split, data_seed).fingerprint for split in read],
            [asdict(shown) if shown else None],
            [np.__version__, torch.__version__, CODE["networks"]],
            [digests.code_digest(module) for module in own],
        ]
        folder = self.directory / "runs"
        return {
            seed: Stage(folder / f"seed-{seed}/data-{data_seed}" / name, store.fingerprint(*made_of, seed))
            for seed in method.training_seeds(self.config)
        }

    def _train(self, name: str, data_seed: int, stages: Mapping[int, Stage]) -> None:
        """Train one network for each training seed and write down its run."""
        settings = get_network(name).settings(self.config)
        train, val = self._learned_from(name, data_seed), self._spectra(analysis.ID_SPLIT, data_seed)
        transform = InputTransform(settings.input_transform).fit(train.flux)
        sets = [self._tensors(transform, spectra) for spectra in (train, val)]
        log.info("data seed %d: training %s, seeds %s", data_seed, name, ", ".join(map(str, stages)))
        with ExitStack() as stack:
            folders = [stack.enter_context(stage.write()) for stage in stages.values()]
            bar = stack.enter_context(tqdm(desc=f"{name}, {len(stages)} seeds", unit="step", disable=None))

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update()

            keep, build = partial(store.write_checkpoint, folders), self.builder(settings)
            history = training.train(settings, build, *sets, seeds=[*stages], on_checkpoint=keep, on_step=advance)
            for place, folder in enumerate(folders):
                losses = {"train_loss": history.train_loss[place], "val_loss": history.val_loss[place]}
                table = pd.DataFrame({"step": history.step, "epoch": history.epoch, **losses})
                table.to_csv(folder / "history.csv", index=False)

    def _learned_from(self, name: str, data_seed: int) -> Spectra:
        """Return the spectra that a method learns from."""
        method = get_method(name)
        train, shown = self._spectra(method.split, data_seed), method.shown
        if shown is None:
            return train
        count = len(train) // 4 if shown.count is None else min(shown.count, len(train))
        return data.replace_last(train, self._spectra(shown.split, data_seed).take(slice(0, count)))

    def _tensors(self, transform: InputTransform, spectra: Spectra) -> tuple[torch.Tensor, torch.Tensor]:
        """Return spectra as a network sees them, and its targets; large inputs lie in a nameless file."""
        room = store.create_array(self.directory, None, spectra.flux.shape, np.float32)
        inputs, targets = transform.transform(spectra.flux, room), spectra.abundance.astype(np.float32)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def transform(self, method: str = "network", *, data_seed: int | None = None) -> InputTransform:
        """Return what is done to flux before a network reads it, fitted on its training split."""
        kind = get_network(method).settings(self.config).input_transform
        return InputTransform(kind).fit(self._learned_from(method, self._seed(data_seed)).flux)

    def builder(self, settings: TrainingConfig) -> models.Build:
        """Return what makes one untrained network of some settings, for this experiment's spectra."""
        name = settings.model_type
        network = models.MODELS.get(name) or self._resolve(name, "model_type")
        return models.builder(network, self.config.spectra.n_bins, self.config.spectra.n_components, settings)

    def weights(self, method: str = "network", step: int | None = None, *, data_seed: int | None = None) -> State:
        """Return the weights of all seeds at a checkpoint, the last by default, stacked along a first axis S."""
        runs = list(self._runs(method, self._seed(data_seed)).values())
        if step is None:
            step = int(store.read_table(runs[0] / "history.csv")["step"].iloc[-1])
        return store.read_checkpoint(runs, step)

    # --- fitted: estimators -----------------------------------------------------------------------------------------

    def _task(self, name: str, data_seed: int) -> Task:
        """Return what an estimator is given to learn from."""
        train, val = self._learned_from(name, data_seed), self._spectra(analysis.ID_SPLIT, data_seed)
        return Task(self.config, self._unknown(train), train, val)

    def _unknown(self, train: Spectra) -> tuple[str, ...]:
        """Return the components that have to be found: one that is there and not read would mislead."""
        present = np.asarray(train.labels)[(train.abundance != 0).any(axis=0)].tolist()
        return tuple(dict.fromkeys([*self.reported, *present]))

    def _settings(self, name: str) -> dict[str, int]:
        table = self.choice(name)
        return {} if table is None else {str(k): int(v) for k, v in table.select_dtypes("integer").iloc[0].items()}

    def choice(self, method: str) -> pd.DataFrame | None:
        """Return the settings that were tried for a method, the chosen ones first; None where nothing is chosen.

        Chosen on the splits train and val of the first data seed, and used for all.
        """
        choose = getattr(get_method(method), "choose", None)
        if choose is None:
            return None
        stage = self._choice_stage(method)
        flag = "run_analysis" if self.config.meta.run_analysis else "run_training"  # networks may learn from a decoder
        with self._folder.pending([stage], flag) as todo:
            if todo:
                log.info("choosing the settings of %s", method)
                task = self._task(method, self.config.meta.data_seed[0])
                with cores.one_blas_thread():
                    tried = choose(task)
                with stage.write() as folder:
                    pd.DataFrame(tried).to_csv(folder / "choice.csv", index=False)
        return store.read_table(stage.directory / "choice.csv")

    def _choice_stage(self, name: str) -> Stage:
        made_of = self._fit_made_of(name, self.config.meta.data_seed[0])
        return Stage(self.directory / "analysis" / name / "choice", store.fingerprint(*made_of))

    def _fit_made_of(self, name: str, data_seed: int) -> list[Any]:
        read = (get_estimator(name).split, analysis.ID_SPLIT)
        prints = [self._spectra_stage(split, data_seed).fingerprint for split in read]
        return [prints, [name, *self.reported], LIBRARIES, CODE["estimators"]]

    # --- predictions ------------------------------------------------------------------------------------------------

    def _predicted(self, name: str) -> dict[int, Stage]:
        """Return, by data seed, stages with ``trajectory.csv``, ``seed_status.csv`` and ``predictions-SPLIT.npy``."""
        stages, method = self._prediction_stages(name), get_method(name)
        with self._folder.pending(stages.values(), "run_analysis") as todo:
            chosen = {seed: stage for seed, stage in stages.items() if stage in todo}
            # What they need is made first: only the thread that holds the experiment's lock may make anything.
            judged = {seed: {split: self._spectra(split, seed) for split in self._evaluated} for seed in chosen}
            if isinstance(method, Network):
                for seed, stage in chosen.items():
                    self._predict(name, seed, stage, judged[seed], self._networks(name, seed))
            elif chosen:
                fit, tasks = partial(method.fit, **self._settings(name)), {s: self._task(name, s) for s in chosen}

                def fit_and_predict(seed: int) -> None:
                    fitted = analysis.one_seed(fit(tasks[seed]).predict)
                    self._predict(name, seed, chosen[seed], judged[seed], fitted)

                cores.parallel_map(fit_and_predict, chosen)
        return stages

    def _predict(
        self, name: str, data_seed: int, stage: Stage, judged: Mapping[str, Spectra], fitted: analysis.Predictor
    ) -> None:
        """Let a method read the evaluated splits and write down its predictions and errors."""
        log.info("data seed %d: predictions of %s", data_seed, name)
        trajectory, status, predictions = analysis.evaluate(
            fitted, judged, self.reported, KEPT_SPECTRA, name, data_seed
        )
        with stage.write() as folder:
            trajectory.to_csv(folder / "trajectory.csv", index=False)
            status.to_csv(folder / "seed_status.csv", index=False)
            for split, values in predictions.items():
                np.save(folder / f"predictions-{split}.npy", values)

    def _networks(self, name: str, data_seed: int) -> analysis.Predictor:
        """Return the networks of all seeds at all checkpoints, for :func:`analysis.evaluate`."""
        settings, folders = get_network(name).settings(self.config), self._runs(name, data_seed)
        history = [store.read_table(folder / "history.csv") for folder in folders.values()]
        steps, losses = history[0]["step"].to_numpy(), np.stack([table["val_loss"] for table in history])
        split, columns = get_network(name).split, self.world.index(self.reported)
        train, val = (self._spectra(one, data_seed).abundance for one in (split, analysis.ID_SPLIT))
        constant = torch.from_numpy(np.broadcast_to(train.mean(axis=0), val.shape).copy())
        of_constant = float(training.LOSSES[settings.loss_function](constant, torch.from_numpy(np.array(val))).mean())
        transform = self.transform(name, data_seed=data_seed)
        network = models.template(self.builder(settings))

        def predict(flux: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
            inputs = torch.from_numpy(transform.transform(flux))
            for step in steps:  # one at a time: the checkpoints of hundreds of seeds would not fit into memory
                state = store.read_checkpoint(list(folders.values()), int(step))
                yield models.predict(network, state, inputs).numpy()[:, :, columns]

        def status(val: analysis.Moments) -> list[str]:
            return analysis.classify(val.output_std, losses, of_constant)

        return analysis.Predictor(list(folders), steps, history[0]["epoch"].to_numpy(), predict, status)

    def _is_predicted(self, name: str) -> bool:
        """Whether the predictions of a method are finished, for all its data seeds."""
        if not (self.directory / "analysis" / name).is_dir():
            return False
        try:
            return all(map(self._folder.is_current, self._prediction_stages(name).values()))
        except MissingSpectraError:
            return False

    def _prediction_stages(self, name: str) -> dict[int, Stage]:
        """Return the stage with a method's predictions, for each of its data seeds."""
        method, found = get_method(name), {}
        for data_seed in method.data_seeds(self.config):
            fit: list[Any]
            if isinstance(method, Network):
                fit = [[stage.fingerprint for stage in self._run_stages(name, data_seed).values()]]
            else:
                fit = self._fit_made_of(name, data_seed)
                fit += [self._choice_stage(name).fingerprint] if method.choose else []
            read = [self._spectra_stage(split, data_seed).fingerprint for split in self._evaluated]
            kept = [list(self.reported), KEPT_SPECTRA, CODE["predictions"]]
            folder = self.directory / "analysis" / name / f"data-{data_seed}"
            found[data_seed] = Stage(folder, store.fingerprint(fit, read, kept))
        return found


def _plain(split: Split) -> tuple[dict[str, Any], list[str]]:
    """A split as plain values, and the names of a person's own functions in it."""
    return split.model_dump(mode="json"), splits.callables(split.distribution)
