import { encode } from '../../../lib/codec/codec.js';
import { readObject } from '../../../lib/container/object.js';
import { readCapture } from '../capture/capture.js';
import type { Command } from './command.js';
import { readSafetensors } from './input-file.js';
import { bitsPerValue, errorJson, errorText, layoutJson, layoutText, rounded } from './object-summary.js';
import { checkOutput, writeOutputFile } from './output-file.js';
import { sectionTokens, warnIfNotUnderstood } from './read-capture.js';
import { encodingOf, ENCODE_OPTIONS, OUTPUT_OPTIONS, outputOf, THREADS_OPTION } from './shared-options.js';
import { bytesText, list } from './table.js';

export const encodeCommand: Command = {
  name: 'encode',
  operands: ['IN.safetensors'],
  summary: 'Encodes a capture into an object, a .kvr file.',
  options: { ...OUTPUT_OPTIONS, ...ENCODE_OPTIONS, ...THREADS_OPTION },
  async run(call) {
    const [input = ''] = call.operands;
    const encoding = encodingOf(call);
    const output = outputOf(call);
    await checkOutput(output);
    const capture = readCapture(await readSafetensors(input, call));
    warnIfNotUnderstood(call.screen, input, capture);
    const { tensor, notUnderstood: _, ...stored } = capture;
    call.screen.progress(`encoding ${bytesText(tensor.data.length)}`);
    const groupTokens = sectionTokens(tensor.layout, encoding.groupTokens);
    const object = await encode(tensor, { ...encoding, ...stored, groupTokens, signal: call.signal });
    await writeOutputFile([object], output);
    const { header } = readObject(object);
    const bits = bitsPerValue(object.length, header.layout);
    call.screen.result(
      {
        out: output.path,
        codec: header.coder,
        rung: header.rung,
        layout: layoutJson(header.layout),
        raw_bytes: tensor.data.length,
        stored_bytes: object.length,
        ratio: rounded(tensor.data.length / object.length, 4),
        bits_per_value: bits,
        ...errorJson(header.error),
      },
      list([
        ['wrote', output.path],
        ['codec', `${header.coder}, ${header.rung}`],
        ['layout', layoutText(header.layout)],
        ['size', `${bytesText(object.length)} of ${bytesText(tensor.data.length)}, ${bits} bits per value`],
        ['error', errorText(header.error)],
      ]),
    );
  },
};
