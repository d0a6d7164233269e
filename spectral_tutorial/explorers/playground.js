// Playground: paint what a network may see, train some in the page, and watch the gap open.

/** A run in a worker. It gets `ahead` requests for frames more than it has answered, and none in a hidden tab. */
class Run {
  constructor(task, { onFrame, onFault, ahead = 2 }) {
    const address = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
    this.worker = new Worker(address);
    URL.revokeObjectURL(address);
    this.owed = ahead;
    this.worker.onmessage = ({ data }) => {
      this.owed += 1;
      if (data.done) this.end();
      else this.ask(); // before anything is drawn: the worker need not wait for the page
      onFrame(data);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.end();
      onFault(event.message || "the worker failed");
    };
    this.worker.postMessage({ bytes: kernelBytes(), task });
    this.ask = this.ask.bind(this);
    document.addEventListener("visibilitychange", this.ask);
    this.ask();
  }

  ask() {
    if (document.hidden) return;
    for (; this.owed > 0; this.owed--) this.worker.postMessage({});
  }

  end() {
    document.removeEventListener("visibilitychange", this.ask);
    this.worker.terminate();
  }
}

const kernelBytes = () => Uint8Array.from(atob(KERNELS), (letter) => letter.charCodeAt(0));

const isPhone = () => matchMedia("(max-width: 700px) and (pointer: coarse)").matches;
const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Without SIMD nothing can be trained: say so, and leave the finished picture where it stands. */
function apologize(el) {
  const place = document.querySelector('.spectral-explorer[data-explorer="playground"]:not([data-mounted])');
  const said = make("p", { role: "note" }, "This browser cannot train here: it has no WebAssembly SIMD. Above is a finished run.");
  el.append(...[...(place?.querySelectorAll("img") ?? [])], make("div", { class: "se-root" }, said));
}

function render({ model, el }) {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(kernelBytes())) return apologize(el);
  const { world, names, labels, choices, presets } = model.get("payload");
  const range = world.ranges.abundance;
  const inPage = window.spectralExplorers !== undefined; // a page of the book has an address of its own
  const place = document.querySelectorAll('[data-explorer="playground"][data-mounted]').length + 1;
  const voice = announcer(0);
  const asked = new Set(); // what has been trained here: the question comes before the first time
  let guess = new Set();
  let frames = [];
  let shown = 0; // step of the last frame that was drawn, for readers who want no motion
  let running = null;
  let fault = "";
  let later = 0;

  const support = () => model.get("support").flat();
  const settings = () => model.get("settings");
  const state = () => ({ support: support(), settings: settings() });
  const address = () => location.href.split("#")[0] + toAddress(state(), place);
  const key = () => support().join("") + settings().composed;

  function change({ support: cells, settings: chosen }) {
    const rows = Array.from({ length: SIDE }, (_, row) => cells.slice(row * SIDE, (row + 1) * SIDE));
    model.set("settings", chosen);
    write(model, "support", rows);
    clearTimeout(later);
    if (inPage) later = setTimeout(() => history.replaceState(null, "", address()), 250); // not at each cell of a stroke
  }
  const choose = (name, value) => change({ support: support(), settings: { ...settings(), [name]: value } });
  const paint = (cells) => {
    const composed = settings().composed && !cells.some((on, i) => on && holdsBoth(i));
    change({ support: cells, settings: { ...settings(), composed } });
  };

  // --- what is painted
  const buttons = presets.map(({ name, cells, composed }) =>
    button(name, () => change({ support: Array.from(cells, Number), settings: { ...settings(), composed } })),
  );
  const plane = painter({ names, range, support, set: paint });
  const share = slider({
    label: choices.share.label,
    min: 0,
    max: 100,
    step: 5,
    format: (value) => `${value} %`,
    get: () => settings().share,
    set: (value) => choose("share", value),
  });
  const compose = checkbox({
    label: choices.composed.label,
    get: () => settings().composed,
    set: (on) => {
      const cells = on ? support().map((old, i) => (holdsBoth(i) ? 0 : old)) : support();
      change({ support: cells, settings: { ...settings(), composed: on } });
    },
  });

  // --- what grows
  const question = guesser({
    names,
    range,
    guess: () => guess,
    set: (i, on) => {
      if (on) guess.add(i);
      else guess.delete(i);
      question.refresh();
    },
  });
  const map = new ErrorMap(names, range);
  const losses = new Losses(names[1]);
  const path = new Path(names[1]);
  const ask = make("p", { class: "sp-question" }, "Guess first: where will the error be large? Mark it here, then train.");
  const over = make("div", { class: "sp-over" }, question.node);
  const mapBox = make("div", { class: "sp-map" }, map.chart.svg, over);

  const go = button("Train", () => (running ? stop("stopped") : train()), { class: "se-button se-play" });
  const progress = make("span", { class: "sp-progress" });
  const verdict = make("p", { class: "se-verdict" });
  const chosen = settingControls({ choices, noise: world.ranges.noise, get: (name) => settings()[name], set: choose });
  const takeaway = takeAway({ state, payload: { labels, world }, save, address: inPage && address });

  const left = make(
    "div",
    { class: "se-left" },
    make("p", { class: "sp-question" }, "Paint what the networks may see."),
    plane.node,
    share.node,
    compose.node,
  );
  const right = make("div", { class: "se-right" }, ask, mapBox);
  const legend = make(
    "div",
    { class: "se-legend" },
    make("span", {}, make("i", { class: "se-key se-key-val" }), "in distribution"),
    make("span", {}, make("i", { class: "se-key se-key-held" }), "whole plane"),
    make("span", {}, make("i", { class: "se-key se-key-continuum" }), "Cramér-Rao bound (left), no gap (right)"),
  );
  const root = make(
    "div",
    { class: "se-root se-playground" },
    make("div", { class: "se-row", role: "group", "aria-label": "What to paint" }, ...buttons),
    make("div", { class: "se-two" }, left, right),
    make("div", { class: "se-row sp-go" }, go, progress),
    verdict,
    make("div", { class: "se-two sp-charts" }, losses.chart.svg, path.chart.svg),
    legend,
    make(
      "details",
      { class: "sp-more" },
      make("summary", {}, "Settings"),
      make("div", { class: "se-panel se-four" }, ...chosen.map(({ node }) => node)),
    ),
    takeaway.node,
    voice.node,
  );
  el.append(root);

  // --- training
  function train() {
    const refused = refusal(state());
    if (refused) return voice.say(refused);
    asked.add(key());
    [frames, shown, fault] = [[], 0, ""];
    const onFrame = (frame) => {
      frames.push(frame);
      if (frame.done) stop("done");
      else redraw();
    };
    const onFault = (message) => {
      fault = `Training failed: ${message}.`;
      stop("failed");
    };
    running = new Run({ world, ...state() }, { onFrame, onFault });
    root.dataset.state = "training";
    redraw();
  }
  function stop(how) {
    running?.end();
    running = null;
    root.dataset.state = how;
    const last = frames.at(-1);
    const column = (name) => frames.map((frame) => Array.from(frame[name]));
    const numbers = (name) => frames.map((frame) => frame[name]);
    model.set("history", { step: numbers("step"), bound: numbers("bound"), known: column("known"), whole: column("whole") });
    const side = Math.sqrt(last?.map.length ?? 0);
    write(model, "error_map", Array.from({ length: side }, (_, row) => last.map.slice(row * side, (row + 1) * side)));
    redraw();
    if (last || fault) voice.say(words());
  }
  /** Other cells or other settings: what was learned belongs to the old ones. */
  function reset() {
    [frames, fault] = [[], ""];
    if (running || root.dataset.state !== "ready") stop("ready");
    if (!asked.has(key())) guess = new Set();
    redraw();
  }
  function save() {
    const style = getComputedStyle(root);
    const [name, { share: part }] = [presetOf(state(), presets) ?? "own painting", settings()];
    const said = [words(), `In the training set: ${name}; ${part} % of the spectra hold both lines if any may.`];
    return savePicture([map.chart.svg, losses.chart.svg, path.chart.svg], said, style.getPropertyValue("--se-ground"), style.color);
  }

  // --- drawing
  function words() {
    const refused = refusal(state());
    if (fault || refused) return fault || refused;
    if (!frames.length) return running ? "Drawing spectra." : "";
    const said = sentence(frames.at(-1), names[1]);
    if (!guess.size || running) return said;
    const { marked, right: hits } = judgeGuess([...guess], frames.at(-1).map);
    return `${said} You marked ${marked} of 16 regions; ${hits} of them ${hits === 1 ? "is" : "are"} among the ${marked} with the largest errors.`;
  }
  let width = 0;
  let steps = 0;
  function arrange() {
    [width, steps] = [root.clientWidth, settings().steps];
    const narrow = isNarrow(root);
    const half = narrow ? width : Math.floor((width - 20) / 2);
    left.style.width = narrow ? "" : `${Math.min(half, 360)}px`;
    const area = map.resize(narrow ? width : width - Math.min(half, 360) - 20);
    const box = { left: area.left, top: area.top, width: area.right - area.left, height: area.bottom - area.top };
    for (const [name, value] of Object.entries(box)) over.style[name] = `${value}px`;
    losses.resize(half, steps);
    path.resize(half);
  }
  function draw() {
    if (root.clientWidth === 0) return;
    if (width !== root.clientWidth || steps !== settings().steps) arrange();
    for (const control of [plane, share, compose, question, ...chosen]) control.refresh();
    const painted = presetOf(state(), presets);
    presets.forEach(({ name }, i) => buttons[i].setAttribute("aria-pressed", name === painted));
    const refused = refusal(state());
    go.textContent = running ? "Stop" : "Train";
    go.setAttribute("aria-disabled", Boolean(refused) && !running);
    const waiting = !running && !frames.length && !asked.has(key());
    ask.textContent = waiting
      ? "Guess first: where will the error be large? Mark it here, then train."
      : `Where the error of the ${names[1]} is large.`;
    over.hidden = !waiting;
    const last = frames.at(-1);
    if (last && isStill() && running && last.step < 10 * shown) return; // states instead of motion
    shown = last?.step || 1;
    progress.textContent = last
      ? `step ${last.step.toLocaleString("en-US")} of ${settings().steps.toLocaleString("en-US")}, ` +
        `${last.seconds.toFixed(1)} s, ${last.gigaflops.toFixed(0)} GFLOP/s a seed`
      : "";
    const both = support().flatMap((on, i) => (on && holdsBoth(i) ? [(Math.floor(i / SIDE) - 1) * (SIDE - 1) + (i % SIDE) - 1] : []));
    map.draw(last?.map ?? [], both, waiting ? [] : [...guess]);
    losses.draw(frames);
    path.draw(frames);
    verdict.textContent = words();
    takeaway.refresh();
  }
  const redraw = perFrame(draw);

  root.dataset.state = "ready";
  voice.say(""); // what stands there at first is not said
  start();
  const endLive = live(model, [], root, draw);
  for (const name of ["support", "settings"]) model.on(`change:${name}`, reset);

  /** What the address asks for, or what suits a phone. */
  function start() {
    const own = state();
    const said = inPage ? fromAddress(location.hash, place, own, choices) : own;
    if (said !== own) {
      change(said);
      requestAnimationFrame(() => root.scrollIntoView()); // an address of a playground leads to it
    } else if (isPhone()) model.set("settings", { ...settings(), seeds: 3, steps: 1000 });
  }
  return () => {
    running?.end();
    clearTimeout(later);
    endLive();
    redraw.cancel();
    voice.stop();
    for (const name of ["support", "settings"]) model.off(`change:${name}`, reset);
  };
}

/** What a reader takes away: YAML, the address, a picture. */
function takeAway({ state, payload, save, address }) {
  const said = make("span", { role: "status", class: "sp-said" });
  const area = (name) => make("textarea", { readonly: true, rows: 12, spellcheck: "false", "aria-label": name, ...OWN_KEYS });
  const files = { "data_distribution.yaml": area("data_distribution.yaml"), "training.yaml": area("training.yaml") };
  const columns = Object.entries(files).map(([name, node]) => make("div", {}, make("code", {}, name), node));
  const how = "Put these in the place of the two files of the book and run: python -m spectral_tutorial run book/meta_config.yaml";
  const shown = make("div", { hidden: true }, make("p", {}, how), make("div", { class: "sp-files" }, ...columns));

  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${what} copied.`;
    } catch {
      said.textContent = `The browser does not let a page copy: select the ${what} and copy it.`;
    }
  }
  const refresh = () => {
    const { distribution, training } = toYaml(state(), payload);
    [files["data_distribution.yaml"].value, files["training.yaml"].value] = [distribution, training];
  };
  const yaml = button("Copy as YAML", () => {
    shown.hidden = false;
    refresh();
    return copy(Object.entries(files).map(([name, { value }]) => `# --- ${name}\n${value}`).join("\n"), "YAML");
  });
  const link = button("Copy link", () => copy(address(), "address"));
  const picture = button("Save picture", () => save().then(() => (said.textContent = "Picture saved.")));
  const row = make("div", { class: "se-row sp-take" }, yaml, ...(address ? [link] : []), picture, said);
  return { node: make("div", {}, row, shown), refresh: () => shown.hidden || refresh() };
}

export default { render };
