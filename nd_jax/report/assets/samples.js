// ---- a page of samples: the same latents at every step of a training. #/step says which
const STEPS = I.steps, SAMPLES = I.samples, LAST = STEPS.length - 1;
const slugOf = (step) => String(step).padStart(8, "0");
const fileOf = (step, i, end) => `${slugOf(step)}/${String(i).padStart(3, "0")}.${end}`;
const state = { at: LAST, shown: null, group: "", hover: null };

function waveform(file, sound) {
  const peaks = Uint8Array.from(atob(sound.wave), (c) => c.charCodeAt(0)), n = peaks.length;
  const x = (i) => (share(((i + 0.5) / n) * sound.seconds) * 100).toFixed(2), high = Math.max(...peaks) / 255;
  const upper = [...peaks].map((v, i) => `${x(i)} ${(50 - v / 5.1).toFixed(1)}`), lower = [...peaks].map((v, i) => `${x(i)} ${(50 + v / 5.1).toFixed(1)}`).reverse();
  const text = high ? `waveform, peak ${decibel(20 * Math.log10(high)).replace("+", "")} full scale` : "waveform, silent";
  return [h("div", { class: "curvey", "aria-hidden": "true" }, h("span", {}, "wave")),
    h("div", { class: "curve wave", role: "img", "aria-label": text, title: text }, drawing(trace(`M${upper.join("L")}L${lower.join("L")}Z`)), playhead(file))];
}
function tile(i, data) {
  const { title } = SAMPLES[i], step = STEPS[state.at], sound = I.sound ? data.sounds[i] : null, heard = sound && !sound.silent ? fileOf(step, i, "wav") : null;
  const alt = `${title}${LAST ? ` at step ${whole(step)}` : ""}`, picture = fileOf(step, i, "png");
  const node = h("li", { class: "sample", "data-sample": i }, h("h3", {}, title),
    P.square ? image(picture, alt) : figure({ file: picture, alt: `Spectrogram of ${alt}`, sound: heard, seconds: sound && sound.seconds, curve: sound && waveform(heard, sound) }),
    sound && h("div", { class: "player" }, playButton(fileOf(step, i, "wav"), sound, "Play", title, true), h("span", { class: "soft" }, sound.silent ? silence : `${sound.seconds.toFixed(2)} s, gain ${decibel(sound.gain)}`)));
  node.addEventListener("pointerenter", () => { state.hover = node; });
  node.addEventListener("pointerleave", () => { state.hover = null; });
  return node;
}

const board = h("div", { class: "board" + (SAMPLES.some((one) => one.group) ? " grouped" : "") }), told = h("output", { class: "told", for: "step" });
const slider = h("input", { id: "step", type: "range", min: 0, max: LAST, step: 1, value: LAST, "aria-label": "Step of the training", oninput: () => go(+slider.value) });
const step = (by, text, name) => h("button", { class: "control square", "aria-label": name, onclick: () => go(state.at + by) }, text);
const groups = [...new Set(SAMPLES.map((one) => one.group).filter(Boolean))];
const filter = groups.length > 1 && choice(() => { state.group = filter.value; draw(); }, [["", "all"], ...groups.map((group) => [group, group])]);

function draw() {
  const data = state.shown, focused = document.activeElement?.closest?.(".sample")?.dataset.sample;
  player.spots.clear();
  const list = (chosen) => h("ul", { class: "samples" + (P.square ? " images" : "") }, chosen.map((i) => tile(i, data)));
  const all = SAMPLES.map((_, i) => i), shown = groups.filter((group) => !state.group || group === state.group);
  board.replaceChildren(...(groups.length ? shown.map((group) => {
    const members = all.filter((i) => SAMPLES[i].group === group);
    return h("section", { style: { "--members": members.length } }, h("h2", {}, group), list(members));
  }) : [list(all)]));
  if (focused !== undefined) board.querySelector(`[data-sample="${focused}"] button`)?.focus({ preventScroll: true });
  paint();
}
// The pictures of a step are read before they replace those of another, so that nothing flickers.
async function go(at, first) {
  if (at < 0 || at > LAST || (at === state.at && !first)) return;
  const was = playing(player.path) && player.path ? player.path.split("/")[1] : null, now = STEPS[at];
  state.at = at;
  slider.value = at;
  slider.setAttribute("aria-valuetext", `step ${whole(now)}`);
  told.textContent = `${whole(now)} (${at + 1} of ${STEPS.length})`;
  try {
    const [data] = await Promise.all([detail(`${slugOf(now)}/data`), ...SAMPLES.map((_, i) => { const one = new Image(); one.src = url(fileOf(now, i, "png")); return one.decode().catch(() => {}); })]);
    if (state.at !== at) return;
    state.shown = data;
    draw();
    document.body.dataset.step = now;
    if (!first) history.replaceState(null, "", `#/${now}`);
    if (was) { const sound = data.sounds[parseInt(was, 10)]; if (sound && !sound.silent) start(fileOf(now, parseInt(was, 10), "wav")); else stop(); }
  } catch (error) {
    board.replaceChildren(h("p", { class: "rest" }, `Step ${whole(now)} cannot be read: ${error.message}. Keep the folder ${I.base} beside this page.`));
  }
}
function wanted() {
  const at = STEPS.indexOf(parseInt(location.hash.replace(/^#\/?/, ""), 10));
  return at < 0 ? LAST : at;
}

const KEYS = [["← → ↑ ↓", "move between samples"], ...(I.sound ? [["space", "play or stop the sample under the pointer or in focus"]] : []), ...(LAST ? [["[ ]", "earlier or later step; a sound that plays goes on with that step's"]] : []), ["t", "dark or light"], ["?", "these keys"], ["esc", "close, stop"]];
bar(KEYS, h("nav", { "aria-label": "Where you are" }, h("a", { href: "#/", "aria-current": "page" }, I.title)));
add(main, h("h1", {}, I.title), I.about && h("p", { class: "lead" }, I.about),
  h("div", { class: "tools", id: "steps" }, LAST > 0 && h("div", { class: "stepper" }, h("label", { for: "step" }, "Step"), step(-1, "‹", "Earlier step ([)"), slider, step(1, "›", "Later step (])"), told),
    filter && h("label", {}, "Class", filter), h("span", { class: "end" }, scaleLine() || "")), board);

function move(key) {
  const places = [...board.querySelectorAll(".sample")], from = places.indexOf(document.activeElement?.closest?.(".sample") || null);
  const columns = getComputedStyle(board.querySelector(".samples")).gridTemplateColumns.split(" ").length;
  const to = from < 0 ? 0 : from + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const button = places[to]?.querySelector("button");
  if (button) { button.focus(); places[to].scrollIntoView({ block: "nearest" }); }
  return !!button;
}
addEventListener("keydown", (event) => {
  const key = event.key, typing = event.target.matches("select, input[type=range]");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape") { stop(); if (!help.hidden) helper.click(); return; }
  if (key === "[") go(state.at - 1);
  else if (key === "]") go(state.at + 1);
  else if (key === "t") theme.click();
  else if (key === "?") helper.click();
  else if (key === " " && state.hover && !event.target.matches("button, a, select, input")) state.hover.querySelector(".play:enabled")?.click();
  else if (!(key.startsWith("Arrow") && !typing && move(key))) return;
  event.preventDefault();
});
addEventListener("hashchange", () => go(wanted()));
go(wanted(), true);
