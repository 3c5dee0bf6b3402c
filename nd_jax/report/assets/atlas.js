// ---- where one is: #/  #/all  #/layer  #/layer/unit
for (const layer of I.layers) {
  layer.refs = layer.key.map((key, i) => ({ layer, i, key }));
  layer.at = new Map(layer.key.map((key, i) => [String(key), i]));
  const good = layer.score.filter((s, i) => s !== null && !layer.reason[i]);
  layer.top = Math.max(0, ...good);
  layer.low = Math.min(0, ...good);
}
const path = (...parts) => "#/" + parts.map((part) => String(part).split("/").map(encodeURIComponent).join("/")).join("/");
const here = () => location.hash.replace(/^#\/?/, "").split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } }).join("/");
function route() {
  const at = here();
  if (!at) return { view: "network" };
  if (at === "all") return { view: "grid", layer: null };
  let layer = I.layers.find((one) => one.name === at);
  if (layer) return { view: "grid", layer };
  const cut = at.lastIndexOf("/");
  layer = I.layers.find((one) => one.name === at.slice(0, cut));
  const i = layer && layer.at.get(at.slice(cut + 1));
  if (i !== undefined) return { view: "unit", layer, i };
  return { view: "lost", at };
}
const unitLink = (ref) => path(ref.layer.name, ref.key);
const unitName = (ref) => {
  const u = ref.layer.unit[ref.i];
  return u < 0 ? ref.layer.label[ref.i] || `objective ${ref.i}` : `${u}${String(ref.key).includes(".") ? "·" + String(ref.key).split(".")[1] : ""}`;
};
// Dead: no optimised input moves the unit. Silent: no probing sound does.
const dead = (ref) => ref.layer.reason[ref.i].startsWith("dead");
const constant = (ref) => !!ref.layer.constant[ref.i];
const probes = () => `the ${whole(I.natural.count)} ${I.made ? "random samples" : `probing ${I.sound ? "sounds" : "inputs"}`}`;
const unitsIn = (refs) => new Set(refs.map((ref) => `${ref.layer.slug}/${ref.layer.unit[ref.i] < 0 ? ref.key : ref.layer.unit[ref.i]}`)).size;
const counted = (refs) => { const units = unitsIn(refs); return count(units, "unit") + (units < refs.length ? ` in ${count(refs.length, "run")}` : ""); };
const capital = (text) => text[0].toUpperCase() + text.slice(1), sentence = (text) => capital(text) + ".";
const labelOf = (ref) => ref.layer.unit[ref.i] < 0 ? "" : ref.layer.label[ref.i];

function activation(values, low, high) {
  const n = values.length, at = (v) => (100 - ((v - low) / (high - low || 1)) * 100).toFixed(1);
  const line = values.map((v, i) => `${(place(i, n) * 100).toFixed(2)} ${at(v)}`).join("L");
  const zero = at(Math.max(low, Math.min(0, high)));
  const text = `activation over time, from ${num(Math.min(...values))} to ${num(Math.max(...values))}, drawn from ${num(low)} to ${num(high)}`;
  return [h("div", { class: "curvey", "aria-hidden": "true" }, h("span", {}, num(high, 2))),
    h("div", { class: "curve", role: "img", "aria-label": text, title: text },
      drawing(trace(`M${place(0, n) * 100} ${zero}L${line}L${place(n - 1, n) * 100} ${zero}Z`)))];
}
// ---- network
const madeBy = () => I.command && [" Made by ", h("code", {}, I.command)];
function progress() {
  const p = I.progress;
  if (!p || p.done >= p.total) return null;
  const left = p.seconds_left ? `, about ${p.seconds_left >= 90 ? Math.round(p.seconds_left / 60) + " min" : Math.ceil(p.seconds_left) + " s"} left` : "";
  return h("div", { class: "progress", role: "status" }, h("i", { "aria-hidden": "true" }, h("b", { style: { width: (100 * p.done) / p.total + "%" } })),
    `${whole(p.done)} of ${whole(p.total)} units${left}. Reload to see more.`,
    I.command && h("p", {}, "The rest is made by ", h("code", {}, I.command)));
}
function network() {
  const card = (layer) => {
    const seen = new Set(), heard = (ref) => !I.sound || !layer.silent[ref.i];
    const drawn = layer.refs.filter((ref) => !dead(ref)).sort((a, b) => !!layer.reason[a.i] - !!layer.reason[b.i] || heard(b) - heard(a) || layer.score[b.i] - layer.score[a.i]);
    const shown = drawn.filter((ref) => { const u = layer.unit[ref.i], is = u >= 0 && seen.has(u); seen.add(u); return !is; }).slice(0, 16);
    const missing = layer.planned - layer.units;
    const mosaic = shown.length
      ? h("div", { class: "mosaic", style: { "grid-template-columns": `repeat(${Math.min(4, shown.length)}, 1fr)` } }, shown.map((ref) => image(thumb(ref), "", true)))
      : layer.units ? h("div", { class: "mosaic none" }, "Every unit of this layer is dead.")
      : h("div", { class: "mosaic none" }, "Not computed yet.", madeBy());
    const three = [["units", missing > 0 ? `${layer.units} of ${layer.planned}` : layer.units], ["dead", layer.dead], ...(I.natural ? [["silent", layer.unmoved]] : []), ["median score", num(layer.median)]];
    return h("li", {}, h("a", { href: path(layer.name) }, mosaic, h("h2", {}, layer.name), layer.shape && soft(layer.shape)),
      h("dl", { class: "three" }, three.map(([name, value]) => h("div", {}, h("dt", { title: name === "silent" ? `The same value on every one of ${probes()}` : name === "dead" ? "No optimised input moves it" : null }, name), h("dd", {}, String(value))))));
  };
  const body = I.layers.filter((layer) => !layer.head), heads = I.layers.filter((layer) => layer.head);
  const cards = heads.length > 1 ? [...body.map(card), h("li", { class: "heads" }, h("ol", { "aria-label": "Outputs, side by side" }, heads.map(card)))] : I.layers.map(card);
  return [h("h1", {}, I.title), I.card && h("p", { class: "lead" }, I.card), I.about && h("p", { class: "lead soft" }, I.about), progress(),
    h("ol", { class: "layers", "aria-label": "Layers from input to output" }, cards),
    soft(I.others && `${I.others} `, h("a", { href: "#/all" }, `All ${count(I.layers.reduce((n, l) => n + l.units, 0), "unit")} on one page`)),
    h("div", { class: "tools" }, scaleLine())];
}

// ---- layer
const stem = (ref) => `${ref.layer.slug}/${ref.key}`;
const wav = (ref) => stem(ref) + ".wav";
const picture = (ref) => stem(ref) + ".png";
const thumb = (ref) => I.thumbs ? stem(ref) + ".thumb.png" : picture(ref);
const soundOf = ({ layer, i }) => I.sound ? { gain: layer.gain[i], limited: layer.limited[i], silent: layer.silent[i], seconds: layer.seconds[i] } : null;
const SORTS = { unit: "unit", score: "score, high first", label: "label", pitch: "pitch, low first", bright: "brightness, low first", ratio: "over natural, high first", path: "natural path, high first", like: "similar to one unit" };
const state = { sort: "unit", query: "", words: [], like: null, hover: null };
const ask = (query) => { state.query = query; state.words = query.toLowerCase().split(/\s+/).filter(Boolean); };
const last = (value) => value === null || value === undefined || Number.isNaN(value);
function look(ref) {
  if (!ref.vector && ref.layer.look[ref.i] !== null) ref.vector = Uint8Array.from(atob(ref.layer.look[ref.i]), (c) => c.charCodeAt(0));
  return ref.vector;
}
function likeness(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += (a[k] - b[k]) ** 2;
  return sum;
}
function ordered(refs) {
  const key = {
    unit: (ref) => null, ...Object.fromEntries(["score", "ratio", "path"].map((name) => [name, (ref) => last(ref.layer[name][ref.i]) ? null : -ref.layer[name][ref.i]])),
    pitch: (ref) => ref.layer.pitch[ref.i], bright: (ref) => ref.layer.bright[ref.i],
    label: (ref) => labelOf(ref) || null, like: (ref) => state.like && look(ref) && look(state.like) && likeness(look(ref), look(state.like)),
  }[state.sort];
  const keyed = refs.map((ref, at) => [key(ref), at, ref]);
  keyed.sort(([a, i], [b, j]) => last(a) || last(b) ? last(a) - last(b) || i - j : typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) || i - j : a - b || i - j);
  return keyed.map(([, , ref]) => ref);
}
function matches(ref) {
  if (!state.words.length) return true;
  if (!ref.text) {
    ref.text = `${ref.layer.name} ${unitName(ref)} ${ref.layer.label[ref.i]} ${ref.layer.reason[ref.i]}${constant(ref) ? ` silent on ${probes()}` : ""}`.toLowerCase();
    ref.numbers = new Set(ref.text.split(/[^\p{L}\d]+/u));
  }
  return state.words.every((word) => /^\d+$/.test(word) ? ref.numbers.has(word) : ref.text.includes(word));
}
function tile(ref) {
  const { layer, i } = ref, reason = layer.reason[i], label = labelOf(ref), file = wav(ref), gone = dead(ref);
  const named = `${layer.name} unit ${unitName(ref)}${label ? ", " + label : ""}`;
  const heard = audible(soundOf(ref)), still = constant(ref) ? `, silent on ${probes()}` : "";
  const face = h("button", { class: "face" + (heard ? "" : " mute") + (gone ? " none" : ""), "aria-label": `${heard ? "Play" : "Open"} ${named}, score ${num(layer.score[i])}${reason ? ", " + reason : ""}${I.sound && !heard && !gone ? ", nothing to hear" : ""}${still}`,
    onclick: () => { if (heard) toggle(file); else location.hash = unitLink(ref); }, ondblclick: () => { location.hash = unitLink(ref); } },
  gone ? h("span", { class: "words" }, h("b", {}, "dead"), h("span", {}, reason.replace(/^dead:?\s*/, ""))) : image(thumb(ref), "", true));
  face.ref = ref;
  if (heard) {
    const head = h("div", { class: "head", hidden: true });
    face.append(head);
    face.show = (on, now) => { head.hidden = !on; head.style.left = share(now) * 100 + "%"; face.classList.toggle("playing", on); face.setAttribute("aria-pressed", String(on)); };
  }
  const bar = last(layer.score[i]) ? 0 : Math.max(0, (layer.score[i] - layer.low) / (layer.top - layer.low || 1));
  const under = (gone ? "dead" : reason.split(/[:,]/)[0]) || (constant(ref) ? "silent" : "") || label || (layer.silent[i] && I.sound ? "not audible" : num(layer.score[i]));
  return h("li", { class: "tile" + (reason ? " dead" : "") }, face,
    h("a", { class: "name", href: unitLink(ref), title: `Open ${named}${reason ? ", " + reason : ""}${still}`, "aria-label": `Open ${named}` }, h("b", {}, unitName(ref)), h("span", {}, under)),
    h("span", { class: "score", "aria-hidden": "true" }, h("i", { style: { width: 100 * Math.min(1, bar) + "%" } })));
}

// A grid of which only the rows near the window exist: thousands of units cost what a hundred do.
function rows(list) {
  const nodes = new Map();
  let shown = [], from = 0, to = 0, columns = 1, height = 0, frame = 0;
  const node = (at) => {
    const ref = shown[at];
    if (!nodes.has(ref)) nodes.set(ref, tile(ref));
    const one = nodes.get(ref);
    one.setAttribute("aria-posinset", at + 1);
    one.setAttribute("aria-setsize", shown.length);
    return one;
  };
  function measure() {
    const style = getComputedStyle(list), first = list.firstElementChild;
    columns = style.gridTemplateColumns.split(" ").length;
    if (first) height = first.getBoundingClientRect().height + parseFloat(style.rowGap);
  }
  function fill(low, high) {
    from = Math.max(0, low);
    to = Math.min(shown.length, high);
    const wanted = new Set(shown.slice(from, to));
    for (const ref of nodes.keys()) if (!wanted.has(ref)) nodes.delete(ref);
    list.replaceChildren(...Array.from({ length: to - from }, (_, k) => node(from + k)));
    const after = Math.ceil(shown.length / columns) - Math.ceil(to / columns);
    list.style.paddingTop = (from / columns) * height + "px";
    list.style.paddingBottom = after * height + "px";
  }
  function look() {
    frame = 0;
    if (!list.isConnected || !shown.length) return;
    measure();
    const top = -list.getBoundingClientRect().top, many = Math.ceil(shown.length / columns), more = innerHeight;
    const a = Math.max(0, Math.floor(top / height)), b = Math.min(many, Math.ceil((top + innerHeight) / height));
    if (a * columns >= from && Math.min(b * columns, shown.length) <= to && to - from <= (3 * more / height + 4) * columns + columns) return;
    const kept = document.activeElement?.closest?.(".tile") && document.activeElement.closest(".face, .name");
    fill(Math.max(0, Math.floor((top - more) / height)) * columns, Math.ceil((top + innerHeight + more) / height) * columns);
    if (kept && kept.isConnected && document.activeElement !== kept) kept.focus({ preventScroll: true });
  }
  const soon = () => { frame = frame || requestAnimationFrame(look); };
  const again = () => { if (list.isConnected) { measure(); fill(from - (from % columns), from - (from % columns) + Math.max(columns, to - from)); soon(); } };
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", again);
  return {
    list,
    get shown() { return shown; },
    show(refs) { shown = refs; if (list.isConnected) this.settle(); },
    // Measures one tile, then makes those that the window holds; more come with scrolling.
    settle() {
      if (shown.length && !list.firstElementChild) fill(0, 1);
      measure();
      fill(0, (Math.ceil(innerHeight / (height || innerHeight)) + 1) * columns);
      soon();
    },
    face: (ref) => nodes.get(ref)?.querySelector(".face"),
    columns: () => { measure(); return columns; },
    // Makes a tile exist, brings it into view and focuses it.
    focus(at, block = "nearest") {
      if (at < 0 || at >= shown.length) return false;
      measure();
      if (at < from || at >= to) {
        const row = Math.floor(at / columns), span = Math.ceil(innerHeight / height);
        fill((row - span) * columns, (row + span) * columns);
      }
      const face = nodes.get(shown[at]).querySelector(".face");
      face.focus({ preventScroll: true });
      face.closest(".tile").scrollIntoView({ block });
      soon();
      return true;
    },
    end() { removeEventListener("scroll", soon); removeEventListener("resize", again); cancelAnimationFrame(frame); },
  };
}
function grid({ layer }) {
  const refs = layer ? layer.refs : I.layers.flatMap((one) => one.refs);
  const list = rows(h("ul", { class: "tiles" + (I.sound ? " sounding" : "") }));
  const found = h("span", { role: "status" });
  const files = new Map(refs.map((ref) => [wav(ref), ref]));
  let lit = null;
  player.spots.add((current, now, running) => {
    const face = files.has(current) ? list.face(files.get(current)) : null;
    if (lit && lit !== face) lit.show(false, 0);
    lit = face && face.show ? face : null;
    if (lit) lit.show(running, now);
  });
  const update = () => {
    const shown = ordered(refs.filter(matches));
    list.show(shown);
    found.textContent = shown.length === refs.length ? counted(refs) : `${whole(unitsIn(shown))} of ${counted(refs)}`;
    none.hidden = shown.length > 0 || !refs.length;
    select.value = state.sort;
    select.lastChild.textContent = state.like ? `similar to ${state.like.layer.name} ${unitName(state.like)}` : SORTS.like;
  };
  const none = h("p", { class: "rest" }, "No unit matches. Search looks at layers, unit numbers, labels and states such as “dead” and “silent”.");
  const useful = Object.entries(SORTS).filter(([name]) => name === "like" || name === "unit" || refs.some((ref) => !last(name === "label" ? labelOf(ref) || null : ref.layer[name][ref.i])));
  const select = choice(() => { state.sort = select.value; if (state.sort === "like" && !state.like) state.like = refs[0]; update(); }, useful);
  const filter = choice(() => { location.hash = filter.value ? path(filter.value) : "#/all"; },
    [["", "all layers"], ...I.layers.map((one) => [one.name, one.name, one === layer])]);
  const states = [["dead", refs.some(dead)], ["silent", refs.some(constant)]].filter(([, is]) => is);
  const only = states.length > 0 && choice(() => { search.value = only.value; ask(only.value); update(); }, [["", "all units"], ...states.map(([name]) => [name, name])]);
  list.list.addEventListener("pointerover", (event) => { const face = event.target.closest(".face"); if (face) state.hover = face; });
  list.list.addEventListener("pointerleave", () => { state.hover = null; });
  list.list.addEventListener("focusin", (event) => { state.hover = null; const face = event.target.closest(".face"); if (face) view.cursor = face.ref; });
  const missing = layer ? layer.planned - layer.units : 0;
  view = { list, update: () => { update(); if (only) only.value = states.some(([name]) => name === state.query) ? state.query : ""; } };
  view.update();
  const weighed = h("div", {});
  if (layer && layer.units) detail(layer.slug).then((data) => { layer.weights = data.weights; add(weighed, weightsSection(layer)); }).catch(() => {});
  return [h("h1", {}, layer ? layer.name : "All units"),
    layer && soft([layer.shape, `${layer.dead} dead`, I.natural && `${layer.unmoved} silent on ${probes()}`, `median score ${num(layer.median)}`].filter(Boolean).join(", ")), progress(),
    h("div", { class: "tools" }, h("label", {}, "Layer", filter), h("label", {}, "Sort by", select), only && h("label", {}, "Show", only), found, I.sound && h("span", { class: "soft hint" }, "Press a tile to hear it; ? lists the keys"), h("span", { class: "end" }, scaleLine())),
    weighed, list.list, none, missing > 0 && h("p", { class: "rest" }, `${count(missing, "more unit")} of this layer not computed yet.`, madeBy())];
}

// ---- unit
// A path through values; `across` says how far along each stands, from 0 to 1.
const along = (values, across, low, high) => "M" + values.map((v, i) => `${(100 * across(i)).toFixed(2)} ${(100 * (1 - (v - low) / (high - low || 1))).toFixed(2)}`).join("L");
const chart = (text, low, high, ...paths) => h("div", { class: "line", role: "img", "aria-label": text }, drawing(...paths),
  h("span", { style: { top: "0" } }, num(high, 2)), h("span", { style: { top: "100%" } }, num(low, 2)));
const audible = (sound) => sound && !sound.silent;
const gainOf = (sound) => audible(sound) ? `, gain ${decibel(sound.gain)}` : "";
// One of several inputs beside each other: what it is called, what is known about it, its picture, its sound.
function specimen({ file, sound, title, name = title, alt, curve, more }, ...lines) {
  return h("li", {}, h("h3", {}, title), lines.map((line) => line && soft(line)),
    figure({ file: file + ".png", alt, sound: audible(sound) ? file + ".wav" : null, seconds: sound && sound.seconds, curve }),
    sound && h("div", { class: "player" }, playButton(file + ".wav", sound, "Play", name), more));
}
// One of n pictures that stand below each other in a file.
const framePlace = (k, n) => `0 ${n > 1 ? (100 * k) / (n - 1) : 0}%`;
const frame = (file, k, n, label) => h("div", { class: "frame", role: "img", "aria-label": label,
  style: { "background-image": `url("${url(file)}")`, "background-size": `100% ${n * 100}%`, "background-position": framePlace(k, n), ...(P.flat ? {} : { filter: "none" }) } });
function history(entry) {
  const known = entry.history[0].map((step, i) => [step, entry.history[1][i]]).filter(([, score]) => !last(score));
  if (known.length < 2) return null;
  const steps = known.map(([step]) => step), scores = known.map(([, score]) => score);
  const low = Math.min(...scores), high = Math.max(...scores), far = steps[steps.length - 1], begin = steps[0];
  const text = `Score from ${num(scores[0])} at step ${begin} to ${num(scores[scores.length - 1])} at step ${far}`;
  return h("div", { class: "rise" }, h("h2", {}, "Score while it was made"),
    chart(text, low, high, trace(along(scores, (i) => (steps[i] - begin) / (far - begin || 1), low, high))), soft(text + "."));
}
function filmstrip(entry, ref) {
  if (!entry.strip) return null;
  const { steps, scores } = entry.strip, file = stem(ref) + ".strip.png";
  return section("panel wide", "How it came about", h("ol", { class: "strip" }, steps.map((step, i) => h("li", {},
    frame(file, i, steps.length, `Picture at step ${step}`), h("p", {}, `step ${step}`), !last(scores[i]) && h("p", {}, `score ${num(scores[i], 2)}`)))));
}
function together(entry, ref) {
  if (!entry.others) return null;
  const all = entry.others.length + 1;
  return section("panel wide", "The other inputs of this run", soft(`${all} were made together; the one above has the highest score.`),
    h("ol", { class: "naturals others" }, entry.others.map((one) => {
      const title = `input ${one.rank + 1} of ${all}`, sound = I.sound ? one : null;
      return specimen({ file: `${stem(ref)}.${one.rank + 1}`, sound, title, alt: `Optimised ${title}` }, `score ${num(one.score)}${gainOf(sound)}`);
    })));
}
function naturals(entry, data, ref) {
  const heading = I.made ? "Random samples" : I.sound ? "Natural sounds" : "Natural inputs";
  if (!entry.natural || !entry.natural.length) {
    return section("panel", heading, soft(I.natural ? "This unit was not read on the natural inputs." : `None were given. They come from ${I.made ? "random latents" : `a bank of ${I.sound ? "sounds" : "inputs"}`}:`),
      !I.natural && h("p", {}, h("code", {}, `nd.report.atlas(results, folder, exemplars=nd.dissect.${I.made ? "samples(network" : `exemplars(network, ${I.sound ? "waves" : "inputs=inputs"}`}, layers=[…]))`)));
  }
  const curves = entry.natural.filter((one) => one.curve).flatMap((one) => one.curve);
  const low = Math.min(0, ...curves), high = Math.max(...curves, low + 1e-9);
  return section("panel", heading, soft(`${whole(I.natural.count)} ${I.made ? "latents" : I.sound ? "clips" : "inputs"}, ranked by this unit's activation (mean over positions).${curves.length ? ` Above each picture: its activation over time, ${num(low)} to ${num(high)}.` : ""}`),
    entry.constant && h("p", { class: "note" }, `Silent on ${probes()}: this unit gives the same value, ${num(entry.natural[0].value)}, on every one of them. ${dead(ref) ? "Optimisation found nothing that moves it either." : `It may still answer to its optimised ${I.sound ? "sound" : "input"}.`}`),
    h("ol", { class: "naturals" }, entry.natural.map((one) => {
      const { sound, twin, ...clip } = data.clips[one.clip], file = `natural/${one.clip}`, title = clip.name || `clip ${one.clip}`;
      const more = twin && playButton(file + ".twin.wav", twin, "Through the inverse", `${title}, through the same inverse as the optimised sounds`);
      return specimen({ file, sound, title, alt: `Natural input ${title}`, curve: one.curve && activation(one.curve, low, high), more },
        `quantile ${percent(one.quantile)}, rank ${one.rank + 1} of ${whole(I.natural.count)}`, `activation ${num(one.value)}${gainOf(sound)}`);
    })));
}
function copied(text) {
  const code = h("code", {}, text);
  const copy = h("button", { class: "control", onclick: async () => {
    try { await navigator.clipboard.writeText(text); } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
    say("Copied");
    setTimeout(() => { copy.textContent = "Copy"; }, 1600);
  } }, "Copy");
  return h("div", { class: "call" }, h("pre", { tabindex: "0" }, code), copy);
}
function call(entry) {
  return entry.call && section("panel wide", "Make it again", copied(entry.call));
}
function files(entry, ref) {
  const name = `${ref.layer.slug}-${ref.key}`, size = (n) => n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(n / 1000))} kB`;
  const links = Object.entries(entry.files).map(([end, bytes]) => h("a", { class: "control", download: `${name}.${end}`, href: url(`${stem(ref)}.${end}`) }, `${end} ${size(bytes)}`));
  const { files: _, ...rest } = entry;
  const json = JSON.stringify({ network: I.title, layer: ref.layer.name, unit: ref.layer.unit[ref.i], label: ref.layer.label[ref.i], score: ref.layer.score[ref.i], status: ref.layer.reason[ref.i] || "ok", ...rest }, null, 1);
  links.push(h("a", { class: "control", download: `${name}.json`, href: "data:application/json," + encodeURIComponent(json) }, `json ${size(json.length)}`));
  return section("panel wide", "Files", h("div", { class: "files" }, links),
    h("p", { class: "soft", style: { "margin-top": "8px" } }, `${entry.files.wav ? "The wav is at playback level, its gain included. " : ""}The npz holds the input, the scores and the axes; the png is the picture${P.flat ? " in magma" : ""}, one pixel per value.`));
}
function unit({ layer, i }) {
  const ref = layer.refs[i], label = labelOf(ref), reason = layer.reason[i], file = wav(ref);
  const near = ordered(layer.refs).filter((one) => one === ref || matches(one)), at = near.indexOf(ref);
  const step = (by, text) => h("a", near[at + by] ? { class: "control", href: unitLink(near[at + by]) } : { class: "control", "aria-disabled": "true" }, text);
  const sound = soundOf(ref);
  const slider = audible(sound) && h("input", { type: "range", min: 0, max: sound.seconds, step: 0.01, value: 0, "aria-label": "Position in seconds", oninput: () => start(file, +slider.value) });
  const clock = h("span", { class: "soft" });
  if (slider) player.spots.add((current, now) => {
    const t = current === file ? now : 0;
    if (document.activeElement !== slider || playing(file)) slider.value = t;
    clock.textContent = `${t.toFixed(2)} / ${sound.seconds.toFixed(2)} s`;
  });
  const gone = dead(ref), made = "What it responds to most", facts = h("dl", { class: "facts" });
  const left = gone ? section("panel", made, h("div", { class: "gone" }, h("b", {}, "Nothing: this unit is dead."),
    h("p", {}, `${sentence(reason)} What stands in the file below is where the search began, not what the unit prefers, so it is neither drawn nor played.`)), facts)
    : section("panel", made,
      soft(I.made ? "What the generator makes of the latent that drives the unit most." + (I.sound ? " Press the picture to play from there." : "") : I.sound ? `Optimised from noise. Colour is ${P.unit === "dB" ? "level in dB below full scale" : "value"}; press the picture to play from there.` : "Optimised from noise."),
      figure({ file: picture(ref), alt: `Optimised input of ${layer.name} unit ${unitName(ref)}`, big: true, sound: audible(sound) ? file : null, seconds: sound && sound.seconds }),
      sound && h("div", { class: "player" }, playButton(file, sound, "Play", `unit ${unitName(ref)}`, true), slider, slider && clock, h("span", { class: "soft" }, sound.silent ? silence : gainText(sound))), facts);
  const body = h("div", { class: "unit" }, left);
  const known = [["score", num(layer.score[i], 4)], ["layer median", num(layer.median)], !last(layer.pitch[i]) && [I.made ? "pitch heard" : "pitch", `${hertz(layer.pitch[i])}, ${note(layer.pitch[i])}`],
    !last(layer.bright[i]) && ["brightness", I.sound ? hertz(layer.bright[i]) : num(layer.bright[i])], label && ["label", label]];
  view = { ref, near, at, sound: audible(sound) ? file : null };
  detail(layer.slug).then((data) => {
    if (view.ref !== ref) return;
    const entry = data.units[ref.key];
    known.push(["steps", `${entry.steps}${entry.stopped ? `, then ${entry.stopped}` : ""}`], entry.start && ["rescued, began from", entry.start],
      entry.asked !== undefined && ["asked for", entry.asked], entry.latent !== undefined && !I.made && ["length of the latent", `longer than ${entry.latent} % of those of its law`]);
    facts.append(...known.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    add(left, I.made && latentPicture(entry), trustCard(entry, data, ref), history(entry));
    layer.weights = data.weights;
    const siblings = layer.refs.filter((one) => one !== ref && layer.unit[one.i] === layer.unit[i] && layer.unit[i] >= 0);
    add(body, naturals(entry, data, ref), labelsPanel(entry, data), preferences(entry, ref), (I.made && atClasses(entry, ref)) || together(entry, ref),
      tunedPanel(entry, data, ref), trainingPanel(entry, data, ref), filmstrip(entry, ref), weightsOf(ref), siblings.length > 0 && section("panel wide", "Other runs of this unit", h("ul", { class: "tiles" + (I.sound ? " sounding" : "") }, siblings.map((one) => tile(one)))),
      files(entry, ref), call(entry), explain(ref));
    paint();
  }).catch((error) => body.append(h("p", { class: "rest" }, `The details of this layer cannot be read: ${error.message}. Keep the folder ${I.base} beside this page.`)));
  return [h("div", { class: "title" }, h("h1", {}, `${layer.name} ${layer.unit[i] < 0 ? "" : "unit "}${unitName(ref)}${label ? ", " + label : ""}`), scaleLine(), step(-1, "← Previous"), step(1, "Next →")),
    reason && !gone && h("p", { class: "note" }, sentence(reason)), body];
}

// ---- frame
let view = {}, before = null;
const search = h("input", { id: "search", class: "control", type: "search", placeholder: "Search units", "aria-label": "Search units (/)", autocomplete: "off", spellcheck: "false", oninput: () => {
  ask(search.value.trim());
  if (view.update) view.update();
  else if (state.query) location.hash = "#/all";
} });
const nav = h("nav", { "aria-label": "Where you are" });
const KEYS = [["← → ↑ ↓", "move between units"], ["space", "play or stop the tile under the pointer or in focus"], ["enter", "open the unit in focus"], ["u", "up: unit, layer, network"], ["/", "search"], ["m", "more like this: sort by similarity"], ["t", "dark or light"], ["?", "these keys"], ["esc", "close, clear, stop"]];
bar(KEYS, nav, search);

function render() {
  const r = route();
  stop();
  player.spots.clear();
  if (view.list) view.list.end();
  view = {};
  const trail = [["#/", I.title]];
  if (r.layer) trail.push([path(r.layer.name), r.layer.name]);
  if (r.view === "grid" && !r.layer) trail.push(["#/all", "all units"]);
  if (r.view === "unit") trail.push([location.hash, unitName(r.layer.refs[r.i])]);
  nav.replaceChildren(...trail.flatMap(([href, text], i) => [i ? h("span", { "aria-hidden": "true" }, "/") : "", h("a", { href, "aria-current": i === trail.length - 1 ? "page" : null }, text)]));
  document.title = trail.length > 1 ? `${trail.slice(1).map(([, text]) => text).join(" ")} – ${I.title}` : I.title;
  const content = { network, grid, unit, lost: () => [h("h1", {}, "Nothing here"), h("p", { class: "lead" }, `There is no layer or unit “${r.at}”. `, h("a", { href: "#/" }, "Back to the network"))] }[r.view](r);
  main.replaceChildren();
  add(main, content);
  scrollTo(0, 0);
  if (view.list) view.list.settle();
  if (before && r.view === "grid") view.list.focus(view.list.shown.indexOf(before), "center");
  before = r.view === "unit" ? r.layer.refs[r.i] : null;
  paint();
}
function move(key) {
  const { list } = view, active = document.activeElement?.closest(".tile")?.querySelector(".face");
  const at = list.shown.indexOf(active ? active.ref : view.cursor);
  if (at < 0) return list.focus(0);
  const columns = list.columns();
  list.focus(at + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key]);
  return true;
}
addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=search], select"), key = event.key;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape") {
    stop();
    if (!help.hidden) helper.click();
    else if (event.target === search) { search.value = ""; ask(""); if (view.update) view.update(); search.blur(); }
    return;
  }
  if (typing) {
    if (event.target === search && (key === "ArrowDown" || key === "Enter") && view.update) { if (view.list && view.list.focus(0)) event.preventDefault(); }
    return;
  }
  if (event.target.matches("input[type=range]") && key.startsWith("Arrow")) return;
  const face = event.target.closest?.(".face");
  if (key === "/") { search.focus(); search.select(); }
  else if (key === "?") helper.click();
  else if (key === "t") theme.click();
  else if (key === "u") { const r = route(); if (r.view === "unit") location.hash = path(r.layer.name); else if (r.view !== "network") location.hash = "#/"; }
  else if (key === "m" && view.list) { const from = face || state.hover; if (!from) return; state.like = from.ref; state.sort = "like"; view.update(); scrollTo(0, 0); view.list.focus(view.list.shown.indexOf(from.ref)); }
  else if (key === "Enter" && face) location.hash = unitLink(face.ref);
  else if (key === " " && (state.hover || face || view.sound) && !event.target.matches("a, .control, .ask")) { const target = state.hover || face; if (target) target.click(); else toggle(view.sound); }
  else if (key.startsWith("Arrow") && !event.shiftKey) {
    if (view.near && (key === "ArrowLeft" || key === "ArrowRight")) { const to = view.near[view.at + (key === "ArrowLeft" ? -1 : 1)]; if (!to) return; location.hash = unitLink(to); }
    else if (!view.list || !move(key)) return;
  } else return;
  event.preventDefault();
});
addEventListener("hashchange", render);
render();
