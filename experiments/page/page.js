// The entry: every figure whose experiment has left its data is handed to its module.

for (const figure of document.querySelectorAll("figure[data-figure]")) {
  const name = figure.dataset.figure, data = document.getElementById(`data-${name}`);
  if (!data) continue; // the figure says that there are no results
  const controls = figure.querySelectorAll("[hidden]"), still = figure.cloneNode(true);
  try {
    figures[name](figure, JSON.parse(data.textContent));
    for (const element of controls) element.hidden = false;
  } catch (error) {
    console.error(`the figure ${name} keeps its still picture:`, error); // and the others go on
    figure.replaceWith(still);
  }
}
