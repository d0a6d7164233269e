"""Each split holds the combinations, frequencies and ranges that its distribution says, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ORIGINAL, combinations, shipped, small_experiment, write_experiment

from spectral_tutorial import cli, splits
from spectral_tutorial.config import ConfigError, load
from spectral_tutorial.sections import DistributionConfig, MixtureDistribution, Split

SPECTRA = shipped().spectra
LABELS = np.array(SPECTRA.labels)


def as_distribution(given: dict[str, Any]) -> Any:
    return Split.model_validate({"n_samples": 1, "distribution": given}).distribution


def draw(distribution: Any, n: int = 3000, directory: Path = Path(), seed: int = 0) -> Any:
    return splits.draw_abundance(distribution, SPECTRA, n, np.random.default_rng(seed), directory)


def supports(abundance: Any) -> dict[tuple[str, ...], int]:
    """How often each set of components occurs."""
    rows, counts = np.unique(abundance > 0, axis=0, return_counts=True)
    return {tuple(LABELS[row]): int(count) for row, count in zip(rows, counts, strict=True)}


def test_only_the_listed_combinations_occur_as_often_as_their_weights_say() -> None:
    """Pearson's chi-square of 30,000 draws stays below 16.3, which chance exceeds once in a thousand (3 degrees)."""
    weights = {(): 1.0, ("comp10",): 2.0, ("comp4",): 4.0, ("comp4", "comp10"): 1.0}
    listed = [{"weight": weight, "components": list(names)} for names, weight in weights.items()]
    found = supports(draw(as_distribution({"type": "component_combinations", "combinations": listed}), 30_000))
    assert set(found) == set(weights)
    expected = {names: 30_000 * weight / 8 for names, weight in weights.items()}
    assert sum((found[names] - count) ** 2 / count for names, count in expected.items()) < 16.3


def test_a_combination_of_weight_zero_never_occurs() -> None:
    listed = [{"weight": 0.0, "components": ["comp1"]}, {"weight": 3, "components": []}]
    assert supports(draw(as_distribution({"type": "component_combinations", "combinations": listed}))) == {(): 3000}


def test_abundances_keep_to_the_combinations_own_ranges_and_to_the_worlds_otherwise() -> None:
    listed = [{"components": ["comp4", "comp10"], "ranges": {"comp4": [0.5, 0.75]}}]
    abundance = draw(as_distribution({"type": "component_combinations", "combinations": listed}))
    narrow, world = abundance[:, 3], abundance[:, 9]
    assert 0.5 <= narrow.min() < 0.51 < 0.74 < narrow.max() <= 0.75
    assert 0 <= world.min() < 0.01 < 0.99 < world.max() <= 1
    assert narrow.mean() == pytest.approx(0.625, abs=0.01)
    assert abs(np.corrcoef(narrow, world)[0, 1]) < 0.08


@pytest.mark.parametrize(("kind", "median"), [("uniform", 0.505), ("log_uniform", 0.1)])
def test_draws_follow_the_named_distribution(kind: str, median: float) -> None:
    values = splits.draw_uniform(0.01, 1.0, kind, 40_000, np.random.default_rng(0))
    assert 0.01 <= values.min() < values.max() <= 1
    assert np.median(values) == pytest.approx(median, rel=0.05)


def test_training_and_test_have_the_same_marginals_but_another_joint_distribution() -> None:
    """The shipped question: where a component is present it is uniform in [0, 1] in training and test alike."""
    given = {name: split.distribution for name, split in shipped().distribution.splits.items()}
    train, test = draw(given["train"], 9000), draw(given["test"], 9000)
    assert set(supports(train)) == {(), ("comp10",), ("comp4",)}
    assert set(supports(test)) == {("comp4", "comp10")}
    for place in (3, 9):
        present = train[train[:, place] > 0, place]
        for share in (0.1, 0.5, 0.9):
            assert np.quantile(present, share) == pytest.approx(share, abs=0.03)
            assert np.quantile(test[:, place], share) == pytest.approx(share, abs=0.03)


def test_a_function_of_ones_own_draws_from_the_given_generator(tmp_path: Path) -> None:
    source = "def together(n, rng):\n    a = rng.random(n)\n    return {'comp10': a, 'comp4': 1 - a}\n"
    (tmp_path / "own_function_together.py").write_text(source, encoding="utf-8")
    mine = as_distribution({"type": "function", "callable": "own_function_together:together"})
    abundance = draw(mine, 50, tmp_path)
    a = np.random.default_rng(0).random(50)
    np.testing.assert_array_equal(abundance[:, 9], a)
    np.testing.assert_array_equal(abundance[:, 3], 1 - a)
    assert abundance.sum() == pytest.approx(50)
    assert (draw(mine, 50, tmp_path, seed=1) != abundance).any()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("[1, 2]", "returned list; expected a mapping"),
        ("{'comp99': rng.random(n)}", "unknown label 'comp99'"),
        ("{'comp4': rng.random(n + 1)}", r"shape \(6,\); expected 5 finite numbers"),
        ("{'comp4': rng.random(n) - 2}", "none negative"),
        ("{'comp4': [float('nan')] * n}", "numbers such as nan; expected 5 finite numbers"),
        ("None", "returned NoneType; expected a mapping"),
        ("'comp4'", "returned str; expected a mapping"),
        ("{'comp4': 'abcde'}", r"returned for 'comp4' an array of shape \(\)"),
        ("{'comp4': list('12345')}", "an array of type <U1"),
        ("{'comp4': rng.random(n) + 0j}", "an array of type complex128"),
        ("{'comp4': [None] * n}", "an array of type object"),
        ("{'comp4': [[1], [1, 2]]}", "what is no array"),
        ("{'comp4': np.ma.masked_less(rng.random(n), 2)}", "masked values"),
        ("{4: rng.random(n)}", "unknown label 4"),
        ("{'comp4': 1000 * np.ones(n)}", r"'comp4' the abundance 1000; expected strength x abundance from -1 to 50"),
        ("exit(0)", r"raised SystemExit: 0; expected a mapping"),
        ("1 / 0", "raised ZeroDivisionError: division by zero; expected a mapping"),
    ],
)
def test_what_a_function_returns_is_checked(tmp_path: Path, answer: str, complaint: str) -> None:
    name = f"own_function_{abs(hash(answer))}"
    source = f"import numpy as np\nfrom sys import exit\n\ndef f(n, rng):\n    return {answer}\n"
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        draw(as_distribution({"type": "function", "callable": f"{name}:f"}), 5, tmp_path)


def test_a_function_with_another_signature_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own_function_signature.py").write_text("def f(n):\n    return {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"called with \(n, rng\) raised TypeError: .*; expected a mapping"):
        draw(as_distribution({"type": "function", "callable": "own_function_signature:f"}), 5, tmp_path)


@pytest.mark.parametrize("body", ["return {'comp6': 1000 * rng.random(n)}", "raise SystemExit(0)"])
def test_a_function_that_cannot_be_used_ends_in_a_sentence_and_leaves_no_spectra(
    tmp_path: Path, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"own_function_end_{len(body)}"
    (tmp_path / f"{name}.py").write_text(f"def f(n, rng):\n    {body}\n", encoding="utf-8")
    files = small_experiment()
    files["distribution"]["splits"]["train"]["distribution"] = {"type": "function", "callable": f"{name}:f"}
    assert cli.main(["generate-data", str(write_experiment(tmp_path, files))]) == 2
    assert f"{name}:f" in caplog.text
    assert not list(tmp_path.glob("exp/data/**/flux.npy"))


def test_a_missing_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="import fails"):
        draw(as_distribution({"type": "function", "callable": "no_such_module_here:f"}), 5, tmp_path)


def test_an_original_file_gets_val_and_oracle_train() -> None:
    """val: that of training, as large as test. oracle_train: as large as train, the combination in a quarter."""
    given = load(ORIGINAL / "meta_config.yaml").distribution.splits
    assert set(given) == {"train", "test"}
    complete = splits.complete(given)
    assert set(complete) == {"train", "test", "val", "oracle_train"}
    assert complete["val"] == Split(n_samples=1000, distribution=given["train"].distribution)
    assert complete["oracle_train"].n_samples == 4000
    found = supports(draw(complete["oracle_train"].distribution, 8000))
    assert set(found) == {(), ("comp10",), ("comp4",), ("comp4", "comp10")}
    assert all(count == pytest.approx(2000, abs=200) for count in found.values())


def test_splits_that_a_file_has_are_kept() -> None:
    given = shipped().distribution.splits
    assert splits.complete(given) == dict(given)


def test_a_tests_heavy_weights_do_not_crowd_out_training() -> None:
    """Weights are relative within a file: 100 in test counts as much as 1 in train."""
    heavy = {"type": "component_combinations", "combinations": [{"weight": 100, "components": ["comp4", "comp10"]}]}
    seen = as_distribution(combinations([], ["comp10"], ["comp4"]))
    found = supports(draw(splits.with_combinations(seen, as_distribution(heavy)), 8000))
    assert found["comp4", "comp10"] == pytest.approx(2000, abs=200)


def test_with_a_function_the_oracle_gets_half_of_each(tmp_path: Path) -> None:
    source = "def alone(n, rng):\n    return {'comp1': rng.random(n)}\n"
    (tmp_path / "own_function_alone.py").write_text(source, encoding="utf-8")
    mixed = splits.with_combinations(
        as_distribution({"type": "function", "callable": "own_function_alone:alone"}),
        as_distribution(combinations(["comp4", "comp10"])),
    )
    assert isinstance(mixed, MixtureDistribution)
    abundance = draw(mixed, 4000, tmp_path)
    assert abundance.shape == (4000, 20)
    found = supports(abundance)
    assert set(found) == {("comp1",), ("comp4", "comp10")}
    assert found["comp1",] == pytest.approx(2000, abs=200)
    first = abundance[:2000, 0] > 0
    assert first.mean() == pytest.approx(0.5, abs=0.06), "the two are not shuffled"


def test_a_mixture_is_not_accepted_from_a_file() -> None:
    data = {"splits": {"train": {"n_samples": 1, "distribution": {"type": "mixture", "parts": []}}}}
    with pytest.raises(ValueError, match="component_combinations"):
        DistributionConfig.model_validate(data)
