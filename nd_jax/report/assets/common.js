const $ = (id) => document.getElementById(id);
const I = JSON.parse($("index").textContent);
const P = I.picture, root = document.documentElement, main = $("main"), audio = $("player");
const details = new Map(), waiting = new Map();

// Everything on the page is built from nodes and text, never from markup, so no label can become code.
function h(tag, props, ...kids) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return add(node, kids);
}
// Of nested lists of nodes, texts and things that are not there, those that are.
function add(node, ...kids) {
  node.append(...kids.flat(4).filter((kid) => kid !== undefined && kid !== null && kid !== false));
  return node;
}
const soft = (...kids) => h("p", { class: "soft" }, ...kids);
const section = (kind, title, ...kids) => h("section", { class: kind }, h("h2", {}, title), ...kids);
const choice = (onchange, options) => h("select", { class: "control", onchange }, options.map(([value, text, selected]) => h("option", { value, selected }, text)));
// Lines on a field of 100 by 100 that is stretched to the box it stands in.
const drawing = (...paths) => h("svg:svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, paths);
const trace = (d, kind) => h("svg:path", { class: kind, d });
const store = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* private mode, file:// in some browsers */ } },
};
const say = (text) => { $("live").textContent = text; };
const whole = (n) => n.toLocaleString("en");
const count = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;
const num = (x, digits = 3) => x === null || x === undefined ? "–"
  : (Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3)) ? x.toExponential(2).replace("-", "−") : String(+x.toPrecision(digits)).replace("-", "−");
const hertz = (f) => f >= 1000 ? `${+(f / 1000).toPrecision(3)} kHz` : `${+f.toPrecision(3)} Hz`;
const decibel = (g) => `${g < 0 ? "−" : "+"}${Math.abs(g).toFixed(1)} dB`;
const percent = (q) => `${+(q * 100).toFixed(1)} %`;
const note = (f) => {
  const midi = Math.round(69 + 12 * Math.log2(f / 440));
  return "C C♯ D D♯ E F F♯ G G♯ A A♯ B".split(" ")[((midi % 12) + 12) % 12] + (Math.floor(midi / 12) - 1);
};
const TYPES = { png: "image/png", wav: "audio/wav", npz: "application/octet-stream" };
function url(path) {
  if (!I.single) return `${I.base}/${path}`;
  const node = $("file:" + path);
  return node ? `data:${TYPES[path.split(".").pop()]};base64,${node.textContent}` : "data:,";
}

// ---- one player for the whole page: starting a sound stops the other, with a short fade so that nothing clicks
const player = { path: null, spots: new Set(), timer: 0, fade: 0 };
function paint() {
  cancelAnimationFrame(player.timer);
  const now = audio.currentTime, running = !audio.paused && !audio.ended;
  for (const spot of player.spots) spot(player.path, now, running);
  if (running) player.timer = requestAnimationFrame(paint);
}
function ramp(to, then) {
  clearInterval(player.fade);
  let step = 0;
  const from = audio.volume;
  player.fade = setInterval(() => {
    step += 1;
    audio.volume = from + (to - from) * Math.min(step / 4, 1);
    if (step >= 4) { clearInterval(player.fade); if (then) then(); }
  }, 6);
}
function start(file, at) {
  const begin = () => {
    if (player.path !== file) { player.path = file; audio.src = url(file); }
    if (at !== undefined || audio.ended) audio.currentTime = at || 0;
    audio.volume = 1;
    audio.play().catch((error) => { if (error.name !== "AbortError") say("This sound cannot be played: " + error.message); });
  };
  clearInterval(player.fade);
  if (!audio.paused && (player.path !== file || at !== undefined)) ramp(0, begin);
  else begin();
}
const stop = () => { if (!audio.paused) ramp(0, () => { audio.pause(); audio.volume = 1; }); };
const playing = (file) => player.path === file && !audio.paused && !audio.ended;
const toggle = (file, at) => { if (playing(file)) stop(); else start(file, at); };
for (const name of ["play", "pause", "ended", "seeked", "loadedmetadata"]) audio.addEventListener(name, paint);

// ---- axes
const X = P && P.x, Y = P && P.y;
const place = (index, size) => (index + 0.5) / size;
const share = (seconds) => Math.min(1, Math.max(0, place((seconds - X.first) / X.step, X.size)));
const secondsAt = (portion) => Math.max(0, (portion * X.size - 0.5) * X.step + X.first);
function indexOf(values, value) {
  const up = values[values.length - 1] > values[0];
  for (let i = 1; i < values.length; i++) {
    const a = values[i - 1], b = values[i];
    if (up ? value >= a && value <= b : value <= a && value >= b) return i - 1 + (value - a) / (b - a || 1);
  }
  return null;
}
function nice(low, high, most) {
  const rough = (high - low) / Math.max(most, 1) || 1, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 2.5, 5, 10].find((factor) => factor * unit >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(+(k * step).toPrecision(6));
  return found;
}
const tickText = (axis, value) => axis.unit === "Hz" && value >= 1000 ? `${value / 1000}k` : String(value);
const scaled = (text, { scale }) => [text, scale !== "linear" && scale + " scale"].filter(Boolean).join(", ");
const axisTitle = (axis) => `${axis.name} (${scaled(axis.unit, axis)})`;
const shortTitle = (axis) => scaled(axis.unit || axis.name, axis);
// Marks, [share of the length, text], along an axis; `side` is where they are measured from.
const axis = (kind, side, marks) => h("div", { class: kind, "aria-hidden": "true" }, marks.map(([portion, text]) => h("span", { style: { [side]: 100 * portion + "%" } }, text)));
const xaxis = (most) => axis("xaxis", "left", nice(X.first, X.first + X.step * (X.size - 1), most).map((t) => [share(t), String(t)]));
function yaxis(most) {
  const low = Math.min(...Y.values), high = Math.max(...Y.values), where = (f) => place(indexOf(Y.values, f), Y.values.length);
  let marks;
  if (Y.scale === "linear") marks = nice(low, high, most);
  else {
    marks = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000].filter((f) => f >= low && f <= high);
    const spread = marks.map(where);
    const kept = [];
    for (let i = marks.length - 1; i >= 0; i--) if (!kept.length || spread[i] - spread[kept[kept.length - 1]] >= 0.9 / most) kept.push(i);
    marks = kept.map((i) => marks[i]);
  }
  return axis("yaxis", "top", marks.map((f) => [where(f), tickText(Y, f)]));
}
const ends = () => [P.low, (P.low + P.high) / 2, P.high].map((v) => `${num(v)}${P.unit ? " " + P.unit : ""}`);
const scaleLine = () => P && P.flat && h("span", { class: "scale", title: "Every picture on this page is drawn on this range" },
  h("span", {}, `All pictures: ${ends()[0]}`), h("i", { class: "ramp", "aria-hidden": "true" }), ends()[2]);
// In a single file the pictures follow this script: those of the first view come when all of it is read.
const read = new Promise((done) => { if (I.single && document.readyState === "loading") addEventListener("DOMContentLoaded", done); else done(); });
const image = (file, alt, lazy) => {
  const late = I.single && document.readyState === "loading";
  const img = h("img", { src: late ? null : url(file), alt, class: P.flat ? "map" : "colour", width: P.columns, height: P.rows, loading: lazy ? "lazy" : null, decoding: lazy ? "async" : null });
  if (late) read.then(() => { img.src = url(file); });
  return img;
};

function playhead(sound) {
  const head = h("div", { class: "head", hidden: true });
  player.spots.add((current, now) => {
    head.hidden = current !== sound || (audio.paused && !now) || audio.ended;
    head.style.left = share(now) * 100 + "%";
  });
  return head;
}
// A picture with axes; with a sound, pressing it plays from there and a playhead crosses it.
function figure({ file, alt, sound, seconds, curve, big }) {
  const plot = h("div", { class: "plot" + (P.square ? " aspect" : ""), style: P.square ? { "aspect-ratio": `${P.columns}/${P.rows}` } : null }, image(file, alt));
  const read = h("span", {}, big ? axisTitle(X) : shortTitle(X));
  if (sound) {
    plot.append(playhead(sound));
    plot.style.cursor = "pointer";
    plot.addEventListener("click", (event) => {
      const box = plot.getBoundingClientRect();
      start(sound, Math.min(secondsAt((event.clientX - box.left) / box.width), seconds));
    });
  }
  if (big) {
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const column = Math.min(P.columns - 1, Math.floor(((event.clientX - box.left) / box.width) * P.columns));
      const row = Math.min(P.rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * P.rows)));
      const x = X.first + X.step * column, y = Y.values[row];
      read.textContent = `${X.unit === "s" ? x.toFixed(2) : num(x)} ${X.unit}, ${Y.unit === "Hz" ? hertz(y) : num(y) + " " + Y.unit}`;
    });
    plot.addEventListener("pointerleave", () => { read.textContent = axisTitle(X); });
  }
  const fig = h("div", { class: "fig" + (big ? " big" : "") + (P.square ? " aspect" : "") }, yaxis(big ? 10 : 5), plot, xaxis(big ? 9 : 4),
    big && P.flat && h("div", { class: "colours", "aria-hidden": "true" }, h("i", { class: "ramp" }), h("span", {}, ends().reverse().map((t) => h("span", {}, t)))),
    h("div", { class: "units" }, h("span", {}, big ? axisTitle(Y) : shortTitle(Y)), read));
  return add(fig, curve);
}
const silence = "below −60 dBFS; not amplified";
const gainText = (sound) => `played at ${decibel(sound.gain)}${sound.limited ? `, peaks held ${sound.limited.toFixed(1)} dB lower` : ""}`;
function playButton(file, sound, text, name, main) {
  if (!file || !sound) return null;
  if (sound.silent) return h("button", { class: "control play", disabled: true }, main ? "silent" : `${text}: silent`);
  const button = h("button", { class: "control" + (main ? " play" : ""), "data-sound": file, title: gainText(sound), "aria-label": `Play ${name}`, onclick: () => toggle(file) }, text);
  player.spots.add((current, now, running) => {
    const on = current === file && running;
    if (button.textContent !== (on ? "Stop" : text)) {
      button.textContent = on ? "Stop" : text;
      button.setAttribute("aria-label", `${on ? "Stop" : "Play"} ${name}`);
    }
  });
  return button;
}

// ---- details in files of their own, read when they are first needed
function detail(slug) {
  if (!details.has(slug)) details.set(slug, new Promise((done, fail) => {
    if (I.single) return read.then(() => done(JSON.parse($("data:" + slug).textContent)));
    waiting.set(slug, done);
    document.head.append(h("script", { src: `${I.base}/${slug}.js`, onerror: () => { details.delete(slug); fail(new Error(`${I.base}/${slug}.js is missing`)); } }));
  }));
  return details.get(slug);
}
window.ND = (slug, data) => { waiting.get(slug)?.(data); waiting.delete(slug); };

// ---- frame: what stands in the bar of every page
const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const theme = h("button", { class: "control square", onclick: () => { root.dataset.theme = dark() ? "light" : "dark"; store.set("nd-theme", root.dataset.theme); colours(); } });
function colours() {
  root.style.setProperty("--ramp", I.ramps[dark() ? "dark" : "light"]);
  theme.textContent = dark() ? "☀" : "☾";
  theme.setAttribute("aria-label", dark() ? "Light colours (t)" : "Dark colours (t)");
}
const help = h("section", { id: "help", hidden: true, "aria-label": "Keys" });
const helper = h("button", { class: "control square", "aria-label": "Keys (?)", "aria-expanded": "false", onclick: () => { help.hidden = !help.hidden; helper.setAttribute("aria-expanded", String(!help.hidden)); } }, "?");
function bar(keys, ...nodes) {
  help.append(h("dl", {}, keys.map(([key, text]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)))));
  $("bar").append(...nodes, theme, helper);
  $("bar").after(help);
}
addEventListener("error", (event) => {
  if (!(event.target instanceof HTMLImageElement) || $("stale")) return;
  $("bar").after(h("p", { id: "stale", role: "alert" }, "A picture is missing: this page has been written anew, or its folder was left behind. ", h("button", { class: "control", onclick: () => location.reload() }, "Reload")));
}, true);
if (store.get("nd-theme")) root.dataset.theme = store.get("nd-theme");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
if (P) root.style.setProperty("--aspect", P.square ? `${P.columns}/${P.rows}` : "8/7");
colours();
