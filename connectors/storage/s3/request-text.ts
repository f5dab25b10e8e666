import { S3Failure } from './failure.js';
import type { WireRequest } from './transport.js';

/** Lines of headers, which the signer gives again for what is asked for in the same second. */
const written = new WeakMap<WireRequest['headers'], string>();

/** A request without a body as HTTP/1.1 sends it. Throws an S3Failure where a part of it has characters that could end a line or begin another request. */
export function requestText({ method, path, headers, range }: WireRequest): string {
  if (!/^\/[\x21-\x7e]*$/.test(path)) throw notSendable('path');
  let lines = written.get(headers);
  if (lines === undefined) {
    lines = Object.entries(headers).map(([name, value]) => lineOf(name, value)).join('');
    written.set(headers, lines);
  }
  return `${method} ${path} HTTP/1.1\r\n${lines}${range === undefined ? '' : lineOf('range', range)}\r\n`;
}

function lineOf(name: string, value: string): string {
  if (!/^[a-z0-9-]+$/i.test(name) || !/^[\x20-\x7e]*$/.test(value)) throw notSendable(`header ${JSON.stringify(name)}`);
  return `${name}: ${value}\r\n`;
}

function notSendable(part: string): S3Failure {
  return new S3Failure('KV_CONNECTOR_REFUSED', `the request's ${part} has characters that HTTP cannot carry; check \`credentials\``);
}
