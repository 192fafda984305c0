// A button that plays.

// Play and Pause in one button: `start()`, then `next()` every `period()` milliseconds as long as it says true, while
// the elements `told` do not speak of every change. Where motion is not wanted a press is `start()` alone, and `alone`
// the button's name; without that name there is no button. Returns a function that halts it.
export function player(button, {start, next, period, told, alone}) {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;

  function show() {
    button.textContent = still.matches && alone ? alone : timer === null ? "Play" : "Pause";
    button.hidden = still.matches && !alone;
    for (const element of told) element.setAttribute("aria-live", timer === null ? "polite" : "off");
  }
  function halt() {
    clearInterval(timer);
    timer = null;
    show();
  }

  button.addEventListener("click", () => {
    if (timer !== null) return halt();
    start();
    if (still.matches) return;
    timer = setInterval(() => { if (!next()) halt(); }, period());
    show();
  });
  still.addEventListener("change", halt);
  show();
  return halt;
}
