// Small helpers that every section uses: elements, numbers, colours, and the state that sections share.

const DATA = JSON.parse(document.getElementById("data").textContent);

const METRICS = [
  { id: "psnr_db", title: "PSNR", unit: "dB", digits: 2 },
  { id: "ms_ssim_db", title: "MS-SSIM", unit: "dB", digits: 2 },
  { id: "ssimulacra2", title: "SSIMULACRA2", unit: "", digits: 1 },
];

function metricOf(id) {
  return METRICS.find((metric) => metric.id === id);
}

// el("p", {class: "note"}, "text", child): an element with attributes, listeners (on…) and children.
function el(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function byId(id) {
  return document.getElementById(id);
}

function empty(text) {
  return el("p", { class: "empty" }, text);
}

const MINUS = "\u2212";

function number(value, digits) {
  return value.toFixed(digits).replace("-", MINUS);
}

function percent(value) {
  const text = number(Math.abs(value), Math.abs(value) < 100 ? 1 : 0);
  return `${Number(text) === 0 ? "" : value < 0 ? MINUS : "+"}${text} %`;
}

function withUnit(value, metric) {
  return `${number(value, metric.digits)}${metric.unit ? " " + metric.unit : ""}`;
}

function bytes(count) {
  return `${count.toLocaleString("en-US")} bytes`;
}

function seconds(value) {
  if (value >= 100) return `${value.toFixed(0)} s`;
  if (value >= 1) return `${value.toFixed(1)} s`;
  return value >= 0.01 ? `${(value * 1000).toFixed(0)} ms` : `${(value * 1000).toFixed(1)} ms`;
}

const DARK = window.matchMedia("(prefers-color-scheme: dark)");

// hvcodec takes the warm hues, everybody else the cool ones: [hue, chroma, lightness by day, by night].
const WARM = [[32, 0.19, 0.52, 0.72], [80, 0.14, 0.68, 0.84], [0, 0.17, 0.58, 0.74], [45, 0.09, 0.42, 0.86], [350, 0.13, 0.5, 0.8], [62, 0.16, 0.62, 0.72], [20, 0.11, 0.66, 0.66]];
const COOL = [[250, 0.13, 0.52, 0.72], [165, 0.11, 0.55, 0.75], [300, 0.12, 0.53, 0.75], [215, 0.1, 0.58, 0.78], [130, 0.12, 0.57, 0.78], [275, 0.1, 0.42, 0.82], [190, 0.08, 0.45, 0.68], [325, 0.1, 0.55, 0.72], [110, 0.1, 0.52, 0.8], [235, 0.06, 0.5, 0.66]];

const COLOUR_OF = new Map();
for (const own of [true, false]) {
  // Those shown at first come first, so that they differ most.
  const members = DATA.curves.filter((curve) => (curve.group === "hvcodec") === own).sort((a, b) => b.shown - a.shown);
  members.forEach((curve, index) => {
    const palette = own ? WARM : COOL;
    COLOUR_OF.set(curve.name, palette[index % palette.length]);
  });
}

function oklch([hue, chroma, day, night]) {
  return `oklch(${DARK.matches ? night : day} ${chroma} ${hue})`;
}

function colourOf(name) {
  if (COLOUR_OF.has(name)) return oklch(COLOUR_OF.get(name));
  return name.startsWith("hvcodec") ? "var(--accent)" : "var(--quiet)";
}

// A ramp for ordered things (layers, quality): share runs from 0 to 1.
function ramp(share) {
  const lightness = DARK.matches ? 0.38 + 0.42 * share : 0.4 + 0.42 * share;
  return `oklch(${lightness.toFixed(3)} ${(0.11 + 0.02 * share).toFixed(3)} ${(272 - 205 * share).toFixed(1)})`;
}

// What sections share. Sections subscribe and are called when any of it changes.
const state = { metric: "psnr_db", reference: DATA.reference, picture: "", shown: new Set() };
for (const curve of DATA.curves) if (curve.shown) state.shown.add(curve.name);

const listeners = [];
function onChange(listener) {
  listeners.push(listener);
}
function change(values = {}) {
  Object.assign(state, values);
  for (const listener of listeners) listener();
}
DARK.addEventListener("change", () => change());

// A group of radio buttons that looks like one control.
function segmented(host, name, options, chosen, onChoice) {
  host.classList.add("segmented");
  host.setAttribute("role", "radiogroup");
  host.replaceChildren(
    ...options.map(([value, title]) => {
      const input = el("input", {
        type: "radio", name, value, checked: value === chosen, onchange: () => onChoice(value),
      });
      return el("label", {}, input, el("span", {}, title));
    }),
  );
  return host;
}

function options(select, entries, chosen) {
  select.replaceChildren(
    ...entries.map(([value, title]) => el("option", { value, selected: value === chosen }, title)),
  );
  return select;
}
