// Stories of a client and its API, each with what must hold, for test/t/095_client.pl:
// client_stories.mjs FOLDER.  The API runs beside it (client_api.mjs); what clients say
// goes to standard error, where no secret may be.

import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { PostgrestClient } from '@supabase/postgrest-js';
import pg from 'pg';
import { Refused, TokenClient } from './client.mjs';

const folder = process.argv[2];
const api = `http://127.0.0.1:${readFileSync(`${folder}/port`, 'utf8')}`;
const deadlineMs = 180_000;
const db = new pg.Client({ user: process.env.SUPERUSER });
await db.connect();
await db.query('SET token_rotation.realm = shop');

function ok(right, name) {
  console.log(`${right ? 'ok' : 'not ok'} - ${name}`);
}

async function until(name, so) {
  const end = performance.now() + deadlineMs;
  while (!(await so())) {
    if (performance.now() > end) return ok(false, name);
    await sleep(20);
  }
  return ok(true, name);
}

const value = async (sql, ...values) => Object.values((await db.query(sql, values)).rows[0])[0];
const log = () => readFileSync(`${folder}/log`, 'utf8').split('\n').slice(0, -1).map((line) => line.split(' '));
const rotations = () => log().filter(([what]) => what === 'rotate');
const audited = "SELECT count(*)::int FROM token_rotation.audit WHERE event = 'rotated' AND client_id = $1";
const rotated = (name) => value(audited, name);

function faults(kinds) {
  truncateSync(`${folder}/log`);
  writeFileSync(`${folder}/faults.new`, JSON.stringify(kinds));
  renameSync(`${folder}/faults.new`, `${folder}/faults`);
}

// A file with a new token, and a client that has it; a folder for each story.
const clients = [];
async function story(name, policy, make = (answer) => answer) {
  faults({});
  await db.query("INSERT INTO orders VALUES ($1, 'anvil')", [name]);
  const answer = await value("SELECT to_jsonb(i) FROM tr_issue($1, $2, '{orders:read}') i", name, policy);
  const at = `${folder}/stories/${name}`;
  const held = () => JSON.parse(readFileSync(`${at}/token`, 'utf8'));
  const put = (what) => writeFileSync(`${at}/token`, JSON.stringify(what), { mode: 0o600 });
  const client = (options) => {
    const made = new TokenClient({
      api, file: `${at}/token`, timeoutMs: 5000, backoffMs: 20, backoffMaxMs: 500, lookMs: 200, ...options,
    });
    clients.push(made);
    return made.start();
  };
  mkdirSync(at, { recursive: true });
  put(make(answer));
  return { answer, at, held, put, client };
}
const calls = async (client, number = 1) => {
  const answers = await Promise.all(Array.from({ length: number }, () => client.fetch('orders')));
  return [...new Set(answers.map(({ status }) => status))].join(' ');
};

async function prefetch() {
  const { answer, at, held, client } = await story('prefetch', 'brief');
  const one = await client({ jitter: 0.02 });
  const answers = new Set();
  await until('it rotates by itself', async () => {
    answers.add(await calls(one, 10));
    return held().token !== answer.token;
  });
  answers.add(await calls(one, 10));
  await one.stop();
  ok([...answers].join() === '200', 'each call is answered, many at once');
  ok(rotations().every(([, , verdict]) => verdict === 'rotated'), 'each rotation is asked for once');
  ok((statSync(`${at}/token`).mode & 0o777) === 0o600, 'nobody else reads the file');
  ok(readdirSync(at).join() === 'token', 'there is no other file');
  const { token, expires_at, refresh_at, rotating, previous } = held();
  ok(token && expires_at && refresh_at && !rotating, 'which has what is needed');
  ok(previous.token && previous.valid_until, 'and the old token');
  const early = Date.parse(answer.refresh_at) - 0.02 * (Date.parse(answer.expires_at) - Date.parse(answer.refresh_at));
  const when = await value(
    "SELECT extract(epoch FROM min(at)) * 1000 FROM token_rotation.audit WHERE client_id = 'prefetch' AND event = 'rotated'");
  ok(Number(when) >= early - 1500 && Number(when) < Date.parse(answer.expires_at), 'not before its time');
}

// The way that most programs would use it.
async function wrapped() {
  const { client } = await story('wrapped', 'calm');
  const one = await client();
  const { data, status } = await new PostgrestClient(api, { fetch: one.fetch }).from('orders').select('item');
  ok(status === 200 && data[0].item === 'anvil', 'postgrest-js calls through it');
}

async function bare() {
  const { answer, held, client } = await story('bare', 'keyed', ({ token, rotation_key }) => ({ token, rotation_key }));
  const one = await client();
  await until('of a bare token it gets another one at once', () => held().token !== answer.token);
  ok(held().rotation_key && held().rotation_key !== answer.rotation_key, 'with its rotation key');
  await until('which is all', () => !one.status().refreshing);
  await one.refresh();
  ok((await rotated('bare')) === 2, 'which rotates it, in turn');
}

async function started() {
  const { answer, held, client } = await story('started', 'started');
  const one = await client({ jitter: 0 });
  ok((await calls(one)) === '200' && (await rotated('started')) === 0, 'nothing is due');
  await db.query("UPDATE token_rotation.policy SET rotate_after = '1 second' WHERE name = 'started'");
  await until('the server starts a rotation', async () => (await value("SELECT count(*)::int FROM tr_rotate_due('started')")) > 0
    || (await value("SELECT count(*)::int FROM token_rotation.unclaimed WHERE client_id = 'started'")) > 0);
  ok((await calls(one)) === '200', 'a call is told');
  await until('and the successor is claimed', () => held().token !== answer.token);
}

async function shared() {
  const { answer, put, client } = await story('shared', 'sharp');
  let sent = 0;
  const one = await client();
  const two = await client({ fetch: (...args) => { sent++; return fetch(...args); } });
  await one.refresh();
  sent = 0;
  ok((await calls(two)) === '200' && sent === 2, 'a process whose token another one has replaced looks into the file');
  faults({ rotate: ['cut', 'slow'] });
  const refreshed = one.refresh();
  await until('it is rotated again', async () => (await rotated('shared')) === 2);
  ok((await calls(one, 5)) === '200', 'a call with the token that ended waits for the next one');
  await refreshed;
  put(answer);
  await one.refresh();
  ok((await rotated('shared')) === 3 && (await calls(one)) === '200', 'an older token in the file is not taken');
}

async function resumed() {
  const { answer, held, client } = await story('resumed', 'calm');
  faults({ rotate: ['cut', 'early'] });
  const one = await client();
  const refreshed = one.refresh().catch(() => {});
  await until('a rotation loses its answer', () => rotations().length > 1);
  await one.stop();
  await refreshed;
  ok(held().token === answer.token, 'the file has the old token');
  faults({ rotate: ['ok'] });
  await client();
  await until('who begins with it asks at once', () => held().token !== answer.token);
  ok((await rotated('resumed')) === 1 && rotations()[0][2] === 'replayed', 'and gets the answer that was lost');
}

async function breaker() {
  const { held, answer, client } = await story('breaker', 'calm');
  faults({ rotate: ['fail', 'denied'] });
  const one = await client({ backoffMs: 5, backoffMaxMs: 10, breakerAfter: 3, breakerMs: 700 });
  const begin = performance.now();
  const refreshed = one.refresh();
  await until('after three failures it rests', () => one.status().resting);
  ok(rotations().length === 3 && (await calls(one, 20)) === '200', 'and calls go on');
  await until('it tries again', () => rotations().length >= 5);
  ok(performance.now() - begin >= 1300, 'once after each rest');
  faults({});
  await refreshed;
  ok(!one.status().resting && held().token !== answer.token, 'and closes when it is answered');
}

async function asked() {
  const { held, answer, client } = await story('asked', 'calm');
  faults({ rotate: ['busy', 'ok'], orders: ['busy', 'ok'] });
  const one = await client();
  await one.refresh();
  const [first, second] = rotations();
  ok(second[3] - first[3] >= 900 && held().token !== answer.token, 'Retry-After is kept');
  const begin = performance.now();
  ok((await calls(one)) === '200' && performance.now() - begin >= 900, 'by calls, too');
}

async function unwritable() {
  const { at, held, answer, client } = await story('unwritable', 'calm');
  const used = new Set();
  const one = await client({
    fetch: (url, init) => {
      used.add(new Headers(init.headers).get('x-api-key'));
      return fetch(url, init);
    },
  });
  chmodSync(at, 0o500);
  const refreshed = one.refresh();
  ok((await calls(one, 5)) === '200', 'where the file cannot be written calls go on');
  await sleep(300);
  ok(rotations().length === 0, 'and no rotation is asked for');
  chmodSync(at, 0o700);
  await refreshed;
  const between = held().token;
  ok(between !== answer.token, 'until it can');
  faults({ rotate: ['slow'] });
  const again = one.refresh();
  await until('it is rotated', () => rotations().length === 1);
  chmodSync(at, 0o500);
  await sleep(1500); // longer than the answer takes
  ok(held().token === between && one.status().refreshing, 'what cannot be stored is not done');
  used.clear();
  ok((await calls(one, 5)) === '200', 'calls go on');
  used.delete(null); // of a rotation
  ok([...used].join() === between, 'with the old token');
  chmodSync(at, 0o700);
  await again;
  ok(held().token !== between && (await calls(one)) === '200', 'before it is stored');
}

async function moved() {
  const day = 86_400_000;
  for (const shift of [day, -day]) {
    const { client } = await story(`moved ${shift}`, 'calm');
    let by = shift;
    const one = await client({ now: () => Date.now() + by });
    for (let i = 0; i < 5; i++) await calls(one);
    by = -shift;
    await sleep(500);
    for (let i = 0; i < 5; i++) await calls(one);
    ok((await rotated(`moved ${shift}`)) === 0, 'a clock that is a day off, and moved, rotates nothing');
    ok(Math.abs(Date.parse(one.status().server_time) - Date.now()) < 2000, 'the time is known all the same');
  }
}

async function anew() {
  const { answer, held, client } = await story('anew', 'calm');
  const one = await client();
  await one.refresh();
  const first = held().token;
  await db.query('TRUNCATE token_rotation.token_cache'); // as after a crash
  await value('SELECT token FROM tr_rotate($1)', answer.token);
  ok((await calls(one)) === '200' && held().token !== first, 'a token that the server has made anew is asked for once more');
}

async function ended() {
  const { answer, put, client } = await story('ended', 'calm');
  const one = await client();
  await db.query('SELECT tr_revoke($1)', [answer.token]);
  ok((await calls(one)) === '401', 'a token that is revoked is refused');
  const refused = await one.refresh().then(() => false, (error) => error instanceof Refused);
  ok(refused && one.status().lost === 'revoked', 'its rotation, too');
  put(await value("SELECT to_jsonb(i) FROM tr_issue('ended', 'calm', '{orders:read}') i"));
  ok((await calls(one)) === '200' && one.status().lost === null, 'until there is another one in the file');
}

async function secret() {
  const { at, put, answer, client } = await story('secret', 'calm');
  const one = await client();
  ok(!inspect(one, { depth: 9, showHidden: true }).includes(answer.token), 'an inspection shows no token');
  const foreign = await one.fetch('http://127.0.0.1:1/orders').catch((error) => error);
  ok(foreign instanceof TypeError && /API only/.test(foreign.message), 'no other server gets it');
  faults({ orders: ['moved'], rotate: ['moved', 'torn', 'half', 'ok'] });
  ok((await calls(one)) === '307', 'no redirect is followed');
  const follow = await one.fetch('orders', { redirect: 'follow' }).catch((error) => error);
  ok(follow instanceof TypeError, 'not even when told to');
  await one.refresh();
  ok(rotations().length === 4, 'nor when it rotates');
  put(answer.token);
  const message = await new TokenClient({ api, file: `${at}/token` }).start().catch((error) => `${error.message} ${error.stack}`);
  ok(/has no token/.test(message) && !message.includes(answer.token), 'a file that is none is not quoted');
}

for (const each of [prefetch, wrapped, bare, started, shared, resumed, breaker, asked, unwritable, moved, anew, ended, secret]) {
  await each();
  await Promise.all(clients.splice(0).map((client) => client.stop()));
}
await db.end();
console.log('done');
