// What outputs mean: probabilities with bars, values, or maps with a legend. One whose
// meaning the file does not tell is shown as the numbers that it is.

import { placedBox } from "./resize.js";
import { classMap, depthMap, heatMap, range } from "./maps.js";

const MOST = 5; // classes, until the user asks for all

/** A new element. */
export function element(tag, properties = {}, ...children) {
  const { dataset, style, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(style ?? {})) made.style.setProperty(name, value);
  made.append(...children);
  return made;
}

const percent = (share) =>
  share > 0 && share < 5e-4 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
const short = (value) => String(Number(value.toPrecision(4)));
const labelOf = (output, index) => output.labels?.[index] || `class ${index}`;

/** The probability of each name of a head, as `vit_keras.heads.probabilities` has it. */
export function probabilities(values, { head, activation }) {
  let found = Array.from(values);
  if (activation === "softmax") {
    const most = Math.max(...found);
    found = found.map((value) => Math.exp(value - most));
    const total = found.reduce((sum, value) => sum + value, 0);
    found = found.map((value) => value / total);
  } else if (activation === "sigmoid") {
    found = found.map((value) => 1 / (1 + Math.exp(-value)));
  }
  return head === "sigmoid" ? [1 - found[0], found[0]] : found;
}

/** The kinds of maps that can lie over a picture. */
export const MAPS = {
  scores: classMap,
  classes_map: classMap,
  depth: depthMap,
  attention: heatMap,
};

const HEADINGS = {
  classes: "Classes",
  values: "Values",
  scores: "Classes at each pixel",
  classes_map: "Classes at each pixel",
  depth: "Depth",
  attention: "Attention",
};
/** What an output is called: what it is, or its name where that is not known. */
export const heading = ({ kind, name }) => HEADINGS[kind] ?? `Output ${name}`;

/** Show an output.
 *
 * @param output an entry of `outputs` in page.json
 * @param values typed array
 * @param state {input, photo: {width, height}, rules, everything: show all classes}
 * @returns {panel: element, map: canvas or undefined}
 */
export function show(output, values, state) {
  if (output.kind in MAPS) return showMap(output, values, state);
  if (output.kind === "classes") return { panel: bars(output, values, state.everything) };
  if (output.kind === "values") return { panel: valueList(output, values) };
  return { panel: numbers(output, values) };
}

function bars(output, values, everything) {
  const found = probabilities(values, output).map((share, index) => ({ share, index }));
  found.sort((a, b) => b.share - a.share);
  const items = found.slice(0, everything ? found.length : MOST).map(({ share, index }) =>
    element(
      "li",
      { dataset: { index, probability: share } },
      element("span", { className: "name" }, labelOf(output, index)),
      element("span", { className: "number" }, percent(share)),
      element("span", { className: "bar", style: { "--share": share } }),
    ),
  );
  const panel = element("div", {}, element("ol", { className: "bars" }, ...items));
  if (found.length > MOST) {
    const text = everything ? `Show the first ${MOST}` : `Show all ${found.length}`;
    panel.append(element("button", { className: "link everything", type: "button" }, text));
  }
  if (output.head === "multi_label") {
    panel.append(note("Each label has a probability of its own; they do not sum to 100 %."));
  }
  return panel;
}

function valueList(output, values) {
  const rows = Array.from(values, (value, i) => [
    element("dt", {}, output.labels?.[i] ?? `value ${i}`),
    element("dd", { dataset: { value } }, short(value)),
  ]);
  return element("dl", { className: "pairs" }, ...rows.flat());
}

function numbers(output, values) {
  const list = Array.from(values);
  const [low, high] = range(list);
  const mean = list.reduce((sum, value) => sum + value, 0) / list.length;
  const first = list.slice(0, 6).map(short).join(", ") + (list.length > 6 ? ", …" : "");
  const rows = { shape: output.shape.join(" × "), range: `${short(low)} to ${short(high)}` };
  Object.assign(rows, { mean: short(mean), values: first });
  const pairs = Object.entries(rows).flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", {}, value),
  ]);
  return element("dl", { className: "pairs", dataset: { low, high, mean } }, ...pairs);
}

function showMap(output, values, state) {
  const [height, width] = sizeOf(output, state);
  const box = placedBox(state.photo, { width, height }, state.rules);
  const { map, facts } = MAPS[output.kind](output, values, { width, height, box });
  const panel = element("div", { className: "legend" });
  if (facts.classes) {
    const entries = facts.classes.map(({ index, share, colour }) =>
      element(
        "li",
        { dataset: { index, share } },
        element("span", { className: "swatch", style: { background: colour } }),
        element("span", { className: "name" }, labelOf(output, index)),
        element("span", { className: "number" }, percent(share)),
      ),
    );
    panel.append(element("ul", { className: "classes" }, ...entries));
  } else {
    const { low, high, unit, dark, light } = facts;
    panel.append(
      element(
        "div",
        { className: `ramp ${output.kind}`, dataset: { low, high } },
        element("span", {}, `${dark}: ${unit(facts.atDark)}`),
        element("span", {}, `${light}: ${unit(facts.atLight)}`),
      ),
    );
    if (output.description) panel.append(note(`${output.description}.`));
  }
  return { panel, map };
}

/** The size of a map; smaller scores are enlarged to that of the input. */
function sizeOf(output, { input }) {
  const [height, width] = output.shape.slice(1);
  if (output.kind !== "scores") return [height, width];
  return [Math.max(height, input.height), Math.max(width, input.width)];
}

const note = (text) => element("p", { className: "note" }, text);
