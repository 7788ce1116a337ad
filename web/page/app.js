// The page: pictures in, the network, a match out.

import { Network } from "./network.js";
import { Results } from "./results.js";
import { Remote } from "./rpc.js";
import { Slot } from "./slot.js";

const ROLES = ["source", "target"];
const CANVASES = ["under", "warped", "confidence", "flow", "matches"];
const built = new URL("built", location.href).href;
const wishes = new URLSearchParams(location.search);
const byId = (id) => document.getElementById(id);

const pixels = new Remote(new Worker("pixel-worker.js", { type: "module" }));
const results = new Results(pixels);
const slots = {};
const filled = { source: false, target: false };
let touched = false; // whether the user gave a picture
let network = null;
let model = null;
let models = [];
let wanted = 0; // is raised by whatever asks for a match
let matched = 0;
let matching = false;

for (const role of ROLES) {
  slots[role] = new Slot(byId(role), byId("camera"), (content, name) => {
    touched = true;
    return open(role, content, name);
  });
}
byId("match").addEventListener("click", () => match());
byId("swap").addEventListener("click", swap);
byId("example").addEventListener("click", () => showExample().catch(fail));
byId("size").addEventListener("change", (event) => {
  model = models[event.target.value];
  match();
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  const role = filled.source && !filled.target ? "target" : "source";
  if (file) {
    touched = true;
    slots[role].fill(() => open(role, file, "pasted picture"));
  }
});
// Of a file that misses its place the browser would leave the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
begin();

async function begin() {
  try {
    say("Loading…");
    await Promise.all([startPixels(), keepOffline()]);
    const response = await fetch(`${built}/models.json`);
    if (!response.ok) throw new Error("LiteRT.js and a model are missing here: run `make web`");
    const manifest = await response.json();
    models = manifest.models.map((each) => ({ ...each, url: `${built}/${each.file}` }));
    model = models[0];
    offerSizes();
    const options = {
      threads: wishes.get("threads") !== "0",
      accelerator: wishes.get("accelerator"),
    };
    network = new Network(`${built}/${manifest.litert}`, options, tellWhatRuns);
    const megabytes = Math.ceil(model.bytes / 1e6 + 3);
    say(`Loading LiteRT.js and the network, about ${megabytes} MB…`);
    // While it loads, pictures can be given; those that were are not replaced.
    const loading = network.load(model);
    if (touched) match();
    else if (!navigator.connection?.saveData) await showExample(() => touched);
    await loading;
    if (!matching && !filled.source && !filled.target) say("Ready.");
  } catch (error) {
    fail(error);
  }
}

async function startPixels() {
  const canvases = {};
  for (const role of ROLES) {
    canvases[role] = byId(role).querySelector("canvas").transferControlToOffscreen();
  }
  for (const id of CANVASES) canvases[id] = byId(id).transferControlToOffscreen();
  await pixels.call("start", { canvases, folder: built }, Object.values(canvases));
}

async function open(role, content, name) {
  wanted++;
  const moved = content instanceof ImageBitmap ? [content] : [];
  const picture = await pixels.call("open", { role, content, name }, moved);
  filled[role] = true;
  match();
  return picture;
}

async function showExample(isUnwanted = () => false) {
  const pair = await Promise.all(
    ROLES.map(async (role) => {
      const response = await fetch(`${built}/${role}.jpg`);
      if (!response.ok) throw new Error("the example could not be loaded");
      return response.blob();
    }),
  );
  if (isUnwanted()) return;
  await Promise.all(ROLES.map((role, i) => slots[role].fill(() => open(role, pair[i], "example"))));
}

async function swap() {
  wanted++;
  const pictures = await pixels.call("swap");
  for (const role of ROLES) {
    filled[role] = Boolean(pictures[role]);
    slots[role].describe(pictures[role]);
    slots[role].say("");
  }
  match();
}

/** Matches what is there; of several calls while it does, the last counts. */
async function match() {
  const ready = filled.source && filled.target;
  byId("match").disabled = !ready;
  byId("swap").disabled = !(filled.source || filled.target);
  wanted++;
  if (!ready || matching || !network) return;
  matching = true;
  byId("results").setAttribute("aria-busy", "true");
  byId("failure").textContent = "";
  try {
    while (matched !== wanted) {
      matched = wanted;
      await matchOnce();
    }
  } catch (error) {
    matched = wanted;
    fail(error);
  } finally {
    matching = false;
    byId("results").removeAttribute("aria-busy");
  }
}

async function matchOnce() {
  const asked = wanted;
  const { size } = model;
  if (!network.accelerator) say("Loading the network…");
  await network.load(model);
  say("Matching…");
  const start = performance.now();
  const inputs = await pixels.call("inputs", { size });
  const prepared = performance.now();
  const answer = await network.run(inputs);
  const answered = performance.now();
  if (asked !== wanted) return; // for other pictures than those that are there now
  await results.show(answer, size);
  const whole = performance.now() - start;
  const drawn = performance.now() - answered;
  const milliseconds = (value) => `${Math.round(value)} ms`;
  say(
    `Matched in ${milliseconds(whole)}: resizing ${milliseconds(prepared - start)}, ` +
      `network ${milliseconds(answer.milliseconds)}, drawing ${milliseconds(drawn)}.`,
  );
  tellWhatRuns();
  considerGpu();
}

async function considerGpu() {
  if (considerGpu.model === model) return;
  considerGpu.model = model;
  const argument = { folder: built, size: model.size };
  await network.considerGpu(() => pixels.call("inputsOfPair", argument));
}

function offerSizes() {
  byId("size-choice").hidden = models.length < 2;
  models.forEach(({ size, bytes }, i) => {
    const text = `${size[1]} × ${size[0]} px (${(bytes / 1e6).toFixed(1)} MB)`;
    byId("size").add(new Option(text, i));
  });
}

function tellWhatRuns() {
  const { accelerator, threads, remark } = network;
  if (!accelerator) return;
  const many = threads === 1 ? "one thread" : `${threads} threads`;
  const alone =
    threads === 1 && !self.crossOriginIsolated ? ", since the page is not isolated" : "";
  const what =
    accelerator === "webgpu" ? "the GPU (WebGPU)" : `the CPU (WebAssembly, ${many}${alone})`;
  byId("runs-on").textContent = `${model.preset} runs on ${what}. ${remark}`;
}

/** Has the service worker keep what is loaded from here on. Without one the page works all the same. */
async function keepOffline() {
  if (!navigator.serviceWorker) return;
  try {
    const controlled = new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, 3000);
    });
    await navigator.serviceWorker.register("service-worker.js");
    if (!navigator.serviceWorker.controller) await controlled;
    byId("offline").textContent = "Once loaded, this page works without a network.";
  } catch {
    byId("offline").textContent = "This page needs the network each time it is opened.";
  }
}

function say(text) {
  byId("status").textContent = text;
}

function fail(error) {
  say("");
  const reason = error.message || String(error);
  byId("failure").textContent = error.expected ? reason : `It did not work: ${reason}.`;
}
