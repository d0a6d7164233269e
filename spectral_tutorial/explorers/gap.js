// GapExplorer: a point in the plane of two abundances, the spectrum that belongs to it, and what trained networks
// predict for that spectrum.

const SHAPES = {
  circle: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
  square: "M-4.5 -4.5h9v9h-9Z",
  triangle: "M0 -5.5L5.5 4.5H-5.5Z",
  diamond: "M0 -6L6 0L0 6L-6 0Z",
};
const REACH = [-0.12, 1.22]; // of the plane's axes in units of the largest abundance; predictions beyond are drawn at the edge
const KEY_STEP = 0.01; // in the same units; also the grid of points that can be chosen, so that figures shown are exact
const BIG_STEP = 0.1;
const CLOSE = 0.1; // a prediction this near to the truth counts as right in the question

/** Make the predictors that the page shows: each has a name and a function from flux to two abundances. */
export const makePredictors = (payload) =>
  payload.predictors.map((one) => ({
    ...one,
    predict: makePredictor({ transform: payload.transform, ...one }),
  }));

/** The spectrum at a point of the plane. */
export function synthesize(world, reported, normal, { temperature, noise, abundance }) {
  const pairs = reported.map(({ label }, i) => [world.index.get(label), abundance[i]]);
  const mean = meanFlux(world, temperature, pairs);
  return { mean, flux: addNoise(mean, noise, normal, world.noise_power) };
}

/** The one whose prediction is put into words: the median network where it is shown, else the first shown. */
const spokesman = (predictors, middle) => predictors.find(({ name }) => name === middle) ?? predictors[0];


/** A question that is answered by giving the star both lines, which `add` does. */
function questionBox(model, { reported, level }, add) {
  const [first, second] = reported;
  const prompt = make(
    "p",
    {},
    `The networks learned ${first.phrase} and ${second.phrase} from stars with at most one of them. Give this star ` +
      `both, ${number(level)} of each. How much of ${second.phrase} will they predict?`,
  );
  const guesses = { same: `About ${number(level)}`, less: "Clearly less", more: "Clearly more" };
  const choices = Object.entries(guesses).map(([key, text]) => [
    key,
    button(text, () => {
      write(model, "guess", key);
      add();
    }),
  ]);
  const said = make("p", { class: "se-said" });
  const node = make(
    "div",
    { class: "se-panel se-ask", role: "group", "aria-label": "A question before you begin" },
    prompt,
    make("div", { class: "se-row" }, ...choices.map(([, one]) => one)),
    said,
  );
  return {
    node,
    refresh({ name, predicted }) {
      const guess = model.get("guess");
      for (const [key, one] of choices) one.setAttribute("aria-pressed", String(key === guess));
      const error = predicted[1] - level;
      const outcome = Math.abs(error) < CLOSE ? "same" : error < 0 ? "less" : "more";
      said.replaceChildren(
        make("strong", {}, guess === outcome ? "Yes. " : "No. "),
        `The network of ${name} predicts ${number(predicted[1])}: ${judge(predicted[1], level)}. Move the point: where does that begin?`,
      );
      return said.textContent;
    },
  };
}

function render({ model, el }) {
  const world = makeWorld(model.get("world"));
  const payload = model.get("payload");
  const reported = payload.reported;
  const [least, most] = world.ranges.abundance;
  const all = makePredictors(payload);
  const voice = announcer();
  const size = most - least || 1;
  const step = KEY_STEP * size;
  const clamp = (value) => {
    const near = least + Math.round((value - least) / step) * step;
    return Number(Math.min(most, Math.max(least, near)).toFixed(6));
  };
  const move = (abundance) => write(model, "abundance", abundance.map(clamp));
  const bound = (name) => ({ get: () => model.get(name), set: (value) => write(model, name, value) });
  const along = (place) => ({
    get: () => model.get("abundance")[place],
    set: (value) => move(model.get("abundance").map((old, i) => (i === place ? value : old))),
  });

  // --- controls
  const amount = { min: least, max: most, step, format: number };
  const [coolest, hottest] = world.ranges.temperature;
  const faders = [
    ...reported.map(({ phrase }, i) => slider({ label: `Abundance of ${phrase}`, ...amount, ...along(i) })),
    slider({
      label: "Noise",
      min: 0,
      max: world.ranges.noise[1],
      step: 0.001,
      format: percent,
      ...bound("noise"),
    }),
    slider({
      label: "Temperature",
      min: coolest,
      max: hottest,
      step: 10,
      format: kelvin,
      ...bound("temperature"),
    }),
  ];
  const shown = (name) => ({
    get: () => model.get("shown").includes(name),
    set: (on) =>
      write(
        model,
        "shown",
        all.map((r) => r.name).filter((n) => (n === name ? on : model.get("shown").includes(n))),
      ),
  });
  const toggles = reported.map(({ phrase }, i) => {
    const there = () => model.get("abundance")[i] > least;
    const node = button("", () => along(i).set(there() ? least : payload.level));
    return { node, refresh: () => (node.textContent = `${there() ? "Remove" : "Add"} ${phrase}`) };
  });
  const ask = model.get("ask") ? questionBox(model, payload, () => move([payload.level, payload.level])) : null;
  const again = button("New noise", () => write(model, "draw", model.get("draw") + 1));

  // --- the plane
  const plane = new Chart(`Plane of the abundances of ${reported[0].phrase} and ${reported[1].phrase}`);
  plane.svg.removeAttribute("role"); // the box around it speaks for it
  plane.svg.removeAttribute("aria-label");
  plane.svg.setAttribute("aria-hidden", "true");
  const seen = plot("se-seen");
  const held = plot("se-held");
  const cross = plot("se-cross");
  const arrows = all.map(({ color, shape }) => ({
    line: plot("se-arrow", { stroke: color }),
    head: plot("se-head", { fill: color, d: SHAPES[shape] }),
  }));
  const truth = make("circle", { class: "se-truth", r: 8 });
  plane.inside.append(held, seen, cross);
  plane.over.append(...arrows.map(({ line }) => line), ...arrows.map(({ head }) => head), truth);
  const keys = "arrow keys move the point, with Shift in larger steps";
  const box = make(
    "div",
    {
      class: "se-plane",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "plane with a movable point",
      "aria-label": `Abundances of ${reported.map(({ phrase }) => phrase).join(" and ")}: ${keys}`,
      "data-lm-suppress-shortcuts": "true",
    },
    plane.svg,
  );
  const place = (event) => {
    const { left, top } = plane.svg.getBoundingClientRect();
    move([plane.x.invert(event.clientX - left), plane.y.invert(event.clientY - top)]);
  };
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    box.setPointerCapture(event.pointerId);
    place(event);
  });
  box.addEventListener("pointermove", (event) => box.hasPointerCapture(event.pointerId) && place(event));
  box.addEventListener("keydown", (event) => {
    const way = arrowOf(event);
    if (!way) return;
    const far = size * (event.shiftKey ? BIG_STEP : KEY_STEP);
    move(model.get("abundance").map((value, i) => value + far * way[i]));
  });

  // --- the spectrum and what is predicted from it
  const chart = new Chart("Spectrum at the chosen abundances: logarithm of flux against wavelength");
  const strip = new LightStrip(world.wavelength);
  const base = plot("se-continuum");
  const flux = plot("se-flux");
  chart.inside.append(flux, base);
  const rows = all.map((predictor) => {
    const glyph = make("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
    glyph.append(make("path", { d: SHAPES[predictor.shape], fill: predictor.color }));
    const cells = [make("td"), make("td"), make("td")];
    const words = make(
      "span",
      {},
      predictor.name,
      ...(predictor.note ? [make("small", {}, ` ${predictor.note}`)] : []),
    );
    const box = checkbox({ label: words, ...shown(predictor.name) });
    box.node.insertBefore(glyph, words);
    return {
      cells,
      refresh: box.refresh,
      node: make("tr", {}, make("th", { scope: "row" }, box.node), ...cells),
    };
  });
  const dot = make("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
  dot.append(make("circle", { r: 5, class: "se-truth" }));
  const truthCells = [make("td"), make("td"), make("td", {}, "")];
  const headings = [...reported.map(({ name }) => name), `error in ${reported[1].name}`].map((text) => make("th", { scope: "col" }, text));
  const table = make(
    "table",
    { class: "se-table" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "abundance"), ...headings)),
    make(
      "tbody",
      {},
      make(
        "tr",
        {},
        make("th", { scope: "row" }, make("span", { class: "se-check" }, make("i"), dot, "truth")),
        ...truthCells,
      ),
      ...rows.map(({ node }) => node),
    ),
  );
  const verdict = make("p", { class: "se-verdict" });

  const left = make("div", { class: "se-left" }, box, legend());
  const right = make("div", { class: "se-right" }, strip.node, chart.svg, verdict, table);
  const buttons = [...toggles.map(({ node }) => node), again];
  const root = make(
    "div",
    { class: "se-root se-gap" },
    ...(ask ? [ask.node] : []),
    make("div", { class: "se-row", role: "group", "aria-label": "Stars to try" }, ...buttons),
    make("div", { class: "se-panel se-four" }, ...faders.map(({ node }) => node)),
    make("div", { class: "se-two" }, left, right),
    voice.node,
  );
  el.append(root);

  let layout = { width: 0, levels: [] };
  let noise = { draw: null };
  const domain = REACH.map((edge) => least + edge * size);

  function arrange(width, levels) {
    const narrow = isNarrow(root);
    const side = narrow ? Math.min(width, 262) : Math.min(Math.floor(width * 0.48), 420);
    plane.square(side, side - 12, domain, reported.map(({ name }) => name));
    seen.setAttribute("d", plane.dots(payload.seen));
    held.setAttribute("d", plane.dots(payload.held));
    left.style.width = narrow ? "" : `${side}px`;
    const wide = narrow ? width : width - side - 20;
    const sides = { width: wide, left: 48, right: 18 };
    strip.node.style.marginLeft = `${sides.left}px`;
    strip.node.style.width = `${wide - sides.left - sides.right}px`;
    const across = {
      domain: [world.wavelength_min, world.wavelength_max],
      label: "wavelength (nm)",
      count: 5,
    };
    const height = narrow ? 120 : 190;
    chart.resize({ ...sides, height, top: 6, bottom: 38 }, across, { domain: levels, label: "log flux", count: 4 });
    layout = { width, levels, columns: chart.columns(world.wavelength) };
  }

  function draw() {
    if (root.clientWidth === 0) return;
    const state = Object.fromEntries(
      ["temperature", "noise", "abundance"].map((name) => [name, model.get(name)]),
    );
    if (noise.draw !== model.get("draw"))
      noise = { draw: model.get("draw"), normal: standardNormal(model.get("draw"), world.n_bins) };
    const spectrum = synthesize(world, reported, noise.normal, state);
    const { abundance } = state;
    const light = continuum(world.wavelength, state.temperature);
    const logs = { flux: spectrum.flux.map(logarithm), base: light.map(logarithm) };
    const levels = wholeLevels(logs.flux, logs.base);
    if (layout.width !== root.clientWidth || String(layout.levels) !== String(levels))
      arrange(root.clientWidth, levels);
    strip.draw(spectrum.flux);
    flux.setAttribute("d", chart.curve(layout.columns, logs.flux));
    base.setAttribute("d", chart.curve(layout.columns, logs.base, 4));

    const [px, py] = [plane.x(abundance[0]), plane.y(abundance[1])];
    truth.setAttribute("transform", `translate(${tenth(px)} ${tenth(py)})`);
    const { left, right, top, bottom } = plane.area;
    cross.setAttribute("d", `M${left} ${tenth(py)}H${right}M${tenth(px)} ${top}V${bottom}`);
    truthCells[0].textContent = number(abundance[0]);
    truthCells[1].textContent = number(abundance[1]);
    const predictions = [];
    all.forEach((predictor, i) => {
      const on = model.get("shown").includes(predictor.name);
      const { line, head } = arrows[i];
      line.style.display = head.style.display = on ? "" : "none";
      rows[i].refresh();
      rows[i].node.classList.toggle("se-off", !on);
      if (!on) {
        for (const cell of rows[i].cells) cell.textContent = "";
        return;
      }
      const predicted = predictor.predict(spectrum.flux);
      predictions.push([predictor, predicted]);
      const inFrame = (value, low, high) => Math.min(high, Math.max(low, value));
      const x = tenth(inFrame(plane.x(predicted[0]), left + 6, right - 6));
      const y = tenth(inFrame(plane.y(predicted[1]), top + 6, bottom - 6));
      line.setAttribute("d", `M${tenth(px)} ${tenth(py)}L${x} ${y}`);
      head.setAttribute("transform", `translate(${x} ${y})`);
      const [first, second, third] = rows[i].cells;
      first.textContent = number(predicted[0]);
      second.textContent = number(predicted[1]);
      third.textContent = number(predicted[1] - abundance[1]);
    });
    for (const control of [...faders, ...toggles]) control.refresh();
    const chosen = spokesman(
      predictions.map(([predictor]) => predictor),
      payload.middle,
    );
    const predicted = predictions.find(([predictor]) => predictor === chosen)?.[1];
    const [, y] = reported;
    if (chosen)
      verdict.replaceChildren(
        make("strong", {}, chosen.name),
        ` predicts ${y.phrase} `,
        make("strong", {}, judge(predicted[1], abundance[1])),
        ".",
      );
    else verdict.replaceChildren("No network is shown.");
    const readings = predictions.map(([{ name }, [a, b]]) => `${name} predicts ${number(a)} and ${number(b)}.`);
    const here = reported.map(({ phrase }, i) => `${phrase} ${number(abundance[i])}`).join(", ");
    const answered = ask && model.get("guess") ? ask.refresh(predictedAtLevel(state)) : "";
    voice.say([answered, `${here}.`, ...readings, verdict.textContent].join(" ").trim());
  }

  /** What the median network makes of a star with as much of both lines as the question says. */
  function predictedAtLevel(state) {
    const { level, middle } = payload;
    const star = synthesize(world, reported, noise.normal, { ...state, abundance: [level, level] });
    const { name, predict } = spokesman(all, middle);
    return { name, predicted: predict(star.flux) };
  }

  const names = ["temperature", "noise", "abundance", "draw", "shown", "guess"];
  const stop = live(model, names, root, draw);
  return () => {
    stop();
    voice.stop();
  };
}

function legend() {
  const entry = (className, text) => make("span", {}, make("i", { class: `se-key ${className}` }), text);
  const entries = [entry("se-key-seen", "training stars"), entry("se-key-held", "test stars, held out")];
  return make("div", { class: "se-legend" }, ...entries);
}

export default { render };
