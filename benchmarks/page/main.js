// Draw every section once; from then on each follows the shared state.

function lead() {
  const count = DATA.pictures.length;
  if (!count) return "Nothing has been measured yet.";
  const ours = DATA.curves.filter((curve) => curve.group === "hvcodec").length;
  const others = DATA.curves.filter((curve) => curve.group === "measured").length;
  return `${count} ${count === 1 ? "picture" : "pictures"} of the set “${DATA.set}”: `
    + `${ours ? `${ours} curves of hvcodec, ` : ""}${others} of the codecs people use, in one run on the same pixels. `
    + `Every point is a file that was written, read back and decoded.`;
}

byId("lead").textContent = lead();
setUpCurves();
setUpWipe();
setUpLayers();
setUpAllocation();
setUpSpeed();
setUpAbout();
document.documentElement.dataset.ready = "true";
