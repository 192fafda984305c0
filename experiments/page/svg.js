// A few lines to make SVG elements, to handle them and to write numbers.

const SVG = "http://www.w3.org/2000/svg";

// An element with its attributes and what it holds: svg("circle", {r: 3}), svg("g", {}, child, "text").
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  set(element, attributes);
  element.append(...children);
  return element;
}

// Attributes of an element, all at once.
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

// Calls move(event) where a picture is pressed or tapped, and along a drag. A finger drags from when it has gone further
// sideways than up or down: a vertical pan scrolls the page, by `touch-action: pan-y`, and moves nothing.
export function onDrag(picture, move) {
  let start = null; // of a finger whose direction is not known yet
  picture.addEventListener("pointerdown", event => {
    start = event.pointerType === "touch" ? event : null;
    if (!start && event.buttons) move(event);
  });
  picture.addEventListener("pointermove", event => {
    const [across, along] = start ? [event.clientX - start.clientX, event.clientY - start.clientY] : [1, 0];
    if (!event.buttons || Math.abs(across) <= Math.abs(along)) return;
    start = null;
    move(event);
  });
  picture.addEventListener("click", move);
}

// A number with so many decimals and the minus sign of print.
export function decimals(number, digits = 2) {
  return number.toFixed(digits).replace(/^-0(\.0*)?$/, "0$1").replace("-", "−");
}

// A number with so many digits and a power of ten: 4.5·10⁻⁵.
export function powerOfTen(number, digits = 1) {
  const [factor, power] = number.toExponential(digits - 1).replace("+", "").split("e");
  const raised = Array.from(power, character => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(character)]).join("");
  return number === 0 ? "0" : `${factor.replace("-", "−")}·10${raised}`;
}
