bar([["t", "dark or light"], ["tab", "the next unit"], ["?", "these keys"], ["esc", "stop"]], h("nav", { "aria-label": "Where you are" }, `Weights of ${I.title}`));
main.replaceChildren(h("h1", {}, `Weights of ${I.title}`), ...I.layers.map((layer) => section("wlayer", layer.name, soft(weightsWords(layer.weights)), weightsPanel(layer.weights, layer.slug, null))));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") stop();
  else if (event.key === "t") theme.click();
  else if (event.key === "?") helper.click();
});
