// Files of a match: .flo (Middlebury's) and .npz (NumPy's), as Python's `save` names and fills them.

const FLO_MAGIC = 202021.25;

/** Returns the flow of an answer as a .flo file. */
export function floFile(answer, { width, height }) {
  const header = new DataView(new ArrayBuffer(12));
  header.setFloat32(0, FLO_MAGIC, true);
  header.setInt32(4, width, true);
  header.setInt32(8, height, true);
  const parts = [header];
  for (const { flow } of answer.blocks()) parts.push(flow);
  return new Blob(parts, { type: "application/octet-stream" });
}

/** Returns flow, confidence and radius (R in x and y) of an answer as an .npz file. */
export function npzFile(answer, { width, height }) {
  const flows = new Entry("flow.npy", npyHeader([height, width, 2]));
  const confidences = new Entry("confidence.npy", npyHeader([height, width]));
  const radius = new Entry("radius.npy", npyHeader([2]));
  for (const { flow, confidence } of answer.blocks()) {
    flows.add(flow);
    confidences.add(confidence);
  }
  radius.add(Float32Array.from(answer.radius));
  return zip([flows, confidences, radius]);
}

/** A file of a zip archive that is stored as it is. */
class Entry {
  size = 0;
  parts = [];
  #rest = 0xffffffff;

  constructor(name, content) {
    this.name = new TextEncoder().encode(name);
    this.add(content);
  }

  add(array) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    let rest = this.#rest;
    for (let i = 0; i < bytes.length; i++) rest = CRC[(rest ^ bytes[i]) & 255] ^ (rest >>> 8);
    this.#rest = rest;
    this.size += bytes.length;
    this.parts.push(array);
  }

  get checksum() {
    return (this.#rest ^ 0xffffffff) >>> 0;
  }
}

const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  return value;
});

/** Little-endian float32, row by row; version 1.0 of the format. */
function npyHeader(shape) {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${sizes}), }`;
  const length = 64 * Math.ceil((10 + text.length + 1) / 64) - 10;
  const bytes = new TextEncoder().encode(`\x00NUMPY\x01\x00\x00\x00${text.padEnd(length - 1)}\n`);
  bytes[0] = 0x93;
  new DataView(bytes.buffer).setUint16(8, length, true);
  return bytes;
}

function zip(entries) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const entry of entries) {
    // Version 2.0, no flags, stored, 1 January 1980; the same fields stand in the directory.
    const fields = new DataView(new ArrayBuffer(26));
    fields.setUint16(0, 20, true);
    fields.setUint16(8, 0x21, true);
    fields.setUint32(10, entry.checksum, true);
    fields.setUint32(14, entry.size, true);
    fields.setUint32(18, entry.size, true);
    fields.setUint16(22, entry.name.length, true);
    parts.push("PK\x03\x04", fields, entry.name, ...entry.parts);
    const rest = new DataView(new ArrayBuffer(14));
    rest.setUint32(10, offset, true);
    directory.push("PK\x01\x02\x14\x00", fields, rest, entry.name);
    offset += 30 + entry.name.length + entry.size;
  }
  const size = directory.reduce((sum, part) => sum + (part.byteLength ?? part.length), 0);
  const end = new DataView(new ArrayBuffer(18));
  end.setUint16(4, entries.length, true);
  end.setUint16(6, entries.length, true);
  end.setUint32(8, size, true);
  end.setUint32(12, offset, true);
  return new Blob([...parts, ...directory, "PK\x05\x06", end], { type: "application/zip" });
}
