// A network in the browser: its params, as Python has stored them, and the forward pass.
//
// params: a list of layers {W, b}, W (n, n_prev) as a list of rows, b (n) as a list.

// Many numbers are stored as {shape, float16: base64} or {shape, float32: base64}; they become nested lists.
export function decode({shape, float16, float32}) {
  const {buffer} = Uint8Array.from(atob(float16 ?? float32), character => character.charCodeAt(0));
  return nested(float16 ? Array.from(new Uint16Array(buffer), half) : Array.from(new Float32Array(buffer)), shape);
}

function nested(numbers, [length, ...inner]) {
  if (inner.length === 0) return numbers;
  const size = numbers.length / length;
  return Array.from({length}, (_, i) => nested(numbers.slice(i * size, (i + 1) * size), inner));
}

// The number that 16 bits stand for: a sign, 5 bits of exponent and 10 of fraction.
function half(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
}

export const activations = {
  identity: z => z,
  sigmoid: z => 1 / (1 + Math.exp(-z)),
  tanh: Math.tanh,
  relu: z => Math.max(0, z),
};

// What every layer holds for one example, {z, a}; layer 0 is x. The prediction is a of the last.
export function forward(params, names, x) {
  const layers = [{z: x, a: x}];
  params.forEach(({W, b}, l) => {
    const a_prev = layers[l].a, g = activations[names[l]];
    const z = W.map((w, i) => dot(w, a_prev) + b[i]);
    layers.push({z, a: z.map(g)});
  });
  return layers;
}

export function dot(w, a) {
  let sum = 0;
  for (let k = 0; k < w.length; k++) sum += w[k] * a[k];
  return sum;
}
