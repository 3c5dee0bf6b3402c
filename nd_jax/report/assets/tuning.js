// ---- measured tuning: maps of tones, ripples and the receptive field, and a curve over the rate of modulation
function tunedCurve(rates, t) {
  const all = [...t.am, ...(t.flat === null ? [0] : [t.flat])], low = Math.min(...all), high = Math.max(...all, low + 1e-9), n = rates.length;
  const octaves = (k) => n > 1 ? Math.log(rates[k] / rates[0]) / Math.log(rates[n - 1] / rates[0]) : 0.5;
  const best = t.am.indexOf(Math.max(...t.am)), text = `${t.flat === null ? "Swing of the response with the modulation" : "Mean response to modulation"} of ${t.carrier ? hertz(t.carrier) : "noise"}, highest ${num(t.am[best])} at ${hertz(rates[best])}`;
  const marks = [...rates.keys()].filter((k) => k % Math.ceil(n / 6) === 0);
  return h("div", {}, h("h3", {}, "Modulation"), chart(text, low, high, t.flat !== null && trace(along([t.flat, t.flat], (i) => i, low, high), "end"), trace(along(t.am, octaves, low, high))),
    axis("tones", "left", marks.map((k) => [octaves(k), num(rates[k], 2)])), soft(`${text}. Hz, even in octaves${t.flat === null ? "" : "; thin: without modulation"}.`));
}
function tunedPanel(entry, data, ref) {
  const t = entry.tuned, all = data.tuned;
  if (!t || !all) return null;
  const panel = (...kids) => section("panel wide tuned", "Tuning, measured", h("p", {}, sentence(t.words)), ...kids);
  if (!t.answers) return panel();
  const map = (kind, title, note) => {
    const range = t.ends[kind].map((value) => num(value)).join(" to ");
    return h("div", {}, h("h3", {}, title), tileFigure(all.maps[kind], `${ref.layer.slug}/tuning.${kind}.png`, ref.layer.unit[ref.i], "", `${title} of the unit, ${range}`), soft(`${note} ${range}.`));
  };
  const level = t.threshold === null ? "" : `From ${num(t.threshold)} dBFS on at the best frequency, full ${num(t.range)} dB above.`;
  return panel(soft([t.q === null ? "" : `Q ${num(t.q)}.`, level].join(" ")),
    h("div", { class: "moments" }, map("tones", "Tones", "Mean response,"), tunedCurve(all.rates, t), map("ripples", "Ripples", `Up at rates below 0, down above; ${t.swings ? "swing of the response with the ripple" : "mean response"},`),
      map("strf", "Receptive field", `Response per dB, orange more, blue less; r ${num(t.score, 2)} on noise held out; time ${all.moving ? "from the response" : "in the sound"};`)));
}
