// SpectrumExplorer: a continuum, two lines and noise, as flux and as its logarithm.

const COLORS = ["#CC79A7", "#E69F00"]; // of the two lines, as in the book's figures
const NAMES = ["First line", "Second line"];

/** Everything that the figure shows, from the model's values alone. */
export function compute(world, normal, { temperature, noise, lines, abundance }) {
  const chosen = lines.map((label) => world.index.get(label));
  const base = continuum(world.wavelength, temperature);
  const factors = chosen.map((k, i) => lineFactor(world, k, abundance[i]));
  const mean = base.map((value, i) => value * factors[0][i] * factors[1][i]);
  const imprints = factors.map((factor) => factor.map((f, j) => f * base[j]));
  return { chosen, base, factors, imprints, mean, flux: addNoise(mean, noise, normal, world.noise_power) };
}

function controls(model, world) {
  const ranges = world.ranges;
  const bound = (name) => ({ get: () => model.get(name), set: (value) => write(model, name, value) });
  const entry = (name, place) => ({
    get: () => model.get(name)[place],
    set: (value) =>
      write(
        model,
        name,
        model.get(name).map((old, i) => (i === place ? value : old)),
      ),
  });
  const [coolest, hottest] = ranges.temperature;
  const warmth = {
    label: "Temperature",
    min: coolest,
    max: hottest,
    step: 10,
    format: kelvin,
    ...bound("temperature"),
  };
  const level = {
    label: "Noise",
    min: 0,
    max: ranges.noise[1],
    step: 0.001,
    format: percent,
    ...bound("noise"),
  };
  const parts = [[slider(warmth), slider(level)]];
  for (const place of [0, 1]) {
    const color = COLORS[place];
    const other = entry("lines", 1 - place);
    const own = entry("lines", place);
    // choosing the line that the other list shows makes the two change places: one line is never there twice
    const set = (label) =>
      write(model, "lines", other.get() === label ? [...model.get("lines")].reverse() : swapped(label));
    const swapped = (label) => model.get("lines").map((old, i) => (i === place ? label : old));
    const entries = (sign) =>
      world.lines
        .filter(({ strength }) => strength < 0 === sign < 0)
        .map(({ label, name, center }) => [label, `${name} at ${plain(center)} nm`]);
    const options = { absorption: entries(-1), emission: entries(+1) };
    const amount = {
      label: "abundance",
      min: ranges.abundance[0],
      max: ranges.abundance[1],
      step: 0.01,
      format: number,
    };
    const fader = slider({ ...amount, color, ...entry("abundance", place) });
    const refresh = fader.refresh;
    fader.refresh = () => {
      fader.name.textContent = `Abundance of ${phraseOf(world, own.get())}`;
      refresh();
    };
    parts.push([chooser({ label: NAMES[place], options, color, get: own.get, set }), fader]);
  }
  const groups = parts.map((pair) => make("div", { class: "se-controls" }, ...pair.map(({ node }) => node)));
  return {
    node: make("div", { class: "se-panel se-three" }, ...groups),
    refresh: () => parts.flat().forEach((p) => p.refresh()),
  };
}

/** What the two lines do where they are strongest, in one sentence each. */
function sentences(world, seen, { temperature, lines, abundance }) {
  const peak = wienPeak(temperature);
  const words = [`At ${kelvin(temperature)} the continuum peaks at ${Math.round(peak)} nm.`];
  seen.chosen.forEach((k, i) => {
    const factor = lineFactorAtCenter(world, k, abundance[i]);
    words.push(
      `${phraseOf(world, lines[i])}: flux × ${number(factor)} at ${plain(world.lines[k].center)} nm, log flux ${signed(Math.log(factor))}.`,
    );
  });
  return words;
}

const phraseOf = (world, label) => world.lines[world.index.get(label)].phrase;
const signed = (value) => (value > 0.005 ? `+${number(value)}` : number(value));

function lineFactorAtCenter(world, k, abundance) {
  const depth = world.lines[k].strength * abundance;
  return world.line_law === "beer_lambert" ? Math.exp(depth) : 1 + depth;
}

function render({ model, el }) {
  const world = makeWorld(model.get("world"));
  const panel = controls(model, world);
  const voice = announcer();
  const words = make("div", { class: "se-words" });
  const key = legend();
  const upper = new Chart("Flux against wavelength");
  const lower = new Chart("Logarithm of flux against wavelength");
  const strip = new LightStrip(world.wavelength);
  const gradient = rainbow(uniqueId());
  const strokes = {
    light: plot("se-light", { fill: `url(#${gradient.id})` }),
    imprint: COLORS.map((color) => plot("se-imprint", { stroke: color })),
    base: plot("se-continuum"),
    flux: plot("se-flux"),
    peak: plot("se-peak"),
  };
  const logs = {
    imprint: COLORS.map((color) => plot("se-imprint", { stroke: color })),
    base: plot("se-continuum"),
    flux: plot("se-flux"),
  };
  upper.inside.append(gradient, strokes.light, strokes.peak, strokes.flux, strokes.base, ...strokes.imprint);
  lower.inside.append(logs.flux, logs.base, ...logs.imprint);
  const root = make(
    "div",
    { class: "se-root" },
    panel.node,
    strip.node,
    upper.svg,
    lower.svg,
    key.node,
    words,
    voice.node,
  );
  el.append(root);

  const domain = [world.wavelength_min, world.wavelength_max];
  let layout = { width: 0, top: 0, levels: [] };
  let noise = { draw: null };

  function arrange(width, top, levels) {
    layout = { width, top, levels };
    const count = width < 500 ? 4 : 8;
    const sides = { width, left: 52, right: 18 };
    strip.node.style.marginLeft = `${sides.left}px`;
    strip.node.style.width = `${width - sides.left - sides.right}px`;
    upper.resize(
      { ...sides, height: width < 500 ? 150 : 230, top: 6, bottom: 8 },
      { domain },
      { domain: [0, top], label: "flux", count: 4 },
    );
    lower.resize(
      { ...sides, height: width < 500 ? 170 : 190, top: 8, bottom: 38 },
      { domain, label: "wavelength (nm)", count },
      { domain: levels, label: "log flux", count: 4 },
    );
    layout.columns = upper.columns(world.wavelength);
    gradient.setAttribute("x1", upper.x(VISIBLE[0]));
    gradient.setAttribute("x2", upper.x(VISIBLE[1]));
    layout.from = world.wavelength.findIndex((nm) => nm >= VISIBLE[0]);
    layout.to = world.wavelength.findLastIndex((nm) => nm <= VISIBLE[1]);
    layout.peak = null;
  }

  function draw() {
    if (root.clientWidth === 0) return;
    const state = Object.fromEntries(
      ["temperature", "noise", "lines", "abundance"].map((name) => [name, model.get(name)]),
    );
    if (noise.draw !== model.get("draw"))
      noise = { draw: model.get("draw"), normal: standardNormal(model.get("draw"), world.n_bins) };
    const seen = compute(world, noise.normal, state);
    const inLog = {
      flux: seen.flux.map(logarithm),
      base: seen.base.map(logarithm),
      factors: seen.factors.map((factor) => factor.map(logarithm)),
    };
    // the axes move in big steps only: a curve that grows should be seen to grow
    const top = Math.ceil(2 * Math.max(1.1, ...seen.flux, ...seen.imprints.flatMap((one) => Array.from(one)))) / 2;
    const levels = wholeLevels(inLog.flux, inLog.base, ...inLog.factors);
    if (layout.width !== root.clientWidth || layout.top !== top || String(layout.levels) !== String(levels))
      arrange(root.clientWidth, top, levels);
    const { columns, from, to } = layout;

    strip.draw(seen.flux);
    const ground = upper.y(0);
    const lit = upper.curve(columns.slice(from, to + 1), seen.flux.subarray(from, to + 1));
    strokes.light.setAttribute(
      "d",
      `M${columns[from].slice(1)}${ground}L${lit.slice(1)}L${columns[to].slice(1)}${ground}Z`,
    );
    strokes.base.setAttribute("d", upper.curve(columns, seen.base, 4));
    strokes.flux.setAttribute("d", upper.curve(columns, seen.flux));
    logs.base.setAttribute("d", lower.curve(columns, inLog.base, 4));
    logs.flux.setAttribute("d", lower.curve(columns, inLog.flux));
    seen.factors.forEach((factor, i) => {
      const acts = (j) => Math.abs(factor[j] - 1) > 0.003; // elsewhere it would only hide the continuum
      strokes.imprint[i].setAttribute(
        "d",
        upper.pieces(columns, seen.imprints[i], acts, 2),
      );
      logs.imprint[i].setAttribute("d", lower.curve(columns, inLog.factors[i], 2));
      key.names[i].textContent = `${phraseOf(world, state.lines[i])} alone`;
    });
    const peak = upper.x(wienPeak(state.temperature));
    strokes.peak.setAttribute("d", `M${tenth(peak)} ${upper.y(1)}V${ground}`);
    panel.refresh();
    const said = sentences(world, seen, state);
    words.replaceChildren(...said.map((text) => make("span", {}, text)));
    voice.say(said.join(" "));
  }

  const stop = live(model, ["temperature", "noise", "lines", "abundance", "draw"], root, draw);
  return () => {
    stop();
    voice.stop();
  };
}

function legend() {
  const entry = (className, text, style = "") =>
    make("span", {}, make("i", { class: `se-key ${className}`, style }), text);
  const names = COLORS.map(() => make("span"));
  const own = names.map((name, i) => entry("", name, `--se-own: ${COLORS[i]}`));
  const rest = [entry("se-key-flux", "with noise"), entry("se-key-continuum", "continuum")];
  const node = make("div", { class: "se-legend" }, ...rest, ...own, entry("se-key-light", "visible light"));
  return { node, names };
}

export default { render };
