// The allocation surface of one model: a metric over (rate of the coarse layers, rate of the fine layers),
// with lines of equal total rate, the hull of the best allocations, and the paths of the shipped profiles.
// Beside it, the same allocations over the total rate; below, rate and distortion in nats.

// Layers can be empty, and a logarithmic axis has no zero; less than this is of no use to anybody.
const drawn = (bpp) => Math.max(bpp, 0.01);

function qualityOfCell(cell, metric) {
  return metric === "ms_ssim_db" ? msSsimDb(cell.ms_ssim) : cell[metric];
}

function cellLines(cell, metric) {
  return [
    `ρ ${cell.rho.join(", ")}`,
    `${number(cell.bpp_coarse, 3)} + ${number(cell.bpp_fine, 3)} = ${number(cell.bpp, 3)} bpp`,
    withUnit(qualityOfCell(cell, metric.id), metric),
  ];
}

// Four neighbours of the grid make one patch, coloured by their mean quality.
function patches(study, metric, frame, shade) {
  const { grid } = study;
  const found = [];
  for (let i = 0; i + 1 < grid.length; i++) {
    for (let j = 0; j + 1 < grid[i].length; j++) {
      const indices = [grid[i][j], grid[i + 1][j], grid[i + 1][j + 1], grid[i][j + 1]];
      if (indices.includes(null)) continue; // left out: too far from what the networks know
      const corners = indices.map((index) => study.cells[index]);
      const mean = corners.reduce((sum, cell) => sum + qualityOfCell(cell, metric), 0) / 4;
      const path = corners.map((cell) => `${frame.x(drawn(cell.bpp_coarse)).toFixed(1)} ${frame.y(drawn(cell.bpp_fine)).toFixed(1)}`);
      found.push(svg("path", { d: `M${path.join("L")}Z`, fill: shade(mean), stroke: shade(mean), "stroke-width": 0.7 }));
    }
  }
  return found;
}

// Lines along which coarse and fine rate add up to the same total.
function equalRates(totals, frame, bounds) {
  return totals.map((total) => {
    const points = [];
    for (let share = 0.002; share < 1; share *= 1.06) {
      const [coarse, fine] = [total * share, total * (1 - share)];
      if (coarse >= bounds[0] && coarse <= bounds[1] && fine >= bounds[2] && fine <= bounds[3]) {
        points.push(`${frame.x(coarse).toFixed(1)} ${frame.y(fine).toFixed(1)}`);
      }
    }
    if (points.length < 2) return svg("g");
    const [x, y] = points[0].split(" ");
    return svg("g", {},
      svg("path", { d: `M${points.join("L")}`, fill: "none", stroke: "var(--ink)", "stroke-opacity": 0.45, "stroke-dasharray": "2 4" }),
      svg("text", { x: Number(x) + 3, y: Number(y) - 4 }, `${total} bpp`));
  });
}

function pathOf(cells, metric, coordinates) {
  return cells.map((cell) => [...coordinates(cell), cellLines(cell, metric)]);
}

function allocationSeries(study, metric, coordinates) {
  const lines = [
    { name: "hull", title: "Best allocations (convex hull)", colour: "var(--ink)", own: true, points: pathOf(study.hull[metric.id].map((i) => study.cells[i]), metric, coordinates) },
    { name: "equal", title: "All ρ equal", colour: "var(--quiet)", dashed: true, points: pathOf(study.equal.map((i) => study.cells[i]), metric, coordinates) },
  ];
  for (const profile of study.profiles) {
    lines.push({ name: profile.codec, title: profile.title, colour: colourOf(profile.codec), points: pathOf(profile.points, metric, coordinates) });
  }
  return lines.filter((line) => line.points.length);
}

function drawSurface(plot, study, metric) {
  const values = study.cells.map((cell) => qualityOfCell(cell, metric.id));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const shade = (value) => ramp((value - low) / (high - low || 1));
  const coordinates = (cell) => [drawn(cell.bpp_coarse), drawn(cell.bpp_fine)];
  const range = (name) => [Math.min(...study.cells.map((c) => drawn(c[name]))), Math.max(...study.cells.map((c) => drawn(c[name])))];
  const bounds = [...range("bpp_coarse"), ...range("bpp_fine")];
  const cells = { name: "cells", title: "Allocation", line: false, dots: 2.4, colour: "var(--ink)", points: pathOf(study.cells, metric, coordinates), colours: study.cells.map(() => "color-mix(in srgb, var(--ink) 55%, transparent)") };
  plot.draw({
    label: `${metric.title} over the rate of the coarse and the fine layers`,
    x: { title: `bits per pixel, strides ${study.coarse.join(", ")}`, log: true },
    y: { title: `bits per pixel, strides ${study.fine.join(", ")}`, log: true },
    ratio: 0.86,
    under: (frame) => [...patches(study, metric.id, frame, shade), ...equalRates([0.1, 0.2, 0.4, 0.8, 1.6], frame, bounds)],
    series: [cells, ...allocationSeries(study, metric, coordinates)],
  });
  return [low, high];
}

function drawTotals(plot, study, metric) {
  const coordinates = (cell) => [cell.bpp, qualityOfCell(cell, metric.id)];
  const cloud = { name: "cells", title: "Allocation", line: false, dots: 2.2, colour: "color-mix(in srgb, var(--quiet) 60%, transparent)", points: pathOf(study.cells, metric, coordinates) };
  plot.draw({
    label: `${metric.title} over the total rate of every allocation`,
    x: { title: "bits per pixel", log: true },
    y: { title: metric.unit ? `${metric.title}, ${metric.unit}` : metric.title },
    ratio: 0.86,
    series: [cloud, ...allocationSeries(study, metric, coordinates)],
  });
}

function drawPlane(plot, plane) {
  const thousands = (value) => value / 1000;
  const say = (row) => [`rate ${number(thousands(row.rate_nats), 1)} knats`, `distortion ${number(thousands(row.distortion_nats), 1)} knats`, `sum ${number(thousands(row.sum_nats), 1)} knats`, `ρ ${row.rho.join(", ")}`];
  const line = (rows, value) => rows.map((row) => [thousands(row.rate_nats), thousands(value(row)), say(row)]);
  const hull = plane.hull.map((index) => plane.rows[index]);
  plot.draw({
    label: "Rate and distortion in nats per picture",
    x: { title: "rate, thousand nats per picture" },
    y: { title: "thousand nats per picture" },
    ratio: 0.42,
    series: [
      { name: "cells", title: "Allocation", line: false, dots: 2.2, colour: "color-mix(in srgb, var(--quiet) 60%, transparent)", points: line(plane.rows, (row) => row.distortion_nats) },
      { name: "distortion", title: "Distortion along the hull", own: true, colour: "var(--accent)", points: line(hull, (row) => row.distortion_nats) },
      { name: "sum", title: "Rate + distortion along the hull", dashed: true, colour: "var(--ink)", points: line(hull, (row) => row.sum_nats) },
    ],
  });
}

function setUpAllocation() {
  const host = byId("allocation-body");
  const { allocation: study, plane } = DATA.studies;
  if (!study) {
    host.replaceChildren(empty("The allocation surface has not been measured yet: run `python -m hvcodec_benchmarks allocation`."));
    return;
  }
  const [surface, totals] = [el("div", { class: "plot" }), el("div", { class: "plot" })];
  const [colours, ends] = [el("div", { class: "ramp" }), el("div", { class: "ramp-ends" })];
  const chips = el("ul", { class: "chips" });
  host.replaceChildren(
    el("p", { class: "note" }, `Mean of ${study.pictures.length} pictures, ${study.cells.length} allocations. The metric is the one chosen for the curves above.`),
    el("div", { class: "two" }, el("div", {}, surface, colours, ends), totals), chips);
  const plots = [new Plot(surface), new Plot(totals)];
  const draw = () => {
    const metric = metricOf(state.metric);
    const [low, high] = drawSurface(plots[0], study, metric);
    drawTotals(plots[1], study, metric);
    colours.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(ramp).join(", ")})`;
    ends.replaceChildren(el("span", {}, withUnit(low, metric)), el("span", {}, metric.title), el("span", {}, withUnit(high, metric)));
    chips.replaceChildren(...allocationSeries(study, metric, () => [0, 0]).map((line) =>
      el("li", { style: `--series: ${line.colour}` }, el("i", { class: line.dashed ? "line dashed" : "line" }), line.title)));
  };
  onChange(draw);
  draw();
  if (plane) {
    const place = el("div", { class: "plot" });
    host.append(el("h3", {}, "Rate and distortion in nats"),
      el("p", { class: "note" }, "Rate plus distortion is the negative evidence bound, with a Gaussian observation whose scale is fitted at each point."),
      place);
    drawPlane(new Plot(place), plane);
  }
}
