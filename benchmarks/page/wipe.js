// Two codecs on one picture at equal bytes, with a divider to drag: pointer, touch and keyboard.

const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

class Wipe {
  constructor(host, wipe) {
    this.host = host;
    this.wipe = wipe;
    this.picture = 0;
    this.target = wipe.targets[0];
    const codecs = this.choices().map(([name]) => name);
    const own = codecs.filter((name) => name.startsWith("hvcodec"));
    const others = codecs.filter((name) => name !== "original" && !own.includes(name));
    this.left = own[0] || others[0] || "original";
    this.right = others.includes("avif-s4") && this.left !== "avif-s4" ? "avif-s4" : others.find((name) => name !== this.left) || "original";
    Object.assign(this, { split: 50, zoom: 1, panX: 0, panY: 0, pointers: new Map() });
    this.build();
    this.load();
  }

  choices() {
    const seen = new Map();
    for (const picture of this.wipe.pictures) for (const shown of picture.shown) seen.set(shown.codec, shown.title);
    return [...seen];
  }

  find(codec) {
    const { shown } = this.wipe.pictures[this.picture];
    return shown.find((one) => one.codec === codec && (one.target_bpp === null || one.target_bpp === this.target));
  }

  build() {
    const side = (which, title) =>
      el("label", {}, `${title} `, options(
        el("select", { id: `wipe-${which}`, onchange: (event) => { this[which] = event.target.value; this.load(); } }),
        this.choices(), this[which],
      ));
    const rates = segmented(el("div", { "aria-label": "Rate" }), "wipe-rate",
      this.wipe.targets.map((bpp) => [bpp, `${bpp} bpp`]), this.target,
      (bpp) => { this.target = Number(bpp); this.load(); });
    this.zoomText = el("output", {});
    const zoom = el("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
      el("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.zoomBy(-1) }, MINUS),
      this.zoomText,
      el("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.zoomBy(1) }, "+"));
    this.images = { left: el("img", { alt: "", draggable: "false" }), right: el("img", { alt: "", draggable: "false" }) };
    this.leftLayer = el("div", { class: "wipe-layer" }, this.images.left);
    this.divider = el("div", { class: "wipe-divider" });
    this.badges = { left: el("span", { class: "wipe-badge left" }), right: el("span", { class: "wipe-badge right" }) };
    this.stage = el("div", {
      class: "wipe-stage", id: "wipe-stage", tabindex: 0, role: "slider", "aria-label": "Divider between the two pictures",
      "aria-valuemin": 0, "aria-valuemax": 100,
      onkeydown: (event) => this.key(event), onpointerdown: (event) => this.down(event),
      onpointermove: (event) => this.move(event), onpointerup: (event) => this.up(event),
      onpointercancel: (event) => this.up(event), ondblclick: () => this.zoomBy(this.zoom > 1 ? -9 : 3),
    }, el("div", { class: "wipe-layer" }, this.images.right), this.leftLayer, this.badges.left, this.badges.right, this.divider);
    this.stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // a plain wheel scrolls the page
      event.preventDefault();
      this.zoomBy(event.deltaY < 0 ? 1 : -1, event);
    }, { passive: false });
    this.facts = { left: el("div"), right: el("div") };
    this.strip = el("div", { class: "strip", role: "group", "aria-label": "Pictures" },
      ...this.wipe.pictures.map((picture, index) =>
        el("button", { type: "button", title: picture.name, "aria-label": picture.name, onclick: () => this.go(index) },
          el("img", { src: picture.thumbnail, alt: "" }))));
    this.host.replaceChildren(
      el("div", { class: "controls" }, rates, side("left", "Left"), side("right", "Right"), zoom),
      this.stage, el("div", { class: "wipe-facts" }, this.facts.left, this.facts.right), this.strip);
  }

  go(index) {
    this.picture = (index + this.wipe.pictures.length) % this.wipe.pictures.length;
    this.strip.children[this.picture].scrollIntoView({ block: "nearest", inline: "nearest" });
    Object.assign(this, { zoom: 1, panX: 0, panY: 0 });
    this.load();
  }

  load() {
    const picture = this.wipe.pictures[this.picture];
    this.stage.style.aspectRatio = `${picture.width} / ${picture.height}`;
    this.stage.style.maxWidth = `calc(82vh * ${picture.width / picture.height})`;
    for (const which of ["left", "right"]) {
      const shown = this.find(this[which]);
      this.badges[which].textContent = shown ? shown.title : "not measured";
      this.images[which].alt = shown ? `${picture.name}, ${shown.title}` : "";
      if (shown) this.images[which].src = shown.src;
      else this.images[which].removeAttribute("src");
      this.facts[which].replaceChildren(...this.describe(shown, picture));
    }
    [...this.strip.children].forEach((button, index) => button.setAttribute("aria-pressed", index === this.picture));
    this.place();
  }

  describe(shown, picture) {
    if (!shown) return [el("b", {}, "not measured")];
    if (shown.codec === "original") {
      return [el("b", {}, "Original"), el("span", {}, `${picture.name}, ${picture.width} × ${picture.height}${picture.cropped ? ", cropped" : ""}`)];
    }
    const values = METRICS.map((metric) => {
      const raw = metric.id === "ms_ssim_db" ? shown.ms_ssim : shown[metric.id];
      if (raw === null || raw === undefined) return null;
      const value = metric.id === "ms_ssim_db" ? msSsimDb(raw) : raw;
      return `${metric.title} ${withUnit(value, metric)}`;
    }).filter(Boolean);
    const far = Math.abs(shown.bpp / shown.target_bpp - 1) > 0.06 ? ", its nearest" : "";
    return [el("b", {}, shown.title), el("span", {}, `${bytes(shown.n_bytes)} (${shown.bpp.toFixed(3)} bpp${far})`), el("br"), el("span", {}, values.join(" · "))];
  }

  place() {
    const { width, height } = this.stage.getBoundingClientRect();
    this.panX = Math.min(0, Math.max(width * (1 - this.zoom), this.panX));
    this.panY = Math.min(0, Math.max(height * (1 - this.zoom), this.panY));
    const transform = `translate(${this.panX}px, ${this.panY}px) scale(${this.zoom})`;
    for (const image of Object.values(this.images)) image.style.transform = transform;
    this.leftLayer.style.clipPath = `inset(0 ${100 - this.split}% 0 0)`;
    this.divider.style.left = `${this.split}%`;
    this.stage.classList.toggle("zoomed", this.zoom > 1);
    this.stage.classList.toggle("pixels", (width * this.zoom) / this.wipe.pictures[this.picture].width > 2.5);
    this.stage.setAttribute("aria-valuenow", Math.round(this.split));
    this.zoomText.textContent = `${this.zoom}×`;
  }

  splitTo(percentage) {
    this.split = Math.min(100, Math.max(0, percentage));
    this.place();
  }

  // Zoom by steps of the ladder around a point of the stage (its middle by default).
  zoomBy(steps, at) {
    const box = this.stage.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - box.left, at.clientY - box.top] : [box.width / 2, box.height / 2];
    const nearest = ZOOMS.reduce((best, zoom, index) => (Math.abs(zoom - this.zoom) < Math.abs(ZOOMS[best] - this.zoom) ? index : best), 0);
    this.zoomTo(ZOOMS[Math.min(Math.max(nearest + steps, 0), ZOOMS.length - 1)], x, y);
  }

  zoomTo(zoom, x, y) {
    const ratio = zoom / this.zoom;
    this.panX = x - (x - this.panX) * ratio;
    this.panY = y - (y - this.panY) * ratio;
    this.zoom = zoom;
    this.place();
  }

  key(event) {
    const step = event.shiftKey ? 10 : 2;
    const actions = {
      ArrowLeft: () => this.splitTo(this.split - step), ArrowRight: () => this.splitTo(this.split + step),
      Home: () => this.splitTo(0), End: () => this.splitTo(100),
      "+": () => this.zoomBy(1), "=": () => this.zoomBy(1), "-": () => this.zoomBy(-1), 0: () => this.zoomBy(-9),
      PageDown: () => this.go(this.picture + 1), PageUp: () => this.go(this.picture - 1),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  down(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.dragging = event.target === this.divider || this.zoom === 1 ? "divider" : "pan";
    this.stage.classList.toggle("panning", this.dragging === "pan");
    if (this.dragging === "divider" && event.pointerType === "mouse") this.follow(event);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) this.pinch(event);
    else if (this.dragging === "divider") this.follow(event);
    else {
      this.panX += event.clientX - before[0];
      this.panY += event.clientY - before[1];
      this.place();
    }
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  pinch(event) {
    const [a, b] = [...this.pointers.values()];
    const gap = Math.hypot(a[0] - b[0], a[1] - b[1]);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const now = Math.hypot(event.clientX - other[0], event.clientY - other[1]);
    const box = this.stage.getBoundingClientRect();
    const zoom = Math.min(8, Math.max(1, (this.zoom * now) / gap));
    this.zoomTo(zoom, (event.clientX + other[0]) / 2 - box.left, (event.clientY + other[1]) / 2 - box.top);
    this.zoomText.textContent = `${zoom.toFixed(1)}×`;
  }

  follow(event) {
    const box = this.stage.getBoundingClientRect();
    this.splitTo(((event.clientX - box.left) / box.width) * 100);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.stage.classList.remove("panning");
  }
}

function setUpWipe() {
  const host = byId("wipe-body");
  const wipe = DATA.wipe;
  if (!wipe || !wipe.pictures.length || wipe.pictures[0].shown.length < 2) {
    byId("wipe").querySelector(".note").remove();
    host.replaceChildren(empty("No pictures at equal bytes have been made yet."));
    return;
  }
  new Wipe(host, wipe);
}
