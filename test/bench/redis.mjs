// Measures for test/bench/redis, which starts it: whose token is this, may he read
// orders, and which row is it?  For each of two drivers, four ways:
//
//   statement   one statement, a join of tr_validate with the row
//   redis       SHA-256 of the token, its record from Redis, JSON; then the row from
//               PostgreSQL
//   bound       BEGIN, tr_authenticate, the row under row security, COMMIT
//   row         only the row: what none of them can be faster than
//
// All talk to their servers over Unix sockets, as on one machine; the first two also over
// TCP, as in a network, but one that costs next to nothing: each further round trip
// through a real one is a loss for Redis.
//
// Each is measured in a process of its own, in which as many callers as there are
// connections ask again and again for a row at random, each time waiting for the answer.
// So the code of one is not compiled for the types of another, and what was compiled
// and prepared in two rounds that are not counted serves in the next.  In each round all
// have their turn, one after the other, in an order that moves on by one: neither a
// machine that warms up nor a neighbour that wakes up favours anybody.
//
// Why this is fair: all prepare their statements; they answer the same row, and every
// answer is looked at.  Where they differ it favours Redis: its record holds no more than
// the question needs, it is not told of use, cutoffs and blocked clients, and nothing is
// written to disk.  All commands share one connection, with ioredis's automatic pipelining
// where that is faster (REDIS_PIPELINE).
//
// Arguments: rounds, seconds, callers, tokens, Redis's socket and port.

import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { fileURLToPath } from 'node:url';
import process from 'node:process';
import Redis from 'ioredis';
import pg from 'pg';
import postgres from 'postgres';

const [rounds, seconds, callers, tokens] = process.argv.slice(2, 6).map(Number);
const [redisSocket, redisPort] = process.argv.slice(6, 8);
const [driverName, wayName, transport] = process.argv.slice(8);
const overTcp = transport === 'TCP';
const host = overTcp ? '127.0.0.1' : process.env.PGHOST;

// ---- drivers: a tag that runs a statement, prepared, and answers its rows

const drivers = {
  'node-postgres': () => {
    const pool = new pg.Pool({ max: callers, host });
    const prepared = new Map();
    const tag = (client) => (strings, ...values) => {
      let statement = prepared.get(strings);
      if (!statement) {
        statement = { name: `s${prepared.size}`, text: strings.reduce((text, part, i) => `${text}$${i}${part}`) };
        prepared.set(strings, statement);
      }
      return client.query({ name: statement.name, text: statement.text, values }).then(({ rows }) => rows);
    };
    const sql = tag(pool);
    sql.begin = async (work) => {
      const client = await pool.connect();
      try {
        await client.query('BEGIN');
        const answer = await work(tag(client));
        await client.query('COMMIT');
        return answer;
      } catch (error) {
        await client.query('ROLLBACK');
        throw error;
      } finally {
        client.release();
      }
    };
    return sql;
  },
  'postgres.js': () => postgres({ max: callers, host }),
};

// ---- ways: the row, or undefined for who may not have it

async function redisFirst(redis, sql, token, id) {
  const record = JSON.parse(await redis.get(createHash('sha256').update(token).digest('hex')));
  if (record?.status !== 'active' || record.expires_at <= Date.now() || !record.scopes.includes('orders:read')) {
    return undefined;
  }
  const rows = await sql`SELECT o.* FROM orders o WHERE o.id = ${id} AND o.client_id = ${record.client_id}`;
  return rows[0];
}

const redisOptions = {
  enableAutoPipelining: process.env.REDIS_PIPELINE === '1',
  ...(overTcp ? { host, port: Number(redisPort) } : { path: redisSocket }),
};

const ways = {
  statement: (sql) => async (token, id) => {
    const rows = await sql`
      SELECT o.* FROM tr_validate(${token}) v JOIN orders o USING (client_id)
      WHERE v.valid AND 'orders:read' = ANY (v.scopes) AND o.id = ${id}`;
    return rows[0];
  },
  redis: (sql) => redisFirst.bind(null, new Redis(redisOptions), sql),
  bound: (sql) => async (token, id) => {
    try {
      return await sql.begin(async (transaction) => {
        await transaction`SELECT FROM tr_authenticate(${token}, 'orders:read')`;
        const rows = await transaction`SELECT o.* FROM own_orders o WHERE o.id = ${id}`;
        return rows[0];
      });
    } catch (error) {
      if (error.code === '28000' || error.code === '42501') {
        return undefined;
      }
      throw error;
    }
  },
  row: (sql) => async (token, id) => (await sql`SELECT o.* FROM orders o WHERE o.id = ${id}`)[0],
};

// ---- a process that measures one way with one driver

async function candidate() {
  const sql = drivers[driverName]();
  const find = ways[wayName](sql);
  const issued = (await sql`SELECT token FROM token ORDER BY n`).map(({ token }) => token);
  const client = (n) => `client-${n % Math.max(Math.floor(tokens / 10), 1)}`;

  async function verify() {
    const expect = async (token, id, row) => {
      const found = await find(token, id);
      if (!isDeepStrictEqual(found && { ...found }, row)) {
        throw new Error(`${driverName}, ${wayName}: order ${id}: ${JSON.stringify(found)}`);
      }
    };
    for (let n = 1; n <= tokens; n += Math.ceil(tokens / 500)) {
      await expect(issued[n - 1], n, { id: n, client_id: client(n), item: `item ${n}`, total: n % 1000 });
    }
    if (wayName !== 'row') {
      await expect(issued[0], 2);
      await expect(issued[tokens], tokens + 1);
      await expect(issued[tokens + 1], tokens + 2);
      await expect(`${issued[0].slice(0, -1)}?`, 1);
    }
    return {};
  }

  async function measure() {
    const times = [];
    const cpu = process.cpuUsage();
    const begin = performance.now();
    const end = begin + seconds * 1000;
    await Promise.all(Array.from({ length: callers }, async () => {
      for (let start = begin; start < end;) {
        const n = 1 + Math.floor(Math.random() * tokens);
        const row = await find(issued[n - 1], n);
        if (row?.id !== n) {
          throw new Error(`${driverName}, ${wayName}: ${JSON.stringify(row)} instead of order ${n}`);
        }
        const now = performance.now();
        times.push(now - start);
        start = now;
      }
    }));
    const elapsed = performance.now() - begin;
    const { user, system } = process.cpuUsage(cpu);
    const sorted = Float64Array.from(times).sort();
    const part = (share) => sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)];
    return {
      perSecond: sorted.length / elapsed * 1000,
      p50: part(0.5),
      p99: part(0.99),
      cpu: (user + system) / sorted.length,
    };
  }

  const tasks = { verify, measure };
  process.on('message', async (task) => process.send(await tasks[task]()));
  process.on('disconnect', () => process.exit());
  process.send({});
}

// ---- the process that has them take turns

function start(name) {
  const child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), ...name]);
  const gone = once(child, 'exit').then(([code]) => {
    throw new Error(`${name.join(', ')} ended with ${code}`);
  });
  const answer = async () => (await Promise.race([once(child, 'message'), gone]))[0];
  return {
    ready: answer(),
    ask(task) {
      child.send(task);
      return answer();
    },
  };
}

async function fillRedis() {
  const sql = drivers['node-postgres']();
  const redis = new Redis({ path: redisSocket });
  for (let n = 0; n < tokens + 2; n += 1000) {
    const commands = redis.pipeline();
    for (const { token, record } of await sql`SELECT token, record FROM token WHERE n > ${n} AND n <= ${n + 1000}`) {
      commands.set(createHash('sha256').update(token).digest('hex'), JSON.stringify(record));
    }
    await commands.exec();
  }
  if (await redis.dbsize() !== tokens + 2) {
    throw new Error('Redis does not hold every token');
  }
}

function middle(list) {
  const sorted = Float64Array.from(list).sort();
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

const measured = [
  ['statement', 'Unix', 'one statement, tr_validate joined', '≥ 1.80'],
  ['redis', 'Unix', 'Redis, then the row', ''],
  ['bound', 'Unix', 'BEGIN, tr_authenticate, row security, COMMIT', ''],
  ['row', 'Unix', 'the row alone, whoever asks', ''],
  ['statement', 'TCP', 'one statement, tr_validate joined, TCP', '≥ 1.80'],
  ['redis', 'TCP', 'Redis, then the row, TCP', ''],
];

// The ratio within a round is to Redis over the same transport.
function report(driver, figures) {
  const { version } = JSON.parse(readFileSync(
    new URL(`node_modules/${driver === 'node-postgres' ? 'pg' : 'postgres'}/package.json`, import.meta.url)));
  const heading = `${driver} ${version}: ${callers} callers, prepared, ${seconds} s each`;
  console.log(`\n${heading}\n  ${''.padEnd(46)}per second   of Redis     rounds       p50 ms  p99 ms  Node's µs  goal`);
  for (const [way, over, text, goal] of measured) {
    const of = (name) => figures[way + over].map((figure) => figure[name]);
    const ratios = of('perSecond').map((figure, round) => figure / figures[`redis${over}`][round].perSecond);
    console.log(`  ${text.padEnd(46)}${middle(of('perSecond')).toFixed(0).padStart(10)}`
      + `${middle(ratios).toFixed(2).padStart(11)}`
      + `   ${Math.min(...ratios).toFixed(2).padStart(4)} to ${Math.max(...ratios).toFixed(2).padEnd(4)}`
      + `${middle(of('p50')).toFixed(2).padStart(10)}${middle(of('p99')).toFixed(2).padStart(8)}`
      + `${middle(of('cpu')).toFixed(1).padStart(11)}  ${goal}`.trimEnd());
  }
}

async function main() {
  const begin = Date.now();
  const progress = (text) => console.error(`${String(Math.round((Date.now() - begin) / 1000)).padStart(4)} s  ${text}`);
  const names = Object.keys(drivers).flatMap((driver) => measured.map(([way, over]) => [driver, way, over]));
  const figures = Object.fromEntries(Object.keys(drivers).map((driver) =>
    [driver, Object.fromEntries(measured.map(([way, over]) => [way + over, []]))]));
  await fillRedis();
  const candidates = names.map(start);
  await Promise.all(candidates.map(({ ready }) => ready));
  const verify = async () => {
    for (const one of candidates) {
      await one.ask('verify');
    }
  };
  await verify();
  for (let round = -1; round <= rounds; round++) {
    progress(round > 0 ? `round ${round} of ${rounds}` : 'warming up');
    for (let i = 0; i < names.length; i++) {
      const turn = (i + round + names.length) % names.length;
      const [driver, way, over] = names[turn];
      const figure = await candidates[turn].ask('measure');
      if (round > 0) {
        figures[driver][way + over].push(figure);
      }
    }
  }
  await verify();
  for (const driver of Object.keys(drivers)) {
    report(driver, figures[driver]);
  }
  process.exit();
}

await (driverName ? candidate() : main());
