import { extractStream } from '../../../lib/codec/coders/hevc.js';
import { UsageError, type Command } from './command.js';
import { readWholeFile } from './input-file.js';
import { namingFile } from './object-file.js';
import { checkOutput, writeOutputFile } from './output-file.js';
import { OUTPUT_OPTIONS, outputOf } from './shared-options.js';

export const extractCommand: Command = {
  name: 'extract',
  operands: ['IN.kvr'],
  summary: 'Writes one bare video stream of an object coded as hevc; ffmpeg can play it.',
  options: { stream: { value: 'N', help: 'which stream, from 0 (default 0)' }, ...OUTPUT_OPTIONS },
  async run(call) {
    const [input = ''] = call.operands;
    const index = call.integer('stream', 0) ?? 0;
    const output = outputOf(call);
    await checkOutput(output);
    const object = await readWholeFile(input, call);
    const stream = await namingFile(input, async () => streamOf(object, index));
    await writeOutputFile([stream], output);
    call.screen.result({ out: output.path, stream: index, bytes: stream.length }, `wrote ${output.path}: stream ${index}, ${stream.length} bytes`);
  },
};

function streamOf(object: Uint8Array, index: number): Uint8Array {
  try {
    return extractStream(object, index);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UsageError(cause.message, { cause });
  }
}
