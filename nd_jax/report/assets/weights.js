// ---- weights: one sheet a layer, a tile a unit; the unit that is looked at stands beside it, with axes
const sheetPlace = (w, at) => {
  const part = (k, n) => (n > 1 ? (100 * k) / (n - 1) : 0);
  return { "background-size": `${100 * w.across}% ${100 * w.down}%`, "background-position": `${part(at % w.across, w.across)}% ${part(Math.floor(at / w.across), w.down)}%` };
};
const weightsTile = (w, file, at) => h("span", { class: "wtile" + (w.signed ? "" : " map"), style: { "background-image": `url("${url(file)}")`, "aspect-ratio": `${w.columns}/${w.rows}`, ...sheetPlace(w, at) } });
function weightsText(w, at) {
  if (!w.signed) return "";
  const unit = (axis, value) => { const found = /\((\w+)/.exec(axis.title); return found && found[1] === "Hz" ? hertz(value) : `${num(value)}${found ? " " + found[1] : ""}`; };
  const where = ([, x, y]) => w.square ? `column ${num(x)}, row ${num(y)}` : `${unit(w.x, x)}, ${unit(w.y, y)}`;
  const [most, least] = w.extremes[at];
  return `Largest ${num(most[0])} at ${where(most)}; smallest ${num(least[0])} at ${where(least)}.`;
}
const tileFigure = (w, file, at, kind, alt) => h("div", { class: "fig" + kind }, axis("yaxis", "top", w.y.ticks),
  h("div", { class: "plot", role: "img", "aria-label": alt }, weightsTile(w, file, at)), axis("xaxis", "left", w.x.ticks), h("div", { class: "units" }, h("span", {}, w.y.title), h("span", {}, w.x.title)));
const weightsFigure = (w, file, at, name) => [tileFigure(w, file, at, " weighed" + (w.square ? " aspect" : ""), `Weights of ${name}. ${weightsText(w, at)}`), soft(weightsText(w, at))];
function weightsWords(w) {
  const way = w.towards === "input" ? "the network's input" : "the network's output", chain = w.through.join(", ");
  const what = w.through.length === 1 ? (w.towards === "input" ? `The filters of ${chain}, as they stand.` : `What ${chain} makes of a unit.`)
    : `Composed through ${chain} ${w.towards === "input" ? "back to" : "on to"} ${way}, every nonlinearity taken as a straight line: a sketch of what a unit ${w.towards === "input" ? "adds up" : "puts out"}.`;
  const spot = w.placed ? " Drawn for the middle of the layer; a convolution does the same everywhere." : "";
  return what + spot + (w.coloured ? " Grey is nothing; a brighter red, green or blue adds, a darker one takes away, each unit up to its own largest weight." : w.signed ? " Orange adds, blue takes away, each unit up to its own largest weight." : " Drawn as the spectrogram of the sound that the weights are.");
}
function weightsPanel(w, slug, link) {
  const file = `${slug}/weights.png`, beside = h("div", { class: "wbeside" });
  let current = -1;
  const show = (at) => {
    if (at === current) return;
    current = at;
    const unit = w.units[at], sound = w.sounds[unit];
    beside.replaceChildren();
    add(beside, h("h3", {}, link ? h("a", { href: link(unit) }, `unit ${unit}`) : `unit ${unit}`), ...weightsFigure(w, file, at, `unit ${unit}`),
      sound && h("div", { class: "player" }, playButton(`${slug}/weights.${unit}.wav`, sound, "Play", `the weights of unit ${unit}`), h("span", { class: "soft" }, w.signed ? "what adds, as sound" : "as sound")));
    for (const [k, button] of tiles.entries()) button.setAttribute("aria-pressed", String(k === at));
  };
  const tiles = w.units.map((unit, at) => h("button", { class: "wface control", "aria-label": `Weights of unit ${unit}`, title: `unit ${unit}`, onclick: () => show(at), onfocus: () => show(at), onpointerenter: () => show(at) }, weightsTile(w, file, at)));
  show(0);
  return h("div", { class: "wpanel" }, h("div", { class: "wtiles" }, tiles), beside);
}
function weightsSection(layer) {
  const w = layer.weights;
  if (!w) return null;
  const fold = h("details", { class: "wsection", ontoggle: () => { if (fold.open && fold.children.length < 3) fold.append(weightsPanel(w, layer.slug, (unit) => layer.at.has(String(unit)) ? path(layer.name, unit) : path(layer.name))); } },
    h("summary", {}, w.through.length === 1 && w.towards === "input" ? "Filters" : "Composed weights"), soft(weightsWords(w)));
  return fold;
}
function weightsOf(ref) {
  const w = ref.layer.weights, unit = ref.layer.unit[ref.i], at = w && unit >= 0 ? w.units.indexOf(unit) : -1;
  if (at < 0) return null;
  const sound = w.sounds[unit], file = `${ref.layer.slug}/weights.png`;
  return section("panel", w.through.length === 1 && w.towards === "input" ? "Its filter" : "Its composed weights", soft(weightsWords(w)),
    weightsFigure(w, file, at, `unit ${unit}`),
    sound && h("div", { class: "player" }, playButton(`${ref.layer.slug}/weights.${unit}.wav`, sound, "Play the weights", `the weights of unit ${unit}`)));
}
