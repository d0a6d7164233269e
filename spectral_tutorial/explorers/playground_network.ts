// The networks of the playground: two hidden layers of rectified units, and AdamW, in single precision.
//
// Compiled, in this folder, by
//
//     npm install --prefix /tmp/compiler assemblyscript@0.28.20
//     /tmp/compiler/node_modules/.bin/asc playground_network.ts --outFile playground.wasm --runtime stub --use abort= \
//         --enable simd -O3 --shrinkLevel 1 --converge --noAssert
//
// A v128 is a register of four f32. No relaxed SIMD: it may round as the processor likes.

import { bins, uniform } from "./playground_spectra";

export {
  bound, fit, logUniform, meanFlux, observe, restart, setGrid, setLine, shuffle, standardize, uniform,
} from "./playground_spectra";

/** Room in memory, cleared; nothing is ever given back, since a worker ends with its run. */
export function room(bytes: i32): usize {
  const place = heap.alloc(bytes);
  memory.fill(place, 0, bytes);
  return place;
}

// --- products of matrices -----------------------------------------------------------------------------------------

const LANES: i32 = 8; // columns that are computed together: two registers
const SIZE: i32 = 4 * LANES; // their bytes

/**
 * C = A B + bias, four rows and eight columns at a time: 32 sums stay in registers while the inner index runs.
 *
 * Rows of A are rowA bytes apart and its columns stepA, so that A may be read transposed. B is read eight columns (a
 * panel) at a time: panels are panelB bytes apart, rows in one stepB. The same for C. `m` is a multiple of 4, `n` of 8.
 */
function multiply(
  m: i32, n: i32, k: i32,
  a: usize, rowA: i32, stepA: i32,
  b: usize, stepB: i32, panelB: i32,
  c: usize, rowC: i32, panelC: i32,
  bias: usize,
): void {
  for (let panel = 0; panel < n / LANES; panel++) {
    let s0 = f32x4.splat(0);
    let s1 = s0;
    if (bias) {
      s0 = v128.load(bias + panel * SIZE);
      s1 = v128.load(bias + panel * SIZE, 16);
    }
    for (let row = 0; row < m; row += 4) {
      let c00 = s0, c01 = s1, c10 = s0, c11 = s1, c20 = s0, c21 = s1, c30 = s0, c31 = s1;
      let a0 = a + row * rowA;
      let a1 = a0 + rowA;
      let a2 = a1 + rowA;
      let a3 = a2 + rowA;
      let at = b + panel * panelB;
      for (let i = 0; i < k; i++) {
        const b0 = v128.load(at);
        const b1 = v128.load(at, 16);
        let x = v128.load32_splat(a0);
        c00 = f32x4.add(c00, f32x4.mul(x, b0));
        c01 = f32x4.add(c01, f32x4.mul(x, b1));
        x = v128.load32_splat(a1);
        c10 = f32x4.add(c10, f32x4.mul(x, b0));
        c11 = f32x4.add(c11, f32x4.mul(x, b1));
        x = v128.load32_splat(a2);
        c20 = f32x4.add(c20, f32x4.mul(x, b0));
        c21 = f32x4.add(c21, f32x4.mul(x, b1));
        x = v128.load32_splat(a3);
        c30 = f32x4.add(c30, f32x4.mul(x, b0));
        c31 = f32x4.add(c31, f32x4.mul(x, b1));
        a0 += stepA;
        a1 += stepA;
        a2 += stepA;
        a3 += stepA;
        at += stepB;
      }
      let to = c + row * rowC + panel * panelC;
      v128.store(to, c00);
      v128.store(to, c01, 16);
      to += rowC;
      v128.store(to, c10);
      v128.store(to, c11, 16);
      to += rowC;
      v128.store(to, c20);
      v128.store(to, c21, 16);
      to += rowC;
      v128.store(to, c30);
      v128.store(to, c31, 16);
    }
  }
}

// --- networks -----------------------------------------------------------------------------------------------------

const BATCH: i32 = 64;
const LAYERS: i32 = 3;
const OUTPUTS: i32 = 2; // of the last layer's eight, the others stay 0
const PAD: i32 = 16; // between the spectra of a batch, or all would fall on the same few lines of the cache

/** Weights lie in panels of eight columns, (out / 8, in, 8), so that a product reads them as they lie. */
@unmanaged
class Layer {
  inputs: i32;
  outputs: i32;
  weights: usize; // of all parameters: place of the layer's weights; its bias follows them
  output: usize; // (BATCH, outputs), after the activation
  slope: usize; // derivative of the loss by what goes into the activation
  turned: usize; // the weights transposed, for the way back
}

@unmanaged
class Network {
  size: i32; // number of parameters, those in the padding too
  weights: usize;
  gradient: usize;
  first: usize; // AdamW's moments
  second: usize;
  forgotten: f64; // 0.9 and 0.999 to the power of the steps done
  forgottenSquare: f64;
  batch: usize; // (BATCH, bins + PAD)
  layers: StaticArray<Layer>;
}

/** Make a network of two hidden layers; its weights are drawn as PyTorch draws them, from the present stream. */
export function makeNetwork(hidden: i32, deeper: i32): usize {
  const network = changetype<Network>(room(offsetof<Network>()));
  network.layers = new StaticArray<Layer>(LAYERS);
  network.batch = room(4 * BATCH * (bins + PAD));
  network.forgotten = 1;
  network.forgottenSquare = 1;
  const widths: StaticArray<i32> = [bins, hidden, deeper, LANES];
  for (let depth = 0; depth < LAYERS; depth++) {
    const layer = changetype<Layer>(room(offsetof<Layer>()));
    layer.inputs = widths[depth];
    layer.outputs = widths[depth + 1];
    layer.weights = 4 * network.size;
    network.size += (layer.inputs + 1) * layer.outputs;
    layer.output = room(4 * BATCH * layer.outputs);
    layer.slope = room(4 * BATCH * layer.outputs);
    layer.turned = room(4 * layer.inputs * layer.outputs);
    network.layers[depth] = layer;
  }
  network.weights = room(4 * network.size);
  network.gradient = room(4 * network.size);
  network.first = room(4 * network.size);
  network.second = room(4 * network.size);
  for (let depth = 0; depth < LAYERS; depth++) {
    const layer = network.layers[depth];
    const outputs = depth < LAYERS - 1 ? layer.outputs : OUTPUTS;
    const reach = 1.0 / Math.sqrt(layer.inputs);
    for (let row = 0; row <= layer.inputs; row++) {
      for (let column = 0; column < outputs; column++) {
        store<f32>(parameter(changetype<usize>(network), depth, row, column), <f32>((2.0 * uniform() - 1.0) * reach));
      }
    }
  }
  return changetype<usize>(network);
}

/** The place of one weight, or, with the number of inputs as `row`, of a bias. */
export function parameter(at: usize, depth: i32, row: i32, column: i32): usize {
  const layer = changetype<Network>(at).layers[depth];
  const start = changetype<Network>(at).weights + layer.weights;
  if (row == layer.inputs) return start + 4 * (layer.inputs * layer.outputs + column);
  return start + 4 * (((column / LANES) * layer.inputs + row) * LANES + (column % LANES));
}

/** Answers (n, 8) to n spectra, a multiple of 64: of each row the first two count. */
export function predict(at: usize, spectra: usize, n: i32, out: usize): void {
  const network = changetype<Network>(at);
  const last = network.layers[LAYERS - 1];
  for (let row = 0; row < n; row += BATCH) {
    forward(network, spectra + 4 * row * bins, 4 * bins);
    memory.copy(out + row * SIZE, last.output, BATCH * SIZE);
  }
}

function forward(network: Network, input: usize, stride: i32): void {
  for (let depth = 0; depth < LAYERS; depth++) {
    const layer = network.layers[depth];
    const weights = network.weights + layer.weights;
    multiply(
      BATCH, layer.outputs, layer.inputs,
      input, stride, 4,
      weights, SIZE, layer.inputs * SIZE,
      layer.output, 4 * layer.outputs, SIZE,
      weights + 4 * layer.inputs * layer.outputs,
    );
    if (depth < LAYERS - 1) rectify(layer.output, BATCH * layer.outputs);
    input = layer.output;
    stride = 4 * layer.outputs;
  }
}

function rectify(values: usize, n: i32): void {
  const zero = f32x4.splat(0);
  for (let i = 0; i < 4 * n; i += 16) v128.store(values + i, f32x4.max(v128.load(values + i), zero));
}

/** Learn from one batch: spectra and abundances (n, 2) at 64 row numbers (i32). Returns the mean squared error. */
export function learn(at: usize, spectra: usize, truth: usize, rows: usize, rate: f64, decay: f64): f64 {
  const network = changetype<Network>(at);
  const stride = 4 * (bins + PAD);
  for (let i = 0; i < BATCH; i++) {
    memory.copy(network.batch + i * stride, spectra + 4 * load<i32>(rows + 4 * i) * bins, 4 * bins);
  }
  forward(network, network.batch, stride);
  const loss = compare(network.layers[LAYERS - 1], truth, rows);
  backward(network, stride);
  update(network, rate, decay);
  return loss;
}

function compare(last: Layer, truth: usize, rows: usize): f64 {
  let loss: f64 = 0;
  for (let i = 0; i < BATCH; i++) {
    const right = truth + 4 * OUTPUTS * load<i32>(rows + 4 * i);
    for (let k = 0; k < 4 * OUTPUTS; k += 4) {
      const off = load<f32>(last.output + i * SIZE + k) - load<f32>(right + k);
      loss += off * off;
      store<f32>(last.slope + i * SIZE + k, (2 * off) / <f32>(BATCH * OUTPUTS));
    }
  }
  return loss / (BATCH * OUTPUTS);
}

function backward(network: Network, stride: i32): void {
  for (let depth = LAYERS - 1; depth >= 0; depth--) {
    const layer = network.layers[depth];
    const gradient = network.gradient + layer.weights;
    const width = 4 * layer.outputs;
    const input = depth ? network.layers[depth - 1].output : network.batch;
    multiply( // inputs transposed, times slopes
      layer.inputs, layer.outputs, BATCH,
      input, 4, depth ? 4 * layer.inputs : stride,
      layer.slope, width, SIZE,
      gradient, SIZE, layer.inputs * SIZE,
      0,
    );
    addUp(layer.slope, layer.outputs, gradient + 4 * layer.inputs * layer.outputs);
    if (depth == 0) return;
    turn(network.weights + layer.weights, layer);
    const before = network.layers[depth - 1];
    multiply( // slopes, times weights transposed
      BATCH, layer.inputs, layer.outputs,
      layer.slope, width, 4,
      layer.turned, SIZE, layer.outputs * SIZE,
      before.slope, 4 * before.outputs, SIZE,
      0,
    );
    silence(before.slope, before.output, BATCH * before.outputs);
  }
}

/** Sums of the columns of slopes: the gradient of a bias. */
function addUp(slope: usize, columns: i32, out: usize): void {
  for (let i = 0; i < 4 * columns; i += 16) {
    let sum = f32x4.splat(0);
    for (let row = 0; row < BATCH; row++) sum = f32x4.add(sum, v128.load(slope + 4 * row * columns + i));
    v128.store(out + i, sum);
  }
}

/** Transpose weights, panels in and panels out. */
function turn(weights: usize, layer: Layer): void {
  for (let row = 0; row < layer.inputs; row++) {
    for (let column = 0; column < layer.outputs; column++) {
      const from = ((column / LANES) * layer.inputs + row) * LANES + (column % LANES);
      const to = ((row / LANES) * layer.outputs + column) * LANES + (row % LANES);
      store<f32>(layer.turned + 4 * to, load<f32>(weights + 4 * from));
    }
  }
}

/** No slope goes through a unit that gave 0. */
function silence(slope: usize, output: usize, n: i32): void {
  const zero = f32x4.splat(0);
  for (let i = 0; i < 4 * n; i += 16) {
    v128.store(slope + i, v128.and(v128.load(slope + i), f32x4.gt(v128.load(output + i), zero)));
  }
}

/** AdamW (Loshchilov and Hutter 2019) with PyTorch's constants, on all parameters of a network. */
function update(network: Network, rate: f64, decay: f64): void {
  network.forgotten *= 0.9;
  network.forgottenSquare *= 0.999;
  const step = f32x4.splat(<f32>(rate / (1.0 - network.forgotten)));
  const unbiased = f32x4.splat(<f32>Math.sqrt(1.0 - network.forgottenSquare));
  const shrink = f32x4.splat(<f32>(1.0 - rate * decay));
  const tiny = f32x4.splat(1e-8);
  const tenth = f32x4.splat(<f32>(1.0 - 0.9));
  const kept = f32x4.splat(0.999);
  const added = f32x4.splat(<f32>(1.0 - 0.999));
  for (let i: usize = 0; i < <usize>(4 * network.size); i += 16) {
    const g = v128.load(network.gradient + i);
    let m = v128.load(network.first + i);
    m = f32x4.add(m, f32x4.mul(f32x4.sub(g, m), tenth));
    const v = f32x4.add(f32x4.mul(v128.load(network.second + i), kept), f32x4.mul(f32x4.mul(g, g), added));
    const size = f32x4.add(f32x4.div(f32x4.sqrt(v), unbiased), tiny);
    const w = f32x4.mul(v128.load(network.weights + i), shrink);
    v128.store(network.first + i, m);
    v128.store(network.second + i, v);
    v128.store(network.weights + i, f32x4.sub(w, f32x4.mul(step, f32x4.div(m, size))));
  }
}
