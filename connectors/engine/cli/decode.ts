import { decode } from '../../../lib/codec/codec.js';
import { readObject } from '../../../lib/container/object.js';
import { writeCapture } from '../capture/capture.js';
import type { Command } from './command.js';
import { readWholeFile } from './input-file.js';
import { namingFile } from './object-file.js';
import { errorJson, errorText, layoutJson, layoutText } from './object-summary.js';
import { checkOutput, writeOutputFile } from './output-file.js';
import { OUTPUT_OPTIONS, outputOf, THREADS_OPTION, threadsOf } from './shared-options.js';
import { bytesText, list } from './table.js';
import { fileOf } from './write-capture.js';

export const decodeCommand: Command = {
  name: 'decode',
  operands: ['IN.kvr'],
  summary: 'Decodes an object into a capture, a .safetensors file.',
  options: { ...OUTPUT_OPTIONS, ...THREADS_OPTION },
  async run(call) {
    const [input = ''] = call.operands;
    const output = outputOf(call);
    const threads = threadsOf(call);
    await checkOutput(output);
    const object = await readWholeFile(input, call);
    const { header, pieces, tensor } = await namingFile(input, async () => {
      const { header } = readObject(object);
      const tensor = await decode(object, { threads, signal: call.signal });
      const { tokenIds, metadata = {} } = header;
      return { header, tensor, pieces: writeCapture({ tensor, metadata, ...(tokenIds && { tokenIds }) }) };
    });
    await writeOutputFile(fileOf(pieces), output);
    call.screen.result(
      { out: output.path, codec: header.coder, rung: header.rung, layout: layoutJson(header.layout), raw_bytes: tensor.data.length, stored_bytes: object.length, ...errorJson(header.error) },
      list([
        ['wrote', output.path],
        ['codec', `${header.coder}, ${header.rung}`],
        ['layout', layoutText(header.layout)],
        ['size', `${bytesText(tensor.data.length)} from ${bytesText(object.length)}`],
        ['error', errorText(header.error)],
      ]),
    );
  },
};
