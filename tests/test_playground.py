"""The playground without a browser: its arithmetic against the package and torch, its state, what Python sees."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from explorers.small import EVIL
from helpers import SHIPPED

import spectral_tutorial as st
from spectral_tutorial import cli
from spectral_tutorial.config import load
from spectral_tutorial.explorers import Playground, base, playground, sphinx_extension

COMPILER = "assemblyscript@0.28.20"
OPTIONS = "--runtime stub --use abort= --enable simd -O3 --shrinkLevel 1 --converge --noAssert"
SOURCES = ("playground_network.ts", "playground_spectra.ts")
COMPILED = "98f3578bee59e10f1ce386c506a790b2422c83a77cd997087e959970bd2c1615"
"""SHA-256 of the sources and of what they were compiled to: compile again, then write the new one here."""
DIGITS = "3c93cc0e87e19bee88ee243346db76c89c067bfe1d05ec0342e7c35f661a3c39"
"""SHA-256 of all numbers of a small run: the same on every machine, in Node and in every browser."""
SMALL = {"steps": 250, "spectra": 1024, "seeds": 1, "hidden": 16}

Ask = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Ask Node for what the page computes; several calls at once, since each start takes a while."""
    node = shutil.which("node")
    if node is None:
        (pytest.fail if os.environ.get("SPECTRAL_TUTORIAL_REQUIRE_BROWSER") else pytest.skip)("no node on the path")
    script = Path(__file__).with_name("explorers") / "playground.mjs"

    def call(*calls: dict[str, Any], world: Any = playground.DEFAULT_WORLD) -> list[Any]:
        asked = tmp_path_factory.mktemp("asked") / "input.json"
        asked.write_text(json.dumps({"world": world, "calls": calls}), encoding="utf-8")
        done = subprocess.run([node, script, base.HERE, asked], capture_output=True, encoding="utf-8", check=True)
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return call


def task(preset: str = "axes only", **settings: Any) -> dict[str, Any]:
    cells = np.ravel(playground.PRESETS[preset]).tolist()
    return {"support": cells, "settings": {**playground.START, "composed": "composed" in preset, **settings}}


# --- the arithmetic ---------------------------------------------------------------------------------------------------


def test_the_bytes_belong_to_the_source(tmp_path: Path) -> None:
    contents = [(base.HERE / name).read_bytes() for name in (*SOURCES, "playground.wasm")]
    assert hashlib.sha256(b"".join(contents)).hexdigest() == COMPILED
    assert OPTIONS in " ".join(contents[0].decode().replace("\\\n//", "").split())
    assert f"npm install --prefix /tmp/compiler {COMPILER}\n" in contents[0].decode()


@pytest.mark.nightly
def test_the_source_compiles_to_the_bytes(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on the path")
    install = [npm, "install", "--prefix", tmp_path, "--no-audit", "--no-fund", COMPILER]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("npm has no access to its registry")
    out = tmp_path / "again.wasm"
    compiler = tmp_path / "node_modules" / ".bin" / "asc"
    subprocess.run([compiler, SOURCES[0], "--outFile", out, *OPTIONS.split()], cwd=base.HERE, check=True)
    assert out.read_bytes() == (base.HERE / "playground.wasm").read_bytes()


def places(n: int, rng: np.random.Generator) -> Any:
    return np.column_stack([rng.uniform(3000, 7000, n), rng.uniform(size=(n, 2)) * rng.integers(0, 2, (n, 2))])


def two_lines(law: str = "linear") -> st.World:
    grid = np.linspace(300, 1200, 256)
    profiles = st.physics.gaussian_profiles(grid, [956, 891], [71.8, 9.0])
    return st.World(grid, profiles, np.array([-0.7, -0.4]), ("comp10", "comp4"), law)


@pytest.mark.parametrize("law", ["linear", "beer_lambert"])
def test_spectra_and_bounds_are_those_of_the_package(ask: Ask, law: str) -> None:
    exp = st.Experiment.from_yaml(SHIPPED)
    world = {**playground._world_of(exp), "line_law": law}
    ours = two_lines(law)
    at = places(40, np.random.default_rng(0))
    noise = np.geomspace(0.005, 0.075, 40)
    calls = [{"what": "means", "places": at.tolist()}, {"what": "seen", "places": at.tolist()}]
    calls.append({"what": "bounds", "places": np.column_stack([at, noise]).tolist()})
    means, seen, bounds = (np.array(answer) for answer in ask(*calls, world=world))
    flux = ours.mean_flux(at[:, 0], at[:, 1:])
    np.testing.assert_allclose(means, flux, rtol=1e-9)
    single = flux.astype(np.float32)
    expected = st.data.InputTransform("log_standardize").fit(single).transform(single)
    np.testing.assert_allclose(seen.reshape(40, 256), expected, atol=2e-6)
    expected = st.limits.cramer_rao(ours, at[:, 0], at[:, 1:], noise, [0, 1])[:, 1]
    np.testing.assert_allclose(bounds, expected, rtol=1e-6)


def test_the_noise_is_standard_normal(ask: Ask) -> None:
    (drawn,) = ask({"what": "normals", "n": 400})
    values = np.array(drawn)
    moments = [np.mean(values**k) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.05)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02


def test_fifty_steps_equal_those_of_torch(ask: Ask) -> None:
    generator = torch.Generator().manual_seed(5)
    rng = np.random.default_rng(5)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        network = st.models.MLP(256, 2, (64, 32))
    at = places(512, rng)
    flux = st.physics.add_noise(two_lines().mean_flux(at[:, 0], at[:, 1:]), rng.uniform(0.005, 0.075, 512), rng)
    single, truth = flux.astype(np.float32), at[:, 1:].astype(np.float32)
    spectra = st.data.InputTransform("log_standardize").fit(single).transform(single)
    batches = rng.integers(0, 512, (50, 64))
    layers = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    weights = [{"weight": layer.weight.tolist(), "bias": layer.bias.tolist()} for layer in layers]
    call = {"what": "learn", "shapes": [list(layer.weight.shape) for layer in layers], "weights": weights}
    call |= {"spectra": spectra.ravel().tolist(), "truth": truth.ravel().tolist(), "batches": batches.tolist()}
    (answer,) = ask(call | {"rate": 1e-3, "decay": 1e-4})
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    losses = []
    for rows in batches:
        loss = torch.nn.functional.mse_loss(network(torch.from_numpy(spectra[rows])), torch.from_numpy(truth[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(answer["losses"], losses, rtol=1e-4)
    for layer, learned in zip(layers, answer["learned"], strict=True):
        np.testing.assert_allclose(learned["weight"], layer.weight.detach(), atol=1e-5)
        np.testing.assert_allclose(learned["bias"], layer.bias.detach(), atol=1e-5)


def test_a_run_has_the_same_digits_every_time(ask: Ask) -> None:
    call = {"what": "run", "task": task(**SMALL)}
    first, second = ask(call, call)
    assert first["digits"] == second["digits"] == DIGITS
    (other,) = ask({"what": "run", "task": task(**{**SMALL, "seeds": 3})})
    assert other["known"][0] == first["known"][0]  # no seed looks at those beside it


def ratio(frame: Any) -> float:
    return float(np.median(np.divide(frame["whole"], frame["known"])))


@pytest.mark.slow
def test_axes_open_the_gap_and_the_far_quarter_closes_it(ask: Ask) -> None:
    few = {"seeds": 3, "steps": 1000}
    axes, far = ask(*({"what": "run", "task": task(name, **few)} for name in ("axes only", "far quarter")))
    assert ratio(axes) > 20
    assert ratio(far) < 4


@pytest.mark.nightly
def test_each_preset_has_its_gap(ask: Ask) -> None:
    names = ("axes only", "near quarter", "far quarter", "everything", "five points", "axes, composed")
    found = dict(zip(names, map(ratio, ask(*({"what": "run", "task": task(name)} for name in names))), strict=True))
    print(found)
    assert found["axes only"] >= 30
    assert found["near quarter"] >= 4
    assert max(found[name] for name in ("far quarter", "everything", "five points", "axes, composed")) <= 3


@pytest.mark.nightly
def test_a_seed_learns_fast(ask: Ask) -> None:
    (frame,) = ask({"what": "run", "task": task()})
    took = f"{frame['seconds']:.1f} s of processor time"
    print(f"{frame['gigaflops']:.1f} GFLOP/s a seed, {took}, {frame['megabytes']:.0f} MB")
    assert frame["gigaflops"] >= 8
    assert frame["megabytes"] <= 80


def test_training_holds_what_is_painted(ask: Ask) -> None:
    support = np.array(playground.PRESETS["far quarter"])
    calls = [{"what": "distribution", "task": task("far quarter", share=40), "n": 4000}]
    calls += [{"what": "distribution", "task": task("axes, composed"), "n": 400}]
    drawn, composed = (np.array([[*one["at"], one["draws"]] for one in answer]) for answer in ask(*calls))
    x, y = drawn[:, 0], drawn[:, 1]
    both = (x > 0) & (y > 0)
    assert 0.37 < both.mean() < 0.43
    kinds = [both, (x > 0) & (y == 0), (x == 0) & (y > 0), (x == 0) & (y == 0)]
    assert all(0.17 < kind.mean() < 0.23 for kind in kinds[1:])
    cells = np.ceil(drawn[:, :2] * 8).astype(int)
    assert support[cells[:, 1], cells[:, 0]].all()
    assert set(drawn[:, 2]) == {1}
    assert ((composed[:, 2] == 2) == ((composed[:, 0] > 0) & (composed[:, 1] > 0))).all()
    assert 0.15 < (composed[:, 2] == 2).mean() < 0.35


# --- the state --------------------------------------------------------------------------------------------------------


def random_states(n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    states = []
    for _ in range(n):
        support = (rng.random(81) < rng.random()).astype(int).tolist()
        chosen = {name: c["values"][int(rng.integers(len(c["values"])))] for name, c in playground.CHOICES.items()}
        both = any(on and i % 9 and i >= 9 for i, on in enumerate(support))
        states.append({"support": support, "settings": {**chosen, "composed": chosen["composed"] and not both}})
    return states


HOSTILE = [
    "", "#", "#playground-1:", "#playground-1:cells=", "#playground-1:cells=zzz", "#playground-1:seed=1e9,steps=-1",
    "#playground-1:steps=999999999999999999999", "#playground-1:__proto__=1,constructor=2", "#playground-1:rate=NaN",
    "#playground-1:hidden=33,noise=0,log=2,composed=7", f"#playground-1:seed={EVIL}", "#playground-2:seed=5",
    "#playground-1:seed=5=6,seed", "#playground-1:" + "seed=3," * 400, "#playground-1:cells=" + "f" * 21,
    "#playground-1:share=0x10,seed=٣", "#playground-1:seed=05.50", "#playground-1:seeds=4",
]  # fmt: skip


def test_addresses_change_settings_within_their_ranges_and_nothing_else(ask: Ask) -> None:
    rng = np.random.default_rng(0)
    letters = list("#playground-1:cells=,seedtprhx0123456789.%<>&\"'\\\0\N{SNOWMAN}" + EVIL)
    texts = [*HOSTILE, *("".join(rng.choice(letters, rng.integers(0, 60))) for _ in range(500))]
    names = [*playground.CHOICES, "cells", "toString"]
    for _ in range(1500):
        pairs = [f"{rng.choice(names)}={''.join(rng.choice(letters, rng.integers(0, 8)))}" for _ in range(3)]
        pairs.append(f"{rng.choice(names)}={rng.choice([0, 1, 0.001, 5, 64, 2000, 1e300, -1])}")
        texts.append(f"#playground-1:{','.join(pairs)}")
    states = random_states(200, rng)
    common = {"start": task(), "choices": playground.CHOICES}
    found, back = ask({"what": "addresses", "texts": texts, **common}, {"what": "back", "states": states, **common})
    for state in found:
        assert set(state) == {"support", "settings"}
        assert len(state["support"]) == 81
        assert set(state["support"]) <= {0, 1}
        assert set(state["settings"]) == set(playground.CHOICES)
        for name, value in state["settings"].items():
            values = playground.CHOICES[name]["values"]
            assert value in values, name
            assert isinstance(value, bool) == isinstance(values[0], bool), name
    assert sum(state != task() for state in found) > 100
    assert all(
        state == task() for text, state in zip(texts, found, strict=True) if not text.startswith("#playground-1:")
    )
    assert back == states


def copy_configuration(book: Path) -> Path:
    """Copy the shipped configuration; returns its meta file."""
    book.mkdir()
    shutil.copytree(SHIPPED.parent / "configs", book / "configs")
    return Path(shutil.copyfile(SHIPPED, book / "meta_config.yaml"))


def put(book: Path, files: dict[str, str]) -> None:
    """Put what a reader copied in the place of two files."""
    for name, content in (("data_distribution", files["distribution"]), ("training", files["training"])):
        (book / "configs" / f"{name}.yaml").write_text(content, encoding="utf-8")


@pytest.mark.parametrize("label", ["comp4", EVIL, 'a "b": [c] #'])
def test_yaml_says_what_is_painted_and_is_accepted(ask: Ask, tmp_path: Path, label: str) -> None:
    payload = {"labels": ["comp10", label], "world": playground.DEFAULT_WORLD}
    states = [*map(task, playground.PRESETS), *random_states(6, np.random.default_rng(1))]
    (answers,) = ask({"what": "yaml", "states": states, "payload": payload})
    meta = copy_configuration(tmp_path / "book")
    for path in (meta.parent / "configs" / f"{name}.yaml" for name in ("synthetic_spectra", "analysis")):
        path.write_text(re.sub(r"\bcomp4\b", json.dumps(label), path.read_text(encoding="utf-8")), encoding="utf-8")
    for state, files in zip(states, answers, strict=True):
        put(meta.parent, files)
        config = load(meta)
        assert config.training.learning_rate == state["settings"]["rate"]
        distribution = config.distribution.splits["train"].distribution
        drawn = st.splits.draw_abundance(distribution, config.spectra, 4000, np.random.default_rng(0), meta.parent)
        pair = drawn[:, [config.spectra.index("comp10"), config.spectra.index(label)]]
        cells = np.ceil(pair * 8).astype(int)
        support = np.reshape(state["support"], (9, 9))
        reached = set(map(tuple, cells[:, ::-1].tolist()))
        expected = set(map(tuple, np.argwhere(support).tolist()))
        assert reached <= expected
        if state["settings"]["share"] in range(5, 96) and len(expected) < 40:
            assert reached == expected
        if support[1:, 1:].any() and (support[0].any() or support[:, 0].any()):
            both = (pair > 0).all(axis=1).mean()
            assert both == pytest.approx(state["settings"]["share"] / 100, abs=0.04)


@pytest.mark.nightly
def test_yaml_runs_and_the_presets_keep_their_order(ask: Ask, tmp_path: Path) -> None:
    names = ("axes only", "near quarter", "everything")
    payload = {"labels": ["comp10", "comp4"], "world": playground.DEFAULT_WORLD}
    (answers,) = ask({"what": "yaml", "states": [task(name) for name in names], "payload": payload})
    gaps = []
    for name, files in zip(names, answers, strict=True):
        meta = copy_configuration(tmp_path / name)
        meta.write_text(meta.read_text(encoding="utf-8").replace("127, 128, 129, 130]", "127]"), encoding="utf-8")
        put(meta.parent, files)
        assert cli.main(["validate", str(meta)]) == 0
        assert cli.main(["run", str(meta)]) == 0
        report = st.Experiment.from_yaml(meta).gap_report("network").set_index(["component", "split"]).mse_median
        gaps.append(report["comp4", "test"] / report["comp4", "val"])
    print(dict(zip(names, gaps, strict=True)))
    assert gaps[0] > 5 * gaps[1]
    assert gaps[1] > 2 * gaps[2]


def test_words_say_the_numbers(ask: Ask) -> None:
    frame = {"step": 2000, "known": [0.001, 0.002, 0.001], "whole": [0.1, 0.1, 0.08]}
    grid = np.zeros((16, 16))
    grid[12:, 12:] = 1.0
    grid[8:12, 12:] = 0.5
    calls = [{"what": "words", "frame": frame, "name": "narrow line"}]
    calls += [{"what": "guesses", "guesses": [[15, 11], [0], []], "map": grid.ravel().tolist()}]
    calls += [{"what": "refusals", "states": [{**task(), "support": [0] * 81}, task("axes, composed"), task()]}]
    calls += [{"what": "names", "names": ["broad line", "narrow line"], "range": [0, 1]}]
    sentence, guesses, refusals, names = ask(*calls)
    assert "over the whole plane is 80 times that" in sentence
    assert "(median of 3 seeds, from 50 to 100)" in sentence
    assert guesses == [{"marked": 2, "right": 2}, {"marked": 1, "right": 0}, {"marked": 0, "right": 0}]
    assert [bool(refused) for refused in refusals] == [True, False, False]
    assert names[5 * 9 + 2] == "broad line 0.125 to 0.25, narrow line 0.5 to 0.625"
    assert names[1] == "broad line 0 to 0.125, no narrow line"


# --- what Python sees -------------------------------------------------------------------------------------------------


def test_the_default_world_is_the_books() -> None:
    described = playground._world_of(st.Experiment.from_yaml(SHIPPED))
    assert described == playground.DEFAULT_WORLD


def test_values_are_refused_in_a_sentence() -> None:
    widget = Playground()
    assert np.shape(widget.support) == (9, 9)
    assert (widget.history, widget.error_map) == ({}, [])
    widget.settings = {"steps": 500}
    assert widget.settings["rate"] == 0.001
    for name, value in (
        ("support", [[1]]),
        ("support", [[2] * 9] * 9),
        ("settings", {"rate": 7}),
        ("settings", {"x": 1}),
    ):
        with pytest.raises(traitlets.TraitError, match="expected"):
            setattr(widget, name, value)


def test_the_finished_run_is_what_the_page_computes(ask: Ask) -> None:
    finished = Playground().finished()
    (frame,) = ask({"what": "run", "task": task(steps=250)})
    assert finished["step"][-1] == 2000
    assert finished["bound"][-1] == pytest.approx(frame["bound"], rel=1e-3)
    np.testing.assert_allclose(finished["known"][0][0], frame["first"]["known"][0], rtol=1e-3)
    assert np.shape(finished["error_map"]) == (16, 16)
    assert Playground(support=playground.PRESETS["everything"]).finished() == {}


@pytest.mark.nightly
def test_the_finished_run_comes_out_again(ask: Ask) -> None:
    """If it does not because something was changed: the answer is what playground_run.json has to hold."""
    (answer,) = ask({"what": "finished", "task": task()})
    assert answer == Playground().finished()


def test_in_a_book_it_is_a_picture_and_a_small_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setenv(base.BOOK_VARIABLE, str(tmp_path))
    widget = Playground()
    html = widget._repr_mimebundle_()[0]["text/html"]
    (payload,) = tmp_path.glob("playground-*.json")
    parts = [html, sphinx_extension.script_text("playground"), payload.read_text(encoding="utf-8")]
    sizes = [len(gzip.compress(part.encode())) for part in parts]
    print(sizes)
    assert sum(sizes) <= 60_000
    assert 'alt="Plane of the abundances of broad line and narrow line' in html


def test_a_world_of_counted_photons_is_refused() -> None:
    exp = st.Experiment.from_yaml(SHIPPED)
    exp.config = exp.config.with_changes({"spectra.noise_law": "photon"})
    with pytest.raises(ValueError, match="noise_law is photon; the playground needs noise in proportion to flux"):
        playground._world_of(exp)
