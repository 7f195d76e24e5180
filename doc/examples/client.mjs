#!/usr/bin/env node
// A client of an API with token_rotation's tokens, which keeps its token fresh.  Needs
// Node.js 18, no packages.
//
//   import { TokenClient } from './client.mjs';
//   const client = await new TokenClient({ api: 'https://api.example.com/', file: '/var/lib/app/token' }).start();
//   const response = await client.fetch('orders?select=id,item');
//   const postgrest = new PostgrestClient('https://api.example.com/', { fetch: client.fetch });
//
// On the command line, with TOKEN_FILE and API_URL in the environment, and ROTATE_URL
// where it is not API_URL/rpc/rotate:
//
//   client.mjs get PATH   make a call, print what it answers
//   client.mjs rotate     rotate now, asking until there is an answer
//   client.mjs run        keep the file fresh until SIGTERM, for programs that only read it
//   client.mjs status     tell when it will be rotated, and when it ends
//
// The file is JSON: at first what /rpc/issue answered, or only {"token": "..."}.
//
// - It rotates around refresh_at, spread so that many do not come at once, and never after
//   the end.  X-Token-Refresh-At and Sunset in answers count, too: so it claims what the
//   server has started.  One rotation at a time; calls go on meanwhile.
// - A rotation whose answer got lost is asked for again, the same one, which the server
//   answers identically within the replay window.  Pauses double, are spread, keep
//   Retry-After, but do not reach beyond the token's end.  After several failures a
//   circuit breaker lets rotation rest.
// - The new token is on the disk before it is used.  Before it is asked for, the file says
//   so: who starts from it after a crash asks at once, with the old token.
// - A call that gets 401 looks for a newer token, also in the file (another process may
//   have rotated), and is made again.  So are GET, HEAD, OPTIONS, PUT and DELETE where
//   there was no answer, or a busy one.
// - It goes by the server's clock, of which Date headers tell.  Its own may be wrong.
// - The token goes to the API's origin only and follows no redirect.  Log and errors
//   quote nothing that was sent or answered.
//
// What it cannot do is outlive the windows: if it does not run from refresh_at to the
// token's end, or for longer than the replay window while an answer was on its way,
// somebody has to put another token into the file.  It sees that by itself.

import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { open, readdir, readFile, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const defaults = {
  rotateUrl: 'rpc/rotate', // relative to api, or a URL of its own
  headers: {}, // that a rotation takes along
  jitter: 0.2, // spread around refresh_at: this part of the time from there to the end, 0 to 0.5
  timeoutMs: 10_000, // how long an answer to a rotation may take
  backoffMs: 250, // the first pause before it is asked for again
  backoffMaxMs: 30_000, // and the longest
  breakerAfter: 5, // failures that open the breaker
  breakerMs: 30_000, // for so long; less where the token would end meanwhile
  callAttempts: 5, // of a call that may be repeated
  callWaitMaxMs: 10_000, // a call whose Retry-After is longer is not
  lookMs: 30_000, // look at the clocks, and for a new file, this often
  now: Date.now,
  random: Math.random,
  fetch: (...args) => globalThis.fetch(...args),
  log: (line) => console.error(`${new Date().toISOString()} ${line}`),
};

// The server's last word; the message has its reason.
export class Refused extends Error {}

const later = (code, afterMs) => Object.assign(new Error(code), { code, afterMs }); // no answer that counts
const mono = () => performance.now();
const isSecret = (text) => typeof text === 'string' && /^[\x21-\x7e]{1,1000}$/.test(text);

const moment = (text, fallback) => (Number.isNaN(Date.parse(text ?? '')) ? fallback : Date.parse(text));

// What JSON says, of an array its first.  The message of JSON.parse would quote it.
function parsed(text) {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? value[0] : value;
  } catch {
    return undefined;
  }
}

const codeOf = (error) => error.cause?.code ?? error.code ?? error.name; // messages may quote what was sent

// ---- the file

class TokenFile {
  constructor(path) {
    this.path = path;
  }

  async read() {
    const held = parsed(await readFile(this.path, 'utf8'));
    if (!isSecret(held?.token)) throw new Error(`${this.path} has no token`);
    return held;
  }

  // Whole or not at all, whatever is killed: a new file takes the old one's place, and
  // both the file and its name are on the disk when this is done.
  async write(held) {
    const temporary = `${this.path}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(`${JSON.stringify(held, null, 2)}\n`).then(() => file.sync()).finally(() => file.close());
      await rename(temporary, this.path);
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
    await open(dirname(this.path)).then((folder) => folder.sync().finally(() => folder.close()));
  }

  // Follow links, see that nobody else reads it, remove what killed processes have left.
  async prepare(log) {
    this.path = await realpath(this.path);
    if ((await stat(this.path)).mode & 0o077) log(`${this.path} is open to others than its owner`);
    for (const name of await readdir(dirname(this.path))) {
      if (!name.startsWith(`${basename(this.path)}.`) || !/\.\d+\.[0-9a-f]{8}\.tmp$/.test(name)) continue;
      try {
        process.kill(Number(name.split('.').at(-3)), 0);
      } catch (error) {
        if (error.code === 'ESRCH') await unlink(join(dirname(this.path), name)).catch(() => {});
      }
    }
  }
}

// ---- the clock

// The server's clock.  A Date header, in whole seconds, that came between two moments
// says that it is ahead of a clock that only counts by no less than lo and no more than
// hi; what several say together is narrower.  now() goes by hi: rather early than late.
class ServerClock {
  constructor(own) {
    this.own = own;
    this.forget();
  }

  forget() {
    Object.assign(this, { lo: -Infinity, hi: Infinity, heard: mono(), gap: this.own() - mono() });
  }

  learn(date, sent) {
    const [lo, hi, drift] = [date - mono(), date + 1000 - sent, (mono() - this.heard) / 2000];
    Object.assign(this, { lo: Math.max(this.lo - drift, lo), hi: Math.min(this.hi + drift, hi), heard: mono() });
    if (this.lo > this.hi) Object.assign(this, { lo, hi }); // it was set
  }

  // The clock that counts stands still while the machine sleeps, the own one may be set:
  // where they have moved apart, what was learned is worth nothing.
  isKnown() {
    const gap = this.own() - mono();
    if (Math.abs(gap - this.gap) > 1000) this.forget();
    this.gap = gap;
    return this.hi < Infinity;
  }

  // Where the server does not tell, the own clock is all there is.
  now() {
    return this.hi < Infinity ? mono() + this.hi : this.own();
  }

  // Milliseconds that Retry-After asks for, in seconds or as a date.
  after(headers) {
    const value = headers.get('retry-after');
    return Math.max(0, /^\d+$/.test(value) ? value * 1000 : moment(value, -Infinity) - this.now());
  }
}

// ---- the client

// May a call be made again: after 401, which did nothing; and after anything?
function repeatable({ method = 'GET', body }) {
  const refused = !(body instanceof ReadableStream || body?.[Symbol.asyncIterator]);
  return { refused, always: refused && /^(GET|HEAD|OPTIONS|PUT|DELETE)$/i.test(method) };
}

const busy = new Set([429, 502, 503, 504]);
const drop = (response) => response.body?.cancel().catch(() => {});

export class TokenClient {
  #options; #api; #rotateUrl; #file; #clock;
  #failures = 0; #restUntil = 0; // the circuit breaker: at so many it opens, and lets one attempt through then
  #held = null; // what the file has: the token in use
  #refreshAt; #due; #end; // as the server says; when it will be refreshed; when it ends
  #lost = null; // why no successor is to be had
  #doubted = null; // the token whose predecessor was asked once more
  #refreshing = null; #timer = null;
  #stop = new AbortController();

  constructor(options) {
    this.#options = { ...defaults, ...options };
    const { api, file, rotateUrl, now, jitter } = this.#options;
    if (!(jitter >= 0 && jitter <= 0.5)) throw new RangeError('jitter must be from 0 to 0.5');
    this.#api = new URL(`${String(api).replace(/\/*$/, '')}/`);
    this.#rotateUrl = new URL(rotateUrl, this.#api);
    this.#file = new TokenFile(file);
    this.#clock = new ServerClock(now);
    setMaxListeners(0, this.#stop.signal);
  }

  async start() {
    await this.#file.prepare(this.#options.log);
    this.#adopt(await this.#file.read());
    await this.#listen();
    this.#schedule();
    return this;
  }

  // Begin nothing new.  An answer that is on its way is waited for, and stored.
  async stop() {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#refreshing?.catch(() => {});
  }

  status() {
    const text = (ms) => (Number.isFinite(ms) ? new Date(ms).toISOString() : null);
    return {
      token_id: this.#held.token_id ?? null, refresh: text(this.#due), end: text(this.#end), server_time: text(this.#clock.now()),
      refreshing: this.#refreshing !== null, resting: this.#restUntil > mono(), lost: this.#lost,
    };
  }

  // Like the fetch that it calls, with the token.  Paths are relative to the API.
  fetch = async (input, init = {}) => {
    if (init.redirect === 'follow') throw new TypeError('the token follows no redirect');
    const url = new URL(String(input).replace(/^\/+/, ''), this.#api);
    if (url.origin !== this.#api.origin) throw new TypeError('the token is for the API only');
    const again = repeatable(init);
    for (let attempt = 0, recovered = 0; ; attempt++) {
      const { token } = this.#held;
      const headers = new Headers(init.headers);
      headers.set('x-api-key', token);
      const more = again.always && attempt + 1 < this.#options.callAttempts;
      const sent = mono();
      let response;
      try {
        response = await this.#options.fetch(url, { redirect: 'manual', ...init, headers });
      } catch (error) {
        if (!more || init.signal?.aborted) throw error;
        await this.#pause(this.#backoff(attempt), init.signal);
        continue;
      }
      this.#hear(response, sent, token);
      if (response.status === 401 && again.refused && recovered++ < 3 && (await this.#recover(token))) {
        await drop(response);
        continue;
      }
      const wait = Math.max(this.#clock.after(response.headers), this.#backoff(attempt));
      if (!busy.has(response.status) || !more || wait > this.#options.callWaitMaxMs) return response;
      await drop(response);
      await this.#pause(wait, init.signal);
    }
  };

  // Rotate, or join the rotation that is under way.
  refresh(old = this.#held) {
    this.#refreshing ??= this.#rotate(old).finally(() => {
      this.#refreshing = null;
      this.#schedule();
    });
    return this.#refreshing;
  }

  // -- when

  #adopt(held) {
    this.#held = held;
    this.#lost = null;
    this.#end = moment(held.expires_at, Infinity);
    this.#refreshAt = moment(held.refresh_at, -Infinity);
    this.#due = held.rotating ? -Infinity : this.#spread(this.#refreshAt);
  }

  // A moment around the one when it should be; before the end in any case.
  #spread(at) {
    if (at >= this.#end) return -Infinity;
    const room = Number.isFinite(this.#end - at) ? this.#end - at : 0;
    return at + (2 * this.#options.random() - 1) * this.#options.jitter * room;
  }

  // The longest that rotation may rest: a quarter of what is left of the token's life.
  #soon() {
    const room = this.#end - this.#clock.now();
    return room > 0 ? Math.max(room / 4, this.#options.backoffMs) : Infinity;
  }

  // Between half of a limit that doubles and all of it.
  #backoff(attempt, afterMs = 0) {
    const { backoffMs, backoffMaxMs, random } = this.#options;
    const most = Math.min(backoffMaxMs, backoffMs * 2 ** Math.min(attempt, 20));
    return Math.min(Math.max(most * (1 + random()) / 2, afterMs), this.#soon());
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (this.#stop.signal.aborted) return;
    let wait = this.#options.lookMs;
    if (!this.#clock.isKnown()) wait = Math.min(wait, this.#backoff(4));
    else if (!this.#refreshing) wait = Math.min(wait, Math.max(0, this.#due - this.#clock.now()));
    this.#timer = setTimeout(() => this.#look(), wait);
    this.#timer.unref(); // a program that has nothing else to do may end
  }

  async #look() {
    try {
      if (!this.#clock.isKnown()) await this.#listen();
      if (this.#lost) await this.#reread();
      if (this.#clock.now() >= this.#due) await this.refresh();
    } catch (error) {
      if (!(error instanceof Refused) && !this.#stop.signal.aborted) this.#options.log(`refresh: ${codeOf(error)}`);
    }
    this.#schedule();
  }

  // Ask what time it is.  OPTIONS needs no token, and PostgREST no database for it.
  async #listen() {
    const sent = mono();
    try {
      const response = await this.#options.fetch(this.#rotateUrl,
        { method: 'OPTIONS', redirect: 'manual', signal: AbortSignal.timeout(this.#options.timeoutMs) });
      this.#hear(response, sent);
      await drop(response);
    } catch (error) {
      this.#options.log(`the server's clock: ${codeOf(error)}`);
    }
  }

  // What the headers of an answer tell of the time (of a cache: nothing) and of the token.
  #hear({ headers }, sent, token) {
    const date = headers.has('age') ? NaN : moment(headers.get('date'), NaN);
    if (!Number.isNaN(date)) this.#clock.learn(date, sent);
    if (token !== this.#held.token || this.#refreshing || this.#lost) return;
    const refreshAt = moment(headers.get('x-token-refresh-at'), this.#refreshAt);
    const sunset = moment(headers.get('sunset'), Infinity);
    if (sunset < this.#end) { // it is being rotated, by the server or by somebody who has it, too
      const now = this.#clock.now();
      this.#end = sunset;
      this.#due = now + this.#options.random() * this.#options.jitter * Math.max(0, sunset - now);
    } else if (refreshAt !== this.#refreshAt && this.#due !== -Infinity) {
      this.#refreshAt = refreshAt;
      this.#due = this.#spread(refreshAt);
    }
    this.#schedule();
  }

  // -- the rotation

  // Ask until there is an answer, always for the same rotation, and store it before it is
  // used.  Before it is asked for, the file says that it may have happened; where that
  // cannot be stored, nothing is asked for yet.
  async #rotate(old) {
    for (let attempt = 0, answer = null; ; attempt++) {
      try {
        await this.#pause(this.#restUntil - mono());
        if (await this.#reread()) return; // another process was faster
        if (old.token === this.#held.token && !this.#held.rotating) {
          await this.#file.write({ ...this.#held, rotating: true });
          this.#held = { ...this.#held, rotating: true };
        }
        answer ??= await this.#ask(old);
        if (answer.token === this.#held.token) return; // it was the right one
        const previous = { token: old.token, rotation_key: old.rotation_key, valid_until: answer.previous_valid_until };
        const held = { ...answer, previous };
        await this.#file.write(held);
        this.#adopt(held);
        this.#options.log(`rotated, next around ${this.status().refresh}`);
        return;
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        if (error instanceof Refused) {
          old = this.#doubt() ?? this.#lose(error);
        } else {
          this.#options.log(`rotation, attempt ${attempt + 1}: ${codeOf(error)}`);
          await this.#pause(this.#backoff(attempt, error.afterMs));
        }
      }
    }
  }

  // The server does not take the token.  Was a rotation of its predecessor carried out late,
  // after a crash in which the server had forgotten that the successor was in use, and made
  // it anew?  Then the same rotation has another answer now.  Once for each token.
  #doubt() {
    const { token, previous } = this.#held;
    if (!previous || this.#doubted === token || this.#clock.now() >= moment(previous.valid_until, -Infinity)) return null;
    this.#doubted = token;
    return previous;
  }

  // Refused for good.  While the token is good it is asked for again, but rarely: somebody
  // may have put right what was wrong.
  #lose(error) {
    this.#lost = error.message;
    const next = this.#clock.now() + Math.max(this.#soon(), this.#options.backoffMaxMs);
    this.#due = next < this.#end ? next : Infinity;
    this.#options.log(`no successor: ${error.message}`);
    throw error;
  }

  // One request.  The breaker counts what is no answer.
  async #ask({ token, rotation_key }) {
    const { headers, timeoutMs, fetch, breakerAfter, breakerMs } = this.#options;
    const sent = mono();
    try {
      const response = await fetch(this.#rotateUrl, {
        method: 'POST', redirect: 'manual', signal: AbortSignal.timeout(timeoutMs),
        headers: { ...headers, 'content-type': 'application/json', accept: 'application/json' },
        body: JSON.stringify(rotation_key ? { token, rotation_key } : { token }),
      });
      this.#hear(response, sent);
      const row = parsed(await response.text());
      if (!response.ok || !isSecret(row?.token)) throw this.#verdict(response, row);
      this.#failures = 0;
      return row;
    } catch (error) {
      this.#failures = error instanceof Refused ? 0 : this.#failures + 1;
      if (this.#failures >= breakerAfter) this.#restUntil = mono() + Math.min(breakerMs, this.#soon());
      throw error;
    }
  }

  // An answer without a token: tr_rotate's row with a reason, an error, or half a body.  401
  // that does not speak of the token may be a privilege that is missing at the server.
  #verdict({ ok, status, headers }, row) {
    const reason = [row?.reason, row?.details].find((text) => /^[a-z_]{1,40}$/.test(text ?? '')) ??
      /invalid_token/.exec(headers.get('www-authenticate'))?.[0];
    if (reason && reason !== 'disabled' && (ok || status === 401 || status === 403)) return new Refused(reason);
    return later(ok ? 'half an answer' : `status ${status}`, this.#clock.after(headers));
  }

  // Take what is in the file, but not an older token, which a process wrote that came late.
  async #reread() {
    const held = await this.#file.read().catch(() => this.#held);
    const older = moment(held.issued_at, Infinity) < moment(this.#held.issued_at, -Infinity);
    if (older || held.token === this.#held.token) return false;
    this.#adopt(held);
    this.#options.log('there is another token in the file');
    this.#schedule();
    return true;
  }

  // A call was answered 401: is there another token than the one it had?
  async #recover(token) {
    const other = () => this.#held.token !== token;
    if (other() || (await this.#reread())) return true;
    const previous = this.#refreshing ? null : this.#doubt();
    if (this.#refreshing || previous) {
      const enough = sleep(this.#options.timeoutMs, undefined, { ref: false });
      await Promise.race([this.refresh(previous), enough]).catch(() => {});
    }
    return other();
  }

  // Throws when the client is stopped, or the call.
  async #pause(ms, signal = this.#stop.signal) {
    const signals = [this.#stop.signal, signal];
    const woken = new AbortController();
    const wake = () => woken.abort();
    signals.forEach((each) => { each.throwIfAborted(); });
    signals.forEach((each) => { each.addEventListener('abort', wake); });
    await sleep(Math.max(0, ms), undefined, { signal: woken.signal }).finally(() => {
      signals.forEach((each) => { each.removeEventListener('abort', wake); });
    });
  }
}

// ---- the command line

async function main([command, path]) {
  const { TOKEN_FILE: file, API_URL: api, ROTATE_URL: rotateUrl = defaults.rotateUrl } = process.env;
  const known = ['get', 'rotate', 'run', 'status'].includes(command) && (path !== undefined) === (command === 'get');
  if (!known || !file || !api) throw new Error('usage: TOKEN_FILE=... API_URL=... client.mjs get PATH | rotate | run | status');
  const client = await new TokenClient({ file, api, rotateUrl }).start();
  try {
    await obey(client, command, path);
  } finally {
    await client.stop();
  }
}

async function obey(client, command, path) {
  if (command === 'get') {
    const response = await client.fetch(path);
    process.stdout.write(Buffer.from(await response.arrayBuffer()));
    if (!response.ok) process.exitCode = 1;
  } else if (command === 'rotate') {
    await client.refresh();
  } else if (command === 'status') {
    console.log(JSON.stringify(client.status(), null, 2));
  } else {
    const alive = setInterval(() => {}, 60_000);
    await new Promise((done) => { for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, done); });
    clearInterval(alive);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(await realpath(process.argv[1]).catch(() => '')).href) {
  await main(process.argv.slice(2)).catch((error) => {
    console.error(`client: ${error.message}`);
    process.exitCode = 1;
  });
}
