import { decode } from '../../../lib/codec/codec.js';
import { readObject } from '../../../lib/container/object.js';
import { HEADER_FIELD, writeCapture } from '../capture/capture.js';
import type { Command } from './command.js';
import { readWholeFile } from './input-file.js';
import { namingFile } from './object-file.js';
import { errorJson } from './object-summary.js';
import { THREADS_OPTION, threadsOf } from './shared-options.js';

export const verifyCommand: Command = {
  name: 'verify',
  operands: ['IN.kvr'],
  summary: 'Reads an object whole: checks every checksum and decodes every section.',
  options: THREADS_OPTION,
  async run(call) {
    const [input = ''] = call.operands;
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
  },
};
