// Keeps what the page loaded, so that it works without a network; and isolates the page, which wasm's
// threads need, where a server does not send the headers for it.

const CACHE = "tfdense";
// All but LiteRT.js and the models, of which the browser needs some only.
const SHELL = [
  "./",
  "answer.js",
  "app.js",
  "camera.js",
  "colours.js",
  "drawing.js",
  "formats.js",
  "icon.svg",
  "matches.js",
  "network-worker.js",
  "network.js",
  "picture.js",
  "pixel-worker.js",
  "resize.js",
  "results.js",
  "rpc.js",
  "slot.js",
  "style.css",
  "built/models.json",
  "built/noise-source.bin",
  "built/noise-target.bin",
  "built/source.jpg",
  "built/target.jpg",
];
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin) return;
  event.respondWith(lasts(url) ? kept(event.request) : fresh(event.request));
});

/** Whether a name holds a version or a hash, so that what it names never changes. */
function lasts({ pathname }) {
  return pathname.includes("/built/litert-") || pathname.endsWith(".tflite");
}

async function kept(request) {
  const cache = await caches.open(CACHE);
  return isolated(
    (await cache.match(request, { ignoreVary: true })) ?? (await load(request, cache)),
  );
}

async function fresh(request) {
  const cache = await caches.open(CACHE);
  try {
    return isolated(await load(request, cache));
  } catch (error) {
    const found = await cache.match(request, { ignoreSearch: true, ignoreVary: true });
    if (found) return isolated(found);
    throw error;
  }
}

async function load(request, cache) {
  const response = await fetch(request);
  if (response.ok && response.status === 200) {
    const url = new URL(request.url);
    if (!lasts(url)) url.search = "";
    try {
      await cache.put(url.href, response.clone());
      if (url.pathname.endsWith("/built/models.json"))
        await forget(cache, await response.clone().json());
    } catch {
      // No space left: the page works all the same, with a network.
    }
  }
  return response;
}

/** Deletes models, and versions of LiteRT.js, that the page no longer has. */
async function forget(cache, { litert, models }) {
  const files = new Set(models.map(({ file }) => file));
  for (const { url } of await cache.keys()) {
    const { pathname } = new URL(url);
    const old = pathname.endsWith(".tflite")
      ? !files.has(pathname.split("/").at(-1))
      : lasts({ pathname }) && !pathname.includes(`/built/${litert}/`);
    if (old) await cache.delete(url);
  }
}

function isolated(response) {
  if (response.status === 0 || response.headers.has("Cross-Origin-Embedder-Policy"))
    return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
