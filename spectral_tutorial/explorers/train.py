"""TrainPanel: settings, a button, and curves that grow; plain functions do the work."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial import analysis, figures, models, training
from spectral_tutorial.data import InputTransform, Spectra
from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import book_folder, describe_line, picture_tag

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

log = logging.getLogger(__name__)

RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 20),
    "learning_rate": (1e-5, 1e-1),
    "dropout": (0.0, 0.9),
    "combinations": (0, 1024),
}
"""Ends of the sliders."""

COMBINATIONS = (0, 4, 16, 64, 256, 1024)
JUDGED_ON = 512
"""Spectra of val and of test on which the growing curves are measured."""


@dataclass(frozen=True)
class TrainSettings:
    """What the panel lets a person choose.

    Attributes
    ----------
    epochs : int
        Passes through the training spectra.
    learning_rate : float
        Step size of the optimizer.
    dropout : float
        Share of hidden units off in a step.
    combinations : int
        How many of the training spectra hold the combination that is otherwise held out.
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    dropout: float = 0.0
    combinations: int = 0


@dataclass
class Progress:
    """A run as far as it has come: errors of the y component, a value a checkpoint.

    Attributes
    ----------
    total : int
        Optimizer steps of the whole run.
    step : list of int
        Steps done at the checkpoints.
    known, held : list of float
        MSE on in-distribution spectra and on the held-out combination.
    done : int
        Steps done by now.
    """

    total: int = 0
    step: list[int] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    done: int = 0


def training_spectra(experiment: Experiment, combinations: int) -> Spectra:
    """Return the training split with its first spectra replaced by `combinations` that hold both components."""
    train = experiment.data("train")
    if combinations == 0:
        return train
    oracle = experiment.data("oracle_train")
    both = np.flatnonzero((oracle.of(*experiment.reported) > 0).all(axis=1))[:combinations]
    if len(both) < min(combinations, len(train)):
        log.info("%d combinations asked for, %d there", combinations, len(both))
    kept, shown = train.take(slice(len(both), None)), oracle.take(both)
    rows = {name: np.concatenate([getattr(shown, name), getattr(kept, name)]) for name in ("flux", "abundance")}
    return Spectra.from_arrays(train.wavelength, rows["flux"], abundance=rows["abundance"], labels=train.labels)


def train_once(
    experiment: Experiment,
    settings: TrainSettings,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train one network, the first training seed's, and watch its errors.

    Parameters
    ----------
    experiment : Experiment
        Whose spectra and whose network.
    settings : TrainSettings
        What is changed.
    on_progress : callable
        Called after each step with the run as far as it has come.
    """
    chosen = {"epochs": settings.epochs, "learning_rate": settings.learning_rate, "dropout_rate": settings.dropout}
    config, progress = experiment.config.with_training(**chosen, checkpoint_by="log").training, Progress()
    train = training_spectra(experiment, settings.combinations)
    transform = InputTransform(config.input_transform).fit(train.flux)
    place = experiment.world.index(experiment.reported)[1]
    judged = [experiment.data(split).take(slice(0, JUDGED_ON)) for split in (analysis.ID_SPLIT, analysis.OOD_SPLIT)]
    pairs = [_tensors(transform, spectra) for spectra in (train, *judged)]
    build = experiment.builder(config)
    model = models.template(build)

    def measure(step: int, state: models.State) -> None:
        progress.step.append(step)
        for (inputs, truth), errors in zip(pairs[1:], (progress.known, progress.held), strict=True):
            predicted = models.predict(model, state, inputs)[0, :, place]
            errors.append(float(torch.mean((predicted - truth[:, place]) ** 2)))

    def advance(done: int, total: int) -> None:
        progress.done, progress.total = done, total
        on_progress(progress)

    seed = experiment.config.meta.training_seed[0]
    training.train(config, build, pairs[0], pairs[1], seeds=[seed], on_checkpoint=measure, on_step=advance)
    on_progress(progress)
    return progress


def _tensors(transform: InputTransform, spectra: Spectra) -> tuple[torch.Tensor, torch.Tensor]:
    targets: NDArray[np.float32] = spectra.abundance.astype(np.float32)
    return torch.from_numpy(transform.transform(spectra.flux)), torch.from_numpy(targets)


def draw(progress: Progress, component: str) -> Figure:
    """Draw the errors of a run as far as it has come."""
    return pictures.curves(progress.step, progress.known, progress.held, component)


def sentence(progress: Progress, component: str) -> str:
    """Say how a run ended."""
    return (
        f"After {progress.done:,} steps the error in {component} is {progress.known[-1]:.4f} on spectra like the "
        f"training ones (ID) and {progress.held[-1]:.4f} on the held-out combination (OOD)."
    )


class TrainPanel:
    """Train a network with settings of your own; needs a kernel.

    While a book is built it shows itself as the figure of one run with the settings given here.

    Parameters
    ----------
    experiment : Experiment
        Whose spectra and whose network.
    **settings
        Initial values, those of :class:`TrainSettings`.
    """

    def __init__(self, experiment: Experiment, **settings: Any) -> None:
        self.experiment = experiment
        self.settings = TrainSettings(**settings)
        self.progress: Progress | None = None
        self.error: Exception | None = None
        self.component = describe_line(experiment, experiment.reported[1])["phrase"]
        if book_folder() is None:
            self._make_widgets()

    def _make_widgets(self) -> None:
        wide = {"style": {"description_width": "11em"}, "layout": ipywidgets.Layout(width="min(32em, 100%)")}
        start, (slowest, fastest) = self.settings, np.log10(RANGES["learning_rate"])
        epochs, dropout = RANGES["epochs"], RANGES["dropout"]
        self.inputs: dict[str, Any] = {
            "epochs": ipywidgets.IntSlider(start.epochs, *map(int, epochs), description="epochs", **wide),
            "learning_rate": ipywidgets.FloatLogSlider(
                start.learning_rate, min=slowest, max=fastest, step=0.25, description="learning rate", **wide
            ),
            "dropout": ipywidgets.FloatSlider(
                start.dropout, min=dropout[0], max=dropout[1], description="dropout", **wide
            ),
            "combinations": ipywidgets.SelectionSlider(
                value=start.combinations, options=COMBINATIONS, description="combinations shown", **wide
            ),
        }
        self.button = ipywidgets.Button(description="Train", button_style="primary", icon="play")
        self.bar = ipywidgets.IntProgress(0, 0, 1, layout=ipywidgets.Layout(width="min(24em, 60%)"))
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self.message = ipywidgets.HTML()
        self.button.on_click(self.on_train)
        row = ipywidgets.HBox([self.button, self.bar])
        self.box = ipywidgets.VBox([*self.inputs.values(), row, self.image, self.message])

    def chosen(self) -> TrainSettings:
        """Return what the sliders say."""
        return TrainSettings(**{name: slider.value for name, slider in self.inputs.items()})

    def on_train(self, _: Any = None) -> None:
        """Train with what the sliders say; an error is shown in the panel and kept as ``error``."""
        self.button.disabled, self.error, self.message.value = True, None, ""
        try:
            self.progress = train_once(self.experiment, self.chosen(), self.show)
            self.message.value = html.escape(sentence(self.progress, self.component))
        except Exception as error:  # whatever it is, the person has to see it: ipywidgets would drop it
            log.exception("training failed")
            self.error = error
            text = html.escape(f"{type(error).__name__}: {error}")
            self.message.value = f'<div role="alert" style="color: #b00020">Training failed. {text}</div>'
        finally:
            self.button.disabled = False

    def show(self, progress: Progress) -> None:
        """Show a run as far as it has come: the bar at each step, the curves at each checkpoint."""
        self.bar.max, self.bar.value = max(progress.total, 1), progress.done
        finished = progress.done == progress.total
        if len(progress.step) > 1 and (progress.done == progress.step[-1] + 1 or finished):
            self.image.value = figures.png(draw(progress, self.component))

    def page_html(self) -> str:
        """Return the panel as it stands in a built page: its finished figure, and how to run it."""
        self.progress = train_once(self.experiment, self.settings)
        told = sentence(self.progress, self.component)
        chosen = self.settings
        how = (
            f"This is one run of {chosen.epochs} epochs at learning rate {chosen.learning_rate:g} with dropout "
            f"{chosen.dropout:g} and {chosen.combinations} combinations among the training spectra. To train your own, "
            "open this chapter as a notebook, in JupyterLab, VS Code or Colab, and run its cells: "
            "sliders and a Train button appear here."
        )
        picture = picture_tag(draw(self.progress, self.component), f"Errors against training step. {told}")
        words = html.escape(f"{told} {how}")
        return f'<div class="train-panel">{picture}<p style="text-align: left">{words}</p></div>'

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if book_folder() is None:
            return self.box._repr_mimebundle_(**kwargs)
        return {"text/plain": repr(self), "text/html": self.page_html()}

    def __repr__(self) -> str:
        return f"TrainPanel({self.settings})"
