// The API that test/t/095_client.pl has its clients call, which does badly what it is told.
//
// GET /orders authenticates in a transaction and reads under row security; POST
// /rpc/rotate calls tr_rotate.  Both answer like PostgREST.  In the folder that it is
// given it writes `port`, reads `faults` at each request, and adds lines to `log`:
//
//   {"orders": [...], "rotate": [...]}     what happens to requests, in turn
//   rotate FAULT VERDICT                   VERDICT: what the transaction did, or why none did
//
// A fault is one of
//
//   ok     answer                          early  cut the connection before the transaction
//   cut    cut it after the COMMIT         half   cut it in the middle of the body
//   torn   half a body as if it were all   busy   503 and Retry-After: 1, without a transaction
//   slow   answer 1 s late                 late   carry it out 1 s late, then answer
//   fail   500, without a transaction      moved  307 to another place, likewise
//   denied 401 that says nothing of the token, likewise

import { appendFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const folder = process.argv[2];
const lateMs = 1000;
const pool = new pg.Pool({ max: 10, connectionTimeoutMillis: 10_000 });
// a server that stops, whether or not a connection is in use
pool.on('error', () => {});
pool.on('connect', (db) => db.on('error', () => {}));
let told = '';
let turns = {};

function faultOf(what) {
  const text = readFileSync(`${folder}/faults`, 'utf8');
  if (text !== told) [told, turns] = [text, { orders: 0, rotate: 0 }];
  const faults = JSON.parse(text)[what] ?? ['ok'];
  return faults[turns[what]++ % faults.length];
}

async function transaction(mode, work) {
  const db = await pool.connect();
  let broken = true;
  try {
    await db.query(`BEGIN ${mode}`);
    const answer = await work(db);
    await db.query('COMMIT');
    broken = false;
    return answer;
  } finally {
    db.release(broken); // what failed is not used again
  }
}

const httpDate = (moment) => new Date(moment).toUTCString();

function orders(token) {
  return transaction('READ ONLY', async (db) => {
    const { rows: [who] } = await db.query(
      `SELECT to_jsonb(a) ->> 'refresh_at' AS refresh_at, a.valid_until, v.status
       FROM tr_authenticate($1, 'orders:read') a, tr_validate($1) v`, [token]);
    const { rows } = await db.query('SELECT client_id, item FROM orders');
    const headers = { 'x-token-refresh-at': who.refresh_at };
    if (who.status === 'rotating') headers.sunset = httpDate(who.valid_until);
    return { status: 200, headers, body: rows, verdict: 'ok' };
  });
}

function rotate({ token, rotation_key = null }) {
  return transaction('READ WRITE', async (db) => {
    const { rows: [{ row }] } = await db.query('SELECT to_jsonb(r) AS row FROM tr_rotate($1, $2) r', [token, rotation_key]);
    if (row.reason === 'ok') return { status: 200, body: row, verdict: row.replayed ? 'replayed' : 'rotated' };
    return { status: row.reason === 'disabled' ? 503 : 401, body: { code: 'PGRST', details: row.reason }, verdict: row.reason };
  });
}

// As PostgREST: what is wrong with the token, and what with the server.
function failure(error) {
  const body = { code: error.code, message: error.message, details: error.detail ?? null };
  const headers = { 'www-authenticate': 'Bearer error="invalid_token"' };
  if (error.code === '28000') return { status: 401, headers, body, verdict: 'refused' };
  return { status: 503, headers: { 'retry-after': '1' }, body, verdict: 'down' };
}

async function bodyOf(request) {
  let text = '';
  for await (const part of request) text += part;
  return JSON.parse(text);
}

async function serve(request, response) {
  const what = request.url.startsWith('/orders') ? 'orders' : 'rotate';
  if (request.method === 'OPTIONS') return response.writeHead(204, { allow: 'OPTIONS, POST' }).end();
  const fault = faultOf(what);
  const input = what === 'rotate' ? await bodyOf(request) : null;
  let answer = {
    busy: { status: 503, headers: { 'retry-after': '1' }, body: {} },
    fail: { status: 500, body: {} },
    denied: { status: 401, headers: { 'www-authenticate': 'Bearer' }, body: { code: '42501' } },
    moved: { status: 307, headers: { location: '/elsewhere' }, body: {} },
    early: { cut: true },
  }[fault];
  if (fault === 'late') await sleep(lateMs);
  answer ??= await (input ? rotate(input) : orders(request.headers['x-api-key'])).catch(failure);
  const { status, headers, body, verdict = 'none' } = answer;
  appendFileSync(`${folder}/log`, `${what} ${fault} ${verdict} ${Math.round(performance.now())}\n`);
  if (fault === 'cut' || answer.cut) return request.socket.destroy();
  if (fault === 'slow') await sleep(lateMs);
  const text = JSON.stringify(body);
  if (fault === 'torn') return response.writeHead(status, headers).end(text.slice(0, text.length / 2));
  response.writeHead(status, { ...headers, 'content-type': 'application/json', 'content-length': text.length });
  if (fault === 'half') return response.write(text.slice(0, text.length / 2), () => request.socket.destroy());
  return response.end(text);
}

const server = createServer((request, response) => serve(request, response).catch(() => request.socket.destroy()));
server.listen(0, '127.0.0.1', () => {
  writeFileSync(`${folder}/port.new`, String(server.address().port));
  renameSync(`${folder}/port.new`, `${folder}/port`);
});
