// A `.tflite` file in LiteRT.js. Every byte of the runtime and of the file is checked by
// its hash before it is used.

import { fit } from "./resize.js";

let library = null; // @litertjs/core, once loaded
let threads = 1;

async function checked(url, integrity) {
  let answer;
  try {
    answer = await fetch(url, { integrity, mode: "cors", credentials: "omit" });
  } catch (error) {
    const cause = { cause: error }; // the browser does not tell which of the two it is
    throw new Error(`${url} cannot be loaded, or is not the file that this page is for.`, cause);
  }
  if (!answer.ok) throw new Error(`${url} cannot be loaded: status ${answer.status}.`);
  return answer;
}

/** What LiteRT logs, all of it on stderr, in the console: errors as such. */
function log(line) {
  console[/^(ERROR|FATAL)/.test(line) ? "error" : "info"](line);
}

/** Load LiteRT.js, with threads where the page may share memory between them.
 *
 * @param runtime {version, folder, integrity: {file: hash}}, see `runtime.py`
 * @returns {threads: their number}
 */
export async function loadRuntime({ folder, integrity }) {
  if (library) return { threads };
  let module;
  try {
    module = await import("@litertjs/core");
  } catch (error) {
    const text = `LiteRT.js cannot be loaded from ${folder}: ${error.message}`;
    throw new Error(text, { cause: error });
  }
  const simd = await module.supportsFeature("relaxedSimd");
  const isolated = globalThis.crossOriginIsolated;
  const threaded = simd && isolated && (await module.supportsFeature("threads"));
  const build = `wasm/litert_wasm_${threaded ? "threaded_" : simd ? "" : "compat_"}internal`;
  const [script, binary] = await Promise.all(
    ["js", "wasm"].map(async (suffix) => {
      const name = `${build}.${suffix}`;
      return (await checked(`${folder}/${name}`, integrity[name])).arrayBuffer();
    }),
  );
  // Emscripten's own ways to be given what it would load without a check.
  const blob = new Blob([script], { type: "text/javascript" });
  globalThis.Module = { wasmBinary: binary, mainScriptUrlOrBlob: blob, printErr: log };
  const loaded = await module.loadLiteRt(`${URL.createObjectURL(blob)}#.js`); // as it asks
  threads = threaded ? loaded.liteRtWasm.getThreadCount() : 1;
  library = module;
  return { threads };
}

/** Whether this browser has WebGPU with a usable adapter. */
export async function hasWebGPU() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

/** A file that is ready to run. */
export class Model {
  /** Load and compile a file, and run it once, because the first run takes longer.
   *
   * @param description an entry of `models` in page.json
   * @param accelerator "wasm" or "webgpu"
   */
  static async open(description, accelerator) {
    const answer = await checked(description.file, description.integrity);
    const content = new Uint8Array(await answer.arrayBuffer());
    const compiled = await library.loadAndCompile(content, { accelerator });
    const model = new Model(description, compiled);
    const { height, width, channels } = description.input;
    await model.runPixels(new Uint8ClampedArray(height * width * channels));
    return model;
  }

  constructor(description, compiled) {
    this.description = description;
    this.compiled = compiled;
    // LiteRT.js takes WebAssembly for a file that WebGPU does not take whole.
    this.accelerator = compiled.options.accelerator;
  }

  /** Run the file on a photograph.
   *
   * @param image ImageData
   * @returns {outputs: {name: typed array}, milliseconds} of the file alone
   */
  run(image) {
    const { input, preprocessing } = this.description;
    return this.runPixels(fit(image, input, preprocessing));
  }

  async runPixels(pixels) {
    const { height, width, channels, mean, std } = this.description.input;
    const values = Float32Array.from(
      pixels,
      (pixel, i) => (pixel - mean[i % channels]) / std[i % channels],
    );
    const started = performance.now();
    const tensor = new library.Tensor(values, [1, height, width, channels]);
    const outputs = {};
    try {
      const found = await this.compiled.run(tensor);
      const names = this.compiled.getOutputDetails().map((output) => output.name);
      for (const [place, output] of found.entries()) {
        outputs[names[place]] = await output.data();
        output.delete();
      }
    } finally {
      tensor.delete();
    }
    return { outputs, milliseconds: performance.now() - started };
  }

  delete() {
    this.compiled.delete();
  }
}
