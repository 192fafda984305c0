// Numbers as colours, on a canvas.

// Numbers from -1, orange, to 1, blue, by rows of so many, as an image: the nearer to 0, the more transparent.
export function shade(numbers, width, style, strength) {
  const image = new ImageData(width, numbers.length / width);
  const [blue, orange] = ["--blue", "--orange"].map(name => rgb(style.getPropertyValue(name)));
  numbers.forEach((number, i) => {
    image.data.set(number > 0 ? blue : orange, 4 * i);
    image.data[4 * i + 3] = 255 * strength * Math.abs(number);
  });
  const canvas = Object.assign(document.createElement("canvas"), {width, height: image.height});
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const rgb = hex => [1, 3, 5].map(start => parseInt(hex.trim().slice(start, start + 2), 16));
