// The way of connectors over TCP to the addon, which connectors do not name.
import type { Socket } from 'node:net';
import { native } from '../codec/native.js';

/**
 * Has the system wake this process for a TCP socket only when `bytes` have come, when the connection ends, or when no more would fit. False
 * where that cannot be had: without the addon, or where Node does not tell the socket's descriptor.
 */
export function setReceiveThreshold(socket: Socket, bytes: number): boolean {
  const { fd } = (Reflect.get(socket, '_handle') ?? {}) as { readonly fd?: unknown };
  if (typeof fd !== 'number' || fd < 0) return false;
  try {
    return native().setReceiveThreshold(fd, bytes);
  } catch {
    return false; // the connector does without
  }
}
