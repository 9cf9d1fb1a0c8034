// A WAV file from the samples that were received, made here: nothing is generated twice.

const HEADER_BYTES = 44;
const FULL_SCALE = 32768; // received 16-bit samples were divided by it, so that they come back to the last bit

/**
 * @param {Float32Array[]} data of each channel
 * @param {number} count samples of it to keep
 * @param {number} sampleRate Hz
 * @returns {Blob}
 */
export function wavFile(data, count, sampleRate) {
  const channels = data.length;
  const dataBytes = count * channels * 2;
  const file = new DataView(new ArrayBuffer(HEADER_BYTES + dataBytes));
  const text = (at, word) => [...word].forEach((letter, i) => file.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  file.setUint32(4, HEADER_BYTES - 8 + dataBytes, true);
  text(8, "WAVEfmt ");
  file.setUint32(16, 16, true);
  file.setUint16(20, 1, true);
  file.setUint16(22, channels, true);
  file.setUint32(24, sampleRate, true);
  file.setUint32(28, sampleRate * channels * 2, true);
  file.setUint16(32, channels * 2, true);
  file.setUint16(34, 16, true);
  text(36, "data");
  file.setUint32(40, dataBytes, true);
  data.forEach((samples, channel) => {
    for (let i = 0; i < count; i += 1) {
      file.setInt16(HEADER_BYTES + 2 * (i * channels + channel), samples[i] * FULL_SCALE, true);
    }
  });
  return new Blob([file.buffer], { type: "audio/wav" });
}
