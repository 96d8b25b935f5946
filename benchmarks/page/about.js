// Where the numbers come from: machine, versions, sources, and what could not be measured.

function table(head, rows) {
  return el("div", { class: "facts" }, el("table", {},
    el("thead", {}, el("tr", {}, ...head.map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell ?? "–")))))));
}

function folded(title, content, open = false) {
  return el("details", { open }, el("summary", {}, title), content);
}

function setUpAbout() {
  const parts = [];
  const failures = DATA.codecs.flatMap((codec) => codec.failures.map((one) => [codec.title, one.picture, one.setting, one.error]));
  if (DATA.codecs.length) {
    parts.push(folded("Codecs and versions", table(["Codec", "Version", "Measured on", "Machine", "Commit"],
      DATA.codecs.map((codec) => [codec.title, codec.version, codec.date, codec.cpu, codec.commit])), true));
  }
  if (DATA.unavailable.length) {
    parts.push(folded("Not available on this machine", table(["Codec", "Reason"], DATA.unavailable.map((one) => [one.title, one.reason])), true));
  }
  if (failures.length) {
    parts.push(folded("Failures", table(["Codec", "Picture", "Setting", "Error"], failures), true));
  }
  const { calibration } = DATA.studies;
  if (calibration) {
    const say = (value) => (value === null ? null : `${value < 0 ? "" : "+"}${number(value, 2)} dB`);
    parts.push(folded("Agreement with published curves", el("div", {},
      el("p", { class: "note" }, `With the published settings our points lie within ${calibration.tolerance_db} dB of the published curves; the last columns say how far the curves of this page lie above them, and why.`),
      table(["Published", "Quality", "bpp", "PSNR", "Same settings", "This page's curve", "Why"],
        calibration.rows.map((row) => [row.anchor.split("/")[1], row.options.quality, row.bpp.toFixed(3), `${row.psnr_db.toFixed(2)} dB`, say(row.difference_db), say(row.report_difference_db), row.why])))));
  }
  const others = DATA.curves.filter((curve) => curve.group === "published" || curve.group === "anchor");
  if (others.length) {
    parts.push(folded("Sources of the other curves", table(["Curve", "Source"], others.map((curve) => [curve.title, curve.source]))));
  }
  const machine = DATA.environment;
  parts.push(folded("This page", table(["", ""], [
    ["Made", machine.date], ["Commit", machine.commit], ["Machine", `${machine.cpu}, ${machine.cores} cores, ${machine.system}`],
    ["Packages", Object.entries(machine.packages).map(([name, version]) => `${name} ${version}`).join(", ")],
  ])));
  byId("about-body").replaceChildren(...parts);
}
