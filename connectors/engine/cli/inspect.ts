import { tensorBytes } from '../../../lib/codec/layout.js';
import { FORMAT_VERSION } from '../../../lib/container/object.js';
import { HEADER_FIELD } from '../capture/capture.js';
import type { Command } from './command.js';
import { readObjectHeader } from './object-file.js';
import { bitsPerValue, errorJson, errorText, layoutJson, layoutText } from './object-summary.js';
import { bytesText, list } from './table.js';

export const inspectCommand: Command = {
  name: 'inspect',
  operands: ['IN.kvr'],
  summary: 'Tells what an object says of itself. Its sections are not read: `verify` does that.',
  options: {},
  async run(call) {
    const [input = ''] = call.operands;
    const { header, objectBytes, headerBytes } = await readObjectHeader(input, call);
    const { layout, coder, rung, start, groupTokens, key, lengths, model, tokenIds } = header;
    const metadata = Object.fromEntries(Object.entries(header.metadata ?? {}).filter(([name]) => name !== HEADER_FIELD));
    const sections = { count: lengths.length, smallest_bytes: lengths.reduce((a, b) => Math.min(a, b), Infinity), largest_bytes: lengths.reduce((a, b) => Math.max(a, b), 0) };
    const bits = bitsPerValue(objectBytes, layout);
    call.screen.result(
      {
        version: FORMAT_VERSION,
        codec: coder,
        rung,
        layout: layoutJson(layout),
        start,
        group_tokens: groupTokens,
        key,
        raw_bytes: tensorBytes(layout),
        stored_bytes: objectBytes,
        header_bytes: headerBytes,
        model_bytes: model.length,
        sections,
        bits_per_value: bits,
        ...errorJson(header.error),
        has_token_ids: tokenIds !== undefined,
        metadata,
      },
      list([
        ['codec', `${coder}, ${rung}`],
        ['layout', layoutText(layout)],
        ['start', start],
        ['key', key === '' ? 'none' : key],
        ['size', `${bytesText(objectBytes)} of ${bytesText(tensorBytes(layout))}, ${bits} bits per value`],
        ['header', `${headerBytes} B, of which the coder's model ${model.length} B`],
        ['sections', `${sections.count} of ${sections.smallest_bytes} to ${sections.largest_bytes} B, ${groupTokens} tokens each`],
        ['error', errorText(header.error)],
        ['token ids', tokenIds ? 'yes' : 'no'],
        ...Object.entries(metadata),
      ]),
    );
  },
};
