// What comes over a long time: a track's samples and a generation's events. A line that breaks is taken up again where
// it broke; nothing is lost and nothing comes twice.

import { ask, parse, refusal, Refused, Unreachable } from "./client.js";

const BYTES_PER_SAMPLE = 2;
const LONGEST_PAUSE_MS = 8000;
const MOST_FAILURES = 8; // in a row, without a byte between them

/** The line broke and could not be taken up again. */
export class Cut extends Error {}

/**
 * A track's samples: while it is made, or of a finished one.
 *
 * @param {{id: string, position: number}} of generation and place in it
 * @param {AbortSignal} signal
 * @param {Response|null} response that brings them already
 * @yields {{track: object}|{pcm: Uint8Array}|{lost: true}} once the track, then whole samples of every channel
 * @throws {Refused|Cut|DOMException}
 */
export async function* listen(of, signal, response = null) {
  let track = null;
  let received = 0;
  for (let failures = 0; failures < MOST_FAILURES; failures += 1) {
    if (failures > 0) {
      yield { lost: true };
      await pause(failures - 1, signal);
    }
    try {
      response ??= await ask(`generate/${of.id}/audio?track=${of.position}&format=pcm`, { signal });
      if (track === null) {
        track = describe(response.headers);
        yield { track };
      }
      for await (const pcm of samples(response.body, track, received)) {
        failures = 0;
        received += pcm.byteLength;
        yield { pcm };
      }
      if (received >= track.totalBytes) return;
    } catch (error) {
      if (signal.aborted || !comesBack(error)) throw error;
    }
    response = null;
  }
  throw new Cut();
}

/**
 * The state of a generation, at once and at every change until it has ended.
 *
 * @param {string} id
 * @param {AbortSignal} signal
 * @yields {object} the generation as GET gives it
 * @throws {Refused|DOMException}
 */
export async function* states(id, signal) {
  let lastId = null;
  for (let failures = 0; ; failures += 1) {
    if (failures > 0) await pause(failures - 1, signal);
    try {
      const headers = lastId === null ? {} : { "Last-Event-ID": lastId };
      const response = await ask(`generate/${id}/events`, { signal, headers });
      if (response.status === 204) return;
      for await (const event of events(response.body)) {
        failures = 0;
        lastId = event.id ?? lastId;
        if (event.name === "error") throw refusal(0, event.data);
        yield parse(event.data);
        if (event.name === "done") return;
      }
    } catch (error) {
      if (signal.aborted || !comesBack(error)) throw error;
    }
  }
}

/** A refusal that is final is no broken line; one of a generation that has ended is final. */
function comesBack(error) {
  if (error instanceof Refused) return error.error.retryable === true && error.error.details?.state === undefined;
  return error instanceof Unreachable || error instanceof TypeError; // a body that ends too early is a TypeError
}

function pause(failures, signal) {
  const wait_ms = failures === 0 ? 0 : Math.min(LONGEST_PAUSE_MS, 500 * 2 ** failures);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, wait_ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("", "AbortError"));
    });
  });
}

function describe(headers) {
  const sampleRate = Number(headers.get("X-Sample-Rate"));
  const channels = Number(headers.get("X-Channels"));
  const totalSamples = Math.round(Number(headers.get("X-Audio-Duration")) * sampleRate);
  return { sampleRate, channels, totalSamples, totalBytes: totalSamples * channels * BYTES_PER_SAMPLE };
}

/** Pieces arrive cut anywhere; whole samples are handed over, without the bytes that are here already. */
async function* samples(body, track, alreadyHere) {
  const unit = track.channels * BYTES_PER_SAMPLE;
  let rest = new Uint8Array(0);
  let skip = alreadyHere;
  for await (const value of pieces(body)) {
    const fresh = value.subarray(Math.min(skip, value.byteLength));
    skip -= value.byteLength - fresh.byteLength;
    const bytes = new Uint8Array(rest.byteLength + fresh.byteLength);
    bytes.set(rest);
    bytes.set(fresh, rest.byteLength);
    const whole = bytes.byteLength - (bytes.byteLength % unit);
    rest = bytes.slice(whole);
    if (whole > 0) yield bytes.slice(0, whole);
  }
}

/** Server-sent events (WHATWG HTML, section 9.2), as far as this server uses them. */
async function* events(body) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const value of pieces(body)) {
    const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.event) yield { name: fields.event, id: fields.id, data: fields.data };
    }
  }
}

async function* pieces(body) {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {}); // it has ended or broken already
  }
}
