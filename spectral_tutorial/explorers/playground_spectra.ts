// The spectra of the playground: random numbers, the forward model, and the Cramér-Rao bound.
//
// AssemblyScript: TypeScript with the types of a processor, f64 and f32 numbers and usize for a place in memory.
// Whatever decides a digit is computed here and not in JavaScript, since browsers round their Math.exp and Math.log
// differently, and WebAssembly lets nobody round as they like.

// --- random numbers: SplitMix64 (Steele, Lea and Flood 2014) ------------------------------------------------------

let state: u64 = 0;
let spare: f64 = 0; // the second normal number of a pair
let spared: bool = false;

/** Start a stream of random numbers of its own for each seed and purpose. */
export function restart(seed: u32, purpose: u32): void {
  state = ((<u64>seed) << 32) | purpose;
  spared = false;
  state = next(); // neighboring seeds begin far from each other
}

function next(): u64 {
  state += 0x9e3779b97f4a7c15;
  let z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/** Uniform in [0, 1). */
export function uniform(): f64 {
  return <f64>(next() >> 11) * (1.0 / 9007199254740992.0);
}

/** From low to high with a uniform logarithm. */
export function logUniform(low: f64, high: f64): f64 {
  return low * Math.exp(uniform() * Math.log(high / low));
}

/** Standard normal, two at a time: a point in the unit disk, stretched (Marsaglia and Bray 1964). */
function normal(): f64 {
  if (spared) {
    spared = false;
    return spare;
  }
  let x: f64, y: f64, square: f64;
  do {
    x = 2.0 * uniform() - 1.0;
    y = 2.0 * uniform() - 1.0;
    square = x * x + y * y;
  } while (square >= 1.0 || square == 0.0);
  const stretch = Math.sqrt((-2.0 * Math.log(square)) / square);
  spare = y * stretch;
  spared = true;
  return x * stretch;
}

/** Shuffle the whole numbers from 0 to n - 1 (i32) into a random order. */
export function shuffle(order: usize, n: i32): void {
  for (let i = 0; i < n; i++) store<i32>(order + 4 * i, i);
  for (let i = n - 1; i > 0; i--) {
    const other = order + 4 * <i32>(uniform() * (i + 1));
    const kept = load<i32>(other);
    store<i32>(other, load<i32>(order + 4 * i));
    store<i32>(order + 4 * i, kept);
  }
}

// --- the forward model: the formulas of physics.py, in double precision -------------------------------------------

const HC_OVER_K: f64 = 1.438776877e7; // second radiation constant, nm K
const WIEN_X: f64 = 4.965114231744276; // root of x = 5 (1 - exp(-x))
const FLOOR: f64 = 1e-6; // flux below this counts as this before a logarithm

export let bins: i32 = 0; // of a spectrum
let beerLambert: bool = false;
let wavelength: StaticArray<f64> = [];
let mean: StaticArray<f64> = []; // flux without noise
let profile: StaticArray<StaticArray<f64>> = [[], []]; // strength x Gaussian, of each of the two lines

/** Lay out the grid: n bins from low to high (nm), both ends included. */
export function setGrid(n: i32, low: f64, high: f64, optical: bool): void {
  bins = n;
  beerLambert = optical;
  wavelength = new StaticArray<f64>(n);
  mean = new StaticArray<f64>(n);
  for (let i = 0; i < n; i++) wavelength[i] = low + ((high - low) / (n - 1)) * i;
}

/** Describe line 0 or 1: center and width (nm), strength. */
export function setLine(which: i32, center: f64, width: f64, strength: f64): void {
  const line = new StaticArray<f64>(bins);
  for (let i = 0; i < bins; i++) {
    const off = (wavelength[i] - center) / width;
    line[i] = strength * Math.exp(-0.5 * off * off);
  }
  profile[which] = line;
}

/** Compute the flux without noise of a temperature (K) and two abundances; returns its place (f64). */
export function meanFlux(temperature: f64, first: f64, second: f64): usize {
  const top = Math.expm1(WIEN_X);
  for (let i = 0; i < bins; i++) {
    const x = HC_OVER_K / (wavelength[i] * temperature);
    const share = x / WIEN_X;
    const square = share * share;
    const a = first * profile[0][i];
    const b = second * profile[1][i];
    const lines = beerLambert ? Math.exp(a + b) : (1.0 + a) * (1.0 + b);
    mean[i] = ((square * square * share) / Math.expm1(x)) * top * lines;
  }
  return changetype<usize>(mean);
}

/** Draw a spectrum as a network reads it (f32): flux with noise, or its logarithm. A composed one has noise twice. */
export function observe(out: usize, temperature: f64, first: f64, second: f64, noise: f64, draws: i32, log: bool): void {
  meanFlux(temperature, first, second);
  for (let i = 0; i < bins; i++) {
    let flux = mean[i];
    for (let draw = 0; draw < draws; draw++) flux *= 1.0 + noise * normal();
    store<f32>(out + 4 * i, <f32>(log ? Math.log(Math.max(flux, FLOOR)) : flux));
  }
}

/** Measure the mean of each bin (f64, to `out`) over n spectra, and return one standard deviation for all bins. */
export function fit(spectra: usize, n: i32, out: usize): f64 {
  memory.fill(out, 0, 8 * bins);
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < bins; i++) {
      const sum = load<f64>(out + 8 * i) + load<f32>(spectra + 4 * (row * bins + i));
      store<f64>(out + 8 * i, sum);
    }
  }
  for (let i = 0; i < bins; i++) store<f64>(out + 8 * i, load<f64>(out + 8 * i) / n);
  let squares: f64 = 0;
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < bins; i++) {
      const off = load<f32>(spectra + 4 * (row * bins + i)) - load<f64>(out + 8 * i);
      squares += off * off;
    }
  }
  return Math.sqrt(squares / (<f64>n * bins));
}

/** Take the means away from n spectra and divide them by the standard deviation, in place. */
export function standardize(spectra: usize, n: i32, means: usize, deviation: f64): void {
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < bins; i++) {
      const place = spectra + 4 * (row * bins + i);
      store<f32>(place, <f32>((load<f32>(place) - load<f64>(means + 8 * i)) / deviation));
    }
  }
}

/**
 * Cramér-Rao bound of the second abundance: the smallest variance of an unbiased estimate from one spectrum, with
 * temperature and both abundances unknown (limits.py): an entry of the inverse of a 3 x 3 matrix.
 */
export function bound(temperature: f64, first: f64, second: f64, noise: f64): f64 {
  let aa: f64 = 0, ab: f64 = 0, at: f64 = 0, bb: f64 = 0, bt: f64 = 0, tt: f64 = 0;
  for (let i = 0; i < bins; i++) {
    const x = HC_OVER_K / (wavelength[i] * temperature);
    const p = profile[0][i];
    const q = profile[1][i];
    const a = beerLambert ? p : p / (1.0 + first * p);
    const b = beerLambert ? q : q / (1.0 + second * q);
    const t = x / -Math.expm1(-x) - 5.0; // per relative change of temperature
    aa += a * a; ab += a * b; at += a * t; bb += b * b; bt += b * t; tt += t * t;
  }
  const others = aa * tt - at * at;
  const all = aa * (bb * tt - bt * bt) - ab * (ab * tt - bt * at) + at * (ab * bt - bb * at);
  return (others / all) * ((noise * noise) / (1.0 + 2.0 * noise * noise));
}
