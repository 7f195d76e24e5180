// What a client does, one line of JSON a request on standard input, one an answer:
// through the real @supabase/postgrest-js, or, for what that cannot say, by fetch.
//
//   {"url": ..., "key": ..., "headers": {...},       where, and with which X-API-Key
//    "rpc": name, "args": {...}, "get": true}        a function
//   {..., "from": name, "select": "id,item"}         a relation; with "insert": rows for it
//   {..., "method": ..., "path": ..., "body": ...}   anything
//   {..., "cut": true}                               the connection is cut before the answer
//   {"url": ..., "all": [{...}, ...]}                many at once
//
//   {"status", "data", "error", "headers", "body"}   status 0: there was no answer; an array for many
import { PostgrestClient } from '@supabase/postgrest-js';
import net from 'node:net';
import readline from 'node:readline';

// A way to the server that passes everything on, and breaks as soon as the answer begins:
// the server has done what it was asked for, and the client never hears of it.
function cuttingProxy(url) {
  const { hostname, port } = new URL(url);
  const proxy = net.createServer((client) => {
    const server = net.connect(Number(port), hostname);
    client.on('error', () => {});
    server.on('error', () => {});
    client.pipe(server);
    server.once('data', () => {
      client.resetAndDestroy();
      server.destroy();
    });
  });
  return new Promise((resolve) => {
    proxy.listen(0, '127.0.0.1', () => resolve(proxy));
  });
}

async function ask(request, url) {
  let headers = {};
  let body;
  const seen = async (...args) => {
    const response = await fetch(...args);
    headers = Object.fromEntries(response.headers);
    body = await response.clone().text();
    return response;
  };
  const sent = { ...(request.key ? { 'X-API-Key': request.key } : {}), ...request.headers };
  if (request.path) {
    try {
      const response = await seen(url + request.path, { method: request.method, headers: sent, body: request.body });
      return { status: response.status, headers, body };
    } catch (error) {
      return { status: 0, error: { message: String(error.cause ?? error) } };
    }
  }
  const client = new PostgrestClient(url, { headers: sent, schema: request.schema, fetch: seen });
  let query;
  if (request.rpc) query = client.rpc(request.rpc, request.args ?? {}, { get: request.get ?? false });
  else if (request.insert) query = client.from(request.from).insert(request.insert);
  else query = client.from(request.from).select(request.select ?? '*');
  if (request.insert && request.select) query = query.select(request.select);
  const { status, data, error } = await query;
  return { status, data, error, headers, body };
}

async function answer(request) {
  const proxy = request.cut ? await cuttingProxy(request.url) : undefined;
  const answered = await ask(request, proxy ? `http://127.0.0.1:${proxy.address().port}` : request.url);
  proxy?.close();
  return answered;
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { all, ...request } = JSON.parse(line);
  const answered = all ? await Promise.all(all.map((one) => answer({ ...request, ...one }))) : await answer(request);
  process.stdout.write(`${JSON.stringify(answered)}\n`);
}
