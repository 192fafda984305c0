// The flower by hand: the same 400 points for nets 2-n-1 of several widths and initial scales, at each of some steps.
// All that is drawn follows from the params that jaxnet has trained, by one forward pass here.

import { decode, forward } from "./page/network.js";
import { player } from "./page/play.js";
import { shade } from "./page/shade.js";
import { decimals, set, svg } from "./page/svg.js";

const ACTIVATIONS = ["tanh", "sigmoid"];
const SIDE = 120; // pixels of the plane along a side, a multiple of the thumbnails'
const FLAT = 0.99; // |tanh| beyond which its derivative is below 0.02
const PERIOD = 110; // milliseconds from a step to the next while it plays

export function mount(figure, data) {
  const {steps, scales} = data, X = decode(data.X), end = 1.1 * Math.max(...X.flat().map(Math.abs));
  const nets = data.nets.map(({units, params, cost, accuracy}) => ({
    units, cost: decode(cost), accuracy: decode(accuracy),
    params: params.map(({W, b}) => ({W: decode(W), b: decode(b)})),
  }));
  const control = name => figure.querySelector(`[name=${name}]`), part = name => figure.querySelector(`.${name}`);
  const sliders = {net: control("units"), scale: control("scale"), step: control("step")};
  const choices = {
    net: nets.map(({units}) => `${units}`), scale: scales.map(scale => scale.toLocaleString("en")),
    step: steps.map(step => step.toLocaleString("en")),
  };
  const plane = thePlane(part("picture"), X, data.y, end), curve = theCurve(part("cost"), steps);
  const network = theNetwork(part("network"));

  function update() {
    const [i, j, k] = [sliders.net, sliders.scale, sliders.step].map(slider => slider.valueAsNumber);
    const {units, ...net} = nets[i], params = net.params.map(({W, b}) => ({W: W[j][k], b: b[j][k]}));
    for (const [name, slider] of Object.entries(sliders)) {
      const choice = choices[name][slider.valueAsNumber];
      slider.nextElementSibling.value = choice;
      slider.setAttribute("aria-valuetext", choice);
    }
    const start = net.params.map(({W, b}) => ({W: W[j][0], b: b[j][0]}));
    const images = seen(params, end), outputs = X.map(x => forward(params, ACTIVATIONS, x));
    const flat = mean(X.flatMap(x => forward(start, ACTIVATIONS, x)[1].a.map(a => Math.abs(a) > FLAT)));
    const moved = distance(params[0].W, start[0].W) / distance(start[0].W, start[0].W.map(() => [0, 0]));
    const correct = mean(outputs.map((layers, i) => (layers[2].a[0] > 0.5) === (data.y[i] === 1)));
    plane(images.prediction);
    network(params, images.units);
    curve(net.cost[j], k);
    part("accuracy").value = `${decimals(100 * correct, 1)} %`; // of what is drawn, whose params are float16
    part("J").value = decimals(net.cost[j][k], 3);
    part("remark").textContent = remark(scales[j], units, flat, moved);
    Object.assign(figure.dataset, {
      units, scale: scales[j], step: steps[k], accuracy: net.accuracy[j][k], cost: net.cost[j][k], correct, flat, moved,
      params: JSON.stringify(params),
    });
  }

  // Play: through the steps to the last; where motion is not wanted, one step for each press.
  const next = () => { sliders.step.valueAsNumber = (sliders.step.valueAsNumber + 1) % steps.length; update(); };
  const halt = player(control("play"), {
    start: next, next: () => sliders.step.valueAsNumber < steps.length - 1 && (next(), true), period: () => PERIOD,
    told: figure.querySelectorAll(".numbers output, .remark"), alone: "Next step",
  });

  for (const [name, slider] of Object.entries(sliders)) {
    slider.max = choices[name].length - 1;
    slider.valueAsNumber = data.start[name];
    slider.addEventListener("input", update);
  }
  sliders.step.addEventListener("input", halt);
  for (const link of document.querySelectorAll("a[data-scale]")) { // section 10 leads to the two ends of the scale
    link.addEventListener("click", () => {
      sliders.scale.valueAsNumber = scales.indexOf(Number(link.dataset.scale));
      update();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  part("rate").textContent = data.rate;
  update();
}

// What the output says of each point of the plane, and what each hidden unit does: numbers in rows from above.
function seen(params, end) {
  const at = pixel => end * (2 * (pixel + 0.5) / SIDE - 1), prediction = [], n = params[0].b.length;
  const every = thumbnailEvery(n), middle = every >> 1, units = Array.from({length: n}, () => []);
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      const [, hidden, output] = forward(params, ACTIVATIONS, [at(column), -at(row)]);
      prediction.push(2 * output.a[0] - 1);
      if (row % every === middle && column % every === middle) hidden.a.forEach((a, i) => units[i].push(a));
    }
  }
  return {prediction, units};
}

const thumbnailEvery = n => n > 5 ? 4 : 2;

const distance = (W, V) => Math.hypot(...W.flatMap((row, i) => row.map((weight, k) => weight - V[i][k])));
const mean = values => values.reduce((sum, value) => sum + Number(value), 0) / values.length;

// The plane: probability as shade, and the points, circles of class 1 and squares of class 0.
function thePlane(box, X, y, end) {
  const canvas = Object.assign(document.createElement("canvas"), {width: 2 * SIDE, height: 2 * SIDE, ariaHidden: true});
  const marks = [["var(--orange)", ([x1, x2]) => `M${x1 - 0.075} ${-x2 - 0.075}h.15v.15h-.15z`],
    ["var(--blue)", ([x1, x2]) => `M${x1 - 0.09} ${-x2}a.09.09 0 1 0 .18 0a.09.09 0 1 0-.18 0z`]];
  box.replaceChildren(canvas, svg("svg", {
    viewBox: `${-end} ${-end} ${2 * end} ${2 * end}`, role: "img",
    "aria-label": "The plane: two classes of points in a flower, and the probability of class 1 as shade",
  }, ...marks.map(([fill, mark], label) => svg("path", {
    d: X.filter((_, i) => y[i] === label).map(mark).join(""), fill, stroke: "var(--paper)", "stroke-width": 0.03,
  }))));
  const context = canvas.getContext("2d");
  return prediction => {
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(shade(prediction, SIDE, getComputedStyle(box), 0.6), 0, 0, canvas.width, canvas.height);
  };
}

// The network: what each hidden unit sees of the plane, and weights as lines, the wider the larger.
function theNetwork(box) {
  const WIDTH = 340, HEIGHT = 330, LEFT = 84, RIGHT = 256, inputs = [[26, 115], [26, 215]], output = [314, 165];
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width: 2 * WIDTH, height: 2 * HEIGHT, ariaHidden: true});
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img"}), context = canvas.getContext("2d");
  box.replaceChildren(picture, canvas);
  context.scale(2, 2);

  const line = ([x1, y1], [x2, y2], weight) => svg("line", {
    x1, y1, x2, y2, "stroke-width": Math.min(12, Math.max(0.3, 1.8 * Math.sqrt(Math.abs(weight)))),
    stroke: weight < 0 ? "var(--orange)" : weight > 0 ? "var(--blue)" : "var(--soft)", opacity: 0.75,
  });
  const node = ([x, y], name) => [
    svg("circle", {cx: x, cy: y, r: 20, fill: "var(--paper)", stroke: "currentColor", "stroke-width": 1.5}),
    svg("text", {x, y: y + 6, "text-anchor": "middle", "font-size": 17, fill: "currentColor"}, name),
  ];
  return ({0: hidden, 1: {W: [weights]}}, images) => {
    const n = images.length, columns = n > 20 ? 5 : n > 5 ? 4 : 1, rows = Math.ceil(n / columns);
    const pitch = Math.min(72, HEIGHT / rows, (RIGHT - LEFT) / columns), size = pitch - 4;
    const middles = images.map((_, i) => [
      (LEFT + RIGHT) / 2 + pitch * (i % columns - (columns - 1) / 2),
      HEIGHT / 2 + pitch * (Math.floor(i / columns) - (rows - 1) / 2),
    ]);
    const style = getComputedStyle(box);
    picture.replaceChildren(
      ...middles.flatMap((middle, i) => [
        ...inputs.map((input, k) => line(input, middle, hidden.W[i][k])), line(middle, output, weights[i]),
      ]),
      ...node(inputs[0], "x₁"), ...node(inputs[1], "x₂"), ...node(output, "ŷ"),
    );
    set(picture, {"aria-label": `The network 2-${n}-1: what each of its hidden units sees, and its weights as lines`});
    context.clearRect(0, 0, WIDTH, HEIGHT);
    images.forEach((image, i) => {
      const corner = middles[i].map(middle => middle - size / 2);
      context.fillStyle = style.getPropertyValue("--paper");
      context.fillRect(...corner, size, size);
      context.drawImage(shade(image, Math.sqrt(image.length), style, 0.9), ...corner, size, size);
      context.strokeStyle = style.getPropertyValue("--soft");
      context.strokeRect(...corner, size, size);
    });
  };
}

// The cost at each stop of the slider, and a dot at the step; steps and cost are on logarithmic scales.
function theCurve(box, steps) {
  const WIDTH = 304, HEIGHT = 150, left = 36, right = WIDTH - 28, top = 12, bottom = HEIGHT - 26;
  const x = k => left + (right - left) * k / (steps.length - 1), ticks = [0, 10, 100, 1000, 10000];
  const text = (attributes, content) => svg("text", {"font-size": 15, fill: "var(--soft)", ...attributes}, content);
  const curve = svg("path", {fill: "none", stroke: "currentColor", "stroke-width": 2});
  const dot = svg("circle", {r: 5, fill: "var(--blue)", stroke: "var(--paper)", "stroke-width": 1.5});
  const [highest, lowest] = [top + 6, bottom + 4].map(y => text({x: left - 6, y, "text-anchor": "end"}));
  box.replaceChildren(svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": "The cost J against the step, on logarithmic scales, with a dot at the step",
  },
    svg("path", {d: `M${left} ${top}V${bottom}H${right}`, fill: "none", stroke: "var(--soft)"}),
    highest, lowest, text({x: right, y: top + 6, "text-anchor": "end"}, "J"),
    ...ticks.filter(tick => tick <= steps.at(-1)).map(tick => text({
      x: x(nearest(steps, tick)), y: HEIGHT - 6, "text-anchor": "middle",
    }, tick.toLocaleString("en"))),
    curve, dot,
  ));
  return (costs, k) => {
    const most = Math.max(0.8, ...costs), least = Math.min(0.1, ...costs);
    const y = cost => bottom - (bottom - top) * Math.log(cost / least) / Math.log(most / least);
    highest.textContent = decimals(most, most < 10 ? 1 : 0);
    lowest.textContent = decimals(least, least < 0.1 ? 2 : 1);
    curve.setAttribute("d", costs.map((cost, i) => `${i ? "L" : "M"}${x(i)} ${y(cost)}`).join(""));
    set(dot, {cx: x(k), cy: y(costs[k])});
  };
}

const nearest = (steps, step) =>
  steps.reduce((best, s, k) => Math.abs(s - step) < Math.abs(steps[best] - step) ? k : best, 0);

// What is to be seen where the sliders stand.
function remark(scale, units, flat, moved) {
  if (scale === 0) {
    return `The zero start: all rows of W[1] are equal, at this step and at every other. ${units === 1 ? "The unit" :
      `The ${units} units`} see nothing of the plane, and the network says one half everywhere.`;
  }
  if (flat > 0.5) {
    return `Saturation: before the first step ${decimals(100 * flat, 0)} % of the hidden activations are beyond
      ±${FLAT}, where tanh′ is below 0.02. Gradient descent hardly turns these units: W[1] has moved by
      ${decimals(100 * moved, 0)} % of its length. W[2] still learns, which can be enough where units are many.`;
  }
  return `In the middle is what each hidden unit sees of the plane, blue where its tanh is positive and orange where
    it is negative. Lines are weights in the same colours, the wider the larger.`;
}
