// What a storage connector of your own needs from ours: checks of arguments, and calls that end in time. docs/connectors.md shows one.
export { checkFields, checkKey, checkPrefix, checkPut, checkRange, MAX_KEY_BYTES, placeRead, type ReadPlace } from './arguments.js';
export { lifeCycle, type LifeCycle } from './life-cycle.js';
