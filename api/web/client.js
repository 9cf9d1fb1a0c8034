// Everything that is asked of the server: with the key, and with a plain error when the answer is no.

const ROOT = "api/v1/";
const KEY = "tutti-api-key"; // in sessionStorage: gone when the tab is closed
const LONG_SEED = /"seed":\s*(\d{16,})/g; // more digits than a JavaScript number holds exactly

/** The server said no. `error` is its envelope, `retryAfter` seconds or null. */
export class Refused extends Error {
  constructor(status, error, retryAfter) {
    super(error.message);
    this.status = status;
    this.error = error;
    this.retryAfter = retryAfter;
  }
}

/** The server could not be reached at all. */
export class Unreachable extends Error {}

export function getKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setKey(key) {
  if (key === "") sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** JSON whose seeds are kept to the last digit: those that a number cannot hold are strings. */
export function parse(text) {
  return JSON.parse(text.replace(LONG_SEED, '"seed":"$1"'));
}

/** A seed as JSON writes it, however long it is. */
export function exactInteger(digits) {
  const canonical = BigInt(digits).toString();
  return JSON.rawJSON ? JSON.rawJSON(canonical) : Number(canonical);
}

/**
 * @param {string} path below /api/v1
 * @param {RequestInit} options
 * @returns {Promise<Response>} a success
 * @throws {Refused|Unreachable|DOMException} DOMException (AbortError) if the signal was used
 */
export async function ask(path, { headers = {}, ...options } = {}) {
  let response;
  try {
    response = await fetch(ROOT + path, { ...options, headers: withKey(headers) });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Unreachable();
  }
  if (!response.ok) throw refusal(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

/** The same, for answers in JSON. */
export async function askJson(path, options) {
  return parse(await (await ask(path, options)).text());
}

/** @param {object} body is sent as JSON */
export function post(path, body, { headers = {}, ...options } = {}) {
  const json = { "Content-Type": "application/json", ...headers };
  return ask(path, { ...options, method: "POST", headers: json, body: JSON.stringify(body) });
}

/**
 * Send a file. (Of XMLHttpRequest, since fetch does not say how far it is.)
 *
 * @param {File} file
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress from 0 to 1
 * @returns {Promise<object>} the upload
 */
export function upload(file, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${ROOT}audio/uploads`);
    const type = file.type.startsWith("audio/") ? file.type : "application/octet-stream";
    for (const [name, value] of Object.entries(withKey({ "Content-Type": type }))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded / Math.max(1, event.total));
    request.onload = () => {
      if (request.status === 201) resolve(parse(request.responseText));
      else reject(refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(new Unreachable());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function withKey(headers) {
  const key = getKey();
  return key === "" ? headers : { Authorization: `Bearer ${key}`, ...headers };
}

/** From an answer, or from the envelope of an event. */
export function refusal(status, text, retryAfter = null) {
  const wait_s = Number.parseInt(retryAfter ?? "", 10);
  const known = Number.isNaN(wait_s) ? null : wait_s;
  try {
    return new Refused(status, JSON.parse(text).error, known);
  } catch {
    return new Refused(status, { code: "bad_answer", message: "The server answered without saying why." }, known);
  }
}
