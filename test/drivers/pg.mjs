// The story of 094_drivers.pl through node-postgres (npm: pg).
//
// It says in lines of a name and JSON what came back; the test knows what that must be.
import pg from 'pg';

const pool = new pg.Pool({ max: 2 });

// What a request does, as the client whose token it brought: one transaction.
async function asClient(token, work) {
  const db = await pool.connect();
  let broken;
  try {
    await db.query('BEGIN');
    await db.query('SELECT client_id FROM tr_authenticate($1)', [token]);
    const answer = await work(db);
    await db.query('COMMIT');
    return answer;
  } catch (error) {
    await db.query('ROLLBACK').catch((lost) => { broken = lost; });
    throw error;
  } finally {
    db.release(broken);
  }
}

const row = async (db, sql, values) => (await db.query(sql, values)).rows[0];
const say = (what, value) => console.log(what, JSON.stringify(value));
const typeOf = (value) => (value === null ? 'null' : Object(value) === value ? value.constructor.name : typeof value);
const types = {};
const note = (of, ...columns) => columns.forEach((column) => { types[column] = typeOf(of[column]); });

const issued = await row(pool, 'SELECT * FROM tr_issue($1, scopes => $2, metadata => $3)',
  [process.env.TR_CLIENT, ['orders', 'odd,{scope}'], { team: 'Zoë', seats: 3, none: null }]);
note(issued, 'token', 'rotation_key', 'token_id', 'scopes', 'metadata', 'expires_at');
say('issued', {
  client_id: issued.client_id, owner: issued.owner, status: issued.status, rotation_key: issued.rotation_key,
  scopes: issued.scopes, metadata: issued.metadata, own_family: issued.token_id === issued.family_id,
  life: issued.expires_at - issued.issued_at, just_now: Math.abs(Date.now() - issued.issued_at) < 60_000,
});

await asClient(issued.token, async (db) => {
  const bound = await row(db, 'SELECT tr_client() AS client, tr_token_id() AS id, tr_scopes() AS scopes');
  say('bound', { client: bound.client, same_id: bound.id === issued.token_id, scopes: bound.scopes });
  await db.query('INSERT INTO orders (id, placed_at, tags, body, note) VALUES ($1, $2, $3, $4, $5)',
    ['5f3b1c2e-7a90-4d1e-8c55-0123456789ab', new Date('2026-02-03T04:05:06.789Z'),
      ['plain', 'with space', 'comma, {brace} "quote" \\', null], { n: 1.5, deep: { list: [1, 'two', null] }, on: true }, null]);
  const orders = (await db.query('SELECT id, client_id, placed_at, tags, body, note FROM orders')).rows;
  note(orders[0], 'id', 'placed_at', 'tags', 'body', 'note');
  say('orders', orders);
});
say('after', await row(pool, 'SELECT tr_client() AS client, (SELECT count(*)::int FROM orders) AS rows'));

const rotate = (token) => row(pool, 'SELECT * FROM tr_rotate($1)', [token]);
const next = await rotate(issued.token);
note(next, 'replayed');
say('rotated', {
  other: next.token !== issued.token, replayed: next.replayed, reason: next.reason, client_id: next.client_id,
  previous: next.previous_token_id === issued.token_id, overlap: next.previous_valid_until > next.issued_at,
});
const again = await rotate(issued.token);
say('again', { same: again.token === next.token, replayed: again.replayed, reason: again.reason });
say('both', (await pool.query('SELECT valid, status FROM tr_validate_many($1) ORDER BY ord', [[issued.token, next.token]])).rows);

await pool.query('SELECT tr_revoke($1)', [issued.token]);
await asClient(issued.token, () => {}).catch((error) => {
  say('refused', { sqlstate: error.code, detail: error.detail });
});
say('usable', await asClient(next.token, (db) => row(db, 'SELECT count(*)::int AS rows FROM orders')));
// (often enough for a driver that prepares what it has run five times)
let requests = 0;
for (; requests < 10; requests++) await asClient(next.token, (db) => db.query('SELECT FROM orders'));
say('requests', requests);
say('nothing', await row(pool,
  'SELECT valid, reason, client_id, scopes, metadata, valid_until, token_id FROM tr_validate($1)', ['trk_nonsense']));
say('types', types);
await pool.end();
