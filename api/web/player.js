// Plays a track while it is still arriving: sample-exact pieces scheduled back to back on the audio clock.

const LEAD_S = 0.06; // between deciding to play and the first sample, so that no sample is late
const FIRST_RESERVE_S = 0.25; // audio to have in hand before playing starts
const MAX_RESERVE_S = 4;

const contexts = new Map(); // one audio device of each rate, for the life of the page

/** The audio device for a sample rate. Inside a click, `resume` on it lets it sound. */
export function audio(sampleRate) {
  if (!contexts.has(sampleRate)) contexts.set(sampleRate, openAudio(sampleRate));
  return contexts.get(sampleRate);
}

function openAudio(sampleRate) {
  try {
    return new AudioContext({ sampleRate, latencyHint: "playback" });
  } catch {
    return new AudioContext(); // the device insists on its own rate; the browser resamples
  }
}

export class Player {
  /** @param {{sampleRate: number, channels: number, totalSamples: number}} track */
  constructor(track) {
    this.context = null; // until somebody wants to hear it: browsers refuse sound that nobody asked for
    this.track = track;
    this.data = Array.from({ length: track.channels }, () => new Float32Array(track.totalSamples));
    this.available = 0; // samples received
    this.complete = false; // no more will come
    this.wanted = false; // the listener wants to hear it
    this.stalls = 0;
    this.cursor = 0; // where playing goes on, while nothing is scheduled
    this.anchor = null; // {time, sample}: this sample sounds at this time of the audio clock
    this.scheduled = 0; // samples handed to the audio clock
    this.reserve_s = FIRST_RESERVE_S;
    this.nodes = new Set();
  }

  /** @param {Uint8Array} pcm little-endian signed 16-bit samples, channels interleaved */
  append(pcm) {
    const view = new DataView(pcm.buffer, pcm.byteOffset, pcm.byteLength);
    const channels = this.track.channels;
    const count = pcm.byteLength / 2 / channels;
    for (let channel = 0; channel < channels; channel += 1) {
      const target = this.data[channel];
      for (let i = 0; i < count; i += 1) {
        target[this.available + i] = view.getInt16(2 * (i * channels + channel), true) / 32768;
      }
    }
    this.available += count;
    this.pump();
  }

  /** Nothing more will come: the end of the track, or of what was received of it. */
  finish() {
    this.complete = true;
    this.pump();
  }

  get position() {
    if (this.anchor === null) return this.cursor;
    const elapsed_s = Math.max(0, this.context.currentTime - this.anchor.time);
    return Math.min(this.scheduled, this.anchor.sample + Math.floor(elapsed_s * this.track.sampleRate));
  }

  play() {
    if (this.complete && this.cursor >= this.available) this.cursor = 0;
    this.wanted = true;
    this.context ??= audio(this.track.sampleRate);
    this.context.resume();
    this.pump();
  }

  pause() {
    this.halt(this.position);
    this.wanted = false;
  }

  seek(sample) {
    this.halt(Math.max(0, Math.min(sample, this.available)));
    this.pump();
  }

  close() {
    this.pause();
    this.data = [];
    this.available = 0;
  }

  /** Hand everything that is there to the audio clock; start, go on, wait or end as the case may be. */
  pump() {
    if (!this.wanted) return;
    if (this.anchor !== null && this.position >= this.scheduled) this.ranDry();
    if (this.anchor === null && !this.start()) return;
    if (this.scheduled < this.available) this.schedule(this.scheduled, this.available);
  }

  ranDry() {
    if (this.complete && this.scheduled >= this.available) {
      this.halt(this.available);
      this.wanted = false;
    } else if (this.scheduled >= this.available) {
      this.stalls += 1;
      this.reserve_s = Math.min(MAX_RESERVE_S, this.reserve_s * 2);
      this.halt(this.scheduled);
    } else {
      this.halt(this.scheduled);
    }
  }

  start() {
    const ahead = this.available - this.cursor;
    const enough = this.complete || this.available === this.track.totalSamples;
    if (!this.wanted || ahead <= 0 || (!enough && ahead < this.reserve_s * this.track.sampleRate)) return false;
    this.anchor = { time: this.context.currentTime + LEAD_S, sample: this.cursor };
    this.scheduled = this.cursor;
    return true;
  }

  schedule(from, to) {
    const { channels, sampleRate } = this.track;
    const buffer = this.context.createBuffer(channels, to - from, sampleRate);
    this.data.forEach((samples, channel) => buffer.copyToChannel(samples.subarray(from, to), channel));
    const node = new AudioBufferSourceNode(this.context, { buffer });
    node.connect(this.context.destination);
    node.onended = () => this.nodes.delete(node);
    this.nodes.add(node);
    const at = this.anchor.time + (from - this.anchor.sample) / sampleRate;
    const late_s = this.context.currentTime - at;
    // Late pieces play from where the clock is now, so that what follows stays in time.
    if (late_s > 0) node.start(0, late_s);
    else node.start(at);
    this.scheduled = to;
  }

  halt(at) {
    for (const node of this.nodes) {
      node.onended = null;
      node.stop();
      node.disconnect();
    }
    this.nodes.clear();
    this.anchor = null;
    this.cursor = at;
  }
}
