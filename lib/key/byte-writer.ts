/** Bytes that grow as they are written. Integers are unsigned; wider values are cut to the width. */
export class ByteWriter {
  #bytes = new Uint8Array(1024);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    const at = this.#reserve(1);
    this.#bytes[at] = value;
  }

  u16(value: number, littleEndian: boolean): void {
    const at = this.#reserve(2);
    this.#view.setUint16(at, value, littleEndian);
  }

  u32(value: number, littleEndian: boolean): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, littleEndian);
  }

  u64(value: bigint, littleEndian: boolean): void {
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, value, littleEndian);
  }

  bytes(value: Uint8Array): void {
    const at = this.#reserve(value.length);
    this.#bytes.set(value, at);
  }

  /** Overwrites eight bytes that were written before. */
  patchU64(at: number, value: bigint, littleEndian: boolean): void {
    this.#view.setBigUint64(at, value, littleEndian);
  }

  /** A view of what was written; valid until the next write. */
  written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) this.#grow();
    return at;
  }

  #grow(): void {
    const grown = new Uint8Array(2 * this.#length);
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}
