// Calls between the page and its workers: each is a message with a number, answered by one with the same.

/** A worker whose functions are called as `await worker.call(name, argument)`. */
export class Remote {
  #worker;
  #pending = new Map();
  #last = 0;
  #failure = null;

  /**
   * @param {Worker} worker whose script answers with `answer`.
   * @param {(text: string) => void} [onProgress] hears what the worker says between.
   */
  constructor(worker, onProgress = () => {}) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => {
      if ("progress" in data) return onProgress(data.progress);
      const { resolve, reject } = this.#pending.get(data.number);
      this.#pending.delete(data.number);
      if ("error" in data)
        reject(Object.assign(new Error(data.error), { expected: data.expected }));
      else resolve(data.value);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.end(event.message || `${event.filename || "a worker"} could not be loaded`);
    };
  }

  /** Calls a function of the worker; what is in `transfer` is moved there, not copied. */
  call(name, argument, transfer = []) {
    if (this.#failure) return Promise.reject(new Error(this.#failure));
    return new Promise((resolve, reject) => {
      const number = ++this.#last;
      this.#pending.set(number, { resolve, reject });
      this.#worker.postMessage({ number, name, argument }, transfer);
    });
  }

  /** Ends the worker; calls that are not answered yet fail, for this reason. */
  end(reason = "ended") {
    this.#failure = reason;
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(new Error(reason));
    this.#pending.clear();
  }

  /** Whether calls are possible. */
  get alive() {
    return this.#failure === null;
  }
}

/** What the user can mend, or should know: its message is shown as it is. */
export class InputError extends Error {
  expected = true;
}

/** What a worker's function returns to have parts of it moved, not copied. */
export class Moved {
  constructor(value, transfer) {
    this.value = value;
    this.transfer = transfer;
  }
}

/** In a worker: answers a call by one of the functions. */
export async function answer({ data }, functions) {
  const { number, name, argument } = data;
  try {
    const result = await functions[name](argument);
    const { value, transfer } = result instanceof Moved ? result : { value: result, transfer: [] };
    postMessage({ number, value }, transfer);
  } catch (error) {
    const message = error?.message ?? String(error);
    postMessage({ number, error: message.split("\n")[0], expected: error?.expected ?? false });
  }
}
