// BeliefExplorer: what an ideal observer makes of a star, depending on how often it believes both lines meet.

const SETS = { none: "var(--se-muted)", both: "#009E73", alone: ["#CC79A7", "#E69F00"] }; // as in the book's figures

/** Prior probabilities of the sets of lines: `belief` for both together, the rest as often as training has them. */
export const priorOf = ({ present, frequency }, belief) =>
  present.map((lines, h) => (lines.every(Boolean) ? belief : (1 - belief) * frequency[h]));

/** Bayes' rule: prior times evidence (a logarithm), so that all are 1 together. */
export function posteriorOf(prior, evidence) {
  const logs = prior.map((p, h) => Math.log(p) + evidence[h]);
  const top = Math.max(...logs);
  const weights = logs.map((value) => Math.exp(value - top));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** Posterior mean of both abundances. */
export const predictionOf = (posterior, means) =>
  [0, 1].map((k) => posterior.reduce((sum, p, h) => sum + p * means[h][k], 0));

/** Everything that the figure shows of a star at a belief. */
export function observe(payload, star, belief) {
  const { evidence, mean } = payload.stars[star];
  const prior = priorOf(payload, belief);
  const posterior = posteriorOf(prior, evidence);
  return { prior, posterior, prediction: predictionOf(posterior, mean) };
}

/** How often something is believed to happen, in words. */
export function often(p) {
  if (p === 0) return "never";
  if (p === 1) return "always";
  return p < 0.25 ? `1 in ${Number((1 / p).toPrecision(2)).toLocaleString("en-US")}` : share(p);
}

/** A probability as it is read: what is neither 0 nor 1 is never written as if it were. */
export function share(p) {
  if (p > 0 && p < 0.0005) return "< 0.1 %";
  if (p < 1 && p > 0.9995) return "> 99.9 %";
  return `${number(100 * p, p === 0 || p === 1 ? 0 : 1)} %`;
}

function render({ model, el }) {
  const payload = model.get("payload");
  const { reported, present, levels, stars } = payload;
  const voice = announcer();
  const called = present.map((lines) => {
    if (lines.every(Boolean)) return "both lines";
    return lines.some(Boolean) ? `${reported[lines.indexOf(true)].name} alone` : "no line";
  });
  const shades = present.map((lines) => {
    if (lines.every(Boolean)) return SETS.both;
    return lines.some(Boolean) ? SETS.alone[lines.indexOf(true)] : SETS.none;
  });
  const level = () => {
    const off = levels.map((p) => Math.abs(p - model.get("belief")));
    return off.indexOf(Math.min(...off));
  };
  const fader = slider({
    label: "Believed beforehand: both lines meet",
    min: 0,
    max: levels.length - 1,
    step: 1,
    format: () => often(model.get("belief")),
    get: level,
    set: (k) => write(model, "belief", levels[k]),
  });
  const options = stars.map(({ truth, noise }, k) => {
    const amounts = reported.map(({ name }, i) => `${name} ${number(truth[i])}`).join(", ");
    return [String(k), `${amounts}, noise ${percent(noise)}`];
  });
  const choice = chooser({
    label: "Star",
    options: { "": options },
    get: () => String(model.get("star")),
    set: (value) => write(model, "star", Number(value)),
  });

  const plane = new Chart(`Plane of the abundances of ${reported[0].phrase} and ${reported[1].phrase}`);
  const spots = shades.map((fill) => make("circle", { class: "se-set", fill }));
  const line = plot("se-arrow", { stroke: "var(--se-test)" });
  const truth = make("circle", { class: "se-truth", r: 8 });
  const prediction = make("path", { class: "se-head", fill: "var(--se-test)", d: "M0 -7L7 0L0 7L-7 0Z" });
  plane.over.append(...spots, line, truth, prediction);
  const rows = called.map((name, h) => {
    const bars = [make("i"), make("i")];
    const texts = [make("span"), make("span")];
    for (const bar of bars) bar.style.background = shades[h];
    const cells = bars.map((bar, i) => make("td", {}, texts[i], make("b", { "aria-hidden": "true" }, bar)));
    return { bars, texts, node: make("tr", {}, make("th", { scope: "row" }, name), ...cells) };
  });
  const headings = ["What is there", "believed before", "after seeing the star"];
  const table = make(
    "table",
    { class: "se-table se-beliefs" },
    make("thead", {}, make("tr", {}, ...headings.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map(({ node }) => node)),
  );
  const words = make("p", { class: "se-verdict" });
  const beside = [table, words];
  const root = planeFigure({ className: "se-belief", controls: [fader, choice], plane, key: legend(), beside, voice });
  el.append(root);

  let width = 0;
  function arrange() {
    width = root.clientWidth;
    const side = isNarrow(root) ? Math.min(width, 280) : 340;
    const [low, high] = payload.range;
    const room = 0.08 * (high - low);
    const labels = reported.map(({ name }) => `${name}, abundance`);
    plane.square(side, side - 12, [low - room, high + room], labels);
  }

  function draw() {
    if (root.clientWidth === 0) return;
    if (width !== root.clientWidth) arrange();
    const star = stars[model.get("star")];
    const seen = observe(payload, model.get("star"), model.get("belief"));
    const at = (point) => `translate(${plane.at(point)})`;
    spots.forEach((spot, h) => {
      spot.setAttribute("transform", at(star.mean[h]));
      spot.setAttribute("r", tenth(3 + 17 * Math.sqrt(seen.posterior[h])));
      for (const [i, p] of [seen.prior[h], seen.posterior[h]].entries()) {
        rows[h].bars[i].style.width = `${tenth(100 * p)}%`;
        rows[h].texts[i].textContent = share(p);
      }
    });
    truth.setAttribute("transform", at(star.truth));
    prediction.setAttribute("transform", at(seen.prediction));
    line.setAttribute("d", `M${plane.at(star.truth)}L${plane.at(seen.prediction)}`);
    fader.refresh();
    choice.refresh();
    const h = present.findIndex((lines) => lines.every(Boolean));
    words.replaceChildren(
      `Believing “${often(model.get("belief"))}”, the observer gives both lines ${share(seen.posterior[h])} once it has seen the ` +
        `star. It predicts ${number(seen.prediction[0])} and ${number(seen.prediction[1])}: ${reported[1].phrase} `,
      make("strong", {}, judge(seen.prediction[1], star.truth[1])),
      ".",
    );
    voice.say(words.textContent);
  }

  const stop = live(model, ["star", "belief"], root, draw);
  return () => {
    stop();
    voice.stop();
  };
}

function legend() {
  const entry = (className, text) => make("span", {}, make("i", { class: `se-key ${className}` }), text);
  return make("div", { class: "se-legend" }, entry("se-key-ring", "truth"), entry("se-key-held", "prediction"));
}

export default { render };
