// ---- a generator: the latent that was found, and what was reached for each class that it was asked for
function latentPicture(entry) {
  if (!entry.z) return null;
  const n = entry.z.length, far = Math.max(...entry.z.map(Math.abs), 1e-9);
  const d = entry.z.map((v, i) => `M${((i + 0.5) / n * 100).toFixed(2)} 50V${(50 - 50 * v / far).toFixed(1)}`).join("");
  const text = `${n} numbers from ${num(Math.min(...entry.z))} to ${num(Math.max(...entry.z))}`;
  return section("latent", "Its latent",
    h("div", { class: "line bars", role: "img", "aria-label": `The latent: ${text}`, title: text }, drawing(trace(d))),
    soft(`${text}. It is longer than ${entry.latent} % of all latents of its law; 50 is as usual as can be.`));
}
const cents = (f, midi) => Math.round(1200 * Math.log2(f / 440) - 100 * (midi - 69));
function heardAs(one) {
  if (one.pitch === null) return "no clear pitch heard";
  const off = one.midi === null ? null : cents(one.pitch, one.midi);
  return `heard ${hertz(one.pitch)}, ${note(one.pitch)}${off === null ? "" : `, ${off < 0 ? "−" : "+"}${Math.abs(off)} cents`}`;
}
function atClasses(entry, ref) {
  if (!entry.classes || entry.classes.length < 2) return null;
  const rows = entry.classes, what = I.made, more = new Map((entry.others || []).map((one) => [one.rank, one]));
  const scores = rows.map((one) => one.score).filter((score) => !last(score)), usual = entry.natural && entry.natural.length ? entry.natural[0].value : null;
  const low = Math.min(usual === null ? 0 : usual, ...scores), high = Math.max(usual === null ? 0 : usual, ...scores, low + 1e-9);
  const where = rows.map((one, i) => one.midi === null ? i : one.midi), from = Math.min(...where), to = Math.max(...where);
  const x = (i) => 100 * (where[i] - from) / (to - from || 1), y = (score) => 100 - 100 * (score - low) / (high - low);
  const text = rows.map((one) => `${one.name} ${num(one.score)}`).join(", "), known = rows.map((one, i) => [i, one]).filter(([, one]) => !last(one.score));
  const reached = h("div", { class: "reached", role: "img", "aria-label": `Activation reached at each ${what}: ${text}` },
    drawing(trace(along(known.map(([, one]) => one.score), (k) => x(known[k][0]) / 100, low, high))),
    known.map(([i, one]) => h("i", { class: "dot" + (one.rank ? "" : " best"), title: `${one.name}: ${num(one.score)}`, style: { left: x(i) + "%", top: y(one.score) + "%" } })),
    rows.map((one, i) => h("span", { class: "x", style: { left: x(i) + "%" } }, one.name)),
    usual !== null && h("i", { class: "usual", style: { top: y(usual) + "%" }, title: `The strongest random sample: ${num(usual)}` }),
    [...new Set([high, low])].map((value) => h("span", { class: "y", style: { top: y(value) + "%" } }, num(value))));
  return section("panel wide", what === "pitch" ? "What it reaches at each pitch" : "What it reaches for each class",
    soft(`Activation over the ${what} that the generator was asked for. Each ${what} was climbed on its own; the highest, with a ring, is the one above.${usual === null ? "" : ` The dashed line is the strongest of ${whole(I.natural.count)} random samples, ${num(usual)}.`}${I.sound ? ` The pitch heard is the period of the sound (McLeod and Wyvill 2005), ${what === "pitch" ? "measured without any network; beside it how far it lies from the one asked for." : "measured without any network."}` : ""}`),
    reached, h("ol", { class: "naturals each" }, rows.map((one) => {
      const sound = one.rank ? I.sound && more.get(one.rank) : soundOf(ref), name = `${what} ${one.name}`;
      return specimen({ file: one.rank ? `${stem(ref)}.${one.rank + 1}` : stem(ref), sound, title: `${one.name}${one.rank ? "" : ", the highest"}`, name, alt: `What the generator makes for ${name}` },
        `activation ${num(one.score)}`, I.sound && (audible(sound) ? heardAs(one) : "not audible"));
    })));
}
