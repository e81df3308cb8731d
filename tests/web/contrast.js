// [contrast by WCAG 2.2, element] of each text that is seen and not disabled.
(() => {
  const luminance = (text) => {
    const parts = text.match(/[\d.]+/g).slice(0, 3).map((part) => Number(part) / 255);
    const [r, g, b] = parts.map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    const clear = /rgba\(.*, 0\)/.test(colour);
    return clear && element.parentElement ? ground(element.parentElement) : colour;
  };
  const texts = [...document.querySelectorAll("h1, h2, p, dt, dd, label, .name, button")];
  const enabled = (element) => !element.disabled && !element.querySelector(":disabled");
  return texts
    .filter((element) => element.checkVisibility() && enabled(element))
    .map((element) => {
      const colours = [getComputedStyle(element).color, ground(element)];
      const [light, dark] = colours.map(luminance).sort((a, b) => b - a);
      return [(light + 0.05) / (dark + 0.05), `${element.tagName} ${element.textContent}`];
    });
})();
