// A SeaweedFS of a test: master, volume server, filer and S3 gateway in one process.
import { CreateBucketCommand, PutObjectCommand, S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeCertificate } from './certificate.js';
import { freePort, startServer, type ServerPlace, type TestServer } from './server.js';

/** May do everything. */
export const OWNER = { accessKeyId: 'owner', secretAccessKey: 'owner-secret-of-a-test' } as const;

/** May only read. */
export const READER = { accessKeyId: 'reader', secretAccessKey: 'reader-secret-of-a-test' } as const;

/** A host name under which a bucket may stand before the host: `<bucket>.s3.test`. Nothing resolves it. */
export const DOMAIN = 's3.test';

/** A bucket that takes writes at once. */
export const BUCKET = 'kvreel-test';

/** What a server is started with beside its program. */
export interface SeaweedOptions {
  /** Listens for TLS only, with a certificate of its own for `localhost` and 127.0.0.1. */
  readonly tls?: boolean;
}

/** A running SeaweedFS. */
export interface SeaweedServer extends TestServer {
  /** `http://127.0.0.1:<port>`, or `https:`. */
  readonly endpoint: string;
  /** The AWS SDK as the owner, for what a test does beside the connector. */
  readonly client: S3Client;
  /** The certificate that a TLS client must trust; only with `tls`. */
  certificate(): string;
}

/** Starts `program` (see `provideServers`) and waits until `BUCKET` takes writes: some seconds. */
export async function startSeaweed(program: string, { tls = false }: SeaweedOptions = {}): Promise<SeaweedServer> {
  const ports = { master: await freePort(), volume: await freePort(), filer: await freePort(), metrics: await freePort() };
  const certificatePath = (place: ServerPlace) => join(place.directory, 'server.crt');
  const keyPath = (place: ServerPlace) => join(place.directory, 'server.key');

  const server = await startServer({
    command: program,
    args(place) {
      const identities = join(place.directory, 'identities.json');
      writeFileSync(identities, JSON.stringify({ identities: [identity('owner', OWNER, ['Admin']), identity('reader', READER, ['Read', 'List'])] }));
      if (tls) makeCertificate(keyPath(place), certificatePath(place));
      const s3 = {
        port: place.port,
        config: identities,
        domainName: DOMAIN,
        autoCreateBucket: false,
        localSocket: join(place.directory, 's3.sock'),
        // Services that nobody asked for, on ports that do not change.
        'port.iceberg': 0,
        'port.lance': 0,
        ...(tls ? { 'cert.file': certificatePath(place), 'key.file': keyPath(place) } : {}),
      };
      return [
        '-logtostderr=true',
        'server',
        '-ip=127.0.0.1',
        '-ip.bind=127.0.0.1',
        `-dir=${place.directory}`,
        '-master.telemetry=false',
        '-master.volumeSizeLimitMB=1024',
        '-master.electionTimeout=1s', // or a restart takes ten seconds longer
        `-master.port=${ports.master}`,
        '-volume.max=30',
        `-volume.port=${ports.volume}`,
        '-filer',
        `-filer.port=${ports.filer}`,
        `-filer.localSocket=${join(place.directory, 'filer.sock')}`,
        `-metricsPort=${ports.metrics}`,
        '-s3',
        ...Object.entries(s3).map(([name, value]) => `-s3.${name}=${value}`),
      ];
    },
    isReady: async (place) => {
      const client = ownerClient(place);
      try {
        await client.send(new CreateBucketCommand({ Bucket: BUCKET })).catch(unlessThere);
        await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'first-write', Body: 'makes the bucket\'s volumes' }));
        return true;
      } finally {
        client.destroy();
      }
    },
  });

  function endpointOf({ port }: ServerPlace): string {
    return `${tls ? 'https' : 'http'}://127.0.0.1:${port}`;
  }

  function ownerClient(place: ServerPlace): S3Client {
    const requestHandler = tls ? { httpsAgent: { ca: readFileSync(certificatePath(place)) } } : {};
    return new S3Client({ endpoint: endpointOf(place), region: 'us-east-1', forcePathStyle: true, credentials: OWNER, requestHandler });
  }

  const client = ownerClient(server);
  return {
    ...server,
    endpoint: endpointOf(server),
    client,
    certificate: () => readFileSync(certificatePath(server), 'utf8'),
    async stop() {
      client.destroy();
      await server.stop();
    },
  };
}

function identity(name: string, { accessKeyId, secretAccessKey }: typeof OWNER | typeof READER, actions: readonly string[]): object {
  return { name, credentials: [{ accessKey: accessKeyId, secretKey: secretAccessKey }], actions };
}

/** After a restart the bucket is there. */
function unlessThere(cause: unknown): void {
  if (!(cause instanceof S3ServiceException && cause.name.startsWith('Bucket'))) throw cause;
}
