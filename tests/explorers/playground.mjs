// Compute in Node what the playground computes in a page: `node playground.mjs FOLDER INPUT`, JSON in, JSON out.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const [, , folder, input] = process.argv;
const { world, calls } = JSON.parse(readFileSync(input, "utf8"));
const text = (name) => readFileSync(join(folder, name), "utf8");
const bytes = readFileSync(join(folder, "playground.wasm"));
globalThis.self = {};
const worker = new Function(`${text("playground_worker.js")}\nreturn { open, run, drawTraining };`)();
const state = await import(`data:text/javascript,${encodeURIComponent(text("playground_state.js"))}`);
const kernels = () => worker.open(bytes, world);
const floats = (k, place, n) => Array.from(new Float32Array(k.memory.buffer, place, n));

/** Write or read the weights of a layer as torch has them: (out, in), then the bias. */
function each(k, network, shapes, visit) {
  const memory = new DataView(k.memory.buffer);
  shapes.forEach(([outputs, inputs], depth) => {
    for (let row = 0; row <= inputs; row++) {
      for (let column = 0; column < outputs; column++) {
        visit(memory, k.parameter(network, depth, row, column), depth, row, column, inputs);
      }
    }
  });
}

const doing = {
  async means({ places }) {
    const k = await kernels();
    return places.map((at) => Array.from(new Float64Array(k.memory.buffer, k.meanFlux(...at), world.n_bins)));
  },
  async bounds({ places }) {
    const k = await kernels();
    return places.map((at) => k.bound(...at));
  },
  async seen({ places }) {
    // what a network reads, without noise: fitted to these spectra and standardized
    const k = await kernels();
    const rows = k.room(4 * world.n_bins * places.length);
    places.forEach(([kelvin, ...at], i) => k.observe(rows + 4 * world.n_bins * i, kelvin, ...at, 0, 1, 1));
    const means = k.room(8 * world.n_bins);
    k.standardize(rows, places.length, means, k.fit(rows, places.length, means));
    return floats(k, rows, world.n_bins * places.length);
  },
  async normals({ n }) {
    const k = await kernels();
    const rows = k.room(4 * world.n_bins * n);
    k.restart(1, 0);
    for (let i = 0; i < n; i++) k.observe(rows + 4 * world.n_bins * i, 5000, 0, 0, 0.1, 1, 0);
    const flux = new Float64Array(k.memory.buffer, k.meanFlux(5000, 0, 0), world.n_bins);
    return floats(k, rows, world.n_bins * n).map((value, i) => (value / flux[i % world.n_bins] - 1) / 0.1);
  },
  async learn({ shapes, weights, spectra, truth, batches, rate, decay }) {
    const k = await kernels();
    const network = k.makeNetwork(shapes[0][0], shapes[1][0]);
    const place = (values, type) => {
      const at = k.room(4 * values.length);
      new type(k.memory.buffer, at, values.length).set(values);
      return at;
    };
    const [rows, right, order] = [place(spectra, Float32Array), place(truth, Float32Array), place(batches.flat(), Int32Array)];
    const value = (depth, row, column, inputs) =>
      row === inputs ? weights[depth].bias[column] : weights[depth].weight[column][row];
    each(k, network, shapes, (memory, at, ...of) => memory.setFloat32(at, value(...of), true));
    const losses = batches.map((_, i) => k.learn(network, rows, right, order + 256 * i, rate, decay));
    const learned = shapes.map(([outputs, inputs]) => ({
      weight: Array.from({ length: outputs }, () => new Array(inputs)),
      bias: new Array(outputs),
    }));
    each(k, network, shapes, (memory, at, depth, row, column, inputs) => {
      const found = memory.getFloat32(at, true);
      if (row === inputs) learned[depth].bias[column] = found;
      else learned[depth].weight[column][row] = found;
    });
    return { losses, learned };
  },
  async run({ task }) {
    const busy = () => (({ user, system }) => (user + system) / 1000)(process.cpuUsage()); // ms that nobody else can take
    const frames = [...worker.run(await kernels(), { world, ...task }, busy)];
    const digits = createHash("sha256");
    for (const { step, known, whole, map, bound } of frames) {
      digits.update(Float64Array.from([step, ...known, ...whole, ...map, bound]));
    }
    return { digits: digits.digest("hex"), first: frames[0], ...frames.at(-1) };
  },
  async finished({ task }) {
    // what playground_run.json holds: a run in four digits
    const frames = [...worker.run(await kernels(), { world, ...task }, () => 0)];
    const short = (value) => (Array.isArray(value) ? value.map(short) : Number(value.toPrecision(4)));
    const [step, bound, known, whole] = ["step", "bound", "known", "whole"].map((name) => frames.map((frame) => frame[name]));
    const rows = Array.from({ length: 16 }, (_, row) => frames.at(-1).map.slice(16 * row, 16 * (row + 1)));
    return { step, bound: short(bound), known: short(known), whole: short(whole), error_map: short(rows) };
  },
  async distribution({ task, n }) {
    const k = await kernels();
    k.restart(1, 0);
    const next = worker.drawTraining(k, { world, ...task });
    return Array.from({ length: n }, next);
  },
  addresses: ({ texts, start, choices }) => texts.map((address) => state.fromAddress(address, 1, start, choices)),
  back: ({ states, start, choices }) =>
    states.map((one) => state.fromAddress(state.toAddress(one, 1), 1, start, choices)),
  yaml: ({ states, payload }) => states.map((one) => state.toYaml(one, payload)),
  words: ({ frame, name }) => state.sentence(frame, name),
  refusals: ({ states }) => states.map((one) => state.refusal(one) ?? null),
  guesses: ({ guesses, map }) => guesses.map((guess) => state.judgeGuess(guess, map)),
  names: ({ names, range }) => Array.from({ length: 81 }, (_, i) => state.cellName(i, names, range)),
};

const answers = [];
for (const { what, ...rest } of calls) answers.push(await doing[what](rest));
process.stdout.write(JSON.stringify(answers));
