// Spot the bug: six formulas, each with two wrong forms, of which at most one is at work. Its gradient stands beside
// jax.grad's, entry by entry, and the verifier's report below; for a game one is hidden, and the report waits.

import { decimals, powerOfTen, svg } from "../page/svg.js";

const RIGHT = "right";
const HIDDEN = "<p>One formula is wrong; the numbers below are its. Choose the form that you suspect, then ask.</p>";
const symbol = text => text.replace(/\[(\d)\]/g, "<sup>[$1]</sup>");
const rows = leaf => leaf.map(row => [row].flat());

export function mount(figure, data) {
  const selects = [...figure.querySelectorAll("select")], [hide, ask] = figure.querySelectorAll("button");
  const picture = figure.querySelector(".picture"), answer = figure.querySelector(".answer");
  let hidden = null; // the case that is to be guessed
  let rounds = 0, spotted = 0;

  selects.forEach((select, i) => {
    select.replaceChildren(...data.formulas[i].forms.map(({text, case: name}) => new Option(text, name)));
    select.addEventListener("input", () => { choose(select.value); update(); });
  });

  // At most one formula is wrong: the selects show this case.
  function choose(name) {
    for (const select of selects) {
      const has = [...select.options].some(option => option.value === name);
      select.value = has ? name : RIGHT;
    }
  }

  const chosen = () => selects.map(select => select.value).find(name => name !== RIGHT) ?? RIGHT;
  const formula = name => data.formulas.flatMap(({of, forms}) =>
    forms.filter(form => form.case === name).map(({text}) => symbol(`${of} = ${text}`)))[0];

  function update(comment = "") {
    const name = hidden ?? chosen(), {gradient, report} = data.cases[name];
    picture.replaceChildren(...[1, 2].map(layer => table(gradient, data.reference, layer)));
    answer.innerHTML = hidden === null ? text(report, comment) : HIDDEN;
    hide.setAttribute("aria-disabled", hidden !== null);
    ask.setAttribute("aria-disabled", hidden === null);
    Object.assign(figure.dataset, {
      case: hidden === null ? name : "", verdict: hidden === null ? report.verdict : "", spotted, rounds,
    });
  }

  hide.addEventListener("click", () => {
    if (hidden !== null) return;
    hidden = data.order[rounds % data.order.length];
    choose(RIGHT);
    update();
  });
  ask.addEventListener("click", () => {
    if (hidden === null) return;
    const guess = chosen(), found = guess === hidden, truth = hidden;
    hidden = null;
    rounds += 1;
    spotted += found;
    choose(truth);
    const reply = found ? "Spotted" : guess === RIGHT ? "No guess" : `Not ${formula(guess)}`;
    update(`<p>${reply}: hidden was <strong>${formula(truth)}</strong>. ${spotted} of ${rounds} spotted.</p>`);
  });
  update();
}

// The entries of one layer's leaves, by the six formulas and by jax.grad, with a bar for each.
function table(gradient, reference, layer) {
  const found = document.createElement("table");
  const head = `<tr><th scope="col">entry</th><th scope="col">formulas</th><th scope="col">jax.grad</th><td></td></tr>`;
  found.innerHTML = `<caption>Layer ${layer}</caption><thead>${head}</thead>`;
  for (const leaf of [`dW[${layer}]`, `db[${layer}]`]) {
    const [manual, own] = [rows(gradient[leaf]), rows(reference[leaf])], isFlat = !Array.isArray(gradient[leaf][0]);
    const largest = Math.max(...manual.flat().map(Math.abs), ...own.flat().map(Math.abs));
    const shape = isFlat ? `(${manual.length},)` : `(${manual.length}, ${manual[0].length})`;
    const body = document.createElement("tbody");
    body.innerHTML = `<tr><th scope="rowgroup" colspan="4">${symbol(leaf)}, shape ${shape}</th></tr>`;
    manual.forEach((row, i) => row.forEach((number, k) => {
      const other = own[i]?.[k], line = document.createElement("tr");
      line.innerHTML = `<th scope="row">${isFlat ? i + 1 : `${i + 1},${k + 1}`}</th><td>${decimals(number, 3)}</td>
        <td>${other === undefined ? "" : decimals(other, 3)}</td>`;
      line.append(document.createElement("td"));
      line.lastChild.append(bars([number, other ?? 0], largest));
      body.append(line);
    }));
    found.append(body);
  }
  return found;
}

// Two bars from the middle, the formulas' above jax.grad's.
function bars(numbers, largest) {
  return svg("svg", {viewBox: "-50 0 100 16", "aria-hidden": "true"},
    svg("path", {d: "M0 0V16", stroke: "var(--line)"}),
    ...numbers.map((number, i) => svg("rect", {
      x: Math.min(0, 50 * number / largest), y: 2 + 6 * i, width: Math.abs(50 * number / largest), height: 5,
      fill: i ? "var(--orange)" : "var(--blue)",
    })));
}

// The verifier's report: the verdict, the cause, and a row for each leaf; before it a comment on the game.
function text({verdict, cause, leaves}, comment) {
  const state = word => `<span class="${word === "PASS" ? "passed" : "failed"}">${word}</span>`;
  const lines = Object.entries(leaves).map(([leaf, found]) => `<tr><th scope="row">${symbol(leaf)}</th>
    <td>${size(found)}</td><td>${state(found.verdict)}</td></tr>`);
  return `<div>${comment}<p>${state(verdict)} ${symbol(cause ?? "Every leaf is right.")}</p></div>
    <table><tr><td></td><th scope="col">relative error</th><th scope="col">verdict</th></tr>${lines.join("")}</table>`;
}

// A relative error in few digits; a leaf of another shape has none.
function size({relative_error: error, verdict}) {
  if (verdict === "FAIL" && error === 0) return "shape";
  return error < 1e-3 ? powerOfTen(error, 2) : decimals(error, 3);
}
