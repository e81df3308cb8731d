// A photograph to the pixels of a model's input, as `vit_keras.preprocessing.fit` has
// Pillow do it, to the last bit (but for tall pictures in Pillow 13, which resizes their
// columns first: a few steps of 255). A canvas resizes in another way in each browser,
// and none of them is the way that models are trained and calibrated with.

const cubic = (x, a = -0.5) =>
  x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
// Name of Pillow's filter: how far it reaches, and its weight at a distance.
const FILTERS = {
  bilinear: [1, (x) => Math.max(1 - x, 0)],
  bicubic: [2, cubic],
  lanczos: [3, (x) => (x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};
const BITS = 22; // of the weights, which are integers

/** The pixels of a photograph as the model takes them.
 *
 * @param image ImageData of the photograph
 * @param input {height, width, channels} of the model
 * @param rules {interpolation, crop, resize, padding}
 * @returns Uint8ClampedArray (height, width, channels)
 */
export function fit(image, input, rules) {
  const source = planes(image, input.channels);
  const { height, width, channels } = input;
  if (source.height === height && source.width === width && rules.crop === 1) {
    return source.data;
  }
  const [left, top, right, bottom] = placedBox(source, input, rules);
  const box = visibleBox(source, input, rules);
  const seen = resized(source, right - left, bottom - top, box, rules.interpolation);
  const whole = new Uint8ClampedArray(height * width * channels);
  for (let i = 0; i < whole.length; i++) whole[i] = rules.padding[i % channels];
  const row = seen.width * channels;
  for (let y = 0; y < seen.height; y++) {
    whole.set(seen.data.subarray(y * row, (y + 1) * row), ((y + top) * width + left) * channels);
  }
  return whole;
}

/** The part of a photograph that the model sees: [left, top, right, bottom]. */
export function visibleBox({ width: columns, height: rows }, { width, height }, rules) {
  let [wide, tall] = [columns * rules.crop, rows * rules.crop];
  if (rules.resize === "cover") {
    const cover = Math.max(height / rows, width / columns) / rules.crop;
    [wide, tall] = [width / cover, height / cover];
  }
  const [left, top] = [(columns - wide) / 2, (rows - tall) / 2];
  return [
    Math.max(left, 0),
    Math.max(top, 0),
    Math.min(left + wide, columns),
    Math.min(top + tall, rows),
  ];
}

/** The part of an input, or of a map of it, that the photograph fills; the rest is padding. */
export function placedBox({ width: columns, height: rows }, { width, height }, rules) {
  if (rules.resize !== "contain") return [0, 0, width, height];
  const share = (a, b, most) =>
    Math.min(Math.max(Math.floor((2 * a + b) / (2 * b)), 1), most);
  const tall = share(rows * width, columns, height);
  const wide = share(columns * height, rows, width);
  const left = Math.floor((width - wide) / 2);
  const top = Math.floor((height - tall) / 2);
  return [left, top, left + wide, top + tall];
}

/** Colours without alpha; grey as Pillow makes it (ITU-R 601-2, in integers). */
function planes({ data, width, height }, channels) {
  const found = new Uint8ClampedArray(width * height * channels);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    if (channels === 1) {
      const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
      found[j++] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    } else {
      for (let c = 0; c < 3; c++) found[j++] = data[i + c];
    }
  }
  return { data: found, width, height, channels };
}

function resized(source, width, height, box, interpolation) {
  if (interpolation === "nearest") return nearest(source, width, height, box);
  // Pillow stores the box in float32.
  const [left, top, right, bottom] = box.map(Math.fround);
  const columns = weights(source.width, left, right, width, interpolation);
  const rows = weights(source.height, top, bottom, height, interpolation);
  let found = source;
  if (width !== source.width || left !== 0 || right !== width) {
    found = alongRows(found, columns);
  }
  if (height !== source.height || top !== 0 || bottom !== height) {
    found = alongColumns(found, rows);
  }
  return found;
}

/** The first pixel and the weights of each pixel of the result, along one axis. */
function weights(length, low, high, number, interpolation) {
  const [reach, filter] = FILTERS[interpolation];
  const scale = Math.fround(high - low) / number;
  const wider = Math.max(scale, 1); // antialiased
  const support = reach * wider;
  return Array.from({ length: number }, (_, place) => {
    const centre = low + (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), length);
    const exact = [];
    for (let i = first; i < end; i++) {
      exact.push(filter(Math.abs((i - centre + 0.5) * (1 / wider))));
    }
    const total = exact.reduce((sum, w) => sum + w, 0);
    const whole = exact.map((w) => (total ? w / total : w) * 2 ** BITS);
    return [first, Int32Array.from(whole, (w) => Math.trunc(w + (w < 0 ? -0.5 : 0.5)))];
  });
}

function alongRows({ data, width, height, channels }, columns) {
  const found = new Uint8ClampedArray(columns.length * height * channels);
  columns.forEach(([first, values], x) => {
    for (let y = 0; y < height; y++) {
      const from = (y * width + first) * channels;
      const to = (y * columns.length + x) * channels;
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        for (let i = 0; i < values.length; i++) sum += data[from + i * channels + c] * values[i];
        found[to + c] = sum >> BITS; // clamped by the array
      }
    }
  });
  return { data: found, width: columns.length, height, channels };
}

function alongColumns({ data, width, channels }, rows) {
  const row = width * channels;
  const found = new Uint8ClampedArray(rows.length * row);
  rows.forEach(([first, values], y) => {
    for (let x = 0; x < row; x++) {
      let sum = 1 << (BITS - 1);
      for (let i = 0; i < values.length; i++) sum += data[(first + i) * row + x] * values[i];
      found[y * row + x] = sum >> BITS;
    }
  });
  return { data: found, width, height: rows.length, channels };
}

function nearest({ data, width, channels }, wide, tall, box) {
  const [left, top, right, bottom] = box.map(Math.fround);
  const columns = nearestTo(left, right, wide);
  const found = new Uint8ClampedArray(wide * tall * channels);
  let to = 0;
  for (const row of nearestTo(top, bottom, tall)) {
    for (const column of columns) {
      const from = (row * width + column) * channels;
      for (let c = 0; c < channels; c++) found[to++] = data[from + c];
    }
  }
  return { data: found, width: wide, height: tall, channels };
}

/** The pixel that each place takes; Pillow adds step after step, which decides ties. */
function nearestTo(low, high, number) {
  const step = Math.fround(high - low) / number;
  let exact = low + step * 0.5;
  return Array.from({ length: number }, () => {
    const pixel = Math.trunc(exact);
    exact += step;
    return pixel;
  });
}
