// The playground's controls: the plane that is painted, the plane of the guess, the settings.

/**
 * A square of cells that a mouse, a finger or the keyboard switches on and off; the arrow keys move between them.
 * `cells` are numbers row by row from below, `nameOf` says what each is called, and `set` gets a cell and its new value.
 */
function cellPlane({ side, label, nameOf, isOn, set, className }) {
  const nodes = [];
  const node = make("div", { class: `sp-plane ${className}`, role: "group", "aria-label": label });
  for (let row = side - 1; row >= 0; row--) {
    for (let column = 0; column < side; column++) {
      const i = row * side + column;
      nodes[i] = make("button", { type: "button", class: "sp-cell", "data-cell": i, tabindex: -1, ...OWN_KEYS });
      node.append(nodes[i]);
    }
  }
  nodes[0].tabIndex = 0;

  let stroke = null; // the value that a drag paints
  let pressed = false; // whether a click comes from a press that has painted already
  const cellAt = ({ clientX, clientY }) => {
    const found = document.elementFromPoint(clientX, clientY)?.closest?.(".sp-cell");
    return found && node.contains(found) ? Number(found.dataset.cell) : undefined;
  };
  node.addEventListener("pointerdown", (event) => {
    const i = cellAt(event);
    if (event.button !== 0 || i === undefined) return;
    stroke = !isOn(i);
    pressed = true;
    set(i, stroke);
    node.setPointerCapture(event.pointerId);
  });
  node.addEventListener("pointermove", (event) => {
    const i = stroke === null ? undefined : cellAt(event);
    if (i !== undefined && isOn(i) !== stroke) set(i, stroke);
  });
  for (const name of ["pointerup", "pointercancel"]) node.addEventListener(name, () => (stroke = null));
  node.addEventListener("click", (event) => {
    const i = Number(event.target.closest?.(".sp-cell")?.dataset.cell ?? NaN);
    if (!pressed && Number.isInteger(i)) set(i, !isOn(i)); // from the keyboard, or from a screen reader
    pressed = false;
  });
  node.addEventListener("keydown", (event) => {
    const way = arrowOf(event);
    const i = nodes.indexOf(event.target);
    pressed = false;
    if (!way) return;
    const [x, y] = [(i % side) + way[0], Math.floor(i / side) + way[1]];
    if (x < 0 || y < 0 || x >= side || y >= side) return;
    focus(y * side + x);
    nodes[y * side + x].focus();
  });
  node.addEventListener("focusin", (event) => focus(nodes.indexOf(event.target)));
  function focus(i) {
    if (i < 0) return;
    for (const other of nodes) other.tabIndex = -1;
    nodes[i].tabIndex = 0; // where Tab comes back to
  }

  const refresh = () =>
    nodes.forEach((cell, i) => {
      const on = isOn(i);
      cell.classList.toggle("sp-on", on);
      const name = nameOf(i, on);
      if (cell.getAttribute("aria-label") !== name) cell.setAttribute("aria-label", name);
    });
  return { node, refresh };
}

/** The plane of what training may contain. */
function painter({ names, range, support, set }) {
  const nameOf = (i, on) => `${cellName(i, names, range)}, ${on ? "" : "not "}in the training set`;
  const label = `What training contains: ${names[0]} from left to right, ${names[1]} upward`;
  const plane = cellPlane({
    side: SIDE,
    label,
    nameOf,
    className: "sp-painter",
    isOn: (i) => Boolean(support()[i]),
    set: (i, on) => set(support().map((old, k) => (k === i ? Number(on) : old))),
  });
  const across = make("div", { class: "sp-across", "aria-hidden": "true" });
  across.append(make("span", {}, "none"), make("span", {}, `${names[0]} →`));
  const up = make("div", { class: "sp-up", "aria-hidden": "true" });
  up.append(make("span", {}, "none"), make("span", {}, `${names[1]} →`));
  return { ...plane, node: make("div", { class: "sp-framed" }, up, plane.node, across) };
}

/** The plane on which a reader says beforehand where the errors will be large. */
function guesser({ names, range: [low, high], guess, set }) {
  const side = 4;
  const ends = (k) => [k, k + 1].map((edge) => Number((low + (edge / side) * (high - low)).toFixed(6))).join(" to ");
  const nameOf = (i, on) =>
    `${names[0]} ${ends(i % side)}, ${names[1]} ${ends(Math.floor(i / side))}, ${on ? "large" : "no large"} error guessed`;
  return cellPlane({
    side,
    label: "Your guess: where will the error be large?",
    nameOf,
    className: "sp-guess",
    isOn: (i) => guess().has(i),
    set,
  });
}

const SAYS = {
  steps: (value) => value.toLocaleString("en-US"),
  spectra: (value) => value.toLocaleString("en-US"),
  hidden: (value) => `${value} and ${value / 2}`,
  log: (value) => (value ? "log flux" : "flux"), // a list is narrow; both are standardized
};

/** Lists to choose a setting from, and sliders for those with many values. */
function settingControls({ choices, noise, get, set }) {
  const says = {
    ...SAYS,
    noise: (value) => noise.map((level) => percent(level * value)).join(" to "),
  };
  return Object.entries(choices)
    .filter(([name]) => name !== "share" && name !== "composed")
    .map(([name, { label, values }]) => {
      if (values.length > 10) {
        const ends = { min: values[0], max: values.at(-1), step: values[1] - values[0] };
        return slider({ label, ...ends, format: String, get: () => get(name), set: (value) => set(name, value) });
      }
      const options = { "": values.map((value, k) => [String(k), (says[name] ?? String)(value)]) };
      const chosen = () => String(values.indexOf(get(name)));
      return chooser({ label, options, get: chosen, set: (text) => set(name, values[Number(text)]) });
    });
}
