// Bits of each layer over the rate, stacked coarse to fine: in bits per pixel or as shares of the file.

function layerShares(points, asShares) {
  return points.map((point) => {
    const total = point.layer_bpp.reduce((sum, bpp) => sum + bpp, 0);
    let sum = 0;
    return [0, ...point.layer_bpp.map((bpp) => (sum += asShares ? bpp / total : bpp))];
  });
}

function drawLayers(plot, chips, line, asShares) {
  const points = [...line.points].sort((a, b) => a.bpp - b.bpp);
  const sums = layerShares(points, asShares);
  const count = points[0].layer_bpp.length;
  const colours = points[0].layer_bpp.map((_, layer) => ramp(count > 1 ? layer / (count - 1) : 0));
  const top = Math.max(...sums.map((column) => column[count]));
  plot.draw({
    label: `Bits of each layer of ${line.title} over the rate`,
    x: { title: "bits per pixel of the file", log: true },
    y: asShares
      ? { title: "share of the layers' bytes", from: 0, to: 1, format: (tick) => `${Math.round(tick * 100)} %` }
      : { title: "bits per pixel, stacked", from: 0, to: top * 1.03 },
    ratio: 0.42,
    under: (frame) =>
      colours.map((colour, layer) => {
        const edge = (index, column) => `${frame.x(points[column].bpp).toFixed(1)} ${frame.y(sums[column][index]).toFixed(1)}`;
        const columns = points.map((_, column) => column);
        const path = [...columns.map((c) => edge(layer + 1, c)), ...columns.reverse().map((c) => edge(layer, c))];
        return svg("path", { d: `M${path.join("L")}Z`, fill: colour });
      }),
    series: colours.map((colour, layer) => ({
      name: `layer ${layer + 1}`, title: `Layer ${layer + 1} of ${count}, stride ${line.strides[layer]}`, colour, line: false, dots: 0.01,
      points: points.map((point, column) => [
        point.bpp,
        (sums[column][layer] + sums[column][layer + 1]) / 2,
        [
          `${number(point.layer_bpp[layer], 4)} bpp of ${number(point.bpp, 3)}`,
          `${((100 * point.layer_bpp[layer]) / point.layer_bpp.reduce((a, b) => a + b, 0)).toFixed(1)} % of the layers`,
          `setting ${point.setting}`,
        ],
      ]),
    })),
  });
  chips.replaceChildren(...colours.map((colour, layer) => {
    const place = layer === 0 ? ", coarsest" : layer === count - 1 ? ", finest" : "";
    return el("li", { style: `--series: ${colour}` }, el("i"), `${layer + 1} (÷${line.strides[layer]})${place}`);
  }));
}

function setUpLayers() {
  const host = byId("layers-body");
  if (!DATA.layers.length) {
    host.replaceChildren(empty("hvcodec has not been measured on this set yet."));
    return;
  }
  let chosen = DATA.layers[0];
  let asShares = true;
  const place = el("div", { class: "plot", id: "layers-plot" });
  const chips = el("ul", { class: "chips", "aria-label": "Layers" });
  const select = options(el("select", { id: "layers-codec" }), DATA.layers.map((line) => [line.codec, line.title]), chosen.codec);
  const mode = segmented(el("div", { "aria-label": "Unit" }), "layers-unit",
    [["share", "Share"], ["bpp", "Bits per pixel"]], "share", (unit) => { asShares = unit === "share"; draw(); });
  host.replaceChildren(el("div", { class: "controls" }, mode, el("label", {}, "Curve ", select)), place, chips);
  const plot = new Plot(place);
  const draw = () => drawLayers(plot, chips, chosen, asShares);
  select.addEventListener("change", () => {
    chosen = DATA.layers.find((line) => line.codec === select.value);
    draw();
  });
  onChange(draw);
  draw();
}
