// What is asked of the server, and what is said when it can't answer. Draws nothing.

const BASE = new URL("../api/", import.meta.url);
const LONGEST_WAIT_S = 30;

/** A line that can be shown to the user. */
export class Failure extends Error {}

/** @returns {Promise<object>} what the model is and how it was judged. */
export function model() {
  return json("model");
}

/** Read a file; `tell` is called with a line when the server is busy and is asked again. */
export function predict(file, { signal, tell }) {
  const body = new FormData();
  body.append("file", file, file.name || "pasted");
  return json("predict", { method: "POST", body, signal }, tell);
}

export function sample(id, { signal, tell }) {
  return json(`samples/${encodeURIComponent(id)}`, { signal }, tell);
}

/** @returns {Promise<{total: number, samples: object[]}>} a part of the test images. */
export function samples({ finding, query, offset, limit }, { signal } = {}) {
  return json(`samples?${parameters({ finding, query, offset, limit })}`, { signal });
}

/** @returns {Promise<object>} any test image; of one finding if it is named. */
export function randomSample(finding, { signal } = {}) {
  return json(`samples/random?${parameters({ finding })}`, { signal });
}

/** Where the picture lies that was read. `source` has `sample` or `upload`. */
export function pictureAddress(source) {
  return address(
    source.sample ? `samples/${encodeURIComponent(source.sample)}/picture.png` : `pictures/${source.upload}.png`,
  );
}

/** @returns {Promise<ImageBitmap>} the picture in grey. */
export function picture(source, { signal, tell }) {
  return bitmap(pictureAddress(source), { signal }, tell);
}

/** @returns {Promise<ImageBitmap>} where the model looked for a finding; transparent where it didn't. */
export function heatMap(source, finding, { signal, tell }) {
  const named = source.sample ? { sample: source.sample } : { id: source.upload };
  return bitmap(address(`heatmap?${parameters({ ...named, finding })}`), { signal }, tell);
}

function address(path) {
  return new URL(path, BASE).href;
}

function parameters(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== ""));
}

async function json(path, options, tell) {
  return (await answer(address(path), options, tell)).json();
}

async function bitmap(url, options, tell) {
  const blob = await (await answer(url, options, tell)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}

async function answer(url, options, tell = () => {}) {
  let response = await reached(url, options);
  if (response.status === 503) {
    const seconds = Math.min(Number(response.headers.get("Retry-After")) || 1, LONGEST_WAIT_S);
    tell(`The server is busy; asking again in ${seconds} s …`);
    await pause(1000 * seconds, options?.signal);
    tell("");
    response = await reached(url, options);
  }
  if (!response.ok) throw new Failure(await reason(response));
  return response;
}

async function reached(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server can't be reached; is it still running?");
  }
}

async function reason(response) {
  const said = await response.json().catch(() => null);
  return said?.error ?? `The server answered ${response.status} ${response.statusText}`.trim();
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
