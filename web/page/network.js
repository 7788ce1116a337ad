// The network: in WebAssembly, or on the GPU where that was seen to give the same answer sooner.

import { Remote } from "./rpc.js";

// What the GPU may differ by where WebAssembly is certain: some drivers compute something else.
const CERTAIN = 0.5;
const FLOW_TOLERANCE = 0.25; // px of what the network sees, for 95 of 100 pixels
const CONFIDENCE_TOLERANCE = 0.05; // likewise
const MOST_TRIES = 2;
const MEMORY = "tfdense-gpu";

export class Network {
  #folder;
  #options;
  #worker = null;
  #model = null;
  #loading = null;
  #onChange;

  /** What runs it: "wasm" or "webgpu". */
  accelerator = null;
  threads = 1;
  /** What was found out about the GPU, in words. */
  remark = "";

  /**
   * folder: of LiteRT.js; options: threads: whether wasm may use several; accelerator: "wasm" or
   * "webgpu" to insist on one, else null. onChange is called when what runs it changes.
   */
  constructor(folder, options, onChange = () => {}) {
    this.#folder = folder;
    this.#options = options;
    this.#onChange = onChange;
  }

  /** Loads a model {url, size}; LiteRT.js too if that is not loaded. What is there stays. */
  load(model) {
    if (this.#model !== model || !this.#loading) {
      this.#model = model;
      const former = this.#loading ?? Promise.resolve();
      const loading = former.catch(() => {}).then(() => this.#load(model));
      this.#loading = loading;
      loading.catch(() => {
        if (this.#loading === loading) this.#loading = null; // so that it can be tried again
      });
    }
    return this.#loading;
  }

  async #load(model) {
    const known = await this.#verdict();
    this.remark = known?.remark ?? "";
    if (this.#prefers(known)) {
      try {
        return this.#take(await start(this.#folder, "webgpu", this.#options, model));
      } catch (error) {
        await this.#reject(error);
      }
    }
    if (this.accelerator === "wasm" && this.#worker.remote.alive) {
      await this.#worker.remote.call("compile", { url: model.url, accelerator: "wasm" });
    } else {
      this.#take(await start(this.#folder, "wasm", this.#options, model));
    }
  }

  /** Remembers that the GPU failed. */
  async #reject(error) {
    this.remark = `The GPU failed: ${error.message}.`;
    await this.#remember({ good: false, remark: this.remark });
  }

  /** Answers two images of the model's size: {flow, confidence, milliseconds}. */
  async run({ source, target }) {
    const { size } = this.#model;
    const copies = { source: source.slice(), target: target.slice(), size };
    try {
      return await this.#worker.remote.call("run", copies, transferred(copies));
    } catch (error) {
      // A worker that failed is not to be trusted with the next pair, nor a GPU that was lost.
      const { accelerator } = this.#worker;
      this.#worker.remote.end();
      if (accelerator === "webgpu") await this.#reject(error);
      this.#take(await start(this.#folder, "wasm", this.#options, this.#model));
      if (accelerator === "webgpu") return this.run({ source, target });
      throw error;
    }
  }

  /**
   * Once a device and model: tries whether the GPU answers a pair as WebAssembly does, and sooner;
   * then takes it. `inputs` gives the pair. The check runs beside what the user does.
   */
  async considerGpu(inputs) {
    const insist = this.#options.accelerator === "webgpu";
    if (this.accelerator !== "wasm" || this.#options.accelerator === "wasm") return;
    const model = this.#model;
    const adapter = await gpu();
    if (!adapter) {
      if (insist) this.#say("There is no GPU that this browser may use.");
      return;
    }
    // A GPU that is itself a program on the CPU.
    if (adapter.info?.isFallbackAdapter && !insist) return;
    if (await this.#verdict()) return;
    // A driver that takes the whole browser down does so twice at most.
    const { tries = 0 } = (await this.#recall()) ?? {};
    await this.#remember({ tries: tries + 1, remark: "The check of the GPU was broken off." });
    let candidate = null;
    try {
      candidate = await start(this.#folder, "webgpu", this.#options, model);
      const verdict = await this.#compare(candidate, await inputs());
      if (this.#model !== model) return candidate.remote.end();
      await this.#remember(verdict);
      this.#say(verdict.remark);
      if (this.#prefers(verdict)) this.#take(candidate);
      else candidate.remote.end();
    } catch (error) {
      candidate?.remote.end();
      const remark = `The GPU could not be used: ${error.message}.`;
      await this.#remember({ good: false, remark });
      this.#say(remark);
    }
  }

  async #compare(candidate, pair) {
    const { size } = this.#model;
    const times = { wasm: [], webgpu: [] };
    const answers = {};
    for (let i = 0; i < 2; i++) {
      for (const [name, worker] of [
        ["wasm", this.#worker],
        ["webgpu", candidate],
      ]) {
        const copies = { source: pair.source.slice(), target: pair.target.slice(), size };
        answers[name] = await worker.remote.call("run", copies, transferred(copies));
        times[name].push(answers[name].milliseconds);
      }
      if (i === 0 && !agreement(answers.wasm, answers.webgpu).good) break;
    }
    const { good, flow } = agreement(answers.wasm, answers.webgpu);
    const difference = `${flow < 0.01 ? flow.toExponential(0) : flow.toFixed(2)} px`;
    if (!good) {
      const remark = `The GPU's answer differs from the CPU's by ${difference} and is not used.`;
      return { good, remark };
    }
    // The first run also prepares.
    const [[, cpu], [, graphics]] = [times.wasm, times.webgpu];
    const speeds = `it took ${Math.round(graphics)} ms, the CPU ${Math.round(cpu)} ms`;
    const remark = `The GPU's answer was checked: within ${difference} of the CPU's; ${speeds}.`;
    return { good, faster: graphics < cpu, remark };
  }

  /** Whether the GPU is to be used, by what was found out about it. */
  #prefers(verdict) {
    const { accelerator } = this.#options;
    return verdict?.good && accelerator !== "wasm" && (verdict.faster || accelerator === "webgpu");
  }

  #take(worker) {
    this.#worker?.remote.end();
    this.#worker = worker;
    this.accelerator = worker.accelerator;
    this.threads = worker.threads;
    this.#onChange();
  }

  #say(remark) {
    this.remark = remark;
    this.#onChange();
  }

  async #key() {
    const info = (await gpu())?.info;
    if (!info) return null;
    const { vendor, architecture, device, description } = info;
    const url = new URL(this.#model.url);
    return [vendor, architecture, device, description, this.#folder, url.pathname].join("|");
  }

  /** What was found out about this GPU: {good, remark}; null if it is to be checked. */
  async #verdict() {
    const known = await this.#recall();
    return known && ("good" in known || known.tries >= MOST_TRIES) ? known : null;
  }

  async #recall() {
    const key = await this.#key();
    try {
      return (key && JSON.parse(localStorage.getItem(MEMORY) ?? "{}")[key]) ?? null;
    } catch {
      return null; // storage that is forbidden, or was broken
    }
  }

  async #remember(verdict) {
    const key = await this.#key();
    try {
      const known = JSON.parse(localStorage.getItem(MEMORY) ?? "{}");
      localStorage.setItem(MEMORY, JSON.stringify({ ...known, [key]: verdict }));
    } catch {
      // It is found out anew the next time.
    }
  }
}

/** Whether two answers are the same where the first is certain, and by how much the flow differs. */
export function agreement(expected, received) {
  const flow = [];
  const confidence = [];
  for (let i = 0; i < expected.confidence.length; i++) {
    confidence.push(Math.abs(expected.confidence[i] - received.confidence[i]));
    if (expected.confidence[i] < CERTAIN) continue;
    const [dx, dy] = [0, 1].map(
      (axis) => expected.flow[2 * i + axis] - received.flow[2 * i + axis],
    );
    flow.push(Math.hypot(dx, dy));
  }
  const [flowDifference, confidenceDifference] = [flow, confidence].map(most);
  const good = flowDifference <= FLOW_TOLERANCE && confidenceDifference <= CONFIDENCE_TOLERANCE;
  return { good, flow: flowDifference };
}

/** What 95 of 100 values stay below; anything that is no number makes it infinite. */
function most(values) {
  if (!values.length || values.some(Number.isNaN)) return Infinity;
  return Float64Array.from(values).sort()[Math.floor(0.95 * (values.length - 1))];
}

async function start(folder, accelerator, { threads }, model) {
  const remote = new Remote(new Worker(new URL("network-worker.js", import.meta.url)));
  try {
    const loaded = await remote.call("load", { folder, accelerator, threads });
    const { whole } = await remote.call("compile", { url: model.url, accelerator });
    if (!whole) throw new Error("it runs only a part of the network");
    return { remote, accelerator, threads: loaded.threads };
  } catch (error) {
    remote.end();
    throw error;
  }
}

function transferred({ source, target }) {
  return [source.buffer, target.buffer];
}

async function gpu() {
  try {
    return (await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" })) ?? null;
  } catch {
    return null;
  }
}
