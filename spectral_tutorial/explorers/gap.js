// GapExplorer: a point in the plane of two abundances, the spectrum that belongs to it, and what trained readers
// make of that spectrum.

const COLORS = { truth: "var(--se-text)", seen: "var(--se-train)", held: "var(--se-test)" };
const SHAPES = {
  circle: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
  square: "M-4.5 -4.5h9v9h-9Z",
  triangle: "M0 -5.5L5.5 4.5H-5.5Z",
  diamond: "M0 -6L6 0L0 6L-6 0Z",
};
const REACH = [-0.12, 1.22]; // of the plane's axes in units of the largest abundance; answers beyond are drawn at the edge
const KEY_STEP = 0.01; // in the same units; also the grid of points that can be chosen, so that figures shown are exact
const BIG_STEP = 0.1;

/** Make the readers that the page shows: each has a name and a function from flux to two abundances. */
export const makeReaders = (payload) =>
  payload.readers.map((reader) => ({
    ...reader,
    read: readers[reader.kind]({ transform: payload.transform, ...reader }),
  }));

/** The spectrum at a point of the plane. */
export function synthesize(world, reported, normal, { temperature, noise, abundance }) {
  const mean = meanFlux(
    world,
    temperature,
    reported.map((label, i) => [world.index.get(label), abundance[i]]),
  );
  return { mean, flux: addNoise(mean, noise, normal) };
}

function render({ model, el }) {
  const world = makeWorld(model.get("world"));
  const payload = model.get("payload");
  const reported = payload.reported;
  const [least, most] = world.ranges.abundance;
  const all = makeReaders(payload);
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
    ...reported.map((label, i) => slider({ label: `Abundance of ${label}`, ...amount, ...along(i) })),
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
  const places = payload.places.map(({ name, at }) => button(name, () => move(at)));
  const again = button("New noise", () => write(model, "draw", model.get("draw") + 1));

  // --- the plane
  const plane = new Chart(`Plane of the abundances of ${reported[0]} and ${reported[1]}`);
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
      "aria-label": `Abundances of ${reported.join(" and ")}: ${keys}`,
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
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); // no scrolling
    event.stopPropagation(); // no other cell, no other page
    const far = size * (event.shiftKey ? BIG_STEP : KEY_STEP);
    move(model.get("abundance").map((value, i) => value + far * way[i]));
  });

  // --- the spectrum and what is read from it
  const chart = new Chart("Spectrum at the chosen abundances: logarithm of flux against wavelength");
  const strip = new LightStrip(world.wavelength);
  const base = plot("se-continuum");
  const flux = plot("se-flux");
  chart.inside.append(flux, base);
  const rows = all.map((reader) => {
    const glyph = make("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
    glyph.append(make("path", { d: SHAPES[reader.shape], fill: reader.color }));
    const cells = [make("td"), make("td"), make("td")];
    const words = make(
      "span",
      {},
      reader.name,
      ...(reader.note ? [make("small", {}, ` ${reader.note}`)] : []),
    );
    const box = checkbox({ label: words, ...shown(reader.name) });
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
  const headings = [...reported, `error in ${reported[1]}`].map((text) => make("th", { scope: "col" }, text));
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

  const left = make("div", { class: "se-left" }, box, legend(payload), verdict);
  const right = make("div", { class: "se-right" }, strip.node, chart.svg, table);
  const root = make(
    "div",
    { class: "se-root se-gap" },
    make("div", { class: "se-row", role: "group", "aria-label": "Places to try" }, ...places, again),
    make("div", { class: "se-two" }, left, right),
    make("div", { class: "se-panel se-four" }, ...faders.map(({ node }) => node)),
    voice.node,
  );
  el.append(root);

  let layout = { width: 0 };
  let noise = { draw: null };
  const domain = REACH.map((edge) => least + edge * size);
  const dots = (points, radius) =>
    points.map(([x, y]) => `M${tenth(plane.x(x))} ${tenth(plane.y(y))}h0`).join("");

  function arrange(width, ground) {
    const narrow = width < 620;
    root.classList.toggle("se-narrow", narrow);
    const side = Math.min(narrow ? width : Math.floor(width * 0.48), 420);
    const square = { width: side, height: side - 12, left: 48, right: 6, top: 6, bottom: 38 };
    const x = { domain, label: `abundance of ${reported[0]}`, count: 5 };
    plane.resize(square, x, { domain, label: `abundance of ${reported[1]}`, count: 5 });
    const inside = plane.svg;
    inside.classList.add("se-square");
    seen.setAttribute("d", dots(payload.seen));
    held.setAttribute("d", dots(payload.held));
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
    chart.resize({ ...sides, height: 180, top: 6, bottom: 38 }, across, {
      domain: [ground, 1],
      label: "log flux",
      count: 4,
    });
    layout = { width, ground, columns: chart.columns(world.wavelength) };
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
    // the axis moves in big steps only: a curve that sinks should be seen to sink
    const ground = Math.min(-2, Math.floor(logarithm(Math.min(...light)) - 0.2));
    if (layout.width !== root.clientWidth || layout.ground !== ground) arrange(root.clientWidth, ground);
    strip.draw(spectrum.flux);
    flux.setAttribute("d", chart.curve(layout.columns, spectrum.flux.map(logarithm)));
    base.setAttribute("d", chart.curve(layout.columns, light.map(logarithm), 4));

    const [px, py] = [plane.x(abundance[0]), plane.y(abundance[1])];
    truth.setAttribute("transform", `translate(${tenth(px)} ${tenth(py)})`);
    const { left, right, top, bottom } = plane.area;
    cross.setAttribute("d", `M${left} ${tenth(py)}H${right}M${tenth(px)} ${top}V${bottom}`);
    truthCells[0].textContent = number(abundance[0]);
    truthCells[1].textContent = number(abundance[1]);
    const answers = [];
    all.forEach((reader, i) => {
      const on = model.get("shown").includes(reader.name);
      const { line, head } = arrows[i];
      line.style.display = head.style.display = on ? "" : "none";
      rows[i].refresh();
      rows[i].node.classList.toggle("se-off", !on);
      if (!on) {
        for (const cell of rows[i].cells) cell.textContent = "";
        return;
      }
      const answer = reader.read(spectrum.flux);
      answers.push([reader, answer]);
      const inFrame = (value, low, high) => Math.min(high, Math.max(low, value));
      const x = tenth(inFrame(plane.x(answer[0]), left + 6, right - 6));
      const y = tenth(inFrame(plane.y(answer[1]), top + 6, bottom - 6));
      line.setAttribute("d", `M${tenth(px)} ${tenth(py)}L${x} ${y}`);
      head.setAttribute("transform", `translate(${x} ${y})`);
      const [first, second, third] = rows[i].cells;
      first.textContent = number(answer[0]);
      second.textContent = number(answer[1]);
      third.textContent = number(answer[1] - abundance[1]);
    });
    for (const control of faders) control.refresh();
    const said = judge(answers, abundance, payload);
    verdict.replaceChildren(...said);
    const readings = answers.map(([{ name }, [x, y]]) => `${name} reads ${number(x)} and ${number(y)}.`);
    const here = `${reported[0]} ${number(abundance[0])}, ${reported[1]} ${number(abundance[1])}.`;
    voice.say([here, ...readings, verdict.textContent].join(" "));
  }

  const stop = live(model, ["temperature", "noise", "abundance", "draw", "shown"], root, draw);
  return () => {
    stop();
    voice.stop();
  };
}

/** Compare the first shown reader's error with what is usual for it on spectra of the kind that it was trained on. */
export function judge(answers, abundance, { reported, middle }) {
  const [reader, answer] = answers.find(([{ name }]) => name === middle) ?? answers[0] ?? [];
  if (!reader) return ["No reader is shown."];
  const error = answer[1] - abundance[1];
  const words = [make("strong", {}, reader.name), ` reads ${reported[1]} `];
  const off =
    Math.abs(error) < 0.005 ? "right" : `${number(Math.abs(error))} too ${error < 0 ? "low" : "high"}`;
  words.push(make("strong", {}, off));
  if (reader.usual > 0) {
    const times = Math.abs(error) / reader.usual;
    const factor =
      times < 1 ? "less than" : times < 10 ? `${number(times, 1)} times` : `${Math.round(times)} times`;
    words.push(`: ${factor} its usual error in distribution, ${number(reader.usual, 3)}`);
  }
  return [...words, "."];
}

function legend(payload) {
  const entry = (className, text) => make("span", {}, make("i", { class: `se-key ${className}` }), text);
  const entries = [entry("se-key-seen", "training spectra"), entry("se-key-held", "held-out test spectra")];
  return make("div", { class: "se-legend" }, ...entries);
}

export default { render };
