// The rows of a chunk between a state file and a tensor [planes][tokens][row].
import { readSync, writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { KvError } from '../../../lib/errors.js';
import { tensorBytes } from '../../../lib/codec/layout.js';
import type { PlannedChunk } from './chunk-plan.js';
import type { StatePlane } from './state.js';

/** Rows that follow each other both in the file and in the tensor. */
interface RowRun {
  readonly plane: StatePlane;
  /** First cell in the file. */
  readonly cell: number;
  readonly cells: number;
  /** The rows in the tensor. */
  readonly rows: Uint8Array;
}

/** Reads the rows of a chunk. Rejects with a system error, or KV_NO_SPACE where the file ends before them. */
export async function readRows(file: FileHandle, chunk: PlannedChunk): Promise<Uint8Array> {
  const tensor = new Uint8Array(tensorBytes(chunk.layout));
  for (const run of runsOf(chunk, tensor)) {
    if (run.plane.transposedBytes === 0) await readAll(file, run.rows, run.plane.offset + run.cell * run.plane.rowBytes);
    else readTransposed(file, chunk.sectionCells, run);
  }
  return tensor;
}

/** Writes the rows of a chunk. Rejects with a system error. */
export async function writeRows(file: FileHandle, chunk: PlannedChunk, tensor: Uint8Array): Promise<void> {
  for (const run of runsOf(chunk, tensor)) {
    if (run.plane.transposedBytes === 0) await writeAll(file, run.rows, run.plane.offset + run.cell * run.plane.rowBytes);
    else writeTransposed(file, chunk.sectionCells, run);
  }
}

/** Writes all bytes at an offset. Rejects with a system error. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
}

async function readAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, offset + done);
    if (bytesRead === 0) throw cutShort();
    done += bytesRead;
  }
}

// A transposed plane is read and written a column at a time, some hundred bytes each and one for each element of a row: by calls that do
// not wait, since a trip to another thread takes many times longer.
function readTransposed({ fd }: FileHandle, sectionCells: number, run: RowRun): void {
  const { transposedBytes: size, rowBytes } = run.plane;
  const column = new Uint8Array(run.cells * size);
  for (let element = 0; element < rowBytes / size; element++) {
    if (readSync(fd, column, 0, column.length, columnOffset(run, sectionCells, element)) !== column.length) throw cutShort();
    for (let i = 0; i < column.length; i++) run.rows[inRows(i, element, size, rowBytes)] = column[i] ?? 0;
  }
}

function writeTransposed({ fd }: FileHandle, sectionCells: number, run: RowRun): void {
  const { transposedBytes: size, rowBytes } = run.plane;
  const column = new Uint8Array(run.cells * size);
  for (let element = 0; element < rowBytes / size; element++) {
    for (let i = 0; i < column.length; i++) column[i] = run.rows[inRows(i, element, size, rowBytes)] ?? 0;
    const offset = columnOffset(run, sectionCells, element);
    for (let done = 0; done < column.length; ) done += writeSync(fd, column, done, column.length - done, offset + done);
  }
}

function columnOffset({ plane, cell }: RowRun, sectionCells: number, element: number): number {
  return plane.offset + (element * sectionCells + cell) * plane.transposedBytes;
}

/** Where byte `i` of a column of elements of `size` bytes stands in rows of `rowBytes`. */
function inRows(i: number, element: number, size: number, rowBytes: number): number {
  return Math.floor(i / size) * rowBytes + element * size + (i % size);
}

function* runsOf({ planes, cells, layout }: PlannedChunk, tensor: Uint8Array): Generator<RowRun> {
  for (const [index, plane] of planes.entries()) {
    for (let token = 0; token < cells.length; ) {
      const cell = cells[token] ?? 0;
      let count = 1;
      while (cells[token + count] === cell + count) count++;
      const begin = (index * layout.tokens + token) * plane.rowBytes;
      yield { plane, cell, cells: count, rows: tensor.subarray(begin, begin + count * plane.rowBytes) };
      token += count;
    }
  }
}

function cutShort(): KvError {
  return new KvError('KV_NO_SPACE', 'the state file of llama.cpp ended before its rows did; make room for temporary files');
}
