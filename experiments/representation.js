// Sections 1 and 2: one example through 3-4-1. Its numbers stand in the units; one unit's sum is written out.

import { forward } from "./page/network.js";
import { decimals, set, svg } from "./page/svg.js";

const WIDTH = 300, HEIGHT = 310, RADIUS = 24;
const SUBSCRIPTS = "₀₁₂₃₄";
const place = (l, i, n) => ({x: 32 + l * (WIDTH - 64) / 2, y: HEIGHT * (i + 0.5) / n + 8});

export function mount(figure, data) {
  const sizes = [3, 4, 1], sliders = [...figure.querySelectorAll("input")];
  let chosen = [1, 0];

  const lines = data.params.map(({W}, l) => W.map((row, i) => row.map((weight, k) => {
    const from = place(l, k, sizes[l]), to = place(l + 1, i, sizes[l + 1]);
    return svg("line", {
      x1: from.x, y1: from.y, x2: to.x, y2: to.y, "stroke-width": Math.max(1, 3 * Math.abs(weight)),
      stroke: weight < 0 ? "var(--orange)" : "var(--blue)", "stroke-dasharray": weight < 0 ? "6 3" : "none",
    });
  })));
  const units = sizes.map((n, l) => Array.from({length: n}, (_, i) => unit(l, i, n)));
  figure.querySelector(".picture").replaceChildren(
    svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT + 12}`, role: "group", "aria-label": "The network, unit by unit"},
      ...lines.flat(2), ...units.flat().map(({group}) => group)),
  );

  function unit(l, i, n) {
    const {x, y} = place(l, i, n), name = ["x", "a", "ŷ"][l] + (l < 2 ? SUBSCRIPTS[i + 1] : "");
    const number = svg("text", {x, y: y + 5, "text-anchor": "middle", "font-size": 15, fill: "currentColor"});
    const group = svg("g", {},
      svg("circle", {cx: x, cy: y, r: RADIUS, fill: "var(--paper)", stroke: "currentColor", "stroke-width": 1.5}),
      number,
      svg("text", {x, y: y - RADIUS - 5, "text-anchor": "middle", "font-size": 15, fill: "var(--soft)"}, name));
    if (l > 0) {
      set(group, {role: "button", tabindex: 0, "aria-label": `${name}: its sum`});
      const choose = () => { chosen = [l, i]; update(); };
      for (const event of ["pointerenter", "focus", "click"]) group.addEventListener(event, choose);
    }
    return {group, number};
  }

  // Everything that the inputs, or the choice of a unit, change.
  function update() {
    const x = sliders.map(slider => slider.valueAsNumber), layers = forward(data.params, data.activations, x);
    sliders.forEach((slider, i) => { slider.nextElementSibling.value = decimals(x[i]); });
    units.forEach((layer, l) => layer.forEach(({group, number}, i) => {
      const isChosen = l === chosen[0] && i === chosen[1];
      number.textContent = decimals(layers[l].a[i]);
      if (l > 0) group.setAttribute("aria-pressed", isChosen);
    }));
    lines.forEach((layer, l) => layer.forEach((row, i) => row.forEach(line => {
      line.setAttribute("opacity", l + 1 === chosen[0] && i === chosen[1] ? 1 : 0.3);
    })));
    figure.querySelector(".answer").innerHTML = sum(data.params, layers, ...chosen);
    figure.dataset.layers = JSON.stringify(layers);
  }

  sliders.forEach((slider, i) => { slider.valueAsNumber = data.x[i]; slider.addEventListener("input", update); });
  update();
}

// z = wᵀ a_prev + b and a = σ(z) of one unit, with the numbers in their places.
function sum(params, layers, l, i) {
  const {W, b} = params[l - 1], {z, a} = layers[l];
  const terms = W[i].map((w, k) => {
    const weight = `<span class="${w < 0 ? "negative" : "positive"}">${decimals(w)}</span>`;
    return `${w < 0 ? `(${weight})` : weight}·${bracketed(layers[l - 1].a[k])}`;
  });
  const symbol = (letter, transposed = "") => `<math><msubsup><mi>${letter}</mi><mn>${i + 1}</mn>
    <mrow><mo>[</mo><mn>${l}</mn><mo>]</mo>${transposed}</mrow></msubsup></math>`;
  const raised = "<msup><mi>a</mi><mrow><mo>[</mo><mn>1</mn><mo>]</mo></mrow></msup>";
  const before = `<math>${l === 1 ? "<mi>x</mi>" : raised}</math>`;
  return `${symbol("z")} = ${symbol("w", "<mi>⊤</mi>")}${before} + ${symbol("b")}
    = ${terms.join(" + ")} + ${bracketed(b[i])} = <output>${decimals(z[i], 3)}</output><br>
    ${symbol("a")} = <math><mi>σ</mi></math>(${symbol("z")}) = <output>${decimals(a[i], 3)}</output>`;
}

const bracketed = number => number < 0 ? `(${decimals(number)})` : decimals(number);
