// A plain node:http server, the measure for the daemon's bodies: GET /BYTES answers with so many, POST takes its body and copies it once.
import { createServer } from 'node:http';

const [socket = '', most = '0'] = process.argv.slice(2);
const memory = new Uint8Array(Number(most));
memory.fill(7);

const server = createServer((request, response) => {
  if (request.method === 'GET') {
    const bytes = Number(request.url?.slice(1));
    response.writeHead(200, { 'content-length': bytes });
    for (let sent = 0; sent < bytes; sent += memory.length) response.write(memory.subarray(0, bytes - sent));
    response.end();
    return;
  }
  let at = 0;
  request.on('data', (piece: Buffer) => {
    memory.set(piece.subarray(0, memory.length - at), at);
    at = (at + piece.length) % memory.length;
  });
  request.on('end', () => response.writeHead(200, { 'content-length': 0 }).end());
});
server.listen(socket, () => console.log('listening'));
process.once('SIGTERM', () => server.close());
