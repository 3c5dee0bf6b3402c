// ---- labels: the concepts that a unit is most alike, by every source and function, beside chance
const FUNCTIONS = { cosine: "cosine", cosine_cubed: "cosine cubed", rank_reorder: "rank reorder", wpmi: "WPMI", soft_wpmi: "soft-WPMI" };
const SOURCES = { DB: "from captions (DB)", TAB: "from sounds (TAB)" };
function labelsPanel(entry, data) {
  const mine = entry.labels, all = data.labels;
  if (!mine || !all) return null;
  const fn = (name) => FUNCTIONS[name] || name, from = (name) => SOURCES[name] || name, name = (at) => all.concepts[at];
  const like = (at) => h("button", { class: "like", title: `Units called ${name(at)}`, onclick: () => { search.value = name(at); ask(search.value); location.hash = "#/all"; } }, name(at));
  const [source, by] = all.by, row = mine.rows.find((one) => one[0] === source && one[1] === by);
  const chance = (beaten, tried) => !tried ? "not compared" : beaten === tried ? `above all ${tried}` : `above ${beaten} of ${tried}`;
  const line = (one) => {
    const [where, f, ranked, beaten, tried] = one, weak = beaten < tried;
    return h("tr", { class: weak ? "weak" : null }, h("th", { scope: "row" }, fn(f)), h("td", {}, like(ranked[0][0])), h("td", {}, num(ranked[0][1])),
      h("td", {}, ranked.slice(1).map(([at, score]) => `${name(at)} ${num(score)}`).join(", ")), h("td", {}, chance(beaten, tried)));
  };
  const table = (where) => h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Labels ${from(where)}` }, h("table", {},
    h("caption", {}, `${from(where)}, ${count(all.clips[where], "clip")}`), h("thead", {}, h("tr", {}, ["function", "label", "score", "then", "chance"].map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, mine.rows.filter((one) => one[0] === where).map(line))));
  const lead = row && [h("b", {}, name(row[2][0][0])), `, ${from(source)} by ${fn(by)}, score ${num(row[2][0][1])}. ${mine.agree[0]} of ${mine.agree[1]} ways agree. `,
    !row[4] ? "" : row[3] === row[4] ? `More alike than with the clips shuffled, ${row[4]} of ${row[4]} times.` : `Not above chance: as alike in ${row[4] - row[3]} of ${row[4]} shuffles of the clips.`];
  return section("panel wide labels", "Labels", lead && h("p", {}, lead), all.named && soft(all.named),
    mine.said && h("p", {}, "A language model says: ", mine.said.length ? mine.said.map((at, k) => [k ? ", " : "", like(at)]) : "nothing in the list", "."),
    h("div", { class: "both" }, [...new Set(mine.rows.map((one) => one[0]))].map(table)));
}
