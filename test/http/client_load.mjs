// Clients for test/t/095_client.pl that call the API without a pause, from their files,
// until SIGTERM: client_load.mjs FOLDER CLIENT...  The clients are numbers.
//
// Each call adds a line to FOLDER/calls: "CLIENT STATUS", where STATUS may also be
// `error` (no answer), `broken` (half an answer) and `foreign` (another client's rows).

import { appendFileSync, readFileSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { TokenClient } from './client.mjs';

const [folder, ...clients] = process.argv.slice(2);
const api = `http://127.0.0.1:${readFileSync(`${folder}/port`, 'utf8')}`;
let stopped = false;
process.on('SIGTERM', () => { stopped = true; });

async function call(client, name) {
  let response;
  try {
    response = await client.fetch('orders');
  } catch {
    return 'error';
  }
  try {
    const rows = await response.json();
    return response.ok && !(rows.length > 0 && rows.every((row) => row.client_id === name)) ? 'foreign' : response.status;
  } catch {
    return 'broken';
  }
}

async function run(number) {
  const client = await new TokenClient({
    api, file: `${folder}/token.${number}`, jitter: 0.02, timeoutMs: 700, backoffMs: 50, backoffMaxMs: 1000,
    breakerAfter: 6, breakerMs: 1500, lookMs: 500,
  }).start();
  while (!stopped) {
    const status = await call(client, `client ${number}`);
    appendFileSync(`${folder}/calls`, `${number} ${status}\n`);
    await sleep(30);
  }
  await client.stop();
}

await Promise.all(clients.map(run));
