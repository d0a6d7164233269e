// What every explorer shares: the forward model, the networks, and a few helpers for controls and charts.
//
// Python puts this text in front of each explorer's own file; the two together are one ES module without imports,
// and the same text runs in JupyterLab (through anywidget) and in the book's pages (through host.js).

// --- the forward model: the formulas of physics.py, in double precision -----------------------------------------

const HC_OVER_K = 1.438776877e7; // second radiation constant, nm K
const WIEN_X = 4.965114231744276; // root of x = 5 (1 - exp(-x))
const LOG_FLOOR = 1e-6; // of the continuum's peak, which is 1 here: flux below this is drawn at this

export const wienPeak = (temperature) => HC_OVER_K / WIEN_X / temperature;

/** Evenly spaced numbers, both ends included, rounded as NumPy rounds them. */
export function linspace(low, high, n) {
  const step = (high - low) / (n - 1);
  const grid = Float64Array.from({ length: n }, (_, i) => i * step + low);
  grid[n - 1] = high;
  return grid;
}

/** Black body with its peak at 1. */
export function continuum(wavelength, temperature) {
  const top = Math.expm1(WIEN_X);
  return wavelength.map((nm) => {
    const x = HC_OVER_K / (nm * temperature);
    return ((x / WIEN_X) ** 5 / Math.expm1(x)) * top;
  });
}

/** Lay out what does not change from spectrum to spectrum: the grid and the profile of every line. */
export function makeWorld(description) {
  const { wavelength_min, wavelength_max, n_bins, lines } = description;
  const wavelength = linspace(wavelength_min, wavelength_max, n_bins);
  const bell = ({ center, width }) => wavelength.map((nm) => Math.exp(-0.5 * ((nm - center) / width) ** 2));
  const profiles = lines.map((line) => line.profile ?? bell(line)); // measured ones come as numbers
  return {
    ...description,
    wavelength,
    profiles,
    index: new Map(lines.map(({ label }, k) => [label, k])),
  };
}

/** The factor that line k puts on the flux at each wavelength. */
export function lineFactor(world, k, abundance) {
  const depth = world.lines[k].strength * abundance;
  const factor = world.line_law === "beer_lambert" ? (g) => Math.exp(depth * g) : (g) => 1 + depth * g;
  return world.profiles[k].map(factor);
}

/** Noise-free flux; `abundances` maps a line's number to its abundance, absent lines are left out. */
export function meanFlux(world, temperature, abundances) {
  const flux = continuum(world.wavelength, temperature);
  for (const [k, abundance] of abundances) {
    if (abundance === 0) continue;
    const factor = lineFactor(world, k, abundance);
    for (let i = 0; i < flux.length; i++) flux[i] *= factor[i];
  }
  return flux;
}

/** A whole number's own uniform number in (0, 1): mulberry32, used as a counter so that Python can do the same. */
function uniform(draw, counter) {
  const a = (Math.imul(draw + 1, 0x9e3779b1) + Math.imul(counter, 0x6d2b79f5)) | 0;
  let t = Math.imul(a ^ (a >>> 15), a | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
}

/** Standard normal numbers, always the same for the same draw: noise that stands still while a slider moves. */
export function standardNormal(draw, n) {
  return Float64Array.from({ length: n }, (_, i) => {
    const radius = Math.sqrt(-2 * Math.log(uniform(draw, 2 * i + 1)));
    return radius * Math.cos(2 * Math.PI * uniform(draw, 2 * i + 2));
  });
}

/** Flux with noise in proportion to a power of it: 1, or 1/2 where photons are counted. */
export const addNoise = (flux, level, normal, power = 1) =>
  flux.map((value, i) => value + level * value ** power * normal[i]);

const logarithm = (value) => Math.log(Math.max(value, LOG_FLOOR));

// --- predictors: flux in, the two reported abundances out -------------------------------------------------------

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DIGIT = new Uint8Array(128);
for (let i = 0; i < 64; i++) DIGIT[DIGITS.charCodeAt(i)] = i;

/** Whole numbers from -2047 to 2047, two characters each (see packing.py); floats hold them exactly. */
export function unpack(text) {
  const values = new Float32Array(text.length / 2);
  for (let i = 0; i < values.length; i++) {
    values[i] = 64 * DIGIT[text.charCodeAt(2 * i)] + DIGIT[text.charCodeAt(2 * i + 1)] - 2048;
  }
  return values;
}

/** Undo pack_range of packing.py, as one flat array. */
export const unpackRange = ({ values, low, high }) =>
  Float64Array.from(unpack(values), (q) => low + ((q + 2047) / 4094) * (high - low));

// Abramowitz and Stegun 7.1.26, within 1.5e-7
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series =
    ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}

const ACTIVATIONS = {
  relu: (x) => Math.max(x, 0),
  tanh: Math.tanh,
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

function affine({ rows, columns, weights, scale, bias }, input) {
  const output = new Float64Array(rows);
  for (let r = 0, w = 0; r < rows; r++) {
    let a = 0,
      b = 0,
      c = 0,
      d = 0,
      i = 0; // four sums, so that additions need not wait for each other
    for (; i + 3 < columns; i += 4, w += 4) {
      a += weights[w] * input[i];
      b += weights[w + 1] * input[i + 1];
      c += weights[w + 2] * input[i + 2];
      d += weights[w + 3] * input[i + 3];
    }
    for (; i < columns; i++, w++) a += weights[w] * input[i];
    output[r] = (a + b + (c + d)) * scale[r] + bias[r];
  }
  return output;
}

/**
 * Make, from the description of a network (plain values, see predictors.py), a function from flux to the two reported
 * abundances. A linear map is a network without hidden layers.
 */
export function makePredictor({ transform, layers, activation }) {
  const { log, floor, mean, scale } = transform;
  const unpacked = layers.map((layer) => ({ ...layer, weights: unpack(layer.weights) }));
  const activate = ACTIVATIONS[activation];
  return (flux) => {
    let values = flux.map((y, i) => ((log ? Math.log(Math.max(y, floor)) : y) - (mean[i] ?? 0)) / scale);
    unpacked.forEach((layer, depth) => {
      values = affine(layer, values);
      if (depth < unpacked.length - 1) values = values.map(activate);
    });
    return [values[0], values[1]];
  };
}

// --- words ------------------------------------------------------------------------------------------------------

/** A number as it is read: a real minus sign, and no minus before zero. */
export function number(value, digits = 2) {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "\u2212");
}

export const kelvin = (value) => `${Math.round(value).toLocaleString("en-US")} K`;
export const percent = (value) => `${number(100 * value, value < 0.0995 ? 1 : 0)} %`;

/** How far a prediction is off, in words. */
export function judge(prediction, truth) {
  const error = Number((prediction - truth).toFixed(2));
  return error === 0 ? "right" : `${number(Math.abs(error))} too ${error < 0 ? "low" : "high"}`;
}

// --- the page ---------------------------------------------------------------------------------------------------

let made = 0;
const uniqueId = () => `se-${++made}-${Math.random().toString(36).slice(2, 7)}`; // two modules may share a page

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(
  "svg g path line rect circle image text tspan defs linearGradient stop clipPath polygon title".split(" "),
);

/** Make an element. Strings become text and never markup, so that a label shows as what it is. */
export function make(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// JupyterLab takes arrow keys for itself unless the focused element says otherwise.
const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };

/** A labeled range input bound to `get` and `set`; returns { node, refresh }. */
export function slider({ label, min, max, step, get, set, format, color }) {
  const id = uniqueId();
  const input = make("input", { type: "range", id, min, max, step, ...OWN_KEYS });
  const output = make("output", { for: id, "aria-hidden": "true" }); // the input itself says its value
  const name = make("span", { class: "se-name" }, label);
  const node = make("label", { class: "se-slider", for: id }, name, output, input);
  if (color) node.style.setProperty("--se-own", color);
  input.addEventListener("input", () => set(Number(input.value)));
  const refresh = () => {
    const value = get();
    if (Number(input.value) !== value) input.value = value;
    const text = format(value);
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
    input.style.setProperty("--se-done", `${(100 * (value - min)) / (max - min)}%`);
  };
  return { node, input, refresh, name };
}

/** A labeled list to choose from; `options` are groups of [value, text] pairs by the group's name, "" for none. */
export function chooser({ label, options, get, set, color }) {
  const id = uniqueId();
  const select = make("select", { id, ...OWN_KEYS }, ...Object.entries(options).flatMap(grouped));
  const node = make(
    "label",
    { class: "se-chooser", for: id },
    make("span", { class: "se-name" }, label),
    select,
  );
  if (color) node.style.setProperty("--se-own", color);
  select.addEventListener("change", () => set(select.value));
  const refresh = () => {
    select.value = get();
  };
  return { node, select, refresh };
}

function grouped([name, pairs]) {
  const options = pairs.map(([value, text]) => make("option", { value }, text));
  return name && options.length ? [make("optgroup", { label: name }, ...options)] : options;
}

export function button(text, onClick, attributes = {}) {
  const node = make("button", { type: "button", class: "se-button", ...OWN_KEYS, ...attributes }, text);
  node.addEventListener("click", onClick);
  return node;
}

export function checkbox({ label, get, set }) {
  const input = make("input", { type: "checkbox", ...OWN_KEYS });
  input.addEventListener("change", () => set(input.checked));
  const refresh = () => {
    input.checked = get();
  };
  return { node: make("label", { class: "se-check" }, input, label), refresh };
}

/** Text for screen readers, said when the figure has come to rest: not at each step of a slider. */
export function announcer(delay = 700) {
  const node = make("p", { class: "se-hidden", role: "status", "aria-live": "polite" });
  let timer = 0;
  let first = true; // what stands there at load is not news
  const say = (text) => {
    clearTimeout(timer);
    if (!first) timer = setTimeout(() => node.textContent !== text && (node.textContent = text), delay);
    first = false;
  };
  return { node, say, stop: () => clearTimeout(timer) };
}

/** Call `draw` at most once a frame, however many values change in it. */
export function perFrame(draw) {
  let waiting = 0;
  const ask = () => {
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      draw();
    });
  };
  ask.cancel = () => cancelAnimationFrame(waiting);
  return ask;
}

/** Run `draw` whenever one of `names` changes or the figure gets another width; returns the clean-up. */
export function live(model, names, root, draw) {
  const redraw = perFrame(draw);
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (root.clientWidth === width || root.clientWidth === 0) return;
    width = root.clientWidth;
    redraw();
  });
  observer.observe(root);
  for (const name of names) model.on(`change:${name}`, redraw);
  return () => {
    observer.disconnect();
    redraw.cancel();
    for (const name of names) model.off(`change:${name}`, redraw);
  };
}

/** Whether a figure is too narrow for two columns; its style is told. */
export function isNarrow(root) {
  const narrow = root.clientWidth < 620;
  root.classList.toggle("se-narrow", narrow);
  return narrow;
}

/** A figure of one plane: its controls above, the plane and its key on the left, what is said of it on the right. */
export function planeFigure({ className, controls, plane, key, beside, voice }) {
  const panel = make("div", { class: "se-panel se-choose" }, ...controls.map(({ node }) => node));
  const left = make("div", { class: "se-left" }, plane.svg, key);
  const columns = make("div", { class: "se-two" }, left, make("div", { class: "se-right" }, ...beside));
  return make("div", { class: `se-root ${className}` }, panel, columns, voice.node);
}

/** Where an arrow key leads, [x, y]; neither the page nor another cell of a notebook hears of it then. */
export function arrowOf(event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
  if (!way || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  event.preventDefault(); // no scrolling
  event.stopPropagation();
  return way;
}

/** Write a value where Python (or the stand-in of the page) can see it. */
export function write(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

// --- charts -----------------------------------------------------------------------------------------------------

/** Round steps of 1, 2 or 5 times a power of ten: about `count` of them between `low` and `high`. */
export function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= raw) ?? 10);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

/** Ends of an axis that holds all curves, at whole numbers: it moves seldom, so a curve that sinks is seen to sink. */
export function wholeLevels(...curves) {
  let [low, high] = [-2, 1];
  for (const curve of curves) {
    for (const value of curve) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return [Math.floor(low), Math.ceil(high)];
}

const decades = (low, high) => {
  const found = [];
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) found.push(10 ** power);
  return found;
};

/** A picture with two axes. `resize` gives it a place and scales; `x` and `y` turn values into pixels. */
export class Chart {
  constructor(description) {
    this.frame = make("g", { class: "se-frame" });
    this.clip = uniqueId();
    this.window = make("rect");
    this.inside = make("g", { "clip-path": `url(#${this.clip})` });
    this.over = make("g");
    this.title = make("title", {}, description);
    const clip = make("defs", {}, make("clipPath", { id: this.clip }, this.window));
    this.svg = make("svg", { role: "img", "aria-label": description, class: "se-chart" });
    this.svg.append(clip, this.frame, this.inside, this.over);
  }

  /** `box`: width, height and margins in px; `x`, `y`: { domain, label, log, count, format }. */
  resize(box, x, y) {
    const { width, height, left = 44, right = 18, top = 8, bottom = 34 } = box;
    this.area = { left, right: width - right, top, bottom: height - bottom };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    for (const [name, value] of Object.entries({
      x: left,
      y: top,
      width: width - right - left,
      height: height - bottom - top,
    })) {
      this.window.setAttribute(name, value);
    }
    const line = ({ domain: [low, high], log }, from, to) => {
      const f = log ? Math.log10 : (v) => v;
      const slope = (to - from) / (f(high) - f(low));
      const scale = (value) => from + slope * (f(value) - f(low));
      scale.invert = (pixel) =>
        log ? 10 ** ((pixel - from) / slope + f(low)) : (pixel - from) / slope + low;
      return scale;
    };
    this.x = line(x, this.area.left, this.area.right);
    this.y = line(y, this.area.bottom, this.area.top);
    this.drawFrame(x, y);
  }

  /** A place for a plane of two abundances: the same ends on both axes, and what these are called. */
  square(width, height, domain, labels) {
    const [x, y] = labels.map((label) => ({ domain, label }));
    this.resize({ width, height, left: 48, right: 6, top: 6, bottom: 38 }, x, y);
  }

  /** A point as paths and transforms write it. */
  at([x, y]) {
    return `${tenth(this.x(x))} ${tenth(this.y(y))}`;
  }

  /** Points as one path: dots where its stroke is round. */
  dots(points) {
    return points.map((point) => `M${this.at(point)}h0`).join("");
  }

  drawFrame(x, y) {
    const { left, right, top, bottom } = this.area;
    const parts = [make("path", { class: "se-axis", d: `M${left} ${top}V${bottom}H${right}` })];
    const write = (axis) =>
      axis.format ?? ((v) => (axis.log ? `10${superscript(Math.round(Math.log10(v)))}` : plain(v)));
    const marks = (axis) => (axis.log ? decades(...axis.domain) : ticks(...axis.domain, axis.count ?? 5));
    if (x.label !== undefined) {
      for (const value of marks(x)) {
        const place = this.x(value);
        parts.push(make("path", { class: "se-axis", d: `M${place} ${bottom}v4` }));
        parts.push(
          make(
            "text",
            { class: "se-tick", x: place, y: bottom + 16, "text-anchor": "middle" },
            write(x)(value),
          ),
        );
      }
      const place = { x: (left + right) / 2, y: bottom + 32, "text-anchor": "middle", class: "se-axis-name" };
      parts.push(make("text", place, shortened(x.label, right - left)));
    }
    for (const value of marks(y)) {
      const place = this.y(value);
      parts.push(make("path", { class: "se-axis", d: `M${left} ${place}h-4` }));
      parts.push(
        make("text", { class: "se-tick", x: left - 7, y: place + 4, "text-anchor": "end" }, write(y)(value)),
      );
    }
    const middle = (top + bottom) / 2;
    const turned = {
      x: 12,
      y: middle,
      transform: `rotate(-90 12 ${middle})`,
      "text-anchor": "middle",
      class: "se-axis-name",
    };
    parts.push(make("text", turned, shortened(y.label, bottom - top)));
    this.frame.replaceChildren(...parts);
  }

  /** Text that starts each point of a curve over `values`; made once a layout, since only y changes afterwards. */
  columns(values) {
    return Array.from(values, (value, i) => `${i ? "L" : "M"}${tenth(this.x(value))} `);
  }

  /** The curve through `columns` at heights `values`, every `stride`-th point of it. */
  curve(columns, values, stride = 1) {
    let text = "";
    const { y } = this;
    for (let i = 0; i < columns.length; i += stride) text += columns[i] + tenth(y(values[i]));
    return text;
  }

  /** The same, with gaps where `keep` says no. */
  pieces(columns, values, keep, stride = 1) {
    let text = "";
    let pen = "M";
    for (let i = 0; i < columns.length; i += stride) {
      if (keep(i)) text += pen + columns[i].slice(1) + tenth(this.y(values[i]));
      pen = keep(i) ? "L" : "M";
    }
    return text;
  }
}

/** A label that fits a length in px, cut where it would not. */
const shortened = (text, length) =>
  text.length * 7 > length ? `${text.slice(0, Math.floor(length / 7) - 1)}…` : text;

const tenth = (value) => Math.round(value * 10) / 10;
const plain = (value) => String(Math.round(value * 1e6) / 1e6).replace("-", "\u2212");
const superscript = (power) => String(power).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");

export const plot = (className, attributes = {}) =>
  make("path", { class: className, fill: "none", ...attributes });

// --- light ------------------------------------------------------------------------------------------------------

export const VISIBLE = [380, 750];

const UNSEEN = [0.3, 0.31, 0.35];

/** Roughly the color of light of one wavelength, as red, green and blue from 0 to 1; gray where the eye sees none. */
export function lightColor(nm) {
  const [low, high] = VISIBLE;
  if (nm <= low || nm >= high) return UNSEEN;
  const anchors = [
    [380, 0.36, 0, 0.52],
    [420, 0.42, 0, 0.9],
    [450, 0.12, 0.2, 1],
    [485, 0, 0.75, 0.95],
    [510, 0, 0.85, 0.3],
    [545, 0.45, 0.9, 0],
    [580, 1, 0.9, 0],
    [610, 1, 0.55, 0],
    [650, 0.95, 0.08, 0.02],
    [750, 0.5, 0, 0],
  ];
  const after = Math.max(
    1,
    anchors.findIndex(([at]) => at >= nm),
  );
  const [[a, ...from], [b, ...to]] = [anchors[after - 1], anchors[after]];
  const seen = Math.min(1, (nm - low) / 25, (high - nm) / 50); // the eye's sensitivity fades out, it has no edge
  return from.map(
    (value, i) => UNSEEN[i] + seen * (value + ((nm - a) / (b - a)) * (to[i] - value) - UNSEEN[i]),
  );
}

const css = (color) => `rgb(${color.map((value) => Math.round(255 * value)).join(" ")})`;

/** A gradient over the visible range, to fill the ground under a curve with. */
export function rainbow(id) {
  const [low, high] = VISIBLE;
  const gradient = make("linearGradient", { id, gradientUnits: "userSpaceOnUse", y1: 0, y2: 0 });
  for (let nm = low; nm <= high; nm += 10) {
    const fade = Math.min(1, (nm - low) / 30, (high - nm) / 60);
    const stop = {
      offset: (nm - low) / (high - low),
      "stop-color": css(lightColor(nm)),
      "stop-opacity": fade,
    };
    gradient.append(make("stop", stop));
  }
  return gradient;
}

/** The spectrum as a spectrograph shows it: one column of light for each wavelength, as bright as the flux. */
export class LightStrip {
  constructor(wavelength) {
    this.node = make("canvas", {
      class: "se-strip",
      width: wavelength.length,
      height: 1,
      "aria-hidden": "true",
    });
    this.context = this.node.getContext("2d");
    this.image = this.context.createImageData(wavelength.length, 1);
    this.colors = Array.from(wavelength, (nm) => lightColor(nm).map((value) => 255 * value));
  }

  draw(flux) {
    const { data } = this.image;
    for (let i = 0; i < flux.length; i++) {
      const bright = Math.min(1, Math.max(0, flux[i]));
      const [red, green, blue] = this.colors[i];
      data[4 * i] = red * bright;
      data[4 * i + 1] = green * bright;
      data[4 * i + 2] = blue * bright;
      data[4 * i + 3] = 255;
    }
    this.context.putImageData(this.image, 0, 0);
  }
}
