// Sections 8 and 9: the graph of one example, filled in forwards, then with the derivatives of ℓ backwards; a box
// that is chosen shows its formula and the chain rule's product with the numbers in them. Vectors are lists of
// numbers, matrices lists of rows; y is 0 or 1.

import { activations, dot } from "./page/network.js";
import { decimals, set, svg } from "./page/svg.js";

const { tanh, sigmoid } = activations;

// The value of every node, from left to right: `forwards` in backpropagation.py, line by line.
function forwards({x, W1, b1, W2, b2}, y) {
  const z1 = times(W1, x).map((sum, i) => sum + b1[i]);
  const a1 = z1.map(tanh);
  const z2 = times(W2, a1).map((sum, i) => sum + b2[i]);
  const a2 = z2.map(sigmoid);
  const loss = a2.map(a => -(y * Math.log(a) + (1 - y) * Math.log(1 - a)));
  return {x, W1, b1, z1, a1, W2, b2, z2, a2, loss};
}

// The derivative of ℓ with respect to every node, from right to left: `backwards` there, line by line.
function backwards({x, W1, a1, W2, a2}, y) {
  const dloss = a2.map(() => 1);
  const da2 = dloss.map((d, i) => d * (-y / a2[i] + (1 - y) / (1 - a2[i])));
  const dz2 = da2.map((d, i) => d * a2[i] * (1 - a2[i]));
  const dW2 = outer(dz2, a1), db2 = dz2;
  const da1 = times(transposed(W2), dz2);
  const dz1 = da1.map((d, i) => d * (1 - a1[i] * a1[i]));
  const dW1 = outer(dz1, x), db1 = dz1;
  const dx = times(transposed(W1), dz1);
  return {x: dx, W1: dW1, b1: db1, z1: dz1, a1: da1, W2: dW2, b2: db2, z2: dz2, a2: da2, loss: dloss};
}

const times = (W, a) => W.map(w => dot(w, a));
const transposed = W => W[0].map((_, k) => W.map(w => w[k]));
const outer = (dz, a) => dz.map(d => a.map(each => d * each));

// The boxes: what is computed in each, and how the derivative arrives there. The numbers of entry i (of a matrix, row
// i and column k) stand in `value` and `derivative` as text; n writes a number, v are the values, d the derivatives.
const BOXES = {
  x: {
    name: "x", chain: "W[1]⊤ dz[1]",
    derivative: (v, d, i) => v.W1.map((w, j) => `${n(w[i])}·${n(d.z1[j])}`).join(" + "),
  },
  W1: {
    name: "W[1]", chain: "dz[1] x⊤",
    derivative: (v, d, i, k) => `${n(d.z1[i])}·${n(v.x[k])}`,
  },
  b1: { name: "b[1]", chain: "dz[1]", derivative: (v, d, i) => n(d.z1[i]) },
  z1: {
    name: "z[1]", formula: "W[1]x + b[1]", chain: "da[1] ∗ (1 − a[1] ∗ a[1])",
    value: (v, i) => `${v.W1[i].map((w, k) => `${n(w)}·${n(v.x[k])}`).join(" + ")} + ${n(v.b1[i])}`,
    derivative: (v, d, i) => `${n(d.a1[i])}·(1 − ${n(v.a1[i])}²)`,
  },
  a1: {
    name: "a[1]", formula: "tanh(z[1])", chain: "W[2]⊤ dz[2]",
    value: (v, i) => `tanh ${n(v.z1[i])}`,
    derivative: (v, d, i) => v.W2.map((w, j) => `${n(w[i])}·${n(d.z2[j])}`).join(" + "),
  },
  W2: {
    name: "W[2]", chain: "dz[2] a[1]⊤",
    derivative: (v, d, i, k) => `${n(d.z2[i])}·${n(v.a1[k])}`,
  },
  b2: { name: "b[2]", chain: "dz[2]", derivative: (v, d, i) => n(d.z2[i]) },
  z2: {
    name: "z[2]", formula: "W[2]a[1] + b[2]", chain: "da[2] ∗ a[2] ∗ (1 − a[2])",
    value: (v, i) => `${v.W2[i].map((w, k) => `${n(w)}·${n(v.a1[k])}`).join(" + ")} + ${n(v.b2[i])}`,
    derivative: (v, d, i) => `${n(d.a2[i])}·${n(v.a2[i])}·(1 − ${n(v.a2[i])})`,
  },
  a2: {
    name: "a[2]", formula: "σ(z[2])", chain: "dℓ · (−y / a[2] + (1 − y) / (1 − a[2]))",
    value: (v, i) => `1 / (1 + e<sup>${decimals(-v.z2[i], 3)}</sup>)`,
    derivative: (v, d, i, _, y) => `${n(d.loss[i])}·(−${y} / ${n(v.a2[i])} + ${1 - y} / (1 − ${n(v.a2[i])}))`,
  },
  loss: {
    name: "ℓ", formula: "−(y ln a[2] + (1 − y) ln(1 − a[2]))", chain: "1, where the backward pass starts",
    value: (v, i, y) => `−(${y}·ln ${n(v.a2[i])} + ${1 - y}·ln(1 − ${n(v.a2[i])}))`,
    derivative: () => "∂ℓ/∂ℓ",
  },
};
const ARROWS = [
  ["x", "z1"], ["W1", "z1"], ["b1", "z1"], ["z1", "a1"], ["a1", "z2"], ["W2", "z2"], ["b2", "z2"], ["z2", "a2"],
  ["a2", "loss"],
];
const FORWARDS = ["z1", "a1", "z2", "a2", "loss"];
const BACKWARDS = ["loss", "a2", "z2", "W2", "b2", "a1", "z1", "W1", "b1", "x"];
const STEPS = FORWARDS.length + BACKWARDS.length;

const n = number => number < 0 ? `(${decimals(number, 3)})` : decimals(number, 3);
const symbol = text => text.replace(/(\[\d\])?⊤|\[\d\]/g, "<sup>$&</sup>");

export function mount(figure, data) {
  const [x1, x2] = figure.querySelectorAll("input"), target = figure.querySelector("select");
  const [forward, home, reset] = figure.querySelectorAll("button");
  let step = STEPS, chosen = "z1";

  const buttons = Object.fromEntries(Object.entries(BOXES).map(([name, box]) => {
    const button = document.createElement("button");
    set(button, {type: "button", class: "box", "data-node": name, style: `grid-area: ${name}`});
    button.innerHTML = `<span>${symbol(box.name)}</span><span class="value"></span><span class="derivative"></span>`;
    for (const event of ["focus", "click"]) button.addEventListener(event, () => { chosen = name; update(); });
    return [name, button];
  }));
  const arrows = svg("svg", {"aria-hidden": "true", class: "arrows"});
  const graph = document.createElement("div");
  graph.className = "graph";
  graph.append(arrows, ...Object.values(buttons));
  figure.querySelector(".picture").replaceChildren(graph);

  const hasValue = name => !FORWARDS.includes(name) || FORWARDS.indexOf(name) < step;
  const hasDerivative = name => BACKWARDS.indexOf(name) < step - FORWARDS.length;

  // Everything that a step, the example or the choice of a box change.
  function update() {
    const y = Number(target.value), x = [x1.valueAsNumber, x2.valueAsNumber];
    const values = forwards({...data, x}, y), derivatives = backwards(values, y);
    for (const slider of [x1, x2]) slider.nextElementSibling.value = decimals(slider.valueAsNumber);
    for (const [name, button] of Object.entries(buttons)) {
      const [, value, derivative] = button.children;
      value.innerHTML = matrix(values[name]);
      derivative.innerHTML = matrix(derivatives[name]);
      value.style.visibility = hasValue(name) ? "" : "hidden"; // its place is kept
      derivative.style.visibility = hasDerivative(name) ? "" : "hidden";
      button.setAttribute("aria-pressed", name === chosen);
    }
    forward.setAttribute("aria-disabled", step >= FORWARDS.length && step < STEPS);
    home.setAttribute("aria-disabled", step < FORWARDS.length || step === STEPS);
    figure.querySelector(".answer").innerHTML = explanation(chosen, values, derivatives, y);
    Object.assign(figure.dataset, {
      values: JSON.stringify(values), derivatives: JSON.stringify(derivatives), step, chosen,
    });
    draw();
  }

  // What the chosen box computes, and what the chain rule multiplies there, entry by entry.
  function explanation(name, values, derivatives, y) {
    const {name: title, formula, chain, value, derivative} = BOXES[name];
    const entries = (numbers, text) => `<ul>${numbers.flatMap((row, i) => [row].flat().map((number, k) =>
      `<li>${text(i, k)} = <output>${decimals(number, 3)}</output></li>`)).join("")}</ul>`;
    let there = `<p class="value">${symbol(formula ? `${title} = ${formula}` : `${title} is given`)}</p>`;
    let back = `<p class="derivative">${symbol(`d${title} = ${chain}`)}</p>`;
    if (formula && hasValue(name)) there += entries(values[name], i => value(values, i, y));
    if (hasDerivative(name)) {
      back += entries(derivatives[name], (i, k) => derivative(values, derivatives, i, k, y));
    }
    return `<div>${there}</div><div>${back}</div>`;
  }

  // Arrows from box to box, between the edges that face each other: forward where a value was computed, back where a
  // derivative was.
  function draw() {
    const {width, height} = graph.getBoundingClientRect();
    set(arrows, {viewBox: `0 0 ${width} ${height}`, width, height});
    arrows.replaceChildren(...ARROWS.flatMap(([from, to]) => [
      ...(hasValue(to) ? [arrow(buttons[from], buttons[to], "value")] : []),
      ...(hasDerivative(from) ? [arrow(buttons[to], buttons[from], "derivative")] : []),
    ]));
  }

  function arrow(from, to, kind) {
    const [start, end] = [from, to].map(({offsetLeft: x, offsetTop: y, offsetWidth: w, offsetHeight: h}) =>
      ({left: x, right: x + w, top: y, bottom: y + h}));
    const across = Math.max(start.left, end.left) > Math.min(start.right, end.right);
    const [first, last] = across ? ["left", "right"] : ["top", "bottom"];
    const [low, high] = across ? ["top", "bottom"] : ["left", "right"];
    const isOnward = start[last] <= end[first], side = isOnward ? -6 : 6; // there and back beside each other
    const along = isOnward ? [start[last] + 1, end[first] - 1] : [start[first] - 1, end[last] + 1];
    const middle = (Math.max(start[low], end[low]) + Math.min(start[high], end[high])) / 2 + side;
    const tip = along[1] - 7 * Math.sign(along[1] - along[0]);
    const line = [[along[0], middle], [along[1], middle]], head = [[tip, middle - 4], line[1], [tip, middle + 4]];
    return svg("g", {class: kind}, ...[line, head].map(points => svg("polyline", {
      points: points.map(([x, y]) => across ? `${x},${y}` : `${y},${x}`).join(" "),
    })));
  }

  const walk = (button, next) => button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    step = next();
    chosen = [...FORWARDS, ...BACKWARDS][step - 1] ?? "x";
    update();
  });
  walk(forward, () => step === STEPS ? 1 : step + 1);
  walk(home, () => step + 1);
  walk(reset, () => 0);
  [x1, x2].forEach((slider, i) => { slider.valueAsNumber = data.x[i]; slider.addEventListener("input", update); });
  target.value = data.y;
  target.addEventListener("input", update);
  new ResizeObserver(draw).observe(graph);
  update();
}

// The numbers of a vector, one below the other, or of a matrix.
function matrix(numbers) {
  const cells = row => [row].flat().map(number => `<b>${decimals(number, 3)}</b>`).join("");
  return numbers.map(row => `<span class="row">${cells(row)}</span>`).join("");
}
