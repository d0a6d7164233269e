// TrajectoryPlayer: where the test predictions of one seed move while it learns, beside the path of its errors.

const SECONDS = 12; // from the first checkpoint to the last
const stillness = () => matchMedia("(prefers-reduced-motion: reduce)");

/** Predictions of one seed between two checkpoints, (N, 2) flat; `at` is a checkpoint number with a fraction. */
export function between(values, shape, seed, at) {
  const [, checkpoints, n] = shape;
  const before = Math.min(Math.floor(at), checkpoints - 1);
  const after = Math.min(before + 1, checkpoints - 1);
  const start = (seed * checkpoints + before) * n * 2;
  const end = (seed * checkpoints + after) * n * 2;
  const part = at - before;
  return Float64Array.from(
    { length: 2 * n },
    (_, i) => values[start + i] + part * (values[end + i] - values[start + i]),
  );
}

function render({ model, el }) {
  const payload = model.get("payload");
  const { reported, seeds, steps, epochs, mse } = payload;
  const predictions = unpackRange(payload.predictions); // (S, C, N, 2), flat
  const shape = payload.predictions.shape;
  const last = steps.length - 1;
  const voice = announcer();
  let moving = null; // { at, time } while it plays: the model knows whole checkpoints only

  const seedNumber = () => seeds.findIndex(({ seed }) => seed === model.get("seed"));
  const when = (k) =>
    `step ${steps[k].toLocaleString("en-US")}, epoch ${number(epochs[k], epochs[k] < 10 ? 1 : 0)}`;
  const bound = (name) => ({ get: () => model.get(name), set: (value) => write(model, name, value) });
  const scrub = slider({
    label: "Checkpoint",
    min: 0,
    max: last,
    step: 1,
    format: when,
    get: () => model.get("checkpoint"),
    set: (value) => {
      pause();
      write(model, "checkpoint", value);
    },
  });
  const options = {
    "": seeds.map(({ seed, note }) => [String(seed), note ? `seed ${seed} (${note})` : `seed ${seed}`]),
  };
  const choose = (text) => write(model, "seed", Number(text));
  const chosen = chooser({ label: "Network", options, get: () => String(model.get("seed")), set: choose });
  const play = button("Play", () => toggle(), { class: "se-button se-play" });

  // --- charts
  const plane = new Chart(
    `Test spectra in the plane of ${reported[0].phrase} and ${reported[1].phrase}: truth and prediction`,
  );
  const truth = plot("se-true-dots");
  const ties = plot("se-ties");
  const cloud = plot("se-cloud");
  plane.inside.append(truth, ties, cloud);
  const errors = new Chart(
    `Mean squared errors of ${reported[0].phrase} and ${reported[1].phrase}, checkpoint by checkpoint`,
  );
  const others = plot("se-others");
  const trail = { test: plot("se-trail se-test"), val: plot("se-trail se-val") };
  const gone = { test: plot("se-gone se-test"), val: plot("se-gone se-val") };
  const spot = {
    test: make("circle", { class: "se-spot se-test", r: 6 }),
    val: make("circle", { class: "se-spot se-val", r: 6 }),
  };
  const names = {
    test: make("text", { class: "se-on-plot" }, "OOD"),
    val: make("text", { class: "se-on-plot" }, "ID"),
  };
  errors.inside.append(others, gone.val, gone.test, trail.val, trail.test);
  errors.over.append(spot.val, spot.test, names.val, names.test);
  const words = make("p", { class: "se-verdict" });
  const left = make(
    "div",
    { class: "se-left" },
    plane.svg,
    legend("se-key-truth", "truth", "se-key-held", "prediction"),
  );
  const key = legend("se-key-held", "held-out combination (OOD)", "se-key-val", "like training (ID)");
  const right = make("div", { class: "se-right" }, errors.svg, key);
  const root = make(
    "div",
    { class: "se-root" },
    make("div", { class: "se-panel se-player" }, play, scrub.node, chosen.node),
    make("div", { class: "se-two" }, left, right),
    words,
    voice.node,
  );
  el.append(root);

  // --- playing
  let timer = 0;
  function pause() {
    cancelAnimationFrame(timer);
    timer = 0;
    if (moving) write(model, "checkpoint", Math.round(moving.at));
    moving = null;
    if (model.get("playing")) write(model, "playing", false);
  }
  function toggle() {
    if (stillness().matches) {
      // one checkpoint a press: for whoever asked for no motion it stops by itself
      write(model, "checkpoint", model.get("checkpoint") === last ? 0 : model.get("checkpoint") + 1);
    } else write(model, "playing", !model.get("playing"));
  }
  function frame(now) {
    if (!root.isConnected) return;
    const elapsed = moving.time === null ? 0 : Math.min(now - moving.time, 100);
    moving.time = now;
    moving.at = Math.min(last, moving.at + (elapsed / 1000) * (last / SECONDS));
    if (Math.floor(moving.at) !== model.get("checkpoint")) write(model, "checkpoint", Math.floor(moving.at));
    else draw();
    if (moving.at < last) timer = requestAnimationFrame(frame);
    else pause();
  }
  function follow() {
    if (model.get("playing") && stillness().matches) write(model, "playing", false);
    else if (model.get("playing") && !moving) {
      moving = { at: model.get("checkpoint") === last ? 0 : model.get("checkpoint"), time: null };
      timer = requestAnimationFrame(frame);
    } else if (!model.get("playing") && moving) pause();
  }
  const calm = stillness();
  calm.addEventListener("change", follow);
  model.on("change:playing", follow);

  // --- drawing
  let layout = { width: 0 };
  const dots = (values) => {
    let text = "";
    for (let i = 0; i < values.length; i += 2)
      text += `M${tenth(plane.x(values[i]))} ${tenth(plane.y(values[i + 1]))}h0`;
    return text;
  };
  const path = (points) =>
    points.map(([x, y], k) => `${k ? "L" : "M"}${tenth(errors.x(x))} ${tenth(errors.y(y))}`).join("");
  const finite = (points) => points.filter((point) => point.every((v) => v > 0 && v < 1e6));

  function arrange() {
    const width = root.clientWidth;
    const narrow = isNarrow(root);
    const side = narrow ? Math.min(width, 400) : Math.floor((width - 20) / 2);
    const box = { width: side, height: narrow ? 224 : Math.min(side, 360) - 10, left: 52, right: 8, top: 6, bottom: 38 };
    const domain = payload.domain;
    plane.resize(box, { domain, label: reported[0].name }, { domain, label: reported[1].name });
    const flat = finite([...mse.test.flat(), ...mse.val.flat()]);
    const edge = (i) => {
      const logs = flat.map((point) => Math.log10(point[i]));
      return [10 ** (Math.min(...logs) - 0.15), 10 ** (Math.max(...logs) + 0.15)];
    };
    const log = true;
    const x = { domain: edge(0), log, label: `MSE of ${reported[0].phrase}` };
    errors.resize(box, x, { domain: edge(1), log, label: `MSE of ${reported[1].phrase}` });
    truth.setAttribute("d", dots(payload.truth.flat()));
    others.setAttribute("d", mse.test.map((points) => path(finite(points))).join(""));
    layout = { width };
  }

  function draw() {
    if (root.clientWidth === 0) return;
    if (layout.width !== root.clientWidth) arrange();
    const s = seedNumber();
    const k = model.get("checkpoint");
    const at = moving ? moving.at : k;
    const now = between(predictions, shape, s, at);
    cloud.setAttribute("d", dots(now));
    ties.setAttribute(
      "d",
      payload.truth
        .slice(0, 60)
        .map(([x, y], i) => {
          const from = `M${tenth(plane.x(x))} ${tenth(plane.y(y))}`;
          return `${from}L${tenth(plane.x(now[2 * i]))} ${tenth(plane.y(now[2 * i + 1]))}`;
        })
        .join(""),
    );
    for (const split of ["val", "test"]) {
      const points = mse[split][s];
      trail[split].setAttribute("d", path(finite(points.slice(0, k + 1))));
      gone[split].setAttribute("d", path(finite(points)));
      const [x, y] = points[k].map((value) => Math.max(value, 1e-9));
      spot[split].setAttribute("transform", `translate(${tenth(errors.x(x))} ${tenth(errors.y(y))})`);
      names[split].setAttribute("x", tenth(errors.x(x)) + 10);
      names[split].setAttribute("y", tenth(errors.y(y)) + 4);
    }
    scrub.refresh();
    chosen.refresh();
    play.textContent = stillness().matches ? "Next checkpoint" : model.get("playing") ? "Pause" : "Play";
    const error = (split) => `${number(mse[split][s][k][1], 4)}`;
    words.textContent = `At ${when(k)} the error (MSE) of ${reported[1].phrase} is ${error("val")} on spectra like the training ones and ${error("test")} on the held-out combination.`;
    if (!model.get("playing")) voice.say(words.textContent);
  }

  const stop = live(model, ["seed", "checkpoint", "playing"], root, draw);
  follow();
  return () => {
    stop();
    voice.stop();
    cancelAnimationFrame(timer);
    calm.removeEventListener("change", follow);
    model.off("change:playing", follow);
  };
}

function legend(...entries) {
  const parts = [];
  for (let i = 0; i < entries.length; i += 2) {
    parts.push(make("span", {}, make("i", { class: `se-key ${entries[i]}` }), entries[i + 1]));
  }
  return make("div", { class: "se-legend" }, ...parts);
}

export default { render };
