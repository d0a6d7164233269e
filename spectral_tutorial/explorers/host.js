(function host(kind, esm, css) {
  // What stands in for Jupyter in a page without a kernel: a model for each figure, and the module that draws it.
  // A classic script, since browsers refuse modules over file://; the module itself comes from a blob: address.
  class Model {
    constructor(values) {
      this.values = values;
      this.listeners = new Map();
    }
    get(name) {
      return this.values[name];
    }
    set(name, value) {
      if (this.values[name] === value) return;
      this.values[name] = value;
      this.emit(`change:${name}`, value);
      this.emit("change");
    }
    on(event, listener) {
      this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
    }
    off(event, listener) {
      this.listeners.set(event, (this.listeners.get(event) ?? []).filter((known) => known !== listener));
    }
    emit(event, value) {
      for (const listener of this.listeners.get(event) ?? []) listener(this, value);
    }
    save_changes() {} // there is no kernel to tell
  }

  async function mount() {
    const places = document.querySelectorAll(`.spectral-explorer[data-explorer="${kind}"]`);
    if (!places.length) return;
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
    const address = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
    const { default: explorer } = await import(address);
    URL.revokeObjectURL(address);
    for (const place of places) {
      const values = JSON.parse(place.querySelector("script").textContent);
      if (place.dataset.payload) values.payload = window.spectralExplorers[place.dataset.payload];
      const el = document.createElement("div");
      explorer.render({ model: new Model(values), el }); // should this fail, the picture stays
      place.replaceChildren(...place.querySelectorAll(":scope > img"), el); // paper shows the picture
      place.dataset.mounted = "true";
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mount);
  else mount();
})
