"""The five YAML files as frozen models: what each may contain, with units and ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic import WrapSerializer as Serializer
from pydantic import model_validator as validator

from spectral_tutorial import reading
from spectral_tutorial.reading import Part, Unit, Valid, one_of, refusal, show

RESERVED_SPLITS = ("composed", "recombined", "combinations", "many_combinations", "some_pairs", "all_pairs")
"""Splits that the package adds itself, for methods that are shown more than ``train``."""

# --- What the models are made of


def _check_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise refusal("[low, high] with low not above high")
    return value


def _check_component(value: Any) -> Any:
    if (type(value) is int and value >= 1) or (type(value) is str and value):
        return value
    raise refusal("the label of a line, or its number counted from 1")


_lower = BeforeValidator(lambda word: word.lower() if isinstance(word, str) else word)
_read_only = (AfterValidator(reading.read_only), Serializer(lambda mapping, handler: handler(dict(mapping))))
_by_name = (AfterValidator(reading.check_folders), *_read_only)
_matching = reading.matching
_CALLABLE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"

Plain = Annotated[Any, BeforeValidator(reading.check_plain)]
Count = Annotated[int, Field(ge=1, le=100_000_000)]
Real = Annotated[float, Field(ge=-1e9, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(gt=0, le=1)]
Label = Annotated[str, Field(max_length=200), AfterValidator(reading.check_text)]
FilePath = Annotated[str, Field(max_length=4000), AfterValidator(reading.check_text), Valid("path")]
Labels = Annotated[tuple[Label, ...], Field(strict=False), AfterValidator(reading.check_twice), Valid("list of labels")]
Range = Annotated[tuple[Real, Real], Field(strict=False), AfterValidator(_check_order), Valid("[low, high]")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
SeedList = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=10_000)]
_as_list = BeforeValidator(lambda seeds: (seeds,) if type(seeds) is int else seeds)
Seeds = Annotated[SeedList, _as_list, AfterValidator(reading.check_twice), Valid("whole number, or list of them")]
Changes = Annotated[Mapping[str, Plain], *_read_only]
Units = Annotated[int, Field(ge=1, le=65_536)]
Component = Annotated[int | str, BeforeValidator(_check_component), Valid("label, or number counted from 1")]
Width = Annotated[float, Field(ge=1e-3, le=1e9)]
Length = Annotated[Real, Unit("nm")]
Wavelengths = Annotated[tuple[Real, ...], Field(strict=False), Unit("nm")]
Heights = Annotated[tuple[NotNegative, ...], Field(strict=False)]
Dimensionless = Unit("dimensionless")

# --- synthetic_spectra.yaml


class Profile(Part):
    """A measured line profile: a column of a CSV file or, as the record of an experiment has it, its numbers."""

    file: FilePath | None = Field(
        default=None, description="path of a CSV file, relative to the meta file; its first column is the wavelength"
    )
    column: Label | None = Field(default=None, description="name of the column with the profile, at least 0")
    wavelength: Wavelengths = Field(default=(), description="wavelengths in the place of a file, increasing")
    values: Heights = Field(default=(), description="the profile at these wavelengths; between them, straight lines")

    @validator(mode="after")
    def _check_points(self) -> Self:
        given = [key for key in ("file", "column", "wavelength", "values") if getattr(self, key)]
        nm, n = self.wavelength, len(self.values)
        if given not in (["file", "column"], ["wavelength", "values"]) or n != len(nm) or n == 1:
            found = f"{' and '.join(given) or 'nothing'} ({len(nm)} wavelengths and {n} values)"
            raise refusal("file and column, or at least two wavelengths and as many values", found=found)
        for k in range(1, n):
            if nm[k - 1] >= nm[k]:
                raise refusal("wavelengths that increase", "wavelength", k, found=f"{nm[k]:g} after {nm[k - 1]:g}")
        return self


class Line(Part):
    """One spectral line, and with it one component whose abundance the learner predicts."""

    label: Label = Field(description="name of the component, used once")
    center: Annotated[Real | None, Unit("nm")] = Field(
        default=None, gt=0, description="wavelength of the line's center"
    )
    width: Annotated[Width | None, Unit("nm")] = Field(default=None, description="standard deviation of the profile")
    profile: Profile | None = Field(default=None, description="a measured profile in the place of center and width")
    strength: Annotated[Real, Dimensionless] = Field(description="change of flux at profile 1; below 0 absorbs")

    @validator(mode="after")
    def _check_shape(self) -> Self:
        for key in ("center", "width"):
            if (getattr(self, key) is None) == (self.profile is None):
                found = "nothing" if self.profile is None else f"{show(getattr(self, key))} beside a profile"
                raise refusal("a number here, or a profile in the place of center and width", key, found=found)
        return self


class Sampled(Part):
    """The distribution of one random quantity: one independent draw for each spectrum."""

    range: Range = Field(description="a pair [low, high], in the unit of the quantity")
    distribution: Literal["uniform", "log_uniform"] = Field("uniform", description="kind, of values or their logarithm")

    @validator(mode="after")
    def _check_logarithm(self) -> Self:
        if self.distribution == "log_uniform" and not 0 < self.range[0] < self.range[1]:
            raise refusal("0 < low < high for log_uniform", "range", found=show(self.range))
        return self


class Sampling(Part):
    """The random quantities of a spectrum."""

    temperature: Annotated[Sampled, Unit("K")] = Field(description="temperature of the continuum, above 0")
    noise: Annotated[Sampled, Dimensionless] = Field(description="relative noise (photon: at flux 1), at least 0")
    abundance: Annotated[Sampled, Dimensionless] = Field(description="abundance of a component that is present")

    @validator(mode="after")
    def _check_signs(self) -> Self:
        if self.temperature.range[0] <= 0:
            raise refusal("temperatures above 0 K", "temperature", "range", found=show(self.temperature.range))
        for name, sampled in (("noise", self.noise), ("abundance", self.abundance)):
            if sampled.range[0] < 0:
                raise refusal("numbers of at least 0", name, "range", found=show(sampled.range))
        return self


class SpectraConfig(Part):
    """``synthetic_spectra.yaml``: the world, that is the wavelength grid, the lines and what is random."""

    n_bins: int = Field(ge=2, le=1_000_000, description="number of wavelength bins of a spectrum")
    wavelength_min: Length = Field(gt=0, description="first wavelength")
    wavelength_max: Length = Field(gt=0, description="last wavelength, above wavelength_min")
    n_components: Count = Field(description="number of components, that is of lines")
    line_law: Literal["linear", "beer_lambert"] = Field(
        default="linear", description="factor 1 + strength x abundance x profile, or (beer_lambert) its exponential"
    )
    noise_law: Literal["relative", "photon"] = Field(
        default="relative", description="noise in proportion to flux, or (photon) to its root, as of counted photons"
    )
    sampling: Sampling = Field(description="what is drawn at random for each spectrum")
    lines: Annotated[tuple[Line, ...], Field(strict=False)] = Field(description="the lines, in output order")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the components, in the order of the lines."""
        return tuple(line.label for line in self.lines)

    def index(self, label: str) -> int:
        """Return the position of a component, counted from 0."""
        return self.labels.index(label)

    def check_flux(self, line: Line, abundance: float) -> str | None:
        """Say which rule a line would break at this abundance: a flux is not negative and not infinite."""
        # from -1: the flux must not be negative; to 40: that of any two lines in one place fits into single precision
        low, high = (-40, 40) if self.line_law == "beer_lambert" else (-1, 50)
        nm, values = (line.profile.wavelength, line.profile.values) if line.profile else ((), (1.0,))
        on_grid = slice(bisect_right(nm, self.wavelength_min) - 1, bisect_left(nm, self.wavelength_max) + 1)
        peak = max(values[on_grid] if nm else values, default=0.0)
        if low <= line.strength * abundance * peak <= high:
            return None
        product = "strength x abundance x profile" if nm else "strength x abundance"
        return f"{product} from {low} to {high}, also at the highest abundance {abundance:g}"

    @validator(mode="after")
    def _check_together(self) -> Self:
        if self.wavelength_min >= self.wavelength_max:
            raise refusal("a wavelength above wavelength_min", "wavelength_max", found=show(self.wavelength_max))
        if self.n_components != len(self.lines):
            raise refusal(f"{len(self.lines)}, the number of lines", "n_components", found=str(self.n_components))
        known: set[str] = set()
        for index, line in enumerate(self.lines):
            if line.label in known:
                raise refusal("a label of its own for each line", "lines", index, "label", found=show(line.label))
            known.add(line.label)
            nm = line.profile.wavelength if line.profile else ()
            if nm and not nm[0] <= self.wavelength_min < self.wavelength_max <= nm[-1]:
                expected = f"one that covers the grid, {self.wavelength_min:g} to {self.wavelength_max:g} nm"
                raise refusal(expected, "lines", index, "profile", found=f"a profile from {nm[0]:g} to {nm[-1]:g} nm")
            if broken := self.check_flux(line, self.sampling.abundance.range[1]):
                raise refusal(broken, "lines", index, "strength", found=show(line.strength))
        return self


# --- data_distribution.yaml


class Combination(Part):
    """One set of components that a spectrum may contain; all others are absent (abundance 0)."""

    weight: NotNegative = Field(default=1.0, description="relative frequency of the combination, at least 0")
    components: Labels = Field(description="labels of the components that are present; an empty list for none")
    ranges: Annotated[Mapping[Label, Range], *_read_only, Dimensionless, Valid("[low, high] by label")] = Field(
        default={}, validate_default=True, description="range of the abundance by label, where not the world's"
    )

    @validator(mode="after")
    def _check_ranges(self) -> Self:
        for label, limits in self.ranges.items():
            if label not in self.components:
                raise refusal(one_of(self.components, label), "ranges", label, found="an unknown label")
            if limits[0] < 0:
                raise refusal("numbers of at least 0", "ranges", label, found=show(limits))
        return self


class CombinationDistribution(Part):
    """Abundances drawn by first choosing one of several combinations."""

    type: Literal["component_combinations"] = Field("component_combinations", description="kind of distribution")
    combinations: Annotated[tuple[Combination, ...], Field(strict=False, min_length=1)] = Field(
        description="the combinations, chosen in proportion to their weights"
    )

    @validator(mode="after")
    def _check_weights(self) -> Self:
        if sum(combination.weight for combination in self.combinations) <= 0:
            raise refusal("weights with a sum above 0", "combinations", found="weights that sum to 0")
        return self


class FunctionDistribution(Part):
    """Abundances drawn by a Python function, called as ``(n, rng) -> mapping of label to array``."""

    type: Literal["function"] = Field(default="function", description="kind of distribution")
    callable: Annotated[str, *_matching(_CALLABLE, '"module:function"')] = Field(
        description='where the function is, as "module:function", on the Python path or beside the meta file'
    )


class MixtureDistribution(Part):
    """Distributions with weights. Made by the program where it completes splits, and not accepted from a file."""

    type: Literal["mixture"] = Field(default="mixture", description="kind of distribution")
    parts: tuple[tuple[NotNegative, "Distribution"], ...] = Field(
        min_length=1, description="pairs of weight and distribution"
    )


def _check_distribution(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    kind = value.get("type")
    if kind == "sampling_code" or "sampling_code" in value:
        replacement = 'its replacement, type: function with callable: "module:function"'
        raise refusal(replacement, "type", found="sampling_code")
    if kind not in ("component_combinations", "function"):
        raise refusal(one_of(("component_combinations", "function"), kind), "type", found=show(kind))
    return value


Distribution = CombinationDistribution | FunctionDistribution | MixtureDistribution


class Split(Part):
    """A named set of spectra: how many, and which abundances they may have."""

    n_samples: Count = Field(description="number of spectra")
    distribution: Annotated[Distribution, Field(discriminator="type"), BeforeValidator(_check_distribution)] = Field(
        description="distribution of the abundances"
    )


class DistributionConfig(Part):
    """``data_distribution.yaml``: the splits; an absent ``val`` or ``oracle_train`` is completed later."""

    splits: Annotated[Mapping[str, Split], *_by_name] = Field(description="the splits by name")

    @validator(mode="after")
    def _check_names(self) -> Self:
        if missing := [name for name in ("train", "test") if name not in self.splits]:
            raise refusal("the splits train and test at least", "splits", missing[0], found="nothing")
        if taken := [name for name in self.splits if name.lower() in RESERVED_SPLITS]:
            expected = f"another name than the package's own splits have: {', '.join(RESERVED_SPLITS)}"
            raise refusal(expected, "splits", taken[0], found=show(taken[0]))
        return self


# --- training.yaml, analysis.yaml, meta_config.yaml

_NETWORKS = f"mlp|averaging_mlp|cnn|linear|{_CALLABLE}"
_UNUSED = "accepted from the original tutorial, without effect"
_AGREES = "not needed; where given, as in synthetic_spectra.yaml"
_SEEDS = f"one whole number from 0 to {2**32 - 1}, or a list"


class TrainingConfig(Part):
    """``training.yaml``: the network and its training; an absent key means what it meant in the original."""

    model_type: Annotated[str, *_matching(_NETWORKS, 'mlp, averaging_mlp, cnn, linear or "module:Class"')] = Field(
        description='kind of network, or a torch module of your own as "module:Class"'
    )
    hidden_dims: Annotated[tuple[Units, ...], Field(strict=False, max_length=64)] = Field(
        default=(), description="hidden units (`mlp`) or channels (`cnn`) of each layer, needed for both"
    )
    dropout_rate: float = Field(default=0.0, ge=0, lt=1, description="share of hidden units off in a step")
    activation: Annotated[Literal["relu", "gelu", "tanh"], _lower] = Field("relu", description="of hidden units")
    input_transform: Literal["none", "log", "standardize", "log_standardize"] = Field(
        default="none", description="what is done to the flux before the network sees it"
    )
    initialization: Literal["torch", "torch_small", "kaiming_normal"] = Field(
        default="kaiming_normal", description="how weights are drawn; `torch` is PyTorch's own, torch_small 0.3 x"
    )
    epochs: int = Field(ge=1, le=100_000, description="passes over the training split")
    batch_size: Count = Field(description="spectra in one step")
    learning_rate: Real = Field(gt=0, description="step size of the optimizer, greater than 0")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="how it falls to 0, if at all")
    weight_decay: NotNegative = Field(default=0.0, description="pull of the weights toward 0, at least 0")
    optimizer: Annotated[Literal["adamw", "adam", "sgd"], _lower] = Field(default="adamw", description="rule of a step")
    loss_function: Annotated[Literal["mse", "mae", "huber"], _lower] = Field(
        default="mse", description="what training makes small, a mean over all components"
    )
    loss_weights: Literal["equal", "inverse_error"] = Field("equal", description="of the components in that mean")
    checkpoint_by: Literal["ratio", "step", "log"] = Field(
        default="ratio", description="checkpoints after a share of the steps, every so many steps, or log-spaced"
    )
    checkpoint_ratio: Share = Field(default=0.05, description="share of the steps between checkpoints (`ratio`)")
    checkpoint_every_n_step: Count = Field(default=100, description="steps between checkpoints (`step`)")
    device: Annotated[str, *_matching(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", "auto, cpu, cuda, cuda:N or mps")] = Field(
        default="auto",
        description="where networks are trained; `auto`: on a GPU where torch finds one, else the CPU",
    )
    n_bins: int | None = Field(default=None, description=_AGREES)
    n_components: int | None = Field(default=None, description=_AGREES)
    seed: Seed | None = Field(default=None, description=f"{_UNUSED}: the meta file has the seeds")
    num_workers: Annotated[int, Field(ge=0)] | None = Field(default=None, description=_UNUSED)
    log_every_n_step: Count | None = Field(default=None, description=_UNUSED)
    test_every: Literal["ckpt", "step", "ratio"] | None = Field(default=None, description=_UNUSED)
    test_every_n_step: Count | None = Field(default=None, description=_UNUSED)
    test_ratio: Share | None = Field(default=None, description=_UNUSED)

    @validator(mode="after")
    def _check_hidden(self) -> Self:
        if self.model_type in ("mlp", "averaging_mlp", "cnn") and not self.hidden_dims:
            raise refusal(f"a list of whole numbers for {self.model_type}", "hidden_dims", found="nothing")
        return self


def _check_names(named: Mapping[str, str]) -> Mapping[str, str]:
    label_of = {name: label for label, name in named.items()}
    if twice := [label for label, name in named.items() if label_of[name] != label]:
        raise refusal("a name of its own for each line", twice[0], found=f"{show(named[twice[0]])} for two lines")
    return named


class PlotConfig(Part):
    """The two components that tables and figures report, and what figures call the lines."""

    x_component: Component = Field(description="on the x axis: label of a line, or its number counted from 1")
    y_component: Component = Field(description="on the y axis: label of a line, or its number counted from 1")
    names: Annotated[Mapping[Label, Label], AfterValidator(_check_names), *_read_only, Valid("name, by label")] = Field(
        default={}, validate_default=True, description="what figures call lines, by label, in place of the label"
    )


class AnalysisConfig(Part):
    """``analysis.yaml``: what the analysis looks at."""

    plot_config: PlotConfig = Field(description="the two reported components, and names")
    n_data_seeds: int = Field(
        default=5, ge=1, le=1000, description="data seeds that methods without training seeds are measured on"
    )
    variations: Annotated[Mapping[str, Changes], *_by_name, Valid("changes, by name")] = Field(
        default={},
        validate_default=True,
        description="experiments that differ in some keys, by name: `{SECTION.KEY: value, pair: [label, label], "
        "methods: [name]}`, with what is asked in them as methods",
    )


class MetaConfig(Part):
    """``meta_config.yaml``: files, seeds and stages; all paths are relative to this file."""

    exp_dir: FilePath = Field(description="directory of the results")
    spectra_config_path: FilePath = Field(description="path of synthetic_spectra.yaml")
    distribution_config_path: FilePath = Field(description="path of data_distribution.yaml")
    training_config_path: FilePath = Field(description="path of training.yaml, needed without training too")
    analysis_config_path: FilePath = Field(description="path of analysis.yaml, needed without analysis too")
    data_seed: Seeds = Field(default=(42,), description=f"{_SEEDS}; fixes the spectra")
    training_seed: Seeds = Field(default=(123,), description=f"{_SEEDS}; fixes weights and order")
    generate_data: bool = Field(default=True, description="whether to make data; `false` uses what lies on disk")
    run_training: bool = Field(default=True, description="whether to train; `false` uses what lies on disk")
    run_analysis: bool = Field(default=True, description="whether to analyze; `false` uses what lies on disk")
