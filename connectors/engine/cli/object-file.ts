import { checkedChunk } from '../../../lib/codec/codec.js';
import { PREAMBLE_BYTES, readHeader, readPreamble } from '../../../lib/container/object.js';
import type { ObjectHeader } from '../../../lib/container/header.js';
import { KvError } from '../../../lib/errors.js';
import type { CallOptions } from '../../../lib/store/connector.js';
import { codeOf } from './error-code.js';
import { withInputFile } from './input-file.js';

/** The header of a .kvr file; its sections are not read. Rejects with KV_CORRUPT_OBJECT, KV_UNSUPPORTED_VERSION or KV_UNSUPPORTED. */
export function readObjectHeader(path: string, options: CallOptions): Promise<{ readonly header: ObjectHeader; readonly objectBytes: number; readonly headerBytes: number }> {
  return withInputFile(path, options, (file) =>
    namingFile(path, async () => {
      const preamble = readPreamble(await file.read(0, Math.min(PREAMBLE_BYTES, file.bytes)));
      if (preamble.objectBytes !== file.bytes) throw new KvError('KV_CORRUPT_OBJECT', `the object is damaged: it should have ${preamble.objectBytes} bytes and has ${file.bytes}`);
      const header = readHeader(preamble, await file.read(PREAMBLE_BYTES, preamble.headerBytes));
      checkedChunk(header);
      return { header, objectBytes: preamble.objectBytes, headerBytes: preamble.headerBytes };
    }),
  );
}

/** Runs `work` on the contents of a file, so that an error about them says which file they are of and what to do. */
export async function namingFile<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Error) || codeOf(error) !== 'KV_CORRUPT_OBJECT') throw error;
    throw new KvError('KV_CORRUPT_OBJECT', `${path}: ${error.message}; encode or copy it again`, { cause: error });
  }
}
