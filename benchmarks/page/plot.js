// An x-y plot in SVG: axes, lines, points, hover and keyboard read-out. It redraws when its width changes.

const MARGIN = { right: 14, top: 14, bottom: 46 };
const DIGIT = 6.9; // width of a digit of the tick labels

function linearTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) ticks.push(tick);
  return ticks.map((tick) => Number(tick.toPrecision(10)));
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of [1, 2, 5]) {
      const tick = factor * 10 ** power;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(Number(tick.toPrecision(6)));
    }
  }
  return ticks;
}

function scale(axis, low, high, from, to) {
  const map = axis.log ? Math.log : (value) => value;
  const factor = (to - from) / (map(high) - map(low) || 1);
  return (value) => from + (map(value) - map(low)) * factor;
}

function extent(values, axis) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (axis.from !== undefined) low = axis.from;
  if (axis.to !== undefined) high = axis.to;
  if (axis.log) return [low / 1.06, high * 1.06];
  const pad = (high - low || 1) * 0.05;
  return [axis.from !== undefined ? low : low - pad, axis.to !== undefined ? high : high + pad];
}

function ticksOf(axis, low, high, room) {
  return axis.log ? logTicks(low, high) : linearTicks(low, high, Math.max(3, Math.round(room / 70)));
}

function tickText(axis, tick) {
  return axis.format ? axis.format(tick) : String(tick).replace("-", MINUS);
}

// spec: {label, x: {title, log, from, to}, y, series: [{name, title, colour, dashed, own, points: [[x, y, text]],
// line, dots, background}], under(frame): nodes drawn below the series, ratio}
class Plot {
  constructor(host) {
    this.host = host;
    this.tooltip = el("div", { class: "tooltip", role: "status", "aria-live": "polite" });
    this.width = 0;
    new ResizeObserver(() => {
      if (this.spec && Math.abs(host.clientWidth - this.width) > 1) this.draw(this.spec);
    }).observe(host);
  }

  draw(spec) {
    this.spec = spec;
    this.width = Math.max(this.host.clientWidth, 240);
    const height = Math.round(Math.min(Math.max(this.width * (spec.ratio || 0.66), 260), 540));
    const xs = spec.series.flatMap((series) => series.points.map((point) => point[0]));
    const ys = spec.series.flatMap((series) => series.points.map((point) => point[1]));
    if (!xs.length) {
      this.host.replaceChildren(empty(spec.nothing || "Nothing is selected."));
      return;
    }
    const [left, right] = extent(xs, spec.x);
    const [low, high] = extent(ys, spec.y);
    const frame = { top: MARGIN.top, right: this.width - MARGIN.right, bottom: height - MARGIN.bottom };
    const labels = ticksOf(spec.y, low, high, frame.bottom - frame.top).map((tick) => tickText(spec.y, tick).length);
    frame.left = 34 + DIGIT * Math.max(...labels, 1);
    frame.x = scale(spec.x, left, right, frame.left, frame.right);
    frame.y = scale(spec.y, low, high, frame.bottom, frame.top);
    this.svg = svg("svg", {
      viewBox: `0 0 ${this.width} ${height}`, tabindex: 0, role: "img", "aria-label": spec.label,
      onpointermove: (event) => this.point(event), onpointerdown: (event) => this.point(event),
      onpointerleave: () => this.leave(), onblur: () => this.leave(), onkeydown: (event) => this.key(event),
    });
    this.axes(frame, [left, right], [low, high], height);
    if (spec.under) this.svg.append(...spec.under(frame));
    this.marks = [];
    this.groups = spec.series.map((series) => this.series(series, frame));
    this.svg.append(...this.groups);
    this.halo = svg("circle", { r: 7, fill: "none", "stroke-width": 2, visibility: "hidden" });
    this.svg.append(this.halo);
    this.host.replaceChildren(this.svg, this.tooltip);
  }

  axes(frame, [left, right], [low, high], height) {
    const { x, y } = this.spec;
    for (const tick of ticksOf(x, left, right, frame.right - frame.left)) {
      const at = frame.x(tick);
      this.svg.append(
        svg("line", { class: "gridline", x1: at, x2: at, y1: frame.top, y2: frame.bottom }),
        svg("text", { x: at, y: frame.bottom + 18, "text-anchor": "middle" }, tickText(x, tick)),
      );
    }
    for (const tick of ticksOf(y, low, high, frame.bottom - frame.top)) {
      const at = frame.y(tick);
      this.svg.append(
        svg("line", { class: "gridline", x1: frame.left, x2: frame.right, y1: at, y2: at }),
        svg("text", { x: frame.left - 8, y: at + 4, "text-anchor": "end" }, tickText(y, tick)),
      );
    }
    this.svg.append(
      svg("rect", { class: "frame", x: frame.left, y: frame.top, width: frame.right - frame.left, height: frame.bottom - frame.top }),
      svg("text", { class: "axis-title", x: (frame.left + frame.right) / 2, y: height - 6, "text-anchor": "middle" }, x.title),
      svg("text", { class: "axis-title", x: 0, y: 0, "text-anchor": "middle",
        transform: `translate(13 ${(frame.top + frame.bottom) / 2}) rotate(-90)` }, y.title),
    );
  }

  series(series, frame) {
    const group = svg("g", { "data-name": series.name });
    const at = series.points.map(([x, y]) => [frame.x(x), frame.y(y)]);
    if (series.line !== false) {
      const path = at.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
      group.append(svg("path", {
        class: series.own ? "curve own" : "curve", d: path, stroke: series.colour,
        "stroke-dasharray": series.dashed ? "5 4" : null,
      }));
    }
    at.forEach(([x, y], index) => {
      const radius = series.dots ?? (series.own ? 3.6 : series.dashed ? 2 : 2.8);
      const fill = series.colours ? series.colours[index] : series.colour;
      if (radius) group.append(svg("circle", { cx: x, cy: y, r: radius, fill }));
      if (!series.background) this.marks.push({ x, y, series, group, point: series.points[index], index, colour: fill });
    });
    return group;
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const unit = this.width / box.width;
    const [x, y] = [(event.clientX - box.left) * unit, (event.clientY - box.top) * unit];
    let best = null;
    let nearest = 48 * 48;
    for (const mark of this.marks) {
      const distance = (mark.x - x) ** 2 + (mark.y - y) ** 2;
      if (distance < nearest) [best, nearest] = [mark, distance];
    }
    if (best) this.show(best);
    else this.leave();
  }

  key(event) {
    const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const step = steps[event.key];
    if (!step || !this.marks.length) return;
    event.preventDefault();
    const current = this.current || this.marks[0];
    if (step[0]) {
      const own = this.marks.filter((mark) => mark.series === current.series);
      const next = own.indexOf(current) + (this.current ? step[0] : 0);
      this.show(own[Math.min(Math.max(next, 0), own.length - 1)]);
    } else {
      const all = [...new Set(this.marks.map((mark) => mark.series))];
      const next = all[(all.indexOf(current.series) + step[1] + all.length) % all.length];
      const own = this.marks.filter((mark) => mark.series === next);
      this.show(own.reduce((a, b) => (Math.abs(a.x - current.x) < Math.abs(b.x - current.x) ? a : b)));
    }
  }

  show(mark) {
    this.current = mark;
    for (const group of this.groups) group.classList.toggle("faded", group !== mark.group);
    for (const [name, value] of [["cx", mark.x], ["cy", mark.y], ["stroke", mark.colour], ["visibility", "visible"]]) {
      this.halo.setAttribute(name, value);
    }
    this.tooltip.replaceChildren(el("b", {}, mark.series.title), ...mark.point[2].map((line) => el("div", {}, line)));
    this.tooltip.classList.add("visible");
    const unit = this.host.clientWidth / this.width;
    const [wide, high] = [this.tooltip.offsetWidth, this.tooltip.offsetHeight];
    const left = mark.x * unit + 14 + wide > this.host.clientWidth ? mark.x * unit - wide - 14 : mark.x * unit + 14;
    this.tooltip.style.left = `${Math.max(0, left)}px`;
    this.tooltip.style.top = `${Math.max(0, mark.y * unit - high / 2)}px`;
  }

  leave() {
    this.current = null;
    this.tooltip.classList.remove("visible");
    if (this.halo) this.halo.setAttribute("visibility", "hidden");
    for (const group of this.groups || []) group.classList.remove("faded");
  }
}
