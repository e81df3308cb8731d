// The page: what the user chooses, and what is shown of it.

import { Model, hasWebGPU, loadRuntime } from "./model.js";
import { MAPS, element, heading, show } from "./outputs.js";
import { visibleBox } from "./resize.js";

const LARGEST = 4096; // pixels of a photograph's longer side; canvases of phones end near
const SMALL = 128; // of which the pixels themselves are shown
const KEPT = 20; // runs, of which the time is the median

const get = (id) => document.getElementById(id);
const page = await (await fetch("page.json")).json();
const state = { model: null, description: null, image: null, layer: null, everything: false };
let last = null; // {outputs, milliseconds} of the picture that is shown
let times = [];
let threads = 1;
let stream = null; // of the camera

// One thing at a time, in the order that the user asked for it.
let work = Promise.resolve();
const inTurn = (task) => (work = work.then(task).catch((error) => say(error.message, true)));

function say(text, wrong = false) {
  get("status").textContent = text;
  get("status").classList.toggle("error", wrong);
  get("status").hidden = !text;
}

async function open() {
  const accelerator = document.querySelector("[name=accelerator]:checked").value;
  const description = page.models[get("models").selectedIndex];
  say(`Loading ${description.name} (${(description.bytes / 1e6).toFixed(1)} MB)…`);
  for (const id of ["choose", "camera"]) get(id).disabled = true;
  state.model?.delete();
  Object.assign(state, { model: null, description, everything: false });
  describe(description);
  last = null;
  get("results").replaceChildren();
  get("speed").hidden = true;
  get("seen").hidden = true;
  get("layers").hidden = true;
  ({ threads } = await loadRuntime(page.runtime));
  try {
    state.model = await Model.open(description, accelerator);
  } catch (error) {
    const way = accelerator === "wasm" ? "WebAssembly" : "WebGPU";
    const other = accelerator === "wasm" ? "" : " Choose CPU (WebAssembly).";
    const reason = error.message ?? String(error);
    const said = `LiteRT.js says: ${reason}`;
    throw new Error(`${description.name} does not run on ${way} here.${other} ${said}`);
  }
  for (const id of ["choose", "camera"]) get(id).disabled = false;
  say("Ready: choose a picture.");
  times = [];
  if (state.image) await run();
}

async function run() {
  if (!state.model) return;
  if (!stream) say("Running…");
  await new Promise((done) => setTimeout(done)); // lets the browser draw
  last = await state.model.run(state.image);
  times = [...times, last.milliseconds].slice(-KEPT);
  say("");
  showResult();
}

function describe({ name, description, outputs, facts, input, preprocessing, bytes }) {
  document.title = `${name} in the browser`;
  get("title").textContent = name;
  get("description").textContent = description;
  const tensors = outputs.map((o) => `${o.name} (${o.dtype} ${o.shape.join(" × ")})`).join(", ");
  const rows = [
    ["File", `${name}.tflite, ${(bytes / 1e6).toFixed(2)} MB`],
    ["Input", `${input.width} × ${input.height} pixels, ${input.channels === 3 ? "RGB" : "grey"}`],
    [outputs.length > 1 ? "Outputs" : "Output", tensors],
    ...facts,
  ];
  get("facts").replaceChildren(
    ...rows.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]),
  );
  get("preparation").textContent = preparation(input, preprocessing);
  const maps = outputs.filter((output) => output.kind in MAPS);
  state.layer = maps[0]?.name ?? null;
  get("layer").replaceChildren(
    ...maps.map((output) => element("option", { value: output.name }, heading(output))),
    element("option", { value: "" }, "Nothing"),
  );
}

function preparation({ width, height }, { resize, crop, interpolation, stated }) {
  const part = crop < 1 ? ` of ${(100 * crop).toFixed(1)} %` : "";
  const size = `${width} × ${height} pixels`;
  const ways = {
    cover: `resized until it covers ${size}, of which the centre${part} is kept`,
    stretch: `stretched to ${size}${crop < 1 ? `, from the centre${part}` : ""}`,
    contain: `resized until all of it is inside ${size}, the rest padded`,
  };
  const source = stated
    ? "as the file says that the model was trained"
    : "an assumption: the file does not say how pictures were resized in training";
  return (
    `A picture is ${ways[resize]}, ${source}. The page resizes (${interpolation}, antialiased) ` +
    "by the arithmetic of Pillow, because a canvas resizes in another way in each browser. " +
    "Decoding is the browser's: pixels of a JPEG may differ by a step or two from those that " +
    "Python reads, colour profiles are not applied, transparent parts are black. A side of " +
    `more than ${LARGEST} pixels is made shorter by the canvas first.`
  );
}

function showResult() {
  const { description, image, everything } = state;
  const { input, preprocessing: rules, outputs } = description;
  const photo = { width: image.width, height: image.height };
  const shown = outputs.map((output) => {
    const found = show(output, valuesOf(output), { input, rules, photo, everything });
    return { output, ...found };
  });
  get("results").replaceChildren(
    ...shown.map(({ output, panel }) =>
      element(
        "section",
        { className: "output", dataset: { output: output.name, kind: output.kind } },
        element("h2", {}, heading(output)),
        panel,
      ),
    ),
  );
  const chosen = shown.find(({ output, map }) => map && output.name === state.layer);
  place(chosen?.map, photo, input, rules);
  const sorted = [...times].sort((a, b) => a - b);
  const middle = sorted[sorted.length >> 1];
  const runs = times.length > 1 ? ` (median of ${times.length})` : "";
  get("time").textContent = `${middle.toFixed(middle < 10 ? 1 : 0)} ms${runs}`;
  get("place").textContent = placeOf(state.model);
  get("speed").hidden = false;
  get("layers").hidden = !outputs.some(({ kind }) => kind in MAPS);
}

function valuesOf({ name }) {
  const found = Object.entries(last.outputs);
  if (found.length === 1) return found[0][1]; // whatever a runtime calls it
  if (!(name in last.outputs)) throw new Error(`LiteRT.js gives no output ${name}.`);
  return last.outputs[name];
}

function placeOf({ accelerator, compiled }) {
  const asked = document.querySelector("[name=accelerator]:checked").value;
  if (accelerator === "webgpu" && compiled.isFullyAccelerated) return "GPU (WebGPU)";
  const many = threads > 1 ? `${threads} threads` : "one thread";
  const cpu = `CPU (WebAssembly, ${many})`;
  return asked === "webgpu" ? `${cpu}: WebGPU does not take the whole file` : cpu;
}

/** Lay a map over the part of the picture that the model sees; frame that part. */
function place(map, photo, input, rules) {
  const [left, top, right, bottom] = visibleBox(photo, input, rules);
  const seen = get("seen");
  const share = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(seen.style, {
    left: share(left, photo.width),
    top: share(top, photo.height),
    width: share(right - left, photo.width),
    height: share(bottom - top, photo.height),
  });
  seen.replaceChildren(...(map ? [map] : []));
  seen.hidden = false;
}

/** Show a picture, or a frame of the camera, and run the model on it. */
async function take(source, width, height, name) {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  const canvas = get("photo");
  const scaled = (side) => Math.max(1, Math.round(side * scale)); // of a thin strip, too
  [canvas.width, canvas.height] = [scaled(width), scaled(height)];
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", name);
  get("view").style.setProperty("--shape", canvas.width / canvas.height);
  get("view").classList.toggle("small", Math.max(canvas.width, canvas.height) < SMALL);
  get("view").classList.remove("empty");
  state.image = context.getImageData(0, 0, canvas.width, canvas.height);
  await run();
}

async function takeFile(file) {
  if (!file) return;
  stopCamera();
  let bitmap;
  try {
    const options = { colorSpaceConversion: "none", imageOrientation: "from-image" };
    bitmap = await createImageBitmap(file, options);
  } catch {
    throw new Error(`${file.name} is no picture that this browser reads.`);
  }
  times = [];
  await take(bitmap, bitmap.width, bitmap.height, file.name);
  bitmap.close();
}

async function toggleCamera() {
  if (stream) return stopCamera();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(`The camera cannot be used: ${error.message}.`);
  }
  const video = element("video", { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  get("camera").textContent = "Stop the camera";
  get("camera").setAttribute("aria-pressed", "true");
  get("results").setAttribute("aria-live", "off"); // a screen reader could not follow
  times = [];
  const next = () => {
    if (!stream) return;
    inTurn(async () => {
      if (stream) await take(video, video.videoWidth, video.videoHeight, "Camera");
    }).then(() => requestAnimationFrame(next));
  };
  next();
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  get("camera").textContent = "Use the camera";
  get("camera").setAttribute("aria-pressed", "false");
  get("results").setAttribute("aria-live", "polite");
}

get("version").textContent = page.runtime.version;
get("models").append(...page.models.map(({ name }) => element("option", {}, name)));
get("chooser").hidden = page.models.length < 2;
get("models").addEventListener("change", () => inTurn(open));
get("accelerators").addEventListener("change", () => inTurn(open));
get("choose").addEventListener("click", () => get("file").click());
get("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  inTurn(() => takeFile(file));
});
get("camera").addEventListener("click", () => (stream ? stopCamera() : inTurn(toggleCamera)));
get("layer").addEventListener("change", ({ target }) => {
  state.layer = target.value;
  if (last) showResult();
});
const fade = () => get("seen").style.setProperty("--opacity", get("opacity").value / 100);
get("opacity").addEventListener("input", fade);
get("results").addEventListener("click", ({ target }) => {
  if (!target.matches(".everything")) return;
  state.everything = !state.everything;
  showResult();
  get("results").querySelector(".everything").focus();
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    get("view").classList.toggle("over", type === "dragover");
    if (type === "drop") inTurn(() => takeFile(event.dataTransfer.files[0]));
  });
}
fade();
inTurn(open);
hasWebGPU().then((there) => {
  document.querySelector("[value=webgpu]").disabled = !there;
  if (!there) get("gpu").textContent = "GPU (no WebGPU in this browser)";
});
