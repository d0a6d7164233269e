"""The three stages, data, runs and analysis: what each depends on, and how its files are made.

A stage's fingerprint covers its part of the configuration, the code it uses, the versions of NumPy and torch, and the
fingerprints of the stages it reads. So an edit of the physics, say, makes everything again, and a changed caption
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from spectral_tutorial import analysis, data, models, physics, splits, store, training
from spectral_tutorial.config import Config
from spectral_tutorial.data import InputTransform, Spectra
from spectral_tutorial.reading import resolve_callable
from spectral_tutorial.sections import FunctionLaw, MixtureLaw, TrainingConfig
from spectral_tutorial.store import Stage
from spectral_tutorial.variants import COMPOSED, added_splits, named

log = logging.getLogger(__name__)

SEEDS_AT_ONCE = 16
"""Networks trained in one batch: more would not be faster and would need more memory."""

KEPT_SPECTRA = 4096
"""Spectra of a split whose predictions are kept; errors are measured on all of them."""

LEARNED_FROM = ("train", "oracle_train")
"""Splits that networks learn from; all others are judged."""

WITHOUT_EFFECT = {
    "device", "n_bins", "n_components", "seed", "num_workers", "log_every_n_step", "test_every", "test_every_n_step",
    "test_ratio",
}  # fmt: skip
"""Keys of training.yaml that do not change what is trained."""


class Pipeline:
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

    def __init__(self, config: Config, overwrite: bool = False) -> None:
        self.config = config
        self.folder = store.ExperimentFolder(config.exp_dir, config.as_dict(), overwrite)
        self.splits = splits.complete(config.distribution.splits)
        self._laws = added_splits(config, self.splits) | self.splits
        self._seen: set[tuple[Path, str]] = set()
        self._described: set[int] = set()

    @cached_property
    def world(self) -> physics.World:
        """The forward model."""
        return physics.World.from_config(self.config.spectra)

    @property
    def judged(self) -> list[str]:
        """Splits that nothing is learned from."""
        return [name for name in self.splits if name not in LEARNED_FROM]

    def finished(self, stages: Iterable[Stage]) -> bool:
        """Whether all stages are current; each is checked, byte for byte, once in the life of this object."""
        for stage in stages:
            if (stage.directory, stage.fingerprint) not in self._seen:
                if not stage.current():
                    return False
                self._seen.add((stage.directory, stage.fingerprint))
        return True

    def _produce(self, stages: Iterable[Stage], flag: str, make: Callable[[], None]) -> None:
        """See to it that all `stages` can be used, calling `make` if they cannot and the meta file's `flag` is on."""
        stages = list(stages)
        if self.finished(stages):
            return
        if not getattr(self.config.meta, flag):
            self._accept_as_found(stages, flag)
            return
        with self.folder.claimed():
            if not self.finished(stages):  # another process may have made them while this one waited
                make()
        self._seen |= {(stage.directory, stage.fingerprint) for stage in stages}

    def _accept_as_found(self, stages: list[Stage], flag: str) -> None:
        for stage in stages:
            if not stage.intact():
                raise store.MissingError(
                    f"{self.config.file}: {flag}: found false, with nothing complete in {stage.directory}; "
                    f"expected true, or an experiment where this stage is finished."
                )
            if not stage.current():
                log.warning(
                    "%s was made by another version of the code; used as it is (%s: false)", stage.directory, flag
                )

    # --- data -------------------------------------------------------------------------------------------------------

    def data(self, split: str, seed: int) -> Spectra:
        """Return a split's spectra, mapped from their files."""
        stage = self._data_stage(split, seed)
        self._produce([stage], "generate_data", partial(self._generate, stage, split, seed))
        if self.config.meta.generate_data and seed not in self._described:
            self._describe(seed)
        arrays = {name: np.load(stage.directory / f"{name}.npy", mmap_mode="r") for name in data.ROW_ARRAYS}
        return Spectra(wavelength=self.world.wavelength, labels=self.world.labels, **arrays)

    def _data_stage(self, split: str, seed: int) -> Stage:
        law = self._laws[split]
        made_of = [
            self.config.spectra.model_dump(mode="json"),
            law.model_dump(mode="json"),
            [split, seed, np.__version__],
            _sources(physics, splits, data),
            [store.code_digest(function) for function in self._functions(law.distribution)],
        ]
        return Stage(self.folder.path / f"data/seed-{seed}" / split, store.fingerprint(*made_of))

    def _functions(self, law: Any) -> list[Callable[..., Any]]:
        """Return the person's own functions in a law."""
        if isinstance(law, MixtureLaw):
            return [function for _, part in law.parts for function in self._functions(part)]
        return [self._resolve(law.callable, "callable")] if isinstance(law, FunctionLaw) else []

    def _resolve(self, name: str, key: str) -> Callable[..., Any]:
        return resolve_callable(name, self.config.directory, key=key, file=self.config.file)

    def _generate(self, stage: Stage, split: str, seed: int) -> None:
        law, spectra = self._laws[split], self.config.spectra
        log.info("data seed %d: generating %s, %d spectra", seed, split, law.n_samples)
        with stage.write() as folder:
            shapes = data.array_shapes(spectra, law)
            out = {name: store.create_array(folder / f"{name}.npy", *shape) for name, shape in shapes.items()}
            data.generate(spectra, law, name=split, seed=seed, directory=self.config.directory, out=out)

    def _describe(self, seed: int) -> None:
        """Write what all splits of a data seed share, where it is not there already."""
        described = {
            "data_seed": seed,
            "spectra": self.config.spectra.model_dump(mode="json"),
            "splits": {name: law.model_dump(mode="json") for name, law in self.splits.items()},
        }
        self.folder.publish(f"data/seed-{seed}/metadata.json", store.json_bytes(described))
        self.folder.publish(f"data/seed-{seed}/wavelength.npy", store.array_bytes(self.world.wavelength))
        self._described.add(seed)

    # --- runs -------------------------------------------------------------------------------------------------------

    def runs(self, variant: str, data_seed: int) -> dict[int, Path]:
        """Return the folder of each training seed's run: ``history.csv`` and ``step-*.safetensors``."""
        stages = self._run_stages(variant, data_seed)
        seeds = list(stages)
        for first in range(0, len(seeds), SEEDS_AT_ONCE):
            batch = {seed: stages[seed] for seed in seeds[first : first + SEEDS_AT_ONCE]}
            self._produce(batch.values(), "run_training", partial(self._train, variant, data_seed, batch))
        return {seed: stage.directory for seed, stage in stages.items()}

    def _run_stages(self, variant: str, data_seed: int) -> dict[int, Stage]:
        settings = named(variant).settings(self.config)
        own = [self._resolve(settings.model_type, "model_type")] if ":" in settings.model_type else []
        made_of = [
            settings.model_dump(mode="json", exclude=WITHOUT_EFFECT),
            [self._data_stage(split, data_seed).fingerprint for split in self._ingredients(variant)],
            [asdict(shown) if (shown := named(variant).shown) else None],
            [np.__version__, torch.__version__],
            _sources(data, models, training),
            [store.code_digest(module) for module in own],
        ]
        folder = self.folder.path / "runs"
        return {
            seed: Stage(folder / f"seed-{seed}/data-{data_seed}" / variant, store.fingerprint(*made_of, seed))
            for seed in named(variant).seeds(self.config)
        }

    def _train(self, variant: str, data_seed: int, stages: Mapping[int, Stage]) -> None:
        todo = {seed: stage for seed, stage in stages.items() if not self.finished([stage])}
        settings = named(variant).settings(self.config)
        pairs = self.tensors(variant, data_seed)
        log.info("data seed %d: training %s, seeds %s", data_seed, variant, ", ".join(map(str, todo)))
        with ExitStack() as stack:
            folders = [stack.enter_context(stage.write()) for stage in todo.values()]
            bar = stack.enter_context(tqdm(desc=f"{variant}, {len(todo)} seeds", unit="step", disable=None))

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            history = training.train(
                settings,
                self.builder(settings),
                *pairs,
                seeds=list(todo),
                on_checkpoint=partial(_write_checkpoint, folders),
                on_step=advance,
            )
            for place, folder in enumerate(folders):
                losses = {"train_loss": history.train_loss[place], "val_loss": history.val_loss[place]}
                table = pd.DataFrame({"step": history.step, "epoch": history.epoch, **losses})
                table.to_csv(folder / "history.csv", index=False)

    def tensors(self, variant: str, data_seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return inputs and targets of the variant's training split and of ``val``, as its network sees them."""
        transform = self.transform(variant, data_seed)
        pairs = []
        for spectra in (self.learned_from(variant, data_seed), self.data(analysis.ID_SPLIT, data_seed)):
            inputs, targets = transform.transform(spectra.flux), spectra.abundance.astype(np.float32)
            pairs.append((torch.from_numpy(inputs), torch.from_numpy(targets)))
        return pairs

    def learned_from(self, variant: str, data_seed: int) -> Spectra:
        """Return the spectra that a variant learns from."""
        train, shown = self.data(named(variant).split, data_seed), named(variant).shown
        if shown is None:
            return train
        count = len(train) // 4 if shown.count is None else min(shown.count, len(train))
        if shown.split == COMPOSED:
            rng = data.stream(data_seed, named(variant).split, COMPOSED)
            return data.replace_last(train, data.compose(train, *self.config.reported, count, rng))
        return data.replace_last(train, self.data(shown.split, data_seed).take(slice(0, count)))

    def _ingredients(self, variant: str) -> list[str]:
        """Name the splits that the training of a variant depends on."""
        shown = named(variant).shown
        return [
            named(variant).split,
            analysis.ID_SPLIT,
            *([shown.split] if shown and shown.split != COMPOSED else []),
        ]

    def transform(self, variant: str, data_seed: int) -> InputTransform:
        """Return what is done to flux before the variant's network reads it, fitted on its training split."""
        kind = named(variant).settings(self.config).input_transform
        return InputTransform(kind).fit(self.learned_from(variant, data_seed).flux)

    def builder(self, settings: TrainingConfig) -> training.Build:
        """Return what makes one network of the given settings."""
        name = settings.model_type
        return partial(
            models.MODELS.get(name) or self._resolve(name, "model_type"),
            n_bins=self.config.spectra.n_bins,
            n_components=self.config.spectra.n_components,
            hidden_dims=settings.hidden_dims,
            dropout_rate=settings.dropout_rate,
            activation=settings.activation,
        )

    # --- analysis ---------------------------------------------------------------------------------------------------

    def measured(self, variant: str, data_seed: int) -> Path:
        """Return the folder with ``trajectory.csv``, ``seed_status.csv`` and ``predictions-SPLIT.npy``."""
        self.runs(variant, data_seed)
        stage = self._analysis_stage(variant, data_seed)
        self._produce([stage], "run_analysis", partial(self._measure, variant, data_seed, stage))
        return stage.directory

    def is_measured(self, variant: str, data_seed: int) -> bool:
        """Whether the analysis of a variant is finished."""
        return self.finished([self._analysis_stage(variant, data_seed)])

    def _analysis_stage(self, variant: str, data_seed: int) -> Stage:
        made_of = [
            [stage.fingerprint for stage in self._run_stages(variant, data_seed).values()],
            [self._data_stage(split, data_seed).fingerprint for split in self.judged],
            [list(self.config.reported), KEPT_SPECTRA],
            _sources(analysis),
        ]
        return Stage(self.folder.path / "analysis" / variant / f"data-{data_seed}", store.fingerprint(*made_of))

    def _measure(self, variant: str, data_seed: int, stage: Stage) -> None:
        log.info("data seed %d: analyzing %s", data_seed, variant)
        runs = self.runs(variant, data_seed)
        history = [pd.read_csv(folder / "history.csv") for folder in runs.values()]
        steps, epochs = history[0]["step"].to_numpy(), history[0]["epoch"].to_numpy()
        with stage.write() as folder:
            tables = []
            for split in self.judged:
                moments = self._read(variant, data_seed, split, steps, folder / f"predictions-{split}.npy")
                table = analysis.trajectory_rows(
                    moments,
                    split=split,
                    variant=variant,
                    data_seed=data_seed,
                    training_seeds=list(runs),
                    steps=steps,
                    epochs=epochs,
                    components=self.config.reported,
                )
                tables.append(table)
                if split == analysis.ID_SPLIT:
                    losses = np.stack([table["val_loss"] for table in history])
                    status = analysis.classify(moments[-1].output_std, losses, self._constant_loss(variant, data_seed))
            pd.concat(tables).to_csv(folder / "trajectory.csv", index=False)
            seeds = {"variant": variant, "data_seed": data_seed, "training_seed": list(runs), "status": status}
            pd.DataFrame(seeds).to_csv(folder / "seed_status.csv", index=False)

    def _read(
        self, variant: str, data_seed: int, split: str, steps: NDArray[np.int64], kept: Path
    ) -> list[analysis.Moments]:
        """Let every checkpoint of every seed read a split; return moments, keep the first predictions in a file."""
        spectra, transform = self.data(split, data_seed), self.transform(variant, data_seed)
        columns = self.world.index(self.config.reported)
        truth = spectra.abundance[:, columns]
        seeds = named(variant).seeds(self.config)
        shape = (len(seeds), len(steps), min(len(spectra), KEPT_SPECTRA), len(columns))
        values = store.create_array(kept, shape, np.dtype(np.float32))
        result = []
        for place, step in enumerate(steps):
            network, moments = (
                self.networks(variant, data_seed, int(step)),
                analysis.Moments((len(seeds), len(columns))),
            )
            for rows in data.chunks(len(spectra), KEPT_SPECTRA):
                predicted = network(transform.transform(spectra.flux[rows]))[:, :, columns]
                moments.add(truth[rows], predicted)
                if rows.start == 0:
                    values[:, place] = predicted
            result.append(moments)
        return result

    def weights(self, variant: str, data_seed: int, step: int) -> training.State:
        """Return the weights of all seeds at one checkpoint, stacked along a first axis S."""
        runs = self.runs(variant, data_seed).values()
        loaded = [safetensors.torch.load_file(folder / f"step-{step:06d}.safetensors") for folder in runs]
        return {name: torch.stack([weights[name] for weights in loaded]) for name in loaded[0]}

    def networks(self, variant: str, data_seed: int, step: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return a function from inputs ``(N, W)`` to all seeds' outputs ``(S, N, L)`` at one checkpoint."""
        state = self.weights(variant, data_seed, step)
        model = training.template(self.builder(named(variant).settings(self.config)))
        return lambda inputs: training.predict(model, state, torch.from_numpy(inputs)).numpy()

    def _constant_loss(self, variant: str, data_seed: int) -> float:
        """Loss over ``val`` of the reader that always answers the training mean."""
        train, val = (self.data(split, data_seed).abundance for split in (named(variant).split, analysis.ID_SPLIT))
        answer = torch.from_numpy(np.broadcast_to(train.mean(axis=0), val.shape).copy())
        loss = training.LOSSES[named(variant).settings(self.config).loss_function]
        return float(loss(answer, torch.from_numpy(np.array(val))))


def _sources(*modules: ModuleType) -> list[str]:
    return [_LOADED[module.__name__] for module in modules]


_LOADED = {
    module.__name__: store.source_digest(Path(str(module.__file__)))
    for module in (physics, splits, data, models, training, analysis)
}
"""Digests of the code that runs here. Read once, on import: a file that is edited later is not what runs."""


def _write_checkpoint(folders: list[Path], step: int, state: training.State) -> None:
    for place, folder in enumerate(folders):
        alone = {name: tensor[place].clone() for name, tensor in state.items()}
        safetensors.torch.save_file(alone, folder / f"step-{step:06d}.safetensors")
