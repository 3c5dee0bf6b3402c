// ---- as training goes: one slider moves a unit's picture, its tuning and its weights
function tuningCurve(tones, curves, k) {
  const all = curves.flat(), low = Math.min(0, ...all), high = Math.max(...all, low + 1e-9), n = tones.length;
  const path = (k) => along(curves[k], (i) => i / (n - 1), low, high), best = curves[k].indexOf(Math.max(...curves[k]));
  const text = `Mean activation for pure tones, highest ${num(curves[k][best])} at ${hertz(tones[best])}`;
  const marks = [50, 100, 200, 500, 1000, 2000, 5000, 10000].filter((f) => f >= tones[0] && f <= tones[n - 1]);
  const octaves = (f) => Math.log(f / tones[0]) / Math.log(tones[n - 1] / tones[0]);
  return [chart(text, low, high, trace(path(curves.length - 1), "end"), trace(path(k))),
    axis("tones", "left", marks.map((f) => [octaves(f), tickText({ unit: "Hz" }, f)])), soft(`${text}. Hz, even in octaves; thin: at the end of training.`)];
}
function trainingPanel(entry, data, ref) {
  const t = entry.training, all = data.training;
  if (!t || !all) return null;
  const n = all.steps.length, at = all.weights ? all.weights[0].units.indexOf(ref.layer.unit[ref.i]) : -1;
  const shown = frame(stem(ref) + ".training.png", 0, n);
  const told = h("p", { role: "status" }), curve = h("div", {}), weighed = h("div", {});
  const slider = h("input", { type: "range", min: 0, max: n - 1, step: 1, value: n - 1, "aria-label": "Moment of training" });
  const show = () => {
    const k = +slider.value, step = `step ${whole(all.steps[k])}`;
    slider.setAttribute("aria-valuetext", step);
    told.textContent = `${capital(step)}, score ${num(t.scores[k])}${t.dead[k] ? ", dead: no response then" : ""}`;
    shown.style.setProperty("background-position", framePlace(k, n));
    shown.style.setProperty("opacity", t.dead[k] ? ".35" : "1");
    shown.setAttribute("aria-label", `What the unit responded to most at ${step}`);
    if (t.tuning && all.tones) curve.replaceChildren(h("h3", {}, "Tuning"), ...tuningCurve(all.tones, t.tuning, k));
    if (at >= 0) weighed.replaceChildren(h("h3", {}, "Weights"), ...weightsFigure(all.weights[k], `${ref.layer.slug}/training.${k}.png`, at, `the unit at ${step}`));
  };
  slider.addEventListener("input", show);
  show();
  return section("panel wide course", "As training goes", h("div", { class: "player" }, slider, told),
    h("div", { class: "moments" }, h("div", {}, h("h3", {}, "What it responded to most"), h("div", { class: "fig strip" }, yaxis(6), h("div", { class: "plot" }, shown), xaxis(5), h("div", { class: "units" }, h("span", {}, shortTitle(Y)), h("span", {}, shortTitle(X))))), curve, weighed));
}
