// ErrorMap: the error over the plane of two abundances, for one way of training after the other.

/** Undo packing.py's quantization: errors (run, component, y, x) as one flat array. */
export const unpackMaps = (maps) => unpackRange(maps).map((value) => 10 ** value);

/** Where a run's map is largest: its place in the grid and the value there. */
export function worst(maps, start, size) {
  let best = 0;
  for (let i = 1; i < size * size; i++) if (maps[start + i] > maps[start + best]) best = i;
  return { x: best % size, y: Math.floor(best / size), value: maps[start + best] };
}

/** An error as it is read: two digits that count. */
export const error = (value) => number(value, Math.min(6, Math.max(1, 1 - Math.floor(Math.log10(value)))));

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function render({ model, el }) {
  const payload = model.get("payload");
  const { reported, grid, runs, label } = payload;
  const maps = unpackMaps(payload.maps);
  const size = grid.length;
  const shades = payload.colors.map(rgb);
  const ends = [10 ** payload.maps.low, 10 ** payload.maps.high];
  const [low, high] = ends.map(Math.log10);
  const voice = announcer();

  const fader = slider({
    label,
    min: 0,
    max: runs.length - 1,
    step: 1,
    format: (k) => runs[k].title,
    get: () => model.get("run"),
    set: (value) => write(model, "run", value),
  });
  const choice = chooser({
    label: "Error of",
    options: { "": reported.map(({ label, phrase }) => [label, phrase]) },
    get: () => model.get("component"),
    set: (value) => write(model, "component", value),
  });

  const plane = new Chart(`Map of the error over the abundances of ${reported[0].phrase} and ${reported[1].phrase}`);
  const canvas = make("canvas", { width: size, height: size });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(size, size);
  const image = make("image", { class: "se-cells", preserveAspectRatio: "none" });
  const marks = [plot("se-halo"), plot("se-shown")];
  plane.inside.append(image, ...marks);
  const scale = colorScale(payload.colors, ends);
  const words = make("p", { class: "se-verdict" });
  const key = make("div", { class: "se-legend" }, make("span", {}, make("i", { class: "se-key se-key-seen" }), "combinations in training"));
  const beside = [scale.node, words];
  const root = planeFigure({ className: "se-map", controls: [fader, choice], plane, key, beside, voice });
  el.append(root);

  let width = 0;
  function arrange() {
    width = root.clientWidth;
    const narrow = isNarrow(root);
    const side = Math.min(width, 400);
    const half = (grid[1] - grid[0]) / 2; // cells lie around their points
    const domain = [grid[0] - half, grid[size - 1] + half];
    const labels = reported.map(({ name }) => `${name}, abundance`);
    plane.square(side, narrow ? Math.min(side, 330) : side - 10, domain, labels);
    const { left, right, top, bottom } = plane.area;
    for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top }))
      image.setAttribute(name, value);
  }

  function paint(start) {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const share = (Math.log10(maps[start + y * size + x]) - low) / (high - low);
        const place = Math.min(shades.length - 1, Math.max(0, Math.floor(share * shades.length)));
        const at = 4 * ((size - 1 - y) * size + x);
        pixels.data.set(shades[place], at);
        pixels.data[at + 3] = 255;
      }
    }
    context.putImageData(pixels, 0, 0);
    image.setAttribute("href", canvas.toDataURL());
  }

  function draw() {
    if (root.clientWidth === 0) return;
    if (width !== root.clientWidth) arrange();
    const run = model.get("run");
    const component = reported.findIndex(({ label }) => label === model.get("component"));
    const start = (run * 2 + component) * size * size;
    paint(start);
    const dots = plane.dots(runs[run].shown);
    for (const mark of marks) mark.setAttribute("d", dots);
    fader.refresh();
    choice.refresh();
    const { phrase } = reported[component];
    scale.name.textContent = `mean squared error of ${phrase}`;
    const [known, held] = runs[run].mse[component];
    const times = held / known;
    words.replaceChildren(
      `${label}: ${runs[run].title}. The mean squared error of ${phrase} is `,
      make("strong", {}, error(known)),
      " on stars of the training kind (ID) and ",
      make("strong", {}, error(held)),
      ` on stars with both lines (OOD): ${times < 9.95 ? number(times, 1) : Math.round(times)} times the error.`,
    );
    const top = worst(maps, start, size);
    const place = `${reported[0].phrase} ${number(grid[top.x])}, ${reported[1].phrase} ${number(grid[top.y])}`;
    voice.say(`${words.textContent} On the map it is largest at ${place}: ${error(top.value)}.`);
  }

  const stop = live(model, ["run", "component"], root, draw);
  return () => {
    stop();
    voice.stop();
  };
}

/** What the colors mean: a bar from the least to the largest error, with a mark at each power of ten. */
function colorScale(shades, [low, high]) {
  const place = (value) => `${(100 * Math.log10(value / low)) / Math.log10(high / low)}%`;
  const bar = make("i", { style: `background: linear-gradient(90deg, ${shades.join(", ")})` });
  const marks = decades(low, high).map((value) => make("span", { style: `left: ${place(value)}` }, plain(value)));
  const name = make("div", { class: "se-name" });
  return { node: make("div", { class: "se-scale" }, name, bar, make("div", {}, ...marks)), name };
}

export default { render };
