import { decode } from '../../../lib/codec/codec.js';
import { readObject } from '../../../lib/container/object.js';
import { HEADER_FIELD, writeCapture } from '../capture/capture.js';
import { UsageError, type Call, type Command } from './command.js';
import { readWholeFile } from './input-file.js';
import { namingFile } from './object-file.js';
import { errorJson } from './object-summary.js';
import { STORE_OPTIONS, THREADS_OPTION, threadsOf } from './shared-options.js';
import { verifyStore } from './verify-store.js';

export const verifyCommand: Command = {
  name: 'verify',
  operands: ['IN.kvr'],
  isOptional: true,
  summary: 'Reads an object whole, checks every checksum and decodes every section; or, without IN.kvr, checks every value of a store.',
  options: {
    ...THREADS_OPTION,
    ...STORE_OPTIONS,
    repair: { help: 'replace what is damaged in the store by its copy in --from, or else delete it' },
    from: { value: 'URL', help: 'a store that has copies, for --repair' },
  },
  async run(call) {
    const [input] = call.operands;
    if (input === undefined) return verifyStore(call);
    if (call.isSet('repair') || call.text('from') !== undefined) throw new UsageError('expected --repair and --from with a store, not with IN.kvr');
    await verifyFile(input, call);
  },
};

async function verifyFile(input: string, call: Call): Promise<void> {
  const threads = threadsOf(call);
  const object = await readWholeFile(input, call);
  const header = await namingFile(input, async () => {
    const { header } = readObject(object);
    const tensor = await decode(object, { threads, signal: call.signal });
    const { tokenIds, metadata = {} } = header;
    if (HEADER_FIELD in metadata) writeCapture({ tensor, metadata, ...(tokenIds && { tokenIds }) });
    return header;
  });
  call.screen.result(
    { ok: true, codec: header.coder, rung: header.rung, sections: header.lengths.length, stored_bytes: object.length, ...errorJson(header.error) },
    `${input} is sound: ${header.lengths.length} sections, codec ${header.coder}, ${header.rung}`,
  );
}
