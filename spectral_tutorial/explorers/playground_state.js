// The playground's state and what is made of it: an address, two YAML files. No page is needed here.

const SIDE = 9; // cells along a line: number 0, in which the line is absent, and eight that divide its range
const ADDRESS = "playground";

/** Whether a cell holds both lines. */
const holdsBoth = (i) => i % SIDE > 0 && i >= SIDE;

/** The ends of the range of cell 1 to 8 along a line. */
export const cellEnds = (cell, [low, high]) =>
  [cell - 1, cell].map((edge) => Number((low + (edge / (SIDE - 1)) * (high - low)).toFixed(6)));

/** What a cell is called: "broad line 0.125 to 0.25, no narrow line". */
export function cellName(i, names, range) {
  const parts = [i % SIDE, Math.floor(i / SIDE)].map((cell, k) =>
    cell ? `${names[k]} ${cellEnds(cell, range).join(" to ")}` : `no ${names[k]}`,
  );
  return parts.join(", ");
}

/** The name of the preset that is painted, or none. */
export function presetOf({ support, settings }, presets) {
  const same = ({ cells, composed }) => cells === support.join("") && composed === settings.composed;
  return presets.find(same)?.name;
}

/** Why this cannot be trained, in a sentence; none if it can. */
export function refusal({ support, settings }) {
  if (!support.some(Boolean)) return "Paint at least one cell: there is nothing to train with.";
  const some = (keep) => support.some((on, i) => on && keep(i));
  const alone = some((i) => i > 0 && i < SIDE) && some((i) => i >= SIDE && i % SIDE === 0);
  if (settings.composed && !alone) return "To compose spectra, paint some cells of each line alone.";
  return undefined;
}

// --- the address --------------------------------------------------------------------------------------------------

/** The part of an address behind # that brings this state back. */
export function toAddress({ support, settings }, place) {
  const bits = BigInt(`0b${support.join("")}`).toString(16).padStart(21, "0");
  const pairs = Object.entries(settings).map(([name, value]) => `${name}=${Number(value)}`);
  return `#${ADDRESS}-${place}:cells=${bits},${pairs.join(",")}`;
}

/** The state that an address asks for: what it does not say, or says out of range, stays as it was. */
export function fromAddress(address, place, state, choices) {
  const start = `#${ADDRESS}-${place}:`;
  if (!address.startsWith(start) || address.length > 1000) return state;
  const said = new Map(address.slice(start.length).split(",").map((pair) => pair.split("=", 2)));
  const settings = { ...state.settings };
  for (const [name, { values }] of Object.entries(choices)) {
    const value = /^\d{1,5}(\.\d{1,5})?$/.test(said.get(name) ?? "") ? Number(said.get(name)) : NaN;
    if (values.map(Number).includes(value)) settings[name] = typeof values[0] === "boolean" ? value === 1 : value;
  }
  const cells = /^[01][0-9a-f]{20}$/.test(said.get("cells") ?? "") ? said.get("cells") : undefined;
  const bits = cells && BigInt(`0x${cells}`).toString(2).padStart(SIDE * SIDE, "0");
  const support = bits ? Array.from(bits, Number) : state.support;
  if (support.some((on, i) => on && holdsBoth(i))) settings.composed = false;
  return { support, settings };
}

// --- YAML ---------------------------------------------------------------------------------------------------------

/** Cells that are painted without a gap along the first line, row by row: { first, last, row }. */
function runs(support, keep) {
  const found = [];
  for (let i = 0; i < support.length; i++) {
    if (!support[i] || !keep(i)) continue;
    const before = found.at(-1);
    const [column, row] = [i % SIDE, Math.floor(i / SIDE)];
    if (before && before.row === row && before.last === column - 1) before.last = column;
    else found.push({ first: column, last: column, row });
  }
  return found;
}

/** Columns of painted cells where the first line is absent, as runs along the second. */
function turned(support) {
  const column = Array.from({ length: SIDE }, (_, row) => support[row * SIDE]);
  return runs(column, (i) => i > 0).map(({ first, last }) => ({ first: 0, last: 0, row: first, end: last }));
}

/** Combinations with weights, as data_distribution.yaml lists them. */
function combinations({ support, settings }, labels, range) {
  const kinds = [
    runs(support, (i) => i === 0),
    runs(support, (i) => i > 0 && i < SIDE),
    turned(support),
    runs(support, holdsBoth),
  ];
  const count = ({ first, last, row, end = row }) => (last - first + 1) * (end - row + 1);
  const sums = kinds.map((parts) => parts.reduce((sum, part) => sum + count(part), 0));
  const alone = sums.slice(0, 3).filter(Boolean).length;
  const share = alone === 0 ? 1 : sums[3] ? settings.share / 100 : 0;
  return kinds.flatMap((parts, kind) =>
    parts.map((part) => {
      const weight = ((kind === 3 ? share : (1 - share) / alone) * count(part)) / sums[kind];
      const ends = [[part.first, part.last], [part.row, part.end ?? part.row]].map(([from, to]) =>
        from ? [cellEnds(from, range)[0], cellEnds(to, range)[1]] : undefined,
      );
      const there = labels.map(JSON.stringify).filter((_, k) => ends[k]);
      const limits = labels.flatMap((label, k) => (ends[k] ? [`${JSON.stringify(label)}: [${ends[k].join(", ")}]`] : []));
      const ranges = limits.length ? `, ranges: {${limits.join(", ")}}` : "";
      return `{weight: ${Number(weight.toFixed(6))}, components: [${there.join(", ")}]${ranges}}`;
    }),
  );
}

/** data_distribution.yaml and training.yaml for what is painted: the package's own network learns from it. */
export function toYaml(state, { labels, world }) {
  const { steps, rate, hidden, spectra, log, composed } = state.settings;
  const split = (name, n, lines) =>
    [`  ${name}:`, `    n_samples: ${n}`, "    distribution:", "      type: component_combinations"]
      .concat("      combinations:", lines.map((line) => `        - ${line}`));
  const painted = combinations(state, labels, world.ranges.abundance);
  const whole = [`{weight: 1.0, components: [${labels.map(JSON.stringify).join(", ")}]}`];
  const note = composed ? ["# Composed spectra are no matter of the splits: ask for the method composed, run --all does."] : [];
  const epochs = Math.max(1, Math.round((steps * 64) / spectra));
  const distribution = ["# As painted in the playground; test is the whole plane of both lines.", ...note, "splits:"]
    .concat(split("train", spectra, painted), split("val", 1024, painted), split("test", 1024, whole));
  const training = [
    "# As set in the playground, with twice its hidden units for four times its wavelength bins.",
    "model_type: mlp",
    `hidden_dims: [${2 * hidden}, ${hidden}]`,
    "activation: relu",
    `input_transform: ${log ? "log_standardize" : "standardize"}`,
    "initialization: torch",
    `epochs: ${epochs}`,
    "batch_size: 64",
    "optimizer: adamw",
    `learning_rate: ${rate}`,
    "weight_decay: 0.0001",
    "loss_function: mse",
    "checkpoint_by: log",
  ];
  return { distribution: `${distribution.join("\n")}\n`, training: `${training.join("\n")}\n` };
}

// --- words --------------------------------------------------------------------------------------------------------

/** Median, least and greatest of the ratios of two lists. */
export function ratios({ known, whole }) {
  const sorted = known.map((error, i) => whole[i] / error).sort((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  const middle = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return { middle, least: sorted[0], greatest: sorted.at(-1) };
}

const times = (value) => (Number.isFinite(value) ? (value < 10 ? value.toFixed(1) : String(Math.round(value))) : "?");

/** What a run has come to, in a sentence. */
export function sentence({ step, known, whole }, name) {
  if (![...known, ...whole].every(Number.isFinite)) {
    return `After ${step.toLocaleString("en-US")} steps the errors are not finite: the learning rate is too high.`;
  }
  const { middle, least, greatest } = ratios({ known, whole });
  const spread = known.length > 1 ? ` (median of ${known.length} seeds, from ${times(least)} to ${times(greatest)})` : "";
  return `After ${step.toLocaleString("en-US")} steps the error of the ${name} over the whole plane is ${times(middle)} times that on spectra like the training ones${spread}.`;
}

/** How good a guess of places with large errors was: of k marked regions, those among the k with the largest errors. */
export function judgeGuess(guess, map, side = 4) {
  const size = Math.sqrt(map.length);
  const sums = new Array(side * side).fill(0);
  map.forEach((value, i) => {
    sums[Math.floor((Math.floor(i / size) * side) / size) * side + Math.floor(((i % size) * side) / size)] += value;
  });
  const largest = [...sums.keys()].sort((a, b) => sums[b] - sums[a]).slice(0, guess.length);
  return { marked: guess.length, right: guess.filter((i) => largest.includes(i)).length };
}
