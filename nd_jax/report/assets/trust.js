// ---- trust card: a line a question; what it means stands below, for the line under the pointer or in focus
const rho = (x) => x.toFixed(2).replace("-", "−");
const times = (x) => x === null ? "–" : `${num(x)} ×`;
function trustLines(t, about, ref) {
  const many = I.sound ? "sounds" : "inputs", one = I.sound ? "sound" : "input", twin = about.twin, none = "–";
  const range = twin && `${times(twin[0])} (${num(twin[1], 2)} to ${num(twin[2], 2)})`;
  const paths = t.paths.filter((row) => row[1] !== null).map(([layer, same, other, made]) => `${layer} ${rho(made)} (${rho(same)} among themselves, ${rho(other)} with others)`);
  const lines = [{
    name: `Over natural ${many}`, value: times(t.ratio), beside: twin ? `random weights ${range}` : "",
    why: `How far the optimised ${one} drives the unit (${num(t.score)}), over how far the 99.9th percentile of ${count(about.count, "natural " + one)} does (${num(t.high)}), both from the natural mean (${num(t.mean)}). 1 × is what one natural ${one} in a thousand reaches. ${twin ? `The same search in a network with random weights reaches ${range}, measured on ${count(about.answering, "unit")}: so much comes from searching alone.` : about.tried ? "In a network with random weights no unit answered." : "A network with random weights was not tried."} Higher is not better: far above everything natural is where only a search goes.`,
  }];
  if (I.sound) lines.push({
    name: "Survives listening", value: t.survives === null ? none : percent(+t.survives.toFixed(2)).replace("-", "−"), bar: t.survives, beside: t.after === null ? "" : `${times(t.after)} afterwards`,
    why: `The ${one} is written as a wav, read back and analysed again, as it reaches your ears. This share of the rise above the natural mean is left. Little left: what drives the unit is in the picture, and no sound has it.`,
  });
  lines.push({
    name: "Several starts agree", value: t.starts > 1 ? (t.agreement === null ? none : rho(t.agreement)) : "not measured", bar: t.starts > 1 ? t.agreement : null, beside: t.starts > 1 ? count(t.found, "preference") : "",
    why: t.starts > 1 ? `${t.starts} searches from different noise, held against each other by what they do in the network, at the shift in time that suits them best. 1: the same; 0: no more alike than two natural ${many}. ${t.found > 1 ? `They found ${t.found} different things, shown below: the unit has several preferences.` : "They found one thing."}`
      : t.dead ? "A dead unit has nothing to agree on." : "Takes several searches a unit. The command line runs them with --trust full.",
  }, {
    name: "Takes the natural path", value: t.path === null ? none : rho(t.path), bar: t.path, beside: t.path === null ? (t.paths.length ? "layers cannot tell" : "no earlier layer") : "",
    why: t.paths.length ? `Whether the optimised ${one} does in the earlier layers what natural ${many} of this unit do (Geirhos et al. 2024): 1, as alike as those are among themselves; 0, as those and ${many} of other units are. Rank correlations: ${paths.join("; ")}.` : "Nothing stands before this layer that could be compared.",
  }, {
    name: `Silent on probing ${many}`, value: t.silent ? "yes" : "no",
    why: t.silent ? `The same value on every one of ${count(about.count, "natural " + one)}. It may still answer to its optimised ${one}.` : `At least one of ${count(about.count, "natural " + one)} moves it.`,
  }, {
    name: "Dead", value: t.dead ? "yes" : "no",
    why: t.dead ? `${sentence(ref.layer.reason[ref.i] || "no response from any start")} That is another thing than silence on the probing ${many}: here nothing that was searched for moves it.` : "The search moved it, from its own start or from one of the others that are tried.",
  }, {
    name: "At its ceiling", value: t.saturated ? "yes" : "no",
    why: t.saturated ? `Saturated: going a fifth of the way back to the average natural ${one} costs next to nothing, so the ${one} could be weaker, or another, and do the same.` : `Going a fifth of the way back to the average natural ${one} costs activation: the unit is not saturated.`,
  });
  return lines;
}
function trustCard(entry, data, ref) {
  if (!entry.trust) return null;
  const why = h("p", { class: "why soft", id: "why", "aria-live": "polite" }, "Point at a line, or move to it with the tab key, to read what it means.");
  const lines = trustLines(entry.trust, data.trust, ref);
  return section("trust", "How far to believe it",
    h("ul", {}, lines.map((line) => {
      const tell = () => { why.textContent = line.why; for (const each of why.parentNode.querySelectorAll(".ask")) each.setAttribute("aria-current", String(each === ask)); };
      const ask = h("button", { class: "ask", "aria-describedby": "why", onpointerenter: tell, onfocus: tell, onclick: tell },
        h("span", {}, line.name), h("i", { class: "meter", "aria-hidden": "true" }, line.bar !== null && line.bar !== undefined && h("b", { style: { width: `${100 * Math.max(0, Math.min(1, line.bar))}%` } })),
        h("b", {}, line.value), h("span", { class: "soft" }, line.beside || ""));
      return h("li", {}, ask);
    })), why);
}
function preferences(entry, ref) {
  const rows = entry.trust && entry.trust.preferences;
  if (!rows) return null;
  return section("panel wide", "Its other preferences", soft(`Other starts found ${rows.length > 1 ? "other things" : "another thing"} that this unit responds to.`),
    h("ol", { class: "naturals others" }, rows.map(({ number, sound, score }) => {
      const title = `preference ${number + 1}`;
      return specimen({ file: `${stem(ref)}.p${number}`, sound, title, alt: `Optimised input, ${title}` }, `score ${num(score)}${gainOf(sound)}`);
    })));
}
