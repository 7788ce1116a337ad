// Runs the network by LiteRT.js, in a worker. It is a classic one: LiteRT.js loads its WebAssembly by
// importScripts, which workers that are modules do not have.

const modules = import("./rpc.js");
let litert = null;
let model = null;

// WebAssembly with more threads than this gains little on a network so small.
const MOST_THREADS = 4;

const functions = {
  /**
   * Loads LiteRT.js.
   * folder: of LiteRT.js; accelerator: "wasm" or "webgpu"; threads: whether wasm may use several.
   * Returns the threads, and the adapter of the GPU.
   */
  async load({ folder, accelerator, threads }) {
    const { InputError } = await modules;
    if (typeof WebAssembly !== "object") throw new InputError("This browser lacks WebAssembly.");
    litert = await import(`${folder}/litert.js`);
    const shared = threads && accelerator === "wasm" && (await mayThread());
    const jspi = accelerator === "webgpu" && (await litert.supportsFeature("jspi"));
    const count = Math.max(1, Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS));
    // LiteRT.js starts as many threads as it believes to be cores.
    Object.defineProperty(navigator, "hardwareConcurrency", { get: () => count });
    const wasm = `${folder}/wasm/`;
    // Of itself its WebAssembly would look beside this script.
    self.Module = { locateFile: (file) => wasm + file };
    if (shared) self.Module.mainScriptUrlOrBlob = `${wasm}litert_wasm_threaded_internal.js`;
    await litert.loadLiteRt(wasm, { threads: shared, jspi });
    return { threads: litert.getGlobalLiteRt().liteRtWasm.getThreadCount() };
  },

  /** Compiles a model (url) for an accelerator; whatever was compiled before is freed. */
  async compile({ url, accelerator }) {
    const { InputError } = await modules;
    const response = await fetch(url);
    if (!response.ok) throw new InputError(`The model could not be loaded (${response.status}).`);
    const content = new Uint8Array(await response.arrayBuffer());
    model?.delete();
    model = null;
    model = await litert.loadAndCompile(content, {
      accelerator,
      gpuOptions: { precision: "fp32" },
    });
    return { whole: accelerator === "wasm" || model.isFullyAccelerated };
  },

  /** Runs the network on two images, Uint8Array [height, width, 3] of the model's size. */
  async run({ source, target, size }) {
    const { Moved } = await modules;
    const inputs = {};
    const start = performance.now();
    let outputs = {};
    try {
      for (const [role, image] of Object.entries({ source, target })) {
        inputs[role] = new litert.Tensor(image, [1, ...size, 3]);
      }
      outputs = await model.run("match", inputs);
      const [flow, confidence] = await Promise.all([
        outputs.flow.data(),
        outputs.confidence.data(),
      ]);
      const milliseconds = performance.now() - start;
      return new Moved({ flow, confidence, milliseconds }, [flow.buffer, confidence.buffer]);
    } finally {
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
    }
  },
};

async function mayThread() {
  if (!self.crossOriginIsolated) return false;
  const features = ["threads", "relaxedSimd"].map((name) => litert.supportsFeature(name));
  return (await Promise.all(features)).every(Boolean);
}

// One call after the other: LiteRT.js is not made for two at a time.
let last = Promise.resolve();
self.onmessage = (event) => {
  last = last.then(async () => (await modules).answer(event, functions));
};
