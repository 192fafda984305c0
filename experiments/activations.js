// Sections 5 and 7: an activation with its tangent at z, and beside it what part of a gradient each one passes there.

import { decimals, onDrag, powerOfTen, set, svg } from "./page/svg.js";

const WIDTH = 300, HEIGHT = 260, LEFT = 34, RIGHT = 292, TOP = 10, BOTTOM = 230; // of the plot
const ROW = 30, ZERO = 108, ONE = 205; // of the bars: where a bar begins, and where it ends if all of a gradient passes
const REACH = 3; // of the tangent, to either side of z
const FLAT = 0.01; // a slope below which next to nothing passes

export function mount(figure, {z: points, curves, start}) {
  const names = Object.keys(curves), control = name => figure.querySelector(`[name=${name}]`);
  const choice = control("activation"), slider = control("z"), answer = figure.querySelector(".answer");
  const plot = thePlot(points), bars = theBars(names);
  figure.querySelector(".picture").replaceChildren(plot.picture, bars.picture);

  function update() {
    const name = choice.value, z = slider.valueAsNumber, k = nearest(points, z);
    const {value, slope} = curves[name], slopes = names.map(each => curves[each].slope[k]);
    slider.nextElementSibling.value = decimals(z, 1);
    plot.draw(curves[name], k);
    bars.draw(slopes, name);
    const flat = Math.abs(slope[k]) < FLAT ? ", next to nothing. Here it is flat." : ".";
    answer.innerHTML = `${name}(${decimals(z, 1)}) = <output>${written(value[k])}</output> and
      ${name}′(${decimals(z, 1)}) = <output>${written(slope[k])}</output>: of the gradient dA at this unit
      dZ&nbsp;=&nbsp;${written(slope[k])}&nbsp;·&nbsp;dA passes${flat}`;
    set(figure, {
      "data-activation": name, "data-z": z, "data-value": value[k], "data-slope": slope[k],
      "data-slopes": JSON.stringify(slopes),
    });
  }

  choice.replaceChildren(...names.map(name => new Option(name)));
  choice.value = start.activation;
  slider.valueAsNumber = start.z;
  for (const each of [choice, slider]) each.addEventListener("input", update);
  const move = z => { slider.value = z; update(); };
  onDrag(plot.picture, event => move(plot.z(event)));
  bars.rows.forEach((row, i) => row.addEventListener("click", () => { choice.value = names[i]; update(); }));
  for (const link of document.querySelectorAll("a[data-z]")) { // section 7 leads to z where it is flat
    link.addEventListener("click", () => move(link.dataset.z));
  }
  update();
}

// g and g′ over the whole range, the tangent of g at z, and a dot there.
function thePlot(points) {
  const first = points[0], last = points.at(-1);
  const x = z => LEFT + (RIGHT - LEFT) * (z - first) / (last - first);
  const path = attributes => svg("path", {fill: "none", "stroke-width": 2.5, ...attributes});
  const text = (attributes, content) => svg("text", {"font-size": 15, fill: "var(--soft)", ...attributes}, content);
  const g = path({stroke: "var(--blue)"}), derivative = path({stroke: "var(--orange)", "stroke-dasharray": "6 4"});
  const tangent = path({stroke: "var(--green)", "stroke-width": 5, opacity: 0.8});
  const dot = svg("circle", {r: 6, fill: "var(--green)", stroke: "var(--paper)", "stroke-width": 1.5});
  const grid = svg("g"), here = path({stroke: "var(--soft)", "stroke-width": 1, "stroke-dasharray": "2 3"});
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img"},
    svg("clipPath", {id: "activations-plot"},
      svg("rect", {x: LEFT, y: TOP, width: RIGHT - LEFT, height: BOTTOM - TOP})),
    grid, here, svg("g", {"clip-path": "url(#activations-plot)"}, derivative, g, tangent), dot,
    path({d: `M${LEFT + 8} 26h26`, stroke: "var(--blue)"}), text({x: LEFT + 40, y: 31, fill: "currentColor"}, "g(z)"),
    path({d: `M${LEFT + 8} 48h26`, stroke: "var(--orange)", "stroke-dasharray": "6 4"}),
    text({x: LEFT + 40, y: 53, fill: "currentColor"}, "g′(z)"),
    ...[first, first / 2, 0, last / 2, last].map(tick =>
      text({x: x(tick), y: HEIGHT - 10, "text-anchor": tick === last ? "end" : "middle"}, decimals(tick, 0))),
  );

  function draw({value, slope}, k) {
    const z = points[k], low = Math.min(...value, ...slope), high = Math.max(...value, ...slope), span = high - low;
    const y = v => BOTTOM - (BOTTOM - TOP) * (v - low + 0.1 * span) / (1.2 * span);
    const line = values => values.map((v, i) => `${i ? "L" : "M"}${x(points[i])} ${y(v)}`).join("");
    const every = span < 1.5 ? 0.5 : span < 3 ? 1 : 5, ticks = [];
    for (let tick = Math.ceil(low / every - 0.1) * every; tick <= high + 0.1 * every; tick += every) ticks.push(tick);
    grid.replaceChildren(...ticks.flatMap(tick => [
      path({d: `M${LEFT} ${y(tick)}H${RIGHT}`, stroke: "var(--line)", "stroke-width": 1}),
      text({x: LEFT - 5, y: y(tick) + 5, "text-anchor": "end"}, decimals(tick, every < 1 ? 1 : 0)),
    ]));
    g.setAttribute("d", line(value));
    derivative.setAttribute("d", line(slope));
    here.setAttribute("d", `M${x(z)} ${TOP}V${BOTTOM}`);
    const ends = [-REACH, REACH].map(run => `${x(z + run)} ${y(value[k] + run * slope[k])}`);
    tangent.setAttribute("d", `M${ends.join("L")}`);
    set(dot, {cx: x(z), cy: y(value[k])});
    picture.setAttribute("aria-label", `g and its tangent at z = ${decimals(z, 1)}, of slope ${written(slope[k])}`);
  }

  // Where a pointer is, as z.
  function z(event) {
    const {left, width} = picture.getBoundingClientRect(), at = (event.clientX - left) * WIDTH / width;
    return first + (last - first) * (at - LEFT) / (RIGHT - LEFT);
  }

  return {picture, draw, z};
}

// A bar for each activation: the part of dA that is left in dZ = dA ∗ g′(Z).
function theBars(names) {
  const text = (attributes, content) => svg("text", {"font-size": 15, fill: "currentColor", ...attributes}, content);
  const rows = names.map((name, i) => {
    const y = 34 + ROW * i;
    return svg("g", {},
      svg("rect", {x: 0, y: y - 3, width: WIDTH, height: ROW, rx: 5, fill: "transparent"}),
      text({x: 6, y: y + 17}, name), svg("rect", {y: y + 3, height: ROW - 12, fill: "var(--green)"}),
      text({x: WIDTH - 6, y: y + 17, "text-anchor": "end"}, ""));
  });
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${36 + ROW * names.length}`, role: "img"},
    text({x: 6, y: 19, fill: "var(--soft)"}, "what passes of a gradient: g′(z)"), ...rows,
    svg("path", {d: `M${ZERO} 30v${ROW * names.length}`, stroke: "var(--soft)"}),
    svg("path", {d: `M${ONE} 30v${ROW * names.length}`, stroke: "var(--line)", "stroke-dasharray": "3 3"}));

  function draw(slopes, chosen) {
    rows.forEach((row, i) => {
      const [ground, , bar, number] = row.children, length = (ONE - ZERO) * slopes[i];
      set(bar, {x: Math.min(ZERO, ZERO + length), width: Math.abs(length)});
      set(ground, {stroke: names[i] === chosen ? "var(--soft)" : "none"});
      number.textContent = written(slopes[i]);
    });
    picture.setAttribute("aria-label", names.map((name, i) => `${name} ${written(slopes[i])}`).join(", "));
  }

  return {picture, rows, draw};
}

const nearest = (points, z) => Math.round((z - points[0]) / (points[1] - points[0]));

// Four decimals; what would be 0.000 with a power of ten, unless it is below 10⁻⁹.
const written = number =>
  Math.abs(number) >= 1e-3 || Math.abs(number) < 1e-9 ? decimals(number, 4) : powerOfTen(number, 2);
