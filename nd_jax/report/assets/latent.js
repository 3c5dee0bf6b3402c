// ---- a generator: the latent that was found, and what was reached for each class that it was asked for
function latentPicture(entry) {
  if (!entry.z) return null;
  const n = entry.z.length, far = Math.max(...entry.z.map(Math.abs), 1e-9);
  const d = entry.z.map((v, i) => `M${((i + 0.5) / n * 100).toFixed(2)} 50V${(50 - 50 * v / far).toFixed(1)}`).join("");
  const text = `${n} numbers from ${num(Math.min(...entry.z))} to ${num(Math.max(...entry.z))}`;
  return h("section", { class: "latent" }, h("h2", {}, "Its latent"),
    h("div", { class: "line bars", role: "img", "aria-label": `The latent: ${text}`, title: text },
      h("svg:svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, h("svg:path", { d }))),
    h("p", { class: "soft" }, `${text}. It is longer than ${entry.latent} % of all latents of its law; 50 is as usual as can be.`));
}
const cents = (f, midi) => Math.round(1200 * Math.log2(f / 440) - 100 * (midi - 69));
function heardAs(one) {
  if (one.pitch === null) return "no clear pitch heard";
  const off = one.midi === null ? null : cents(one.pitch, one.midi);
  return `heard ${hertz(one.pitch)}, ${note(one.pitch)}${off === null ? "" : `, ${off < 0 ? "−" : "+"}${Math.abs(off)} cents`}`;
}
function atClasses(entry, ref) {
  if (!entry.classes || entry.classes.length < 2) return null;
  const rows = entry.classes, what = I.made, stem = `${ref.layer.slug}/${ref.key}`, more = new Map((entry.others || []).map((one) => [one.rank, one]));
  const scores = rows.map((one) => one.score).filter((score) => !last(score)), usual = entry.natural && entry.natural.length ? entry.natural[0].value : null;
  const low = Math.min(usual === null ? 0 : usual, ...scores), high = Math.max(usual === null ? 0 : usual, ...scores, low + 1e-9);
  const where = rows.map((one, i) => one.midi === null ? i : one.midi), from = Math.min(...where), to = Math.max(...where);
  const x = (i) => 100 * (where[i] - from) / (to - from || 1), y = (score) => 100 - 100 * (score - low) / (high - low);
  const text = rows.map((one) => `${one.name} ${num(one.score)}`).join(", "), known = rows.map((one, i) => [i, one]).filter(([, one]) => !last(one.score));
  const chart = h("div", { class: "reached", role: "img", "aria-label": `Activation reached at each ${what}: ${text}` },
    h("svg:svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, h("svg:path", { d: "M" + known.map(([i, one]) => `${x(i).toFixed(2)} ${y(one.score).toFixed(2)}`).join("L") })),
    known.map(([i, one]) => h("i", { class: "dot" + (one.rank ? "" : " best"), title: `${one.name}: ${num(one.score)}`, style: { left: x(i) + "%", top: y(one.score) + "%" } })),
    rows.map((one, i) => h("span", { class: "x", style: { left: x(i) + "%" } }, one.name)),
    usual !== null && h("i", { class: "usual", style: { top: y(usual) + "%" }, title: `The strongest random sample: ${num(usual)}` }),
    [...new Set([high, low])].map((value) => h("span", { class: "y", style: { top: y(value) + "%" } }, num(value))));
  return h("section", { class: "panel wide" }, h("h2", {}, what === "pitch" ? "What it reaches at each pitch" : "What it reaches for each class"),
    h("p", { class: "soft" }, `Activation over the ${what} that the generator was asked for. From the same latent, each ${what} was climbed on its own; the highest, with a ring, is the one above.${usual === null ? "" : ` The dashed line is the strongest of ${I.natural.count.toLocaleString("en")} random samples, ${num(usual)}.`}${I.sound ? ` The pitch heard is the period of the sound (McLeod and Wyvill 2005), ${what === "pitch" ? "measured without any network; beside it how far it lies from the one asked for." : "measured without any network."}` : ""}`),
    chart, h("ol", { class: "naturals each" }, rows.map((one) => {
      const about = one.rank ? more.get(one.rank) : { silent: ref.layer.silent[ref.i], seconds: ref.layer.seconds[ref.i], gain: ref.layer.gain[ref.i], limited: ref.layer.limited[ref.i] };
      const file = one.rank ? `${stem}.${one.rank + 1}` : stem, heard = I.sound && !about.silent, name = `${what} ${one.name}`;
      return h("li", {}, h("h3", {}, `${one.name}${one.rank ? "" : ", the highest"}`), h("p", { class: "soft" }, `activation ${num(one.score)}`), I.sound && h("p", { class: "soft" }, heard ? heardAs(one) : "not audible"),
        figure({ file: file + ".png", alt: `What the generator makes for ${name}`, sound: heard ? file + ".wav" : null, seconds: heard && about.seconds }),
        I.sound && h("div", { class: "player" }, playButton(file + ".wav", about, "Play", name)));
    })));
}
