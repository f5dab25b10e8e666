import { lmcachePython } from './lmcache-process.js';

/** Installs what is missing before the first test, whose time it is not. */
export default function setup(): void {
  lmcachePython();
}
