// Rate-distortion curves, the legend that toggles them, and the BD-rates against the chosen reference.

const GROUPS = [
  ["hvcodec", "hvcodec"],
  ["measured", "Measured in this run"],
  ["anchor", "Measured for this project"],
  ["published", "Published"],
];

function msSsimDb(value) {
  return -10 * Math.log10(Math.max(1 - value, 1e-9));
}

// The points of a curve in the chosen metric: the mean over the set, or one picture.
function pointsOf(curve, metric) {
  let rates = curve.bpp;
  let values = curve.quality[metric];
  if (state.picture) {
    const rows = (DATA.byPicture[state.picture] || {})[curve.name];
    if (!rows) return [];
    rates = rows.bpp;
    values = metric === "ms_ssim_db" ? rows.ms_ssim.map((v) => (v === null ? null : msSsimDb(v))) : rows[metric];
  }
  if (!values) return [];
  return rates
    .map((rate, index) => [rate, values[index]])
    .filter(([, value]) => value !== null)
    .sort((a, b) => a[0] - b[0]);
}

// Quality of a curve at a rate, linear in the logarithm of the rate; null beyond its ends.
function qualityAt(points, rate) {
  for (let i = 1; i < points.length; i++) {
    const [[r0, q0], [r1, q1]] = [points[i - 1], points[i]];
    if (r0 <= rate && rate <= r1) return q0 + ((q1 - q0) * Math.log(rate / r0)) / Math.log(r1 / r0);
  }
  return null;
}

function bdRate(name) {
  return ((DATA.bd[state.metric] || {})[state.reference] || {})[name];
}

const rdPlot = new Plot(byId("rd-plot"));

function drawCurves() {
  const metric = metricOf(state.metric);
  const reference = DATA.curves.find((curve) => curve.name === state.reference);
  const referencePoints = reference ? pointsOf(reference, metric.id) : [];
  const describe = (curve, [rate, value]) => {
    const lines = [`${number(rate, 3)} bpp, ${withUnit(value, metric)}`];
    const other = qualityAt(referencePoints, rate);
    if (other !== null && curve.name !== state.reference) {
      const gain = value - other;
      lines.push(`${gain < 0 ? "" : "+"}${withUnit(gain, metric)} against ${reference.title}`);
    }
    return lines;
  };
  const series = DATA.curves
    .filter((curve) => state.shown.has(curve.name))
    .map((curve) => ({
      name: curve.name, title: curve.title, colour: colourOf(curve.name), own: curve.group === "hvcodec",
      dashed: curve.group === "published" || curve.group === "anchor",
      points: pointsOf(curve, metric.id).map((point) => [...point, describe(curve, point)]),
    }))
    .filter((one) => one.points.length)
    .sort((a, b) => a.own - b.own); // ours last, so that they lie on top
  rdPlot.draw({
    label: `Rate and ${metric.title} of the selected codecs`,
    x: { title: "bits per pixel", log: true },
    y: { title: metric.unit ? `${metric.title}, ${metric.unit}` : metric.title },
    nothing: "No codec that is selected has this metric.",
    series,
  });
}

function legendRow(curve) {
  const rate = bdRate(curve.name);
  const own = curve.name === state.reference;
  const input = el("input", {
    type: "checkbox", value: curve.name, checked: state.shown.has(curve.name),
    onchange: (event) => {
      if (event.target.checked) state.shown.add(curve.name);
      else state.shown.delete(curve.name);
      drawCurves();
    },
  });
  const dashed = curve.group === "published" || curve.group === "anchor";
  const label = el("label", { title: curve.source }, input, el("span", { class: dashed ? "swatch dashed" : "swatch" }), curve.title);
  const kind = own ? "reference" : rate < 0 ? "better" : "";
  const text = own ? "reference" : rate === undefined ? "–" : percent(rate);
  return el("tr", { style: `--series: ${colourOf(curve.name)}` }, el("td", {}, label), el("td", { class: kind }, text));
}

function drawLegend() {
  const scrolled = byId("legend").scrollTop;
  const body = [];
  for (const [group, title] of GROUPS) {
    const members = DATA.curves.filter((curve) => curve.group === group && curve.quality[state.metric]);
    if (!members.length) continue;
    const rateOf = (curve) => (curve.name === state.reference ? 0 : bdRate(curve.name) ?? Infinity);
    members.sort((a, b) => rateOf(a) - rateOf(b));
    const all = members.every((curve) => state.shown.has(curve.name));
    const flip = el("button", {
      type: "button",
      onclick: () => {
        for (const curve of members) all ? state.shown.delete(curve.name) : state.shown.add(curve.name);
        change();
      },
    }, all ? "hide all" : "show all");
    body.push(el("tr", { class: "group" }, el("th", { colspan: 2 }, title, flip)), ...members.map(legendRow));
  }
  const head = el("thead", {}, el("tr", {}, el("th", {}, "Codec"), el("th", { title: "of the mean curves" }, "BD-rate")));
  byId("legend").replaceChildren(el("table", {}, head, el("tbody", {}, ...body)));
  byId("legend").scrollTop = scrolled;
}

function drawHeadline() {
  const ours = DATA.curves.filter((curve) => curve.group === "hvcodec");
  const against = ["published/vtm-18.0", "published/bpg-444-x265", "avif-s4-psnr", "jxl-e7", "webp-m6", "jpeg-420"];
  const tiles = [];
  for (const name of against) {
    const other = DATA.curves.find((curve) => curve.name === name);
    if (!other) continue;
    const metric = "psnr_db";
    const rates = ours
      .map((curve) => [(DATA.bd[metric][name] || {})[curve.name], curve])
      .filter(([rate]) => rate !== undefined)
      .sort((a, b) => a[0] - b[0]);
    if (!rates.length) continue;
    const [rate, curve] = rates[0];
    tiles.push(el("div", { class: "tile" }, el("b", {}, percent(rate)), el("span", {}, `bytes against ${other.title} at equal PSNR`), el("span", {}, curve.title)));
  }
  byId("headline").replaceChildren(...tiles);
  byId("headline").hidden = !tiles.length;
}

function setUpCurves() {
  const section = byId("curves");
  if (!DATA.curves.length) {
    section.querySelector(".controls").remove();
    section.querySelector(".curves-grid").replaceWith(empty("No curve has been measured yet."));
    byId("headline").hidden = true;
    return;
  }
  segmented(byId("metric"), "metric", METRICS.map((m) => [m.id, m.title]), state.metric, (metric) => change({ metric }));
  const everyone = [["", `Mean of ${DATA.pictures.length}`], ...DATA.pictures.map((name) => [name, name])];
  options(byId("picture"), everyone, "").addEventListener("change", (event) => change({ picture: event.target.value }));
  options(byId("reference"), DATA.curves.map((curve) => [curve.name, curve.title]), state.reference)
    .addEventListener("change", (event) => change({ reference: event.target.value }));
  onChange(drawCurves);
  onChange(drawLegend);
  drawHeadline();
  drawCurves();
  drawLegend();
}
