// Sections 3 and 4: examples as the columns of X, and Z = W X + b by four ways, with the time that each of them takes.

import { dot } from "../page/network.js";
import { player } from "../page/play.js";
import { decimals, powerOfTen, set, svg } from "../page/svg.js";

const WIDTH = 300, ROW = 26, COLUMN = 36; // of the matrices: the height of a row, the width of a column of W and of b
const BIAS = 113, LEFT = 154, RIGHT = 298, ABOVE = 26, BELOW = 138; // W, b and Z stand beside each other, X above Z
const WRITTEN = 4; // columns up to which every number is written
const PLAYED = 3000, PERIOD = 60; // milliseconds of a whole run at most, and of each of its pictures
const WAYS = { // its program, how many calls that makes, and how its line looks
  "units and examples": {
    name: "two loops", program: ["for i = 1, …, m:", "   for j = 1, …, n:", "      zⱼ⁽ⁱ⁾ = wⱼᵀx⁽ⁱ⁾ + bⱼ"],
    calls: (n, m) => n * m, colour: "var(--red)", dash: "2 3",
  },
  "examples": {
    name: "loop", program: ["for i = 1, …, m:", "   z⁽ⁱ⁾ = W x⁽ⁱ⁾ + b"], calls: (n, m) => m,
    colour: "var(--orange)", dash: "7 4",
  },
  "vmap": {
    name: "vmap", program: ["f(x) = W x + b", "Z = vmap(f)(X)"], calls: () => 1,
    colour: "var(--green)", dash: "10 3 2 3",
  },
  "matrix form": {name: "matrix", program: ["Z = W X + b"], calls: () => 1, colour: "var(--blue)", dash: "none"},
};

export function mount(figure, data) {
  const {W, b, X, Z, counts, seconds, machine, start} = data, n = b.length;
  const control = name => figure.querySelector(`[name=${name}]`), part = name => figure.querySelector(`.${name}`);
  const [count, way, column] = ["m", "way", "i"].map(control);
  const matrices = theMatrices(data), times = theTimes(counts, seconds);
  part("picture").replaceChildren(matrices.picture, times.picture);
  part("machine").textContent = `Times of all predictions of a network 8-16-1 on one machine: ${machine}. Other machines
    have others. For small m most of it is the call itself; vmap is compiled to products of matrices, too.`;
  let done = Infinity; // calls that have been made

  const m = () => counts[count.valueAsNumber], shown = () => Math.min(m(), X.length);
  const calls = () => WAYS[way.value].calls(n, m());

  function update() {
    const total = calls(), i = column.valueAsNumber - 1, x = X[i];
    done = Math.min(done, total);
    const z = W.map((w, j) => dot(w, x) + b[j]), own = Z[way.value].slice(0, shown());
    const difference = Math.max(...own.flatMap((z, i) => z.map((z_j, j) => Math.abs(z_j - Z["matrix form"][i][j]))));
    const took = seconds[way.value][count.valueAsNumber], byMatrix = seconds["matrix form"][count.valueAsNumber];
    count.nextElementSibling.value = m().toLocaleString("en");
    count.setAttribute("aria-valuetext", m());
    column.nextElementSibling.value = i + 1;
    const numbers = [done, total].map(number => number.toLocaleString("en")).join(" of ");
    part("calls").value = `${numbers} ${total === 1 ? "call" : "calls"}`;
    matrices.draw(own, m(), way.value, done, i);
    times.draw(count.valueAsNumber, way.value);
    const compared = way.value === "matrix form" ? [""] : [
      `Largest difference of this Z from the matrix product’s: ${powerOfTen(difference)}.<br>`,
      `, as a matrix product ${duration(byMatrix)}`,
    ];
    part("answer").innerHTML = `z<sup>(${i + 1})</sup> = W x<sup>(${i + 1})</sup> + b =
      (${z.map(z_j => `<output>${decimals(z_j, 3)}</output>`).join(", ")})<br>
      ${compared[0]}Time of m = ${m().toLocaleString("en")}: ${duration(took)}${compared[1] ?? ""}.`;
    Object.assign(figure.dataset, {
      m: m(), way: way.value, i: i + 1, calls: total, done, difference, seconds: took, z: JSON.stringify(z),
    });
  }

  // So many calls have been made, from 0 again after the end; the column of the last is the chosen one.
  function go(to) {
    done = to;
    const last = Math.floor((done - 1) / (calls() / m()));
    if (calls() > 1 && last >= 0 && last < shown()) column.value = last + 1;
    update();
  }

  const halt = player(control("play"), {
    start: () => go(0),
    next: () => done < calls() && (go(Math.min(done + Math.ceil(calls() * PERIOD / PLAYED), calls())), true),
    period: () => Math.max(PERIOD, Math.min(500, PLAYED / calls())),
    told: ["calls", "answer"].map(part),
  });
  control("step").addEventListener("click", () => { halt(); go(done < calls() ? done + 1 : 0); });

  count.max = counts.length - 1;
  count.value = counts.indexOf(start.m);
  way.value = start.way;
  column.max = start.m;
  column.value = start.i;
  function restart() {
    halt();
    done = Infinity;
    column.max = shown();
    update();
  }
  for (const each of [count, way]) each.addEventListener("input", restart);
  column.addEventListener("input", () => { halt(); update(); });
  matrices.picture.addEventListener("click", event => {
    const i = matrices.column(event, m());
    if (i >= 0 && i < shown()) column.value = i + 1, halt(), update();
  });
  restart();
}

// W, b, X above Z: each entry in a colour of its sign, the deeper the larger; few are written as numbers.
function theMatrices({W, b, X}) {
  const n = W.length, n_x = W[0].length, largest = Math.max(...[W, X].flat(2).map(Math.abs));
  const text = (attributes, content) => svg("text", {
    "font-size": 14.3, "text-anchor": "middle", fill: "currentColor", ...attributes,
  }, content);
  const title = (x, y, content) => text({x, y, fill: "var(--soft)", "font-size": 15}, content);
  const box = (x, y, width, height, attributes) =>
    svg("rect", {x, y, width, height, fill: "none", rx: 2, ...attributes});
  const entry = (number, x, y, width, isWritten) => [
    box(x + (width > 8 ? 0.75 : 0), y + 0.75, width - (width > 8 ? 1.5 : 0), ROW - 1.5, {
      fill: number < 0 ? "var(--orange)" : "var(--blue)",
      opacity: 0.08 + 0.37 * Math.min(1, Math.abs(number) / largest),
    }),
    ...(isWritten ? [text({x: x + width / 2, y: y + 18, "letter-spacing": "-0.08em"}, decimals(number, 1))] : []),
  ];
  const weights = W.flatMap((w, j) => [
    ...w.flatMap((weight, k) => entry(weight, 1 + COLUMN * k, BELOW + ROW * j, COLUMN, true)),
    ...entry(b[j], BIAS, BELOW + ROW * j, COLUMN, true),
  ]);
  const changing = svg("g"), names = [
    title(1 + COLUMN * n_x / 2, BELOW - 9, "W"), title(BIAS + COLUMN / 2, BELOW - 9, "b"),
    title((LEFT + RIGHT) / 2, ABOVE - 9, "X"), title((LEFT + RIGHT) / 2, BELOW - 9, "Z = W X + b"),
  ];
  const viewBox = `0 0 ${WIDTH} ${BELOW + ROW * n + 4}`;
  const picture = svg("svg", {viewBox, role: "img"}, ...weights, ...names, changing);
  const widthOf = m => m > X.length ? (RIGHT - LEFT - 20) / X.length : (RIGHT - LEFT) / Math.max(m, 3);

  function draw(Z, m, way, done, chosen) {
    const width = widthOf(m), isWritten = m <= WRITTEN, x = i => LEFT + width * i, calls = WAYS[way].calls(n, m);
    const isDone = (j, i) => (way === "units and examples" ? n * i + j : way === "examples" ? i : 0) < done;
    const parts = [
      ...WAYS[way].program.map((line, k) =>
        text({x: 2, y: 44 + 22 * k, "text-anchor": "start", class: "program"}, line)),
      svg("g", {}, ...Z.flatMap((_, i) =>
        X[i].flatMap((x_k, k) => entry(x_k, x(i), ABOVE + ROW * k, width, isWritten)))),
      svg("g", {class: "Z"}, ...Z.flatMap((z, i) => z.flatMap((z_j, j) =>
        isDone(j, i) ? entry(z_j, x(i), BELOW + ROW * j, width, isWritten) : []))),
      box(LEFT, BELOW, x(Z.length) - LEFT, ROW * n, {stroke: "var(--line)"}),
    ];
    const both = (from, to, attributes) => [[ABOVE, n_x], [BELOW, n]].map(([y, rows]) =>
      box(x(from), y, x(to) - x(from), ROW * rows, attributes));
    if (Z.length < m) parts.push(...[ABOVE, BELOW].map(y => title(x(Z.length) + 11, y + 1.7 * ROW, "⋯")));
    parts.push(...both(chosen, chosen + 1, {fill: "var(--green)", "fill-opacity": 0.25, class: "chosen"}));
    const call = {stroke: "currentColor", "stroke-width": 2, class: "call"}, y = BELOW + ROW * ((done - 1) % n);
    const outlined = {
      "units and examples": () => done === calls ? both(chosen, chosen + 1, call) : [
        box(1, y, COLUMN * n_x, ROW, call), box(BIAS, y, COLUMN, ROW, call), box(x(chosen), y, width, ROW, call),
        box(x(chosen), ABOVE, width, ROW * n_x, call),
      ],
      "examples": () => both(chosen, chosen + 1, call),
      "vmap": () => Z.flatMap((_, i) => both(i, i + 1, {...call, "stroke-width": Math.min(2, width / 6)})),
      "matrix form": () => both(0, Z.length, call),
    };
    if (done > 0) parts.push(...outlined[way]()); // what the last call computes, from what
    changing.replaceChildren(...parts);
    set(picture, {"aria-label": `W, b, and ${m} columns of X and of Z, of which column ${chosen + 1} is coloured`});
  }

  // The column of X and Z at which a pointer is.
  function column(event, m) {
    const {left, width} = picture.getBoundingClientRect();
    return Math.floor(((event.clientX - left) * WIDTH / width - LEFT) / widthOf(m));
  }

  return {picture, draw, column};
}

// The seconds of each way against m, both on a logarithmic scale.
function theTimes(counts, seconds) {
  const HEIGHT = 240, left = 62, right = 208, top = 26, bottom = 206, all = Object.values(seconds).flat();
  const low = Math.floor(Math.log10(Math.min(...all))), high = Math.ceil(Math.log10(Math.max(...all)));
  const x = m => left + (right - left) * Math.log10(m) / Math.log10(counts.at(-1));
  const y = s => bottom - (bottom - top) * (Math.log10(s) - low) / (high - low);
  const text = (attributes, content) => svg("text", {"font-size": 15, fill: "var(--soft)", ...attributes}, content);
  const powers = (from, to) => Array.from({length: to - from + 1}, (_, i) => 10 ** (from + i));
  const here = svg("path", {stroke: "var(--soft)", "stroke-dasharray": "2 3"});
  const ends = apart(Object.fromEntries(Object.keys(WAYS).map(way => [way, y(seconds[way].at(-1))])), 17);
  const lines = Object.entries(WAYS).map(([way, {name, colour, dash}]) => ({
    way,
    line: svg("path", {
      d: seconds[way].map((s, k) => `${k ? "L" : "M"}${x(counts[k])} ${y(s)}`).join(""),
      fill: "none", stroke: colour, "stroke-dasharray": dash,
    }),
    dot: svg("circle", {fill: colour, stroke: "var(--paper)"}),
    label: text({x: right + 6, y: ends[way] + 5, fill: "currentColor"}, name),
  }));
  const every = Math.ceil((high - low) / 5), wide = counts.at(-1) > 1e4 ? 100 : 10;
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img"},
    ...powers(low, high).filter((_, i) => i % every === 0).flatMap(s => [
      svg("path", {d: `M${left} ${y(s)}H${right}`, stroke: "var(--line)"}),
      text({x: left - 5, y: y(s) + 5, "text-anchor": "end"}, duration(s)),
    ]),
    ...powers(0, Math.floor(Math.log10(counts.at(-1)))).filter(m => Math.log10(m) % Math.log10(wide) === 0).map(m =>
      text({x: x(m), y: bottom + 20, "text-anchor": "middle"}, m.toLocaleString("en"))),
    text({x: (left + right) / 2, y: 15, "text-anchor": "middle"}, "time against m"),
    here, ...lines.flatMap(({line, dot, label}) => [line, dot, label]),
  );

  function draw(k, chosen) {
    here.setAttribute("d", `M${x(counts[k])} ${top}V${bottom}`);
    for (const {way, line, dot, label} of lines) {
      line.setAttribute("stroke-width", way === chosen ? 4 : 1.8);
      set(dot, {cx: x(counts[k]), cy: y(seconds[way][k]), r: way === chosen ? 6.5 : 4});
      label.setAttribute("font-weight", way === chosen ? 700 : 400);
    }
    const told = lines.map(({way}) => `${way} ${duration(seconds[way][k])}`).join(", ");
    set(picture, {"aria-label": `Time against m, at m = ${counts[k].toLocaleString("en")}: ${told}`});
  }

  return {picture, draw};
}

// Places on a line, moved until any two are so far from each other.
function apart(places, least) {
  const names = Object.keys(places).sort((one, other) => places[one] - places[other]), moved = {...places};
  for (let round = 0; round < 50; round++) {
    names.slice(1).forEach((name, k) => {
      const missing = least - (moved[name] - moved[names[k]]);
      if (missing > 0) moved[name] += missing / 2, moved[names[k]] -= missing / 2;
    });
  }
  return moved;
}

// Seconds in words: two digits and a unit.
function duration(s) {
  const [factor, unit] = s < 0.999e-3 ? [1e6, "µs"] : s < 0.999 ? [1e3, "ms"] : [1, "s"];
  return `${Number((s * factor).toPrecision(2)).toLocaleString("en")} ${unit}`;
}
