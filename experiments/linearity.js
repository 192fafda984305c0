// Section 6: the same points and the same network, with identity or tanh in its hidden layers.

import { dot, forward } from "./page/network.js";
import { shade } from "./page/shade.js";
import { decimals, onDrag, powerOfTen, set, svg } from "./page/svg.js";

const WIDTH = 300, PIXEL = 2.5; // of the plane: its width, and the side of a pixel of its shade
const STRENGTH = 160 / 255; // of that shade

export function mount(figure, {X, y, nets, accuracy_of_the_best_line, start}) {
  const control = name => figure.querySelector(`[name=${name}]`), part = name => figure.querySelector(`.${name}`);
  const [hidden, depth, x1, x2] = ["hidden", "depth", "x1", "x2"].map(control);
  const plane = thePlane(X, y);
  part("picture").replaceChildren(plane.picture);
  const chosen = () => nets.find(net => net.hidden === hidden.value && net.depth === Number(depth.value));

  // Another network: the plane is shaded anew, and its accuracy counted over the points.
  function choose() {
    const net = chosen(), z = x => forward(net.params, net.activations, x).at(-1).z[0];
    const correct = X.map((x, i) => (z(x) > 0) === (y[i] === 1));
    const accuracy = correct.filter(Boolean).length / X.length;
    plane.draw(x => 1 / (1 + Math.exp(-z(x))), correct, net.one_layer);
    set(plane.picture, {"aria-label": `Two classes of points, and the boundary by ${net.depth} ${net.hidden} layers`});
    part("accuracy").value = `${decimals(100 * accuracy, 2)} %`;
    part("line").value = `${decimals(100 * accuracy_of_the_best_line, 2)} %`;
    Object.assign(figure.dataset, {hidden: net.hidden, depth: net.depth, accuracy});
    ask();
  }

  // Another point x: z through all layers, and by the one layer that stands for them, if there is one.
  function ask() {
    const {params, activations, one_layer} = chosen(), x = [x1, x2].map(slider => slider.valueAsNumber);
    const layers = params.length, sum = `z<sup>[${layers}]</sup>`;
    const z = at => forward(params, activations, at).at(-1).z[0];
    for (const slider of [x1, x2]) slider.nextElementSibling.value = decimals(slider.valueAsNumber);
    plane.point(x);
    Object.assign(figure.dataset, {x: JSON.stringify(x), z: z(x)});
    if (!one_layer) {
      for (const name of ["byOneLayer", "difference"]) delete figure.dataset[name];
      part("answer").innerHTML = `At the cross, through all ${layers} layers,
        ${sum} = <output>${decimals(z(x), 4)}</output>.
        With tanh between the layers no W′ and b′ give this at every x: the boundary bends.`;
      return;
    }
    const byOneLayer = at => dot(one_layer.W, at) + one_layer.b;
    const difference = Math.max(...[...X, x].map(at => Math.abs(z(at) - byOneLayer(at))));
    const product = layers > 2 ? `W<sup>[${layers}]</sup>⋯W<sup>[1]</sup>` : "W<sup>[2]</sup>W<sup>[1]</sup>";
    Object.assign(figure.dataset, {byOneLayer: byOneLayer(x), difference});
    part("answer").innerHTML = `W′ = ${product} = [${one_layer.W.map(w => decimals(w)).join("&ensp;")}],
      b′ = ${decimals(one_layer.b)}, the dashed line.<br>
      At the cross, through all ${layers} layers, ${sum} = <output>${decimals(z(x), 4)}</output>;
      W′x + b′ = <output>${decimals(byOneLayer(x), 4)}</output>.<br>
      At all ${X.length} points they differ by ${powerOfTen(difference)} at most.`;
  }

  depth.replaceChildren(...Array.from(new Set(nets.map(net => net.depth)), layers => new Option(layers)));
  const range = {x1: plane.ends[0], x2: plane.ends[1]};
  for (const slider of [x1, x2]) [slider.min, slider.max] = range[slider.name].map(end => end.toFixed(2));
  hidden.value = start.hidden;
  depth.value = start.depth;
  [x1.valueAsNumber, x2.valueAsNumber] = start.x;
  for (const select of [hidden, depth]) select.addEventListener("input", choose);
  for (const slider of [x1, x2]) slider.addEventListener("input", ask);
  onDrag(plane.picture, event => { [x1.valueAsNumber, x2.valueAsNumber] = plane.at(event); ask(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", choose);
  choose();
}

// The plane, from a tenth beyond the points on each side: its shade, the line W′x + b′ = 0, the points and a cross.
function thePlane(X, y) {
  const ends = [0, 1].map(k => {
    const numbers = X.map(x => x[k]), low = Math.min(...numbers), high = Math.max(...numbers);
    return [low - (high - low) / 10, high + (high - low) / 10];
  });
  const [[left, right], [bottom, top]] = ends, scale = WIDTH / (right - left), height = scale * (top - bottom);
  const place = ([x1, x2]) => [scale * (x1 - left), scale * (top - x2)];
  const columns = Math.round(WIDTH / PIXEL), rows = Math.round(height / PIXEL);
  const image = svg("image", {width: WIDTH, height, preserveAspectRatio: "none"});
  const line = svg("path", {stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": "7 5"});
  const points = X.map((x, i) => {
    const [cx, cy] = place(x), r = 3;
    return y[i] === 1 ? svg("circle", {cx, cy, r, fill: "var(--blue)"})
      : svg("rect", {x: cx - r + 0.3, y: cy - r + 0.3, width: 2 * r - 0.6, height: 2 * r - 0.6, fill: "var(--orange)"});
  });
  const cross = svg("path", {stroke: "currentColor", "stroke-width": 2});
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${height}`, role: "img"}, image, line, ...points, cross);

  function draw(probability, correct, one_layer) {
    const at = pixel => (pixel + 0.5) * PIXEL / scale, numbers = [];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        numbers.push(2 * probability([left + at(column), top - at(row)]) - 1);
      }
    }
    image.setAttribute("href", shade(numbers, columns, getComputedStyle(picture), STRENGTH).toDataURL());
    points.forEach((point, i) => set(point, {
      stroke: correct[i] ? "var(--paper)" : "currentColor", "stroke-width": correct[i] ? 0.8 : 1.8,
    }));
    line.setAttribute("d", one_layer ? `M${place(on(one_layer, left))}L${place(on(one_layer, right))}` : "");
  }

  function point(x) {
    const [cx, cy] = place(x);
    cross.setAttribute("d", `M${cx - 8} ${cy}h16M${cx} ${cy - 8}v16`);
  }

  // Where a pointer is, as x.
  function at(event) {
    const box = picture.getBoundingClientRect(), zoom = WIDTH / box.width;
    return [left + (event.clientX - box.left) * zoom / scale, top - (event.clientY - box.top) * zoom / scale];
  }

  return {picture, draw, point, at, ends};
}

// The point of the line W′x + b′ = 0 that has this x₁.
const on = ({W, b}, x1) => [x1, -(W[0] * x1 + b) / W[1]];
