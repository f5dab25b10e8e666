// Our vLLM connector in the real vLLM, over the real daemon.
import { restarts } from './restarts.js';
import { filesystemStore, redisStore, s3Store } from './stores.js';
import { byOurConnector } from './wirings.js';

restarts({ name: 'our connector', model: 'smollm2', stores: [filesystemStore, redisStore, s3Store], wire: byOurConnector });
// Windows on 15 layers and none on 3: several cache groups, loaded between steps.
restarts({ name: 'our connector', model: 'gemma3', stores: [filesystemStore], wire: byOurConnector });
