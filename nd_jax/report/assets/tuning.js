// ---- measured tuning: maps of tones, ripples and the receptive field, and a curve over the rate of modulation
function tunedMap(w, file, at, title, alt, note) {
  const axis = (name, side) => h("div", { class: name, "aria-hidden": "true" }, w[name[0]].ticks.map(([share, text]) => h("span", { style: { [side]: 100 * share + "%" } }, text)));
  return h("div", {}, h("h3", {}, title), h("div", { class: "fig" }, axis("yaxis", "top"), h("div", { class: "plot", role: "img", "aria-label": alt }, weightsTile(w, file, at)), axis("xaxis", "left"),
    h("div", { class: "units" }, h("span", {}, w.y.title), h("span", {}, w.x.title))), h("p", { class: "soft" }, note));
}
function tunedCurve(rates, t) {
  const all = [...t.am, ...(t.flat === null ? [0] : [t.flat])], low = Math.min(...all), high = Math.max(...all, low + 1e-9), n = rates.length;
  const x = (k) => (n > 1 ? (100 * Math.log(rates[k] / rates[0])) / Math.log(rates[n - 1] / rates[0]) : 50), y = (v) => 100 - (100 * (v - low)) / (high - low), on = t.carrier ? hertz(t.carrier) : "noise";
  const best = t.am.indexOf(Math.max(...t.am)), text = `${t.flat === null ? "Swing of the response with the modulation" : "Mean response to modulation"} of ${on}, highest ${num(t.am[best])} at ${hertz(rates[best])}`;
  const marks = [...rates.keys()].filter((k) => k % Math.ceil(n / 6) === 0);
  return h("div", {}, h("h3", {}, "Modulation"), h("div", { class: "line", role: "img", "aria-label": text }, h("svg:svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    t.flat !== null && h("svg:path", { class: "end", d: `M0 ${y(t.flat)}L100 ${y(t.flat)}` }), h("svg:path", { d: "M" + t.am.map((v, k) => `${x(k).toFixed(2)} ${y(v).toFixed(2)}`).join("L") })),
  h("span", { style: { top: "0" } }, num(high, 2)), h("span", { style: { top: "100%" } }, num(low, 2))),
  h("div", { class: "tones", "aria-hidden": "true" }, marks.map((k) => h("span", { style: { left: x(k) + "%" } }, num(rates[k], 2)))), h("p", { class: "soft" }, `${text}. Hz, even in octaves${t.flat === null ? "" : "; thin: without modulation"}.`));
}
function tunedPanel(entry, data, ref) {
  const t = entry.tuned, all = data.tuned;
  if (!t || !all) return null;
  const words = t.words[0].toUpperCase() + t.words.slice(1) + ".";
  if (!t.answers) return h("section", { class: "panel wide tuned" }, h("h2", {}, "Tuning, measured"), h("p", {}, words));
  const unit = ref.layer.unit[ref.i], sheet = (kind) => `${ref.layer.slug}/tuning.${kind}.png`, ends = (kind) => `${num(t.ends[kind][0])} to ${num(t.ends[kind][1])}`;
  const map = (kind, title, note) => tunedMap(all.maps[kind], sheet(kind), unit, title, `${title} of the unit, ${ends(kind)}`, `${note} ${ends(kind)}.`);
  const level = t.threshold === null ? "" : `From ${num(t.threshold)} dBFS on at the best frequency, full ${num(t.range)} dB above.`;
  return h("section", { class: "panel wide tuned" }, h("h2", {}, "Tuning, measured"), h("p", {}, words), h("p", { class: "soft" }, [t.q === null ? "" : `Q ${num(t.q)}.`, level].join(" ")),
    h("div", { class: "moments" }, map("tones", "Tones", "Mean response,"), tunedCurve(all.rates, t), map("ripples", "Ripples", `Up at rates below 0, down above; ${t.swings ? "swing of the response with the ripple" : "mean response"},`),
      map("strf", "Receptive field", `Response per dB, orange more, blue less; r ${num(t.score, 2)} on noise held out; time ${all.moving ? "from the response" : "in the sound"};`)));
}
