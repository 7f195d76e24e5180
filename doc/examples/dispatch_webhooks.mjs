#!/usr/bin/env node
// Sends the events of token_rotation to a URL, as signed webhooks.
//
//   npm install pg
//   DISPATCH_URL=https://hooks.example.com/tokens DISPATCH_SECRET_FILE=/etc/dispatch.secret \
//     node dispatch_webhooks.mjs
//
// Each event is a POST with a JSON body and the headers of Standard Webhooks
// (webhook-id, webhook-timestamp, webhook-signature).  Any answer of 2xx is a
// delivery; whatever else happens, the event is sent again, until it is delivered.
// 410 ends the program: the receiver wants no more.
//
// What it promises: each event arrives at least once, also when this program, the
// receiver or the server is killed; the events of one client arrive for the first
// time in their order.  webhook-id is the same each time: a receiver that keeps the
// ids it has seen handles each event once.
//
// Run as many as you like: the one that holds an advisory lock works, the others
// wait to take its place.
//
// Settings, all from the environment:
//
//   PGHOST, PGDATABASE, ...  the connection, as for psql; the role needs the preset
//                            operator (events of its realms) or auditor (all).
//                            PGOPTIONS='-c search_path=tr': the functions' schema
//   DISPATCH_URL             where to send
//   DISPATCH_SECRET_FILE     a file with the secret, whsec_ and base64; or with two, in
//                            lines of their own, while the receiver changes from one to
//                            the other: each request is signed with both
//   DISPATCH_SECRET          the same in the environment
//   DISPATCH_CONSUMER        the consumer's name, default webhooks
//   DISPATCH_PARALLEL        clients that are served at once, default 8
//   DISPATCH_PAGE            events that are read at once, default 100
//   DISPATCH_POLL_MS         look for events this often although nobody calls, default 10000
//   DISPATCH_TIMEOUT_MS      a request may take this long, default 10000
//   DISPATCH_BACKOFF_MS      longest pause before the first retry, default 500; doubles
//   DISPATCH_BACKOFF_MAX_MS  up to this, default 60000

import { createHmac } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

// ---- settings

function fail(message) {
  console.error(`dispatch_webhooks: ${message}`);
  process.exit(2);
}

function number(name, fallback) {
  const value = Number(process.env[name] ?? fallback);
  if (!Number.isInteger(value) || value < 1) fail(`${name} must be a whole number from 1 on`);
  return value;
}

function readSecrets() {
  const file = process.env.DISPATCH_SECRET_FILE;
  const text = file ? readFileSync(file, 'utf8') : process.env.DISPATCH_SECRET ?? '';
  const secrets = text.split(/\s+/).filter(Boolean);
  if (secrets.length < 1 || secrets.length > 2) fail('one secret is needed, or two: DISPATCH_SECRET_FILE');
  return secrets.map((secret) => {
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    if (!secret.startsWith('whsec_') || key.length < 24) fail('a secret is whsec_ and base64 of 24 bytes or more');
    return key;
  });
}

function readUrl() {
  try {
    return new URL(process.env.DISPATCH_URL);
  } catch {
    return fail('DISPATCH_URL must be a URL');
  }
}

const url = readUrl();
const secrets = readSecrets();
const consumer = process.env.DISPATCH_CONSUMER ?? 'webhooks';
const parallel = number('DISPATCH_PARALLEL', 8);
const page = number('DISPATCH_PAGE', 100);
const pollMs = number('DISPATCH_POLL_MS', 10000);
const timeoutMs = number('DISPATCH_TIMEOUT_MS', 10000);
const backoffMs = number('DISPATCH_BACKOFF_MS', 500);
const backoffMaxMs = number('DISPATCH_BACKOFF_MAX_MS', 60000);
const retryAfterMaxMs = 3600_000;

// Only the origin of the URL is logged: the rest may be as good as a secret.
function log(message) {
  console.error(`${new Date().toISOString()} ${message}`);
}

// ---- stopping

// Aborted by SIGTERM and SIGINT: requests that are under way are finished, no other
// is begun.
const stop = new AbortController();
setMaxListeners(0, stop.signal);
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => stop.abort());

// Sleep, but not longer than until one of these signals; false: it was one.
async function pause(ms, ...signals) {
  const woken = new AbortController();
  const wake = () => woken.abort();
  for (const signal of signals) signal.addEventListener('abort', wake);
  try {
    if (signals.some((signal) => signal.aborted)) return false;
    await sleep(ms, undefined, { signal: woken.signal });
    return true;
  } catch {
    return false;
  } finally {
    for (const signal of signals) signal.removeEventListener('abort', wake);
  }
}

// Full jitter: any pause up to a limit that doubles, so that many who failed together
// do not come back together.
function backoff(attempt) {
  return Math.random() * Math.min(backoffMaxMs, backoffMs * 2 ** Math.min(attempt, 30));
}

// ---- one webhook

// The event as it is sent.  Its id is made of what the row of the trail is, not of
// its place among the events: after a failover to a standby that lacked the newest,
// another event may have that place.
function webhook(row) {
  return {
    id: row.seq === null ? `tr_${row.event}_${row.position}` : `tr_${row.seq}_${row.at_us}`,
    body: JSON.stringify({
      type: `token_rotation.${row.event}`,
      timestamp: row.at,
      data: {
        position: row.position,
        client_id: row.client_id,
        owner: row.owner,
        token_ref: row.token_ref,
        successor_ref: row.successor_ref,
        actor: row.actor,
        role: row.role,
        origin: row.origin,
        reason: row.reason,
        detail: row.detail,
      },
    }),
  };
}

function headers({ id, body }) {
  const timestamp = Math.floor(Date.now() / 1000);
  const sign = (key) => createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': secrets.map((key) => `v1,${sign(key)}`).join(' '),
  };
}

// Milliseconds that Retry-After asks for, in seconds or as a date.
function retryAfter(value) {
  if (!value) return 0;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return ms > 0 ? Math.min(ms, retryAfterMaxMs) : 0;
}

// One request.  Answers null when it is delivered, otherwise why it is not.
async function post(hook, session) {
  const limit = new AbortController();
  const abort = () => limit.abort();
  const timer = setTimeout(abort, timeoutMs);
  session.addEventListener('abort', abort);
  try {
    const response = await fetch(url, {
      method: 'POST', headers: headers(hook), body: hook.body, redirect: 'manual', signal: limit.signal,
    });
    await response.body?.cancel();
    if (response.ok) return null;
    return {
      why: `status ${response.status}`,
      gone: response.status === 410,
      afterMs: retryAfter(response.headers.get('retry-after')),
    };
  } catch (error) {
    const why = limit.signal.aborted ? `no answer in ${timeoutMs} ms` : error.cause?.code ?? error.message;
    return { why, gone: false, afterMs: 0 };
  } finally {
    clearTimeout(timer);
    session.removeEventListener('abort', abort);
  }
}

let gone = false;

// Send an event until it is delivered.  false: told to stop before that.
async function deliver(row, session) {
  const hook = webhook(row);
  for (let attempt = 0; ; attempt++) {
    if (session.aborted || stop.signal.aborted) return false;
    const failure = await post(hook, session);
    if (failure === null) return true;
    if (session.aborted) return false;
    log(`${url.origin}: ${hook.id}, attempt ${attempt + 1}: ${failure.why}`);
    if (failure.gone) {
      gone = true;
      stop.abort();
    }
    await pause(Math.max(backoff(attempt), failure.afterMs), session, stop.signal);
  }
}

// ---- a page of events

// Send all events of a page: those of one client one after the other, several clients
// at once.  What is delivered without a gap is acknowledged as it grows.
async function dispatch(db, rows, session) {
  const { signal } = session;
  const done = rows.map((row) => row.event === 'passed');
  const lanes = new Map();
  rows.forEach((row, i) => {
    if (done[i]) return; // events of others' realms: there is nothing to send
    const lane = row.client_id ?? '';
    if (!lanes.has(lane)) lanes.set(lane, []);
    lanes.get(lane).push(i);
  });

  let acked = 0;
  let acking = Promise.resolve();
  const ack = () => {
    acking = acking.then(async () => {
      let upto = acked;
      while (upto < rows.length && done[upto]) upto++;
      if (upto === acked || signal.aborted) return;
      await db.query('SELECT tr_ack($1, $2)', [consumer, rows[upto - 1].position]);
      acked = upto;
    });
    acking.catch(() => session.abort()); // who waits for it below hears why
    return acking;
  };

  const waiting = [...lanes.values()];
  const worker = async () => {
    for (let lane = waiting.shift(); lane; lane = waiting.shift()) {
      for (const i of lane) {
        if (!(await deliver(rows[i], signal))) return;
        done[i] = true;
        ack();
      }
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  await ack();
}

// Moments and hashes as the receiver is to see them.
const nextPage = `
  SELECT e.position, e.seq, e.event, e.client_id, e.owner, e.actor, e.role, e.origin, e.reason, e.detail,
         to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at,
         (extract(epoch FROM e.at) * 1000000)::bigint AS at_us,
         encode(e.token_ref, 'hex') AS token_ref, encode(e.successor_ref, 'hex') AS successor_ref
  FROM tr_events($1, $2) WITH ORDINALITY AS e ORDER BY e.ordinality`;

// ---- a session with the server

// Work until told to stop, or until the connection fails, which throws.  Everything
// begins anew with a new connection, from what is acknowledged: the lock is gone with
// the old one, and somebody else may be at work.
async function work(ended) {
  const db = new pg.Client({ keepAlive: true, connectionTimeoutMillis: 10000, query_timeout: 60000,
    application_name: 'dispatch_webhooks' });
  const session = new AbortController();
  setMaxListeners(0, session.signal);
  let called = new AbortController();
  db.on('error', (error) => { ended.error = error; session.abort(); });
  db.on('end', () => session.abort());
  db.on('notification', () => called.abort());
  try {
    await db.connect();
    const lock = "SELECT pg_try_advisory_lock(hashtextextended('token_rotation consumer ' || $1, 0)) AS mine";
    for (let told = false; !(await db.query(lock, [consumer])).rows[0].mine; told = true) {
      if (!told) log(`somebody else has the lock of consumer ${consumer}; waiting`);
      if (!(await pause(pollMs, session.signal, stop.signal))) return;
    }
    await db.query('LISTEN token_rotation');
    log(`dispatching events as consumer ${consumer} to ${url.origin}`);
    while (!session.signal.aborted && !stop.signal.aborted) {
      called = new AbortController(); // before looking: who calls meanwhile is not missed
      const { rows } = await db.query(nextPage, [consumer, page]);
      ended.attempts = 0;
      for (const row of rows.filter(({ event }) => event === 'missed')) {
        log(`${row.detail.rows} events were pruned before they were read`);
      }
      if (rows.length > 0) await dispatch(db, rows, session);
      else await pause(pollMs, called.signal, session.signal, stop.signal);
    }
  } finally {
    session.abort();
    await Promise.race([db.end().catch(() => {}), sleep(1000)]); // a dead server does not say goodbye
  }
}

async function main() {
  const ended = { attempts: 0, error: null };
  while (!stop.signal.aborted) {
    try {
      ended.error = null;
      await work(ended);
    } catch (error) {
      ended.error ??= error;
    }
    if (stop.signal.aborted) break;
    log(`the server: ${ended.error?.message ?? 'the connection was closed'}`);
    await pause(backoff(ended.attempts++), stop.signal);
  }
  log(gone ? `${url.origin} wants no more events` : 'stopped');
  return gone ? 3 : 0;
}

process.exit(await main());
