// The picture of a track: bars on a stave, as wide as the track is long, so it grows from left to right.

const BAR_PX = 3;
const GAP_PX = 2;
const STAVE_LINES = 5;
const FLOOR = 0.015; // silence is still visible
const RIPPLE_PX = 5;

export class Waveform {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.reset(0);
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.readColours = () => {
      const style = getComputedStyle(canvas);
      const colour = (name) => style.getPropertyValue(name).trim();
      this.colours = { line: colour("--line"), rest: colour("--wave-rest"), played: colour("--accent"), ink: colour("--ink") };
      this.key = null;
    };
    this.readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readColours());
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  /** @param {number} totalSamples of the track to come */
  reset(totalSamples) {
    this.totalSamples = totalSamples;
    this.samples = null;
    this.peaks = [];
    this.done = 0;
    this.loudest = 0;
    this.key = null;
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.canvas.getBoundingClientRect();
    this.width = width;
    this.height = height;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.ratio = ratio;
    this.peaks = [];
    this.done = 0;
    this.key = null;
  }

  /** Look at samples not seen yet; each bar holds the loudest sample of its stretch, all channels together. */
  measure(data, available) {
    const bars = Math.max(1, Math.floor((this.width + GAP_PX) / (BAR_PX + GAP_PX)));
    const perBar = Math.max(1, this.totalSamples / bars);
    for (let i = this.done; i < available; i += 1) {
      const bar = Math.min(bars - 1, Math.floor(i / perBar));
      for (const samples of data) {
        const level = Math.abs(samples[i]);
        if (level > (this.peaks[bar] ?? 0)) this.peaks[bar] = level;
        if (level > this.loudest) this.loudest = level;
      }
      this.peaks[bar] ??= 0;
    }
    this.done = available;
  }

  /**
   * @param {{data: Float32Array[], available: number, position: number, waiting: boolean, time_s: number}} view
   */
  draw({ data, available, position, waiting, time_s }) {
    const key = `${available} ${position} ${waiting ? time_s : ""}`;
    if (key === this.key) return; // nothing moved: no work
    this.key = key;
    if (this.totalSamples > 0) this.measure(data, available);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    this.drawStave(pen);
    if (this.totalSamples > 0 && available > 0) this.drawBars(pen, available, position);
    else if (waiting) this.drawRipple(pen, this.calm.matches ? 0 : time_s);
  }

  drawStave(pen) {
    pen.fillStyle = this.colours.line;
    for (let i = 0; i < STAVE_LINES; i += 1) {
      pen.fillRect(0, Math.round(this.height * (0.18 + (0.64 * i) / (STAVE_LINES - 1))), this.width, 1);
    }
  }

  drawBars(pen, available, position) {
    const step = BAR_PX + GAP_PX;
    const middle = this.height / 2;
    // Quiet music still fills most of the height; loud music never leaves it.
    const scale = (0.94 * middle) / Math.max(0.25, this.loudest);
    const played_px = (position / this.totalSamples) * this.width;
    this.peaks.forEach((peak, i) => {
      const reach = Math.max(FLOOR * this.height, peak * scale);
      pen.fillStyle = i * step + BAR_PX / 2 <= played_px ? this.colours.played : this.colours.rest;
      pen.beginPath();
      pen.roundRect(i * step, middle - reach, BAR_PX, 2 * reach, BAR_PX / 2);
      pen.fill();
    });
    if (position > 0 && position < available) {
      pen.fillStyle = this.colours.ink;
      pen.fillRect(Math.round(played_px), 0, 1.5, this.height);
    }
  }

  /** Before the first sound: a string that is about to be struck. */
  drawRipple(pen, time_s) {
    pen.strokeStyle = this.colours.played;
    pen.lineWidth = 2;
    pen.lineCap = "round";
    pen.beginPath();
    for (let x = 0; x <= this.width; x += 3) {
      const envelope = Math.sin((Math.PI * x) / this.width);
      const y = this.height / 2 + RIPPLE_PX * envelope * Math.sin(x / 22) * Math.cos(time_s * 5);
      if (x === 0) pen.moveTo(x, y);
      else pen.lineTo(x, y);
    }
    pen.stroke();
  }
}
