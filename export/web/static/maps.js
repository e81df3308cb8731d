// Maps as canvases that lie over the part of the picture that the model sees.

// Colours of heat, dark to light, of which alpha grows with the value (Inferno's, from
// matplotlib, by Nathaniel Smith and Stéfan van der Walt, CC0).
const HEAT = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

/** Colours of classes by their numbers, those of Pascal VOC: as `vit-keras` has them. */
export function classColour(index) {
  const colour = [0, 0, 0];
  for (let bit = 0; bit < 8; bit++) {
    for (let c = 0; c < 3; c++) colour[c] |= ((index >> (3 * bit + c)) & 1) << (7 - bit);
  }
  return colour;
}

/** A canvas of the part of a map in a box, coloured by a function of each position. */
function painted(width, [left, top, right, bottom], rgba) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [right - left, bottom - top];
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let y = top, to = 0; y < bottom; y++) {
    for (let x = left; x < right; x++, to += 4) image.data.set(rgba(y * width + x), to);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Classes at each pixel, with the share of each that is there.
 *
 * @param output {kind: "scores" or "classes_map", shape}
 * @param values of it
 * @param size {width, height, box: the part that is not padding}
 */
export function classMap(output, values, { width, height, box }) {
  const found = output.kind === "scores" ? greatest(values, output.shape, width, height) : values;
  const [left, top, right, bottom] = box;
  const counts = new Map();
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const index = found[y * width + x];
      counts.set(index, (counts.get(index) ?? 0) + 1);
    }
  }
  const area = (right - left) * (bottom - top);
  const classes = [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([index, count]) => {
      return { index, share: count / area, colour: `rgb(${classColour(index)})` };
    });
  const map = painted(width, box, (i) => [...classColour(found[i]), 255]);
  return { map, facts: { classes } };
}

/** The class of the greatest score at each pixel; smaller maps are enlarged before, by
 * bilinear interpolation between the centres of pixels. */
function greatest(values, [, rows, columns, classes], width, height) {
  const found = new Uint32Array(width * height);
  const across = between(columns, width);
  between(rows, height).forEach(([above, below, down], y) => {
    across.forEach(([left, right, along], x) => {
      const at = [above * columns + left, above * columns + right];
      at.push(below * columns + left, below * columns + right);
      const [a, b, c, d] = at.map((place) => place * classes);
      let most = -Infinity;
      for (let k = 0; k < classes; k++) {
        const upper = values[a + k] * (1 - along) + values[b + k] * along;
        const lower = values[c + k] * (1 - along) + values[d + k] * along;
        const score = upper * (1 - down) + lower * down;
        if (score > most) [most, found[y * width + x]] = [score, k];
      }
    });
  });
  return found;
}

/** For each of `number` places along an axis: the two pixels beside it, and the share of
 * the second. */
function between(length, number) {
  return Array.from({ length: number }, (_, place) => {
    const exact = Math.min(Math.max(((place + 0.5) * length) / number - 0.5, 0), length - 1);
    const low = Math.floor(exact);
    return [low, Math.min(low + 1, length - 1), exact - low];
  });
}

/** Depths in grey: the nearest white, the farthest and unknown ones black. */
export function depthMap(output, values, { width, box }) {
  const { inverse } = output;
  const known = Array.from(values).filter((v) => Number.isFinite(v) && (inverse || v > 0));
  const near = (v) => (inverse ? v : 1 / v);
  const [low, high] = range(known);
  const [dark, light] = inverse ? [low, high] : [near(high), near(low)];
  const map = painted(width, box, (i) => {
    const value = values[i];
    const usable = Number.isFinite(value) && (inverse || value > 0);
    const share = usable ? (light > dark ? (near(value) - dark) / (light - dark) : 1) : 0;
    const grey = Math.round(255 * share);
    return [grey, grey, grey, 255];
  });
  const atBoth = inverse ? [low, high] : [high, low];
  return { map, facts: { low, high, dark: "far", light: "near", ...ramp(atBoth) } };
}

/** Attention: the more, the lighter and the less transparent. */
export function heatMap(output, values, { width, box }) {
  const [low, high] = range(values);
  const map = painted(width, box, (i) => {
    const share = high > low ? (values[i] - low) / (high - low) : 0;
    const place = share * (HEAT.length - 1);
    const first = Math.min(Math.floor(place), HEAT.length - 2);
    const mixed = HEAT[first].map((c, k) => c + (HEAT[first + 1][k] - c) * (place - first));
    return [...mixed.map(Math.round), Math.round(255 * (0.15 + 0.85 * share))];
  });
  const unit = (value) => `${(100 * value).toPrecision(2)} %`;
  const words = { dark: "least of a patch", light: "most" };
  return { map, facts: { low, high, ...words, ...ramp([low, high]), unit } };
}

const plain = (value) => String(Number(value.toPrecision(3)));
const ramp = ([atDark, atLight]) => ({ atDark, atLight, unit: plain });

/** The least and the greatest value. */
export function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
}
