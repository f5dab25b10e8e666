import { isDeepStrictEqual } from 'node:util';

const RUNS = 3;

/** The pairs of coder and rung that can carry this tensor, each once; what a coder refuses is left out. */
export function combinations(kvreel, tensor) {
  const pairs = kvreel.CODER_NAMES.flatMap((coder) => kvreel.QUALITY_NAMES.map((quality) => ({ coder, quality })));
  return pairs.filter((options) => {
    try {
      kvreel.encodeBound(tensor, options);
      return true;
    } catch (error) {
      if (error.code === 'KV_UNSUPPORTED') return false;
      throw error;
    }
  });
}

/** Encodes and decodes with one coder and rung: sizes, best speeds of three runs and errors, with the decoded bytes. */
export async function measure(kvreel, tensor, options) {
  const { data } = tensor;
  const into = new Uint8Array(kvreel.encodeBound(tensor, options));
  const encoded = await fastest(() => kvreel.encode(tensor, { ...options, into, verify: false }));
  const object = encoded.result;
  const decodeInto = new Uint8Array(data.length);
  const decoded = await fastest(() => kvreel.decode(object, { into: decodeInto }));
  const values = valuesOf(tensor);
  return {
    coder: options.coder,
    rung: kvreel.inspect(object).rung,
    bitsPerValue: (8 * object.length) / values.length,
    ratio: data.length / object.length,
    encodeMBps: data.length / 1e6 / encoded.seconds,
    decodeMBps: data.length / 1e6 / decoded.seconds,
    ...errorsBetween(values, valuesOf(decoded.result)),
    identical: Buffer.compare(data, decoded.result.data) === 0,
    decoded: decoded.result,
  };
}

/** Puts the tensor into the store and fetches it back by the hash of its tokens; throws unless exactly `decoded` comes back. */
export async function throughStore(kvreel, { connector, namespace, coder, tokenIds, tensor, decoded }) {
  const writer = new kvreel.KvStore({ connector, namespace, coder });
  const [hash] = kvreel.prefixHashes(tokenIds, { chunkTokens: tokenIds.length });
  await writer.put(hash, tensor, { tokenIds });
  await writer.close();
  const reader = new kvreel.KvStore({ connector, namespace });
  const fetched = await reader.fetch(hash);
  await reader.close();
  const isRight = fetched && Buffer.compare(fetched.data, decoded.data) === 0 && isDeepStrictEqual(fetched.tokenIds, tokenIds) && isDeepStrictEqual(fetched.layout, tensor.layout);
  if (!isRight) throw new Error(`the store gave back ${fetched ? 'another tensor' : 'nothing'} for ${hash} (coder ${coder})`);
  return hash;
}

/** The elements of a bf16 tensor as numbers. */
export function valuesOf({ data }) {
  const halves = new Uint16Array(data.buffer, data.byteOffset, data.length / 2);
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i] << 16; // a bf16 is the upper half of a float
  return new Float32Array(bits.buffer);
}

async function fastest(work) {
  let seconds = Infinity;
  let result;
  for (let run = 0; run < RUNS; run++) {
    const start = performance.now();
    result = await work();
    seconds = Math.min(seconds, (performance.now() - start) / 1000);
  }
  return { result, seconds };
}

function errorsBetween(original, decoded) {
  let largest = 0;
  let sum = 0;
  let squares = 0;
  let energy = 0;
  for (let i = 0; i < original.length; i++) {
    const error = Math.abs(original[i] - decoded[i]);
    largest = Math.max(largest, error);
    sum += error;
    squares += error * error;
    energy += original[i] * original[i];
  }
  return { maxError: largest, meanError: sum / original.length, relativeRms: Math.sqrt(squares / energy) };
}
