// ---- the command that explains a unit on files of one's own, and the page that it made
function explain({ layer, i }) {
  const E = I.explain, quoted = (text) => /^[\w\/:.-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
  if (!E || layer.unit[i] < 0) return null;
  const name = quoted(`${layer.name}:${layer.unit[i]}`), maps = E.mapped.includes(layer.name) ? ` --units ${quoted(layer.name)}` : "";
  return section("panel wide", `On your own ${E.what}`, soft("What drives this unit in every file of a folder of yours, and where it is active."),
    copied(`python experiments/explain.py --network ${quoted(E.network)} --${E.what} FOLDER --unit ${name}${maps} --out ${quoted(E.out)}`),
    E.page && h("p", {}, h("a", { href: E.page }, "The page that this made last"), `, of ${E.of}.`));
}
