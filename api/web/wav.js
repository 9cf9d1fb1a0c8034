// A WAV file from the 16-bit samples that were received, made here: nothing is generated twice.

const HEADER_BYTES = 44;

/**
 * @param {Uint8Array[]} pieces little-endian signed 16-bit samples, channels interleaved
 * @param {number} sampleRate Hz
 * @param {number} channels
 * @returns {Blob}
 */
export function wavFile(pieces, sampleRate, channels) {
  const dataBytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  const text = (at, word) => [...word].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, HEADER_BYTES - 8 + dataBytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, channels, true);
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, sampleRate * channels * 2, true);
  header.setUint16(32, channels * 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, dataBytes, true);
  return new Blob([header.buffer, ...pieces], { type: "audio/wav" });
}
