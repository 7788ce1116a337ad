// All that goes through the pixels of whole pictures: reading, resizing, drawing, writing files.

import { Answer } from "./answer.js";
import { Drawing, put } from "./drawing.js";
import { floFile, npzFile } from "./formats.js";
import { Picture } from "./picture.js";
import { answer, InputError, Moved } from "./rpc.js";

const ROLES = ["source", "target"];
const pictures = { source: null, target: null };
let canvases = {};
let noise = {};
let current = null; // { answer, drawing, target } of what is shown

const functions = {
  /** Takes the page's canvases by what they show, and where the noise of masked pixels lies. */
  async start({ canvases: given, folder }) {
    canvases = given;
    for (const role of ROLES) {
      const response = await fetch(`${folder}/noise-${role}.bin`);
      if (!response.ok) throw new Error(`noise-${role}.bin: ${response.status}`);
      noise[role] = { role, values: new Uint8Array(await response.arrayBuffer()) };
    }
  },

  /** Reads a picture; what was there before stays if this one cannot be read. */
  async open({ role, content, name }) {
    const picture = await Picture.open(content, name);
    pictures[role]?.close();
    pictures[role] = picture;
    put(canvases[role], picture.view);
    return describe(picture);
  },

  /** Makes the source the target and the other way round. */
  swap() {
    [pictures.source, pictures.target] = [pictures.target, pictures.source];
    for (const role of ROLES) if (pictures[role]) put(canvases[role], pictures[role].view);
    return Object.fromEntries(ROLES.map((role) => [role, describe(pictures[role])]));
  },

  /** What the network sees of both, at its size [height, width]. */
  inputs({ size }) {
    return seenBy(size, pictures);
  },

  /** The same of a pair that lies in a folder, and is not shown. */
  async inputsOfPair({ folder, size }) {
    const pair = {};
    for (const role of ROLES) {
      const name = `${role}.jpg`;
      pair[role] = await Picture.open(await (await fetch(`${folder}/${name}`)).blob(), name);
    }
    const seen = seenBy(size, pair);
    for (const role of ROLES) pair[role].close();
    return seen;
  },

  /** Shows what the network answered for the pictures. Returns as `redraw`, and R. */
  show({ flow, confidence, size, threshold }) {
    const { source, target } = pictures;
    const found = new Answer({ flow, confidence }, size, source, target);
    current = { answer: found, drawing: new Drawing(found, source, target), target };
    put(canvases.under, target.view);
    current.drawing.drawConfidence(canvases.confidence);
    const { width, height } = target.view;
    return { ...functions.redraw({ threshold }), radius: found.radius, width, height };
  },

  /** Draws what depends on the threshold. Returns the share matched, the longest flow, lines. */
  redraw({ threshold }) {
    const { drawing } = current;
    drawing.drawWarped(canvases.warped, threshold);
    const longest = drawing.drawFlow(canvases.flow, threshold);
    const lines = drawing.drawMatches(canvases.matches, threshold);
    const { width, height } = canvases.matches;
    return { share: drawing.share(threshold), longest, lines, matches: { width, height } };
  },

  /** A file of the match: its kind is npz, flo or the name of a canvas. */
  async file({ kind }) {
    if (!current) throw new InputError("There is no match yet.");
    try {
      if (kind === "npz") return npzFile(current.answer, current.target);
      if (kind === "flo") return floFile(current.answer, current.target);
      return await canvases[kind].convertToBlob({ type: "image/png" });
    } catch (error) {
      if (error instanceof RangeError) throw new InputError("The file does not fit into memory.");
      throw error;
    }
  },
};

function seenBy(size, pair) {
  const seen = {};
  for (const role of ROLES) seen[role] = pair[role].seen(size, noise[role]);
  return new Moved(seen, [seen.source.buffer, seen.target.buffer]);
}

function describe(picture) {
  if (!picture) return null;
  const { name, width, height, view } = picture;
  return { name, width, height, view: { width: view.width, height: view.height } };
}

// One call after the other: of two files chosen, the second is the one that stays.
let last = Promise.resolve();
self.onmessage = (event) => {
  last = last.then(() => answer(event, functions));
};
