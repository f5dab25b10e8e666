// Range reads and puts of the s3 connector against a SeaweedFS on this machine, beside the AWS SDK's plain calls.
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { Pool } from 'undici';
import { s3 } from '../../connectors/storage/s3.js';
import { checkOptions } from '../../connectors/storage/s3/options.js';
import { NO_PAYLOAD } from '../../connectors/storage/s3/payload.js';
import { signer } from '../../connectors/storage/s3/signer.js';
import { provideServers } from '../servers/provide.js';
import { BUCKET, OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';
import type { BenchContext } from './bench.js';
import { compareTransfers, HOT_BYTES, IN_FLIGHT, MIB, patternOf, type Client, type TransferRow } from './transfers.js';

/** Gets by range and puts of 1 and 4 MiB; takes about a minute. */
export async function s3Transfers({ rounds, note }: BenchContext): Promise<TransferRow[]> {
  note('s3: starting SeaweedFS');
  const server = await startSeaweed((await provideServers()).seaweedfs);
  try {
    const rows: TransferRow[] = [];
    for (const bytes of [MIB, 4 * MIB]) {
      note(`s3: ${bytes / MIB} MiB`);
      rows.push(...(await compareTransfers({ store: 'SeaweedFS', value: patternOf(bytes), clients: await clientsOf(server, patternOf(bytes)), rounds })));
    }
    return rows;
  } finally {
    await server.stop();
  }
}

async function clientsOf({ endpoint, client }: SeaweedServer, value: Uint8Array): Promise<Client[]> {
  const connector = s3({ endpoint, bucket: BUCKET, credentials: OWNER });
  const bytes = value.byteLength;
  // One object of many sections, each of which is the value.
  await connector.put('object', Buffer.concat(Array.from({ length: HOT_BYTES / bytes }, () => value)));
  const offsetOf = (index: number): number => (index * bytes) % HOT_BYTES;
  const plainGet = (index: number) => client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'object', Range: `bytes=${offsetOf(index)}-${offsetOf(index) + bytes - 1}` }));
  return [
    {
      name: 'AWS SDK',
      get: async (index, into) => into.set((await (await plainGet(index)).Body?.transformToByteArray()) ?? []),
      put: (index, value) => client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `sdk/${index % 16}`, Body: value })),
    },
    {
      name: 'AWS SDK, as a stream',
      async get(index, into) {
        let at = 0;
        for await (const chunk of (await plainGet(index)).Body as AsyncIterable<Uint8Array>) {
          into.set(chunk, at);
          at += chunk.byteLength;
        }
      },
    },
    signedUndici(endpoint, offsetOf, bytes),
    {
      name: 'kvreel',
      get: (index, into) => connector.get('object', { range: { offset: offsetOf(index), length: bytes }, into }),
      put: (index, value) => connector.put(`own/${index % 16}`, value),
      close: () => connector.close(),
    },
  ];
}

/** What the connector is without its own reading from the socket, and without its checks. */
function signedUndici(endpoint: string, offsetOf: (index: number) => number, bytes: number): Client {
  const pool = new Pool(endpoint, { connections: IN_FLIGHT });
  const sign = signer(checkOptions({ endpoint, bucket: BUCKET }), async () => OWNER);
  return {
    name: 'undici, signed',
    async get(index, into) {
      const offset = offsetOf(index);
      const { path, method, headers, range } = await sign({ method: 'GET', name: 'object', headers: NO_PAYLOAD, range: `bytes=${offset}-${offset + bytes - 1}` });
      let at = 0;
      await new Promise<void>((resolve, reject) => {
        pool.dispatch({ path, method, headers: { ...headers, range } }, {
          onRequestStart: () => undefined,
          onResponseStart: () => undefined,
          onResponseData(_, chunk) {
            into.set(chunk, at);
            at += chunk.byteLength;
          },
          onResponseEnd: () => resolve(),
          onResponseError: (_, cause) => reject(cause),
        });
      });
    },
    close: () => pool.close(),
  };
}
