// One generation over HTTP: raw PCM in, whole samples out, and an honest end. Knows no page and no audio device.

const BYTES_PER_SAMPLE = 2;

/** The server said no before the first byte. `error` is its envelope. */
export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.error = error;
  }
}

/** The connection ended before every promised byte had come. */
export class Cut extends Error {}

/** The server could not be reached at all. */
export class Unreachable extends Error {}

/**
 * Ask for music and hand over each piece as it arrives.
 *
 * @param {object} body of POST /api/v1/generate/stream, without its format
 * @param {string} key an API key, or "" for none
 * @param {AbortSignal} signal aborting it stops the generation on the server
 * @param {{onStart: (track: object) => void, onSamples: (pcm: Uint8Array) => void}} listener
 * @throws {Refused|Cut|Unreachable|DOMException} DOMException (AbortError) if `signal` was used
 */
export async function streamMusic(body, key, signal, listener) {
  const response = await ask(body, key, signal);
  if (!response.ok) throw await refusal(response);
  const track = describe(response.headers);
  listener.onStart(track);
  const received = await readAll(response.body.getReader(), track, signal, listener);
  if (received !== track.totalBytes) throw new Cut();
}

async function ask(body, key, signal) {
  const credential = key === "" ? {} : { Authorization: `Bearer ${key}` };
  try {
    return await fetch("api/v1/generate/stream", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...credential },
      body: JSON.stringify({ ...body, format: "pcm" }),
      signal,
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Unreachable();
  }
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    return new Refused(response.status, { ...error, retryAfter: response.headers.get("Retry-After") });
  } catch {
    return new Refused(response.status, { code: "bad_answer", message: "The server answered without saying why." });
  }
}

function describe(headers) {
  const sampleRate = Number(headers.get("X-Sample-Rate"));
  const channels = Number(headers.get("X-Channels"));
  const totalSamples = Math.round(Number(headers.get("X-Audio-Duration")) * sampleRate);
  return {
    sampleRate,
    channels,
    totalSamples,
    totalBytes: totalSamples * channels * BYTES_PER_SAMPLE,
    seed: headers.get("X-Seed"),
    model: headers.get("X-Model"),
    id: headers.get("X-Generation-ID"),
  };
}

/** Pieces arrive cut anywhere; what is handed over are whole samples of every channel. */
async function readAll(reader, track, signal, listener) {
  const unit = track.channels * BYTES_PER_SAMPLE;
  let rest = new Uint8Array(0);
  let received = 0;
  for (;;) {
    const { done, value } = await next(reader, signal);
    if (done) return received;
    received += value.byteLength;
    const bytes = new Uint8Array(rest.byteLength + value.byteLength);
    bytes.set(rest);
    bytes.set(value, rest.byteLength);
    const whole = bytes.byteLength - (bytes.byteLength % unit);
    rest = bytes.slice(whole);
    if (whole > 0) listener.onSamples(bytes.slice(0, whole));
  }
}

async function next(reader, signal) {
  try {
    return await reader.read();
  } catch (error) {
    // A browser reports a body that is shorter than its Content-Length as a network error.
    throw signal.aborted ? error : new Cut();
  }
}
