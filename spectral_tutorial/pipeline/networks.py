"""The stages of networks: training runs, and their analysis."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from spectral_tutorial import analysis, data, models, store, training
from spectral_tutorial.data import InputTransform, Spectra
from spectral_tutorial.pipeline import answers
from spectral_tutorial.pipeline.answers import KEPT_SPECTRA, Read, Respondent
from spectral_tutorial.pipeline.sources import digests
from spectral_tutorial.pipeline.spectra import SpectraStages
from spectral_tutorial.sections import TrainingConfig
from spectral_tutorial.store import Stage
from spectral_tutorial.variants import named

log = logging.getLogger(__name__)

SEEDS_AT_ONCE = 16
"""Networks trained in one batch: more would not be faster and would need more memory."""

IN_MEMORY = 2**26
"""Bytes of a split's inputs that are held in memory; larger ones lie in a file."""

WITHOUT_EFFECT = {
    "device", "n_bins", "n_components", "seed", "num_workers", "log_every_n_step", "test_every", "test_every_n_step",
    "test_ratio",
}  # fmt: skip
"""Keys of training.yaml that do not change what is trained."""


class NetworkStages(SpectraStages):
    """Training runs of every variant, and what their networks answer."""

    def runs(self, variant: str, data_seed: int) -> dict[int, Path]:
        """Return the folder of each training seed's run: ``history.csv`` and ``step-*.safetensors``."""
        stages = self._run_stages(variant, data_seed)
        seeds = list(stages)
        for first in range(0, len(seeds), SEEDS_AT_ONCE):
            batch = {seed: stages[seed] for seed in seeds[first : first + SEEDS_AT_ONCE]}
            self.produce(batch.values(), "run_training", partial(self._train, variant, data_seed, batch))
        return {seed: stage.directory for seed, stage in stages.items()}

    def _run_stages(self, variant: str, data_seed: int) -> dict[int, Stage]:
        settings = named(variant).settings(self.config)
        own = [self.resolve(settings.model_type, "model_type")] if ":" in settings.model_type else []
        made_of = [
            settings.model_dump(mode="json", exclude=WITHOUT_EFFECT),
            [self.data_stage(split, data_seed).fingerprint for split in self._ingredients(variant)],
            [asdict(shown) if (shown := named(variant).shown) else None],
            [np.__version__, torch.__version__],
            digests(data, models, training),
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
            folders = stack.enter_context(store.write_together(list(todo.values())))
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
        """Return inputs and targets of the variant's training split and of ``val``, as its network sees them.

        Inputs that are large lie in a nameless file and not in memory.
        """
        train, val = self.learned_from(variant, data_seed), self.data(analysis.ID_SPLIT, data_seed)
        transform = self._fitted(variant, train)
        pairs = []
        for spectra in (train, val):
            room = _room(self.folder.path, spectra.flux.shape)
            inputs, targets = transform.transform(spectra.flux, room), spectra.abundance.astype(np.float32)
            pairs.append((torch.from_numpy(inputs), torch.from_numpy(targets)))
        return pairs

    def learned_from(self, variant: str, data_seed: int) -> Spectra:
        """Return the spectra that a variant learns from."""
        train, shown = self.data(named(variant).split, data_seed), named(variant).shown
        if shown is None:
            return train
        count = len(train) // 4 if shown.count is None else min(shown.count, len(train))
        return data.replace_last(train, self.data(shown.split, data_seed).take(slice(0, count)))

    def _ingredients(self, variant: str) -> list[str]:
        """Name the splits that the training of a variant depends on."""
        shown = named(variant).shown
        return [named(variant).split, analysis.ID_SPLIT, *([shown.split] if shown else [])]

    def transform(self, variant: str, data_seed: int) -> InputTransform:
        """Return what is done to flux before the variant's network reads it, fitted on its training split."""
        return self._fitted(variant, self.learned_from(variant, data_seed))

    def _fitted(self, variant: str, train: Spectra) -> InputTransform:
        return InputTransform(named(variant).settings(self.config).input_transform).fit(train.flux)

    def builder(self, settings: TrainingConfig) -> training.Build:
        """Return what makes one network of the given settings."""
        name = settings.model_type
        return partial(
            models.MODELS.get(name) or self.resolve(name, "model_type"),
            n_bins=self.config.spectra.n_bins,
            n_components=self.config.spectra.n_components,
            hidden_dims=settings.hidden_dims,
            dropout_rate=settings.dropout_rate,
            activation=settings.activation,
        )

    def analyzed(self, variant: str, data_seed: int) -> Path:
        """Return the folder with ``trajectory.csv``, ``seed_status.csv`` and ``predictions-SPLIT.npy``."""
        self.runs(variant, data_seed)
        stage = self.analysis_stage(variant, data_seed)
        self.produce([stage], "run_analysis", partial(self._measure, variant, data_seed, stage))
        return stage.directory

    def analysis_stage(self, variant: str, data_seed: int) -> Stage:
        """Return the stage with the errors and the answers of a variant's networks."""
        made_of = [
            [stage.fingerprint for stage in self._run_stages(variant, data_seed).values()],
            [self.data_stage(split, data_seed).fingerprint for split in self.judged],
            [list(self.config.reported), KEPT_SPECTRA],
            digests(analysis, answers),
        ]
        return self.answers_stage(variant, data_seed, made_of)

    def _measure(self, variant: str, data_seed: int, stage: Stage) -> None:
        log.info("data seed %d: analyzing %s", data_seed, variant)
        runs = self.runs(variant, data_seed)
        history = [pd.read_csv(folder / "history.csv") for folder in runs.values()]
        losses, constant = np.stack([table["val_loss"] for table in history]), self._constant_loss(variant, data_seed)
        networks = Respondent(
            variant,
            data_seed,
            list(runs),
            history[0]["step"].to_numpy(),
            history[0]["epoch"].to_numpy(),
            self.config.reported,
            self._read(variant, data_seed, history[0]["step"]),
            lambda val: analysis.classify(val.output_std, losses, constant),
        )
        with stage.write() as folder:
            networks.write(folder, {split: self.data(split, data_seed) for split in self.judged})

    def _read(self, variant: str, data_seed: int, steps: Iterable[int]) -> Read:
        """Return a function from flux to what all seeds answer at each checkpoint, for the reported components."""
        transform, columns = self.transform(variant, data_seed), self.world.index(self.config.reported)

        def read(flux: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
            inputs = transform.transform(flux)
            # One checkpoint at a time: those of hundreds of seeds together would not fit into memory.
            return (self.networks(variant, data_seed, int(step))(inputs)[:, :, columns] for step in steps)

        return read

    def weights(self, variant: str, data_seed: int, step: int) -> training.State:
        """Return the weights of all seeds at one checkpoint, stacked along a first axis S."""
        runs = self.runs(variant, data_seed).values()
        loaded = [_read_checkpoint(folder / f"step-{step:06d}.safetensors") for folder in runs]
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
        return float(loss(answer, torch.from_numpy(np.array(val))).mean())


def _room(folder: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Make room for inputs, in memory or in a file of `folder`, which goes with the array or with a killed process."""
    size = 4 * math.prod(shape)
    if size <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with store.explained(folder), tempfile.TemporaryFile(dir=folder, prefix=".", suffix=".partial") as file:
        if hasattr(os, "posix_fallocate"):  # on a full disk a mapped file would otherwise end the process with a signal
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.float32, mode="w+", shape=shape)


def _write_checkpoint(folders: list[Path], step: int, state: training.State) -> None:
    for place, folder in enumerate(folders):
        alone = {name: tensor[place].clone() for name, tensor in state.items()}
        (folder / f"step-{step:06d}.safetensors").write_bytes(safetensors.torch.save(alone))


def _read_checkpoint(path: Path) -> training.State:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as problem:
        raise store.StoreError(f"{path}: found no checkpoint ({problem}); expected one, or no folder here.") from None
