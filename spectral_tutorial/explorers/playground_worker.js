// A run of the playground, in a worker: draws spectra, trains a few networks side by side, and says how far they are.
//
// A classic script without imports, since a page over file:// may start no other worker. The page starts it with what
// is to be trained, and asks for each frame: where nobody asks, as in a hidden tab, nothing runs. terminate() ends it.

const BATCH = 64;
const SIDE = 9; // cells along a line: number 0, in which the line is absent, and eight that divide its range
const MAP = 16; // cells of the error map along a line
const PER_CELL = 4; // spectra in each of them
const JUDGED = 512; // spectra like the training ones
const WEIGHT_DECAY = 1e-4;
const PURPOSE = { train: 0, known: 1, map: 2, weights: 16, order: 1024 }; // names streams of random numbers
const EPOCHS = 100000; // more than any run has

/** Steps at which a run is looked at: some evenly spaced in their logarithm, some in time. */
function checkpoints(steps) {
  const found = new Set([0]);
  for (let i = 0; i <= 16; i++) found.add(Math.round(Math.exp((i / 16) * Math.log(steps)))).add(Math.round((steps * i) / 16));
  return [...found].sort((a, b) => a - b);
}

/** Load the arithmetic (playground.wasm), and tell it the world: the grid and the two lines. */
async function open(bytes, { n_bins, wavelength_min, wavelength_max, line_law, lines }) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const kernels = instance.exports;
  kernels.setGrid(n_bins, wavelength_min, wavelength_max, line_law === "beer_lambert");
  lines.forEach(({ center, width, strength }, k) => kernels.setLine(k, center, width, strength));
  return kernels;
}

/**
 * What training may contain, as a function that draws from it: two abundances, and how many draws of noise they have.
 * As in the book, neither line, the first alone and the second alone are equally frequent, as far as they are painted;
 * `share` percent of the spectra hold both lines. Composed ones are products of two spectra with one line each, with
 * the noise of both, divided by the second's continuum (the book's compose() takes that from a star without lines).
 */
function drawTraining(kernels, { world, support, settings }) {
  const [low, high] = world.ranges.abundance;
  const painted = [...support.keys()].filter((i) => support[i]).map((i) => [i % SIDE, Math.floor(i / SIDE)]);
  const [none, first, second, both] = [[0, 0], [1, 0], [0, 1], [1, 1]].map(([a, b]) =>
    painted.filter(([x, y]) => x > 0 === a > 0 && y > 0 === b > 0),
  );
  const alone = [none, first, second].filter(({ length }) => length);
  const composed = settings.composed && both.length === 0 && first.length > 0 && second.length > 0;
  const together = both.length || composed ? settings.share / 100 : 0;
  const share = alone.length ? together : 1;
  const pick = (list) => list[Math.floor(kernels.uniform() * list.length)];
  const abundance = (cell) => (cell ? low + ((cell - 1 + kernels.uniform()) / (SIDE - 1)) * (high - low) : 0);
  return () => {
    const made = kernels.uniform() < share;
    if (made && composed) return { at: [abundance(pick(first)[0]), abundance(pick(second)[1])], draws: 2 };
    return { at: pick(made ? both : pick(alone)).map(abundance), draws: 1 };
  };
}

/** Any place in the plane: cell by cell of the error map, row by row. */
function everywhere(kernels, { world }) {
  const [low, high] = world.ranges.abundance;
  return (i) => {
    const cell = Math.floor(i / PER_CELL);
    const along = (number) => low + ((number + kernels.uniform()) / MAP) * (high - low);
    return { at: [along(cell % MAP), along(Math.floor(cell / MAP))], draws: 1 };
  };
}

/** Draw n spectra whose abundances `place` says: where they and their truth lie in memory, and the mean bound. */
function draw(kernels, { world, settings }, n, purpose, place) {
  const { temperature, noise } = world.ranges;
  const rows = kernels.room(4 * world.n_bins * n);
  const truth = kernels.room(8 * n);
  const abundances = new Float32Array(2 * n);
  let bound = 0;
  for (let i = 0; i < n; i++) {
    const { at, draws } = place(i);
    const kelvin = temperature[0] + kernels.uniform() * (temperature[1] - temperature[0]);
    const level = settings.noise * kernels.logUniform(...noise);
    kernels.observe(rows + 4 * world.n_bins * i, kelvin, ...at, level, draws, settings.log);
    if (purpose !== PURPOSE.train) bound += kernels.bound(kelvin, ...at, level) / n;
    abundances.set(at, 2 * i);
  }
  new Float32Array(kernels.memory.buffer, truth, 2 * n).set(abundances); // memory may have moved while it grew
  return { n, rows, truth, bound };
}

/** Draw all spectra of a run and standardize them by the training ones. */
function drawAll(kernels, task) {
  const sets = {};
  const wanted = [
    ["train", task.settings.spectra, drawTraining],
    ["known", JUDGED, drawTraining],
    ["map", MAP * MAP * PER_CELL, everywhere],
  ];
  for (const [name, n, make] of wanted) {
    kernels.restart(task.settings.seed, PURPOSE[name]);
    sets[name] = draw(kernels, task, n, PURPOSE[name], make(kernels, task));
  }
  const means = kernels.room(8 * task.world.n_bins);
  const deviation = kernels.fit(sets.train.rows, sets.train.n, means);
  for (const { rows, n } of Object.values(sets)) kernels.standardize(rows, n, means, deviation);
  return sets;
}

/** Squared errors of a network in the second abundance, one a spectrum. */
function errors(kernels, network, { n, rows, truth }, predictions) {
  kernels.predict(network, rows, n, predictions);
  const [given, right] = [new Float32Array(kernels.memory.buffer, predictions, 8 * n), new Float32Array(kernels.memory.buffer, truth, 2 * n)];
  return Float64Array.from({ length: n }, (_, i) => (given[8 * i + 1] - right[2 * i + 1]) ** 2);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Look at all networks: their mean squared errors, and the map of the median network's. */
function look(kernels, networks, { known, map }, predictions) {
  const maps = networks.map((network) => errors(kernels, network, map, predictions));
  const cell = (values, i) => mean(values.subarray(PER_CELL * i, PER_CELL * (i + 1)));
  return {
    known: networks.map((network) => mean(errors(kernels, network, known, predictions))),
    whole: maps.map(mean),
    map: Array.from({ length: MAP * MAP }, (_, i) => median(maps.map((values) => cell(values, i)))),
  };
}

/** A run, one frame at a time; `now` tells milliseconds. */
function* run(kernels, task, now) {
  const { steps, rate, hidden, seeds, seed, spectra } = task.settings;
  const start = now();
  const sets = drawAll(kernels, task);
  const networks = Array.from({ length: seeds }, (_, i) => {
    kernels.restart(seed, PURPOSE.weights + i);
    return kernels.makeNetwork(hidden, hidden / 2);
  });
  const orders = networks.map(() => kernels.room(4 * spectra));
  const predictions = kernels.room(32 * sets.map.n);
  const perEpoch = spectra / BATCH;
  const work = 6 * BATCH * (task.world.n_bins * hidden + (hidden * hidden) / 2 + hidden); // of a step, in products and sums
  const marks = checkpoints(steps);
  let training = 0;
  for (let mark = 0; mark < marks.length; mark++) {
    const since = now();
    networks.forEach((network, i) => {
      for (let step = mark ? marks[mark - 1] : 0; step < marks[mark]; step++) {
        if (step % perEpoch === 0) {
          kernels.restart(seed, PURPOSE.order + EPOCHS * i + step / perEpoch);
          kernels.shuffle(orders[i], spectra);
        }
        kernels.learn(network, sets.train.rows, sets.train.truth, orders[i] + 4 * BATCH * (step % perEpoch), rate, WEIGHT_DECAY);
      }
    });
    training += now() - since;
    yield {
      step: marks[mark],
      ...look(kernels, networks, sets, predictions),
      bound: sets.map.bound,
      gigaflops: training ? (work * seeds * marks[mark]) / training / 1e6 : 0,
      seconds: (now() - start) / 1000,
      megabytes: kernels.memory.buffer.byteLength / 1e6,
      done: mark === marks.length - 1,
    };
  }
}

let frames = null; // promised: what asks before the arithmetic is loaded waits for it
self.onmessage = async ({ data: { bytes, task } }) => {
  if (task) frames = open(bytes, task.world).then((kernels) => run(kernels, task, () => performance.now()));
  const { value } = task ? {} : (await frames).next();
  if (value) self.postMessage(value);
};
