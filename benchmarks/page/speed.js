// Speed bars beside the other codecs, peak memory, and where hvcodec spends its time.

const SPEED_VIEWS = [
  ["encode_s", "Encode"],
  ["decode_s", "Decode"],
  ["encode_cold_s", "Encode, cold start"],
  ["decode_cold_s", "Decode, cold start"],
  ["peak_rss_mb", "Peak memory"],
];

function speedText(row, view) {
  return view === "peak_rss_mb" ? `${Math.round(row[view]).toLocaleString("en-US")} MB` : seconds(row[view]);
}

function drawBars(host, rows, view) {
  const values = rows.map((row) => row[view]).filter((value) => value > 0);
  if (!values.length) {
    host.replaceChildren(empty("Not measured at this size."));
    return;
  }
  const [low, high] = [Math.min(...values) / 3, Math.max(...values)];
  const reference = rows.find((row) => row.codec.startsWith("avif") && row[view] > 0);
  const cells = rows.flatMap((row) => {
    const name = el("div", { class: "name" }, row.label);
    if (!(row[view] > 0)) return [name, el("div", { class: "track" }, el("span", { class: "value" }, row.skipped || "not measured"))];
    const share = Math.log(row[view] / low) / Math.log(high / low);
    const ratio = reference && row !== reference ? ` · ${(row[view] / reference[view]).toPrecision(2)} × AVIF` : "";
    return [name, el("div", { class: "track", style: `--series: ${colourOf(row.codec)}; --share: ${share.toFixed(4)}` },
      el("div", { class: "fill" }), el("span", { class: "value" }, speedText(row, view) + ratio))];
  });
  host.replaceChildren(...cells);
}

function drawStages(study) {
  const shades = study.stages.map((_, index) => ramp(study.stages.length > 1 ? index / (study.stages.length - 1) : 0));
  const bars = study.runs.flatMap((run) => {
    const total = run.times_s.reduce((sum, value) => sum + value, 0);
    const pieces = run.times_s.map((value, index) => value > 0
      ? el("div", { style: `--series: ${shades[index]}; flex: ${value / total}`, title: `${study.stages[index]}: ${seconds(value)}` })
      : null);
    return [el("div", { class: "name" }, `${run.title}, ${seconds(total)}`), el("div", { class: "stack" }, ...pieces.filter(Boolean))];
  });
  const chips = study.stages.map((name, index) => el("li", { style: `--series: ${shades[index]}` }, el("i"), name));
  return [el("h3", {}, "Where the time goes"), el("div", { class: "bars" }, ...bars), el("ul", { class: "chips" }, ...chips)];
}

function setUpSpeed() {
  const host = byId("speed-body");
  const { speed, stages } = DATA.studies;
  const parts = [];
  if (speed) {
    const sizes = [...new Set(speed.rows.map((row) => row.megapixels))];
    let [size, view] = [sizes.includes(2) ? 2 : sizes[0], "encode_s"];
    const bars = el("div", { class: "bars", id: "speed-bars" });
    const draw = () => drawBars(bars, speed.rows.filter((row) => row.megapixels === size), view);
    const viewSelect = options(el("select", { id: "speed-view" }), SPEED_VIEWS, view);
    viewSelect.addEventListener("change", () => { view = viewSelect.value; draw(); });
    const choose = segmented(el("div", { "aria-label": "Size of the picture" }), "speed-size",
      sizes.map((one) => [one, `${one} MP`]), size, (one) => { size = Number(one); draw(); });
    parts.push(el("p", { class: "note" }, `${speed.environment.cpu}; logarithmic bars; all in one run on the same pictures.`),
      el("div", { class: "controls" }, viewSelect, choose), bars);
    onChange(draw);
    draw();
  } else {
    parts.push(empty("Speed has not been measured yet: run `python -m hvcodec_benchmarks speed`."));
  }
  if (stages) parts.push(...drawStages(stages));
  host.replaceChildren(...parts);
}
