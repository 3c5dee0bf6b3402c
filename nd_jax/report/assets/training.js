// ---- as training goes: one slider moves a unit's picture, its tuning and its weights
function tuningCurve(tones, curves, k) {
  const all = curves.flat(), low = Math.min(0, ...all), high = Math.max(...all, low + 1e-9), n = tones.length;
  const d = (values) => "M" + values.map((v, i) => `${((100 * i) / (n - 1)).toFixed(2)} ${(100 - (100 * (v - low)) / (high - low)).toFixed(2)}`).join("L");
  const best = curves[k].indexOf(Math.max(...curves[k]));
  const text = `Mean activation for pure tones, highest ${num(curves[k][best])} at ${hertz(tones[best])}`;
  const marks = [50, 100, 200, 500, 1000, 2000, 5000, 10000].filter((f) => f >= tones[0] && f <= tones[n - 1]);
  const at = (f) => (100 * Math.log(f / tones[0])) / Math.log(tones[n - 1] / tones[0]);
  return [h("div", { class: "line", role: "img", "aria-label": text }, h("svg:svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, h("svg:path", { class: "end", d: d(curves[curves.length - 1]) }), h("svg:path", { d: d(curves[k]) })),
    h("span", { style: { top: "0" } }, num(high, 2)), h("span", { style: { top: "100%" } }, num(low, 2))),
  h("div", { class: "tones", "aria-hidden": "true" }, marks.map((f) => h("span", { style: { left: at(f) + "%" } }, tickText({ unit: "Hz" }, f)))), h("p", { class: "soft" }, `${text}. Hz, even in octaves; thin: at the end of training.`)];
}
function trainingPanel(entry, data, ref) {
  const t = entry.training, all = data.training;
  if (!t || !all) return null;
  const n = all.steps.length, address = url(`${ref.layer.slug}/${ref.key}.training.png`), at = all.weights ? all.weights[0].units.indexOf(ref.layer.unit[ref.i]) : -1;
  const frame = h("div", { class: "frame", role: "img", style: { "background-image": `url("${address}")`, "background-size": `100% ${n * 100}%`, ...(P.flat ? {} : { filter: "none" }) } });
  const told = h("p", { role: "status" }), curve = h("div", {}), weighed = h("div", {});
  const slider = h("input", { type: "range", min: 0, max: n - 1, step: 1, value: n - 1, "aria-label": "Moment of training" });
  const show = () => {
    const k = +slider.value, step = `step ${all.steps[k].toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", step);
    told.textContent = `${step[0].toUpperCase() + step.slice(1)}, score ${num(t.scores[k])}${t.dead[k] ? ", dead: no response then" : ""}`;
    frame.style.setProperty("background-position", `0 ${n > 1 ? (100 * k) / (n - 1) : 0}%`);
    frame.style.setProperty("opacity", t.dead[k] ? ".35" : "1");
    frame.setAttribute("aria-label", `What the unit responded to most at ${step}`);
    if (t.tuning && all.tones) curve.replaceChildren(h("h3", {}, "Tuning"), ...tuningCurve(all.tones, t.tuning, k));
    if (at >= 0) weighed.replaceChildren(h("h3", {}, "Weights"), weightsFigure(all.weights[k], `${ref.layer.slug}/training.${k}.png`, at, `the unit at ${step}`), h("p", { class: "soft" }, weightsText(all.weights[k], at)));
  };
  slider.addEventListener("input", show);
  show();
  return h("section", { class: "panel wide course" }, h("h2", {}, "As training goes"), h("div", { class: "player" }, slider, told),
    h("div", { class: "moments" }, h("div", {}, h("h3", {}, "What it responded to most"), h("div", { class: "fig strip" }, yaxis(6), h("div", { class: "plot" }, frame), xaxis(5), h("div", { class: "units" }, h("span", {}, shortTitle(Y)), h("span", {}, shortTitle(X))))), curve, weighed));
}
