// The playground's pictures: the error map, the losses, the path of the errors, and one picture of all three to keep.

const ERRORS = [1e-4, 1]; // mean squared errors that the map's colors tell apart
const MAP_COLORS = [
  [68, 1, 84],
  [65, 68, 135],
  [42, 120, 142],
  [34, 168, 132],
  [122, 209, 81],
  [253, 231, 37],
]; // dark where the error is small, also for those who cannot tell red from green

/** The color of an error, on a logarithmic scale. */
export function errorColor(error) {
  const [low, high] = ERRORS.map(Math.log10);
  const share = Math.min(1, Math.max(0, (Math.log10(error) - low) / (high - low)));
  const at = (Number.isNaN(share) ? 1 : share) * (MAP_COLORS.length - 1);
  const before = Math.min(Math.floor(at), MAP_COLORS.length - 2);
  const mix = MAP_COLORS[before].map((from, i) =>
    Math.round(from + (at - before) * (MAP_COLORS[before + 1][i] - from)),
  );
  return `rgb(${mix.join(" ")})`;
}

/** Rectangles over a square of `side` by `side` cells, as one path; `cells` counts row by row from below. */
function outlines(chart, side, cells, [low, high]) {
  const edge = (k) => low + (k / side) * (high - low);
  return cells
    .map((i) => {
      const [x, y] = [i % side, Math.floor(i / side)];
      const [left, right] = [x, x + 1].map((k) => tenth(chart.x(edge(k))));
      const [bottom, top] = [y, y + 1].map((k) => tenth(chart.y(edge(k))));
      return `M${left} ${bottom}H${right}V${top}H${left}Z`;
    })
    .join("");
}

/** Error over the plane: colors, the painted cells as frames, a guess as dashed frames, and a scale. */
export class ErrorMap {
  constructor(names, range) {
    this.names = names;
    this.range = range;
    this.chart = new Chart(`Squared error of the ${names[1]} over the plane of both lines`);
    this.cells = make("g");
    this.painted = plot("sp-outline");
    this.guess = plot("sp-guessed");
    this.scale = make("g");
    this.chart.inside.append(this.cells, this.painted, this.guess);
    this.chart.over.append(this.scale);
  }

  resize(width) {
    const side = Math.min(width - 58, 332);
    const box = { width: side + 58, height: side, left: 48, right: 58, top: 6, bottom: 48 };
    box.height = box.width - box.left - box.right + box.top + box.bottom;
    const axis = (label) => ({ domain: this.range, label, count: 4 });
    this.chart.resize(box, axis(this.names[0]), axis(this.names[1]));
    const { right, top, bottom } = this.chart.area;
    const parts = [];
    const steps = 24;
    for (let k = 0; k < steps; k++) {
      const error = 10 ** (-4 + (4 * (k + 0.5)) / steps);
      const y = bottom - ((bottom - top) * (k + 1)) / steps;
      const size = { x: right + 10, y: tenth(y), width: 10, height: tenth((bottom - top) / steps + 0.6) };
      parts.push(make("rect", { ...size, fill: errorColor(error) }));
    }
    for (let power = -4; power <= 0; power++) {
      const y = tenth(bottom - ((bottom - top) * (power + 4)) / 4 + 4);
      parts.push(make("text", { class: "se-tick", x: right + 24, y }, power ? `10${superscript(power)}` : "1"));
    }
    this.scale.replaceChildren(...parts);
    this.shown = undefined;
    return this.chart.area;
  }

  draw(map, painted, guess) {
    this.painted.setAttribute("d", outlines(this.chart, SIDE - 1, painted, this.range));
    this.guess.setAttribute("d", outlines(this.chart, 4, guess, this.range));
    if (this.shown === map) return;
    this.shown = map;
    const side = Math.sqrt(map.length);
    const known = this.cells.childNodes.length === map.length ? this.cells.childNodes : map.map(() => make("path"));
    map.forEach((error, i) => {
      known[i].setAttribute("d", outlines(this.chart, side, [i], this.range));
      known[i].setAttribute("fill", errorColor(error));
      known[i].setAttribute("stroke", errorColor(error)); // no seams
    });
    if (known !== this.cells.childNodes) this.cells.replaceChildren(...known);
  }
}

const positive = (value) => Math.min(1e3, Math.max(1e-9, value));

/** A curve of one seed over frames, where both numbers can be drawn. */
function way(chart, frames, at) {
  const points = frames.map(at).filter((point) => point.every((value) => Number.isFinite(value) && value > 0));
  return points.map(([x, y], k) => `${k ? "L" : "M"}${chart.at([x, positive(y)])}`).join("");
}

/** Losses of all seeds over steps: in distribution, over the whole plane, and the floor. */
export class Losses {
  constructor(name) {
    this.chart = new Chart(`Mean squared error of the ${name} over training steps, every seed`);
    this.known = plot("sp-way se-val");
    this.whole = plot("sp-way se-test");
    this.floor = plot("se-continuum");
    this.chart.inside.append(this.floor, this.known, this.whole);
  }

  resize(width, steps) {
    const box = { width, height: 230, left: 48, right: 10, top: 8, bottom: 38 };
    const x = { domain: [1, steps], log: true, label: "training step" };
    this.chart.resize(box, x, { domain: ERRORS, log: true, label: "mean squared error" });
  }

  draw(frames) {
    const seeds = frames.length ? [...frames[0].known.keys()] : [];
    for (const split of ["known", "whole"]) {
      const text = seeds.map((i) => way(this.chart, frames, (frame) => [frame.step, frame[split][i]])).join("");
      this[split].setAttribute("d", text);
    }
    const { left, right } = this.chart.area;
    const bound = frames.at(-1)?.bound;
    this.floor.setAttribute("d", bound ? `M${left} ${tenth(this.chart.y(positive(bound)))}H${right}` : "");
  }
}

/** The path of every seed in the plane of the two errors; on the diagonal there is no gap. */
export class Path {
  constructor(name) {
    this.chart = new Chart(`Path of both errors of the ${name}: over the whole plane against in distribution`);
    this.equal = plot("se-continuum");
    this.ways = plot("sp-way se-test");
    this.ends = plot("sp-ends");
    this.chart.inside.append(this.equal, this.ways, this.ends);
  }

  resize(width) {
    const box = { width, height: 230, left: 48, right: 10, top: 8, bottom: 38 };
    const axis = (label) => ({ domain: ERRORS, log: true, label });
    this.chart.resize(box, axis("error in distribution"), axis("error over the plane"));
    const [low, high] = ERRORS.map((value) => this.chart.at([value, value]));
    this.equal.setAttribute("d", `M${low}L${high}`);
  }

  draw(frames) {
    const seeds = frames.length ? [...frames[0].known.keys()] : [];
    const at = (i) => (frame) => [positive(frame.known[i]), positive(frame.whole[i])];
    this.ways.setAttribute("d", seeds.map((i) => way(this.chart, frames, at(i))).join(""));
    const ends = seeds.map((i) => way(this.chart, frames.slice(-1), at(i))).filter(Boolean);
    this.ends.setAttribute("d", ends.map((start) => `${start}h0`).join(""));
  }
}

// --- one picture to keep ------------------------------------------------------------------------------------------

const LOOKS = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linecap"]
  .concat("stroke-linejoin", "font-family", "font-size", "text-anchor");

/** A copy of a chart that needs no style sheet. */
function frozen(svg) {
  const copy = svg.cloneNode(true);
  const [from, to] = [svg, copy].map((root) => [root, ...root.querySelectorAll("*")]);
  from.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const name of LOOKS) to[i].style.setProperty(name, style.getPropertyValue(name));
  });
  return copy;
}

/** Charts side by side with words below, as a PNG file that the browser saves. */
export async function savePicture(charts, words, ground, color) {
  const gap = 16;
  const sizes = charts.map((svg) => [Number(svg.getAttribute("width")), Number(svg.getAttribute("height"))]);
  const width = sizes.reduce((sum, [own]) => sum + own + gap, gap);
  const height = Math.max(...sizes.map(([, own]) => own)) + 3 * gap + 20 * words.length;
  const whole = make("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  whole.append(make("rect", { width, height, fill: ground }));
  let x = gap;
  charts.forEach((svg, i) => {
    const copy = frozen(svg);
    copy.setAttribute("x", x);
    copy.setAttribute("y", gap);
    whole.append(copy);
    x += sizes[i][0] + gap;
  });
  words.forEach((line, i) => {
    const style = { x: gap, y: height - gap - 20 * (words.length - 1 - i), "font-size": 14, "font-family": "sans-serif" };
    whole.append(make("text", { ...style, fill: color }, line));
  });
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(whole))}`;
  await picture.decode();
  const canvas = make("canvas", { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(picture, 0, 0, 2 * width, 2 * height);
  const content = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const link = make("a", { href: URL.createObjectURL(content), download: "playground.png" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
