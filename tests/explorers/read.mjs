// Compute in Node what an explorer's module computes in a page: `node read.mjs MODULE INPUT`, JSON in, JSON out.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , path, input] = process.argv;
const module = await import(pathToFileURL(path).href);
const { world: description, payload, settings } = JSON.parse(readFileSync(input, "utf8"));
const world = module.makeWorld(description);
const predictors = payload ? module.makePredictors(payload) : [];

const spectra = settings.map(({ temperature, noise, draw, abundances }) => {
  const mean = module.meanFlux(world, temperature, abundances);
  const flux = module.addNoise(mean, noise, module.standardNormal(draw, world.n_bins), world.noise_power);
  return { mean: Array.from(mean), flux: Array.from(flux), predicted: predictors.map(({ predict }) => predict(flux)) };
});
process.stdout.write(JSON.stringify({ wavelength: Array.from(world.wavelength), spectra }));
