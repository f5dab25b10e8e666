/**
 * A Python str. An object, not a JS string, because Python knows strings by identity: pickle writes the same object a
 * second time as a reference, and an equal but distinct one in full.
 */
export interface PythonText {
  readonly text: string;
}

/**
 * The Python values that engines hash: None, int, str, bytes, tuple. A `number` is an int within 32 bits, signed or not;
 * a `bigint` is one within unsigned 64 bits; a `Uint32Array` is a tuple of ints.
 */
export type PythonValue = null | number | bigint | PythonText | Uint8Array | Uint32Array | readonly PythonValue[];
