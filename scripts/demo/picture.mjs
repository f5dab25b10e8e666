// Heat maps as PNG data URIs: blue below zero, red above, and the weaker the more transparent, so that they suit a light and a dark page.
import { deflateSync } from 'node:zlib';

const LEVELS = 127;
const NEGATIVE = [59, 130, 246];
const POSITIVE = [239, 68, 68];

/** A heat map of rows of values; `limit` is the magnitude shown in full colour. */
export function heatMap({ values, width, limit }) {
  const height = values.length / width;
  const rows = Buffer.alloc((width + 1) * height); // each row starts with its filter type, 0
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = LEVELS + levelOf(values[y * width + x], limit);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8); // 8 bits a pixel, indices into a palette
  const colours = Array.from({ length: 2 * LEVELS + 1 }, (_, i) => (i < LEVELS ? NEGATIVE : POSITIVE));
  const opacities = colours.map((_, i) => Math.round(255 * (Math.abs(i - LEVELS) / LEVELS) ** 0.75));
  const png = Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    pngChunk('IHDR', header),
    pngChunk('PLTE', Buffer.from(colours.flat())),
    pngChunk('tRNS', Buffer.from(opacities)),
    pngChunk('IDAT', deflateSync(rows, { level: 9 })),
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
  return `data:image/png;base64,${png.toString('base64')}`;
}

function levelOf(value, limit) {
  const level = limit === 0 ? 0 : Math.round((LEVELS * value) / limit);
  return Math.max(-LEVELS, Math.min(LEVELS, level));
}

function pngChunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(data.length, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), body.length + 4);
  return chunk;
}

// node:zlib has one only from Node 20.15 on.
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
