// The story of 094_drivers.pl through postgres.js (npm: postgres).
//
// It says in lines of a name and JSON what came back; the test knows what that must be.
import postgres from 'postgres';

const pooled = { prepare: false };
const sql = postgres({ max: 2, ...(process.env.TR_POOLED ? pooled : {}) });

// What a request does, as the client whose token it brought: one transaction.
const asClient = (token, work) => sql.begin(async (tx) => {
  await tx`SELECT client_id FROM tr_authenticate(${token})`;
  return work(tx);
});

const say = (what, value) => console.log(what, JSON.stringify(value));
const typeOf = (value) => (value === null ? 'null' : Object(value) === value ? value.constructor.name : typeof value);
const types = {};
const note = (of, ...columns) => columns.forEach((column) => { types[column] = typeOf(of[column]); });

const [issued] = await sql`
  SELECT * FROM tr_issue(${process.env.TR_CLIENT}, scopes => ${['orders', 'odd,{scope}']},
    metadata => ${{ team: 'Zoë', seats: 3, none: null }})`;
note(issued, 'token', 'rotation_key', 'token_id', 'scopes', 'metadata', 'expires_at');
say('issued', {
  client_id: issued.client_id, owner: issued.owner, status: issued.status, rotation_key: issued.rotation_key,
  scopes: issued.scopes, metadata: issued.metadata, own_family: issued.token_id === issued.family_id,
  life: issued.expires_at - issued.issued_at, just_now: Math.abs(Date.now() - issued.issued_at) < 60_000,
});

await asClient(issued.token, async (tx) => {
  const [bound] = await tx`SELECT tr_client() AS client, tr_token_id() AS id, tr_scopes() AS scopes`;
  say('bound', { client: bound.client, same_id: bound.id === issued.token_id, scopes: bound.scopes });
  const order = {
    id: '5f3b1c2e-7a90-4d1e-8c55-0123456789ab', placed_at: new Date('2026-02-03T04:05:06.789Z'),
    tags: ['plain', 'with space', 'comma, {brace} "quote" \\', null],
    body: { n: 1.5, deep: { list: [1, 'two', null] }, on: true }, note: null,
  };
  await tx`INSERT INTO orders ${tx(order)}`;
  const orders = await tx`SELECT id, client_id, placed_at, tags, body, note FROM orders`;
  note(orders[0], 'id', 'placed_at', 'tags', 'body', 'note');
  say('orders', orders);
});
say('after', (await sql`SELECT tr_client() AS client, (SELECT count(*)::int FROM orders) AS rows`)[0]);

const rotate = async (token) => (await sql`SELECT * FROM tr_rotate(${token})`)[0];
const next = await rotate(issued.token);
note(next, 'replayed');
say('rotated', {
  other: next.token !== issued.token, replayed: next.replayed, reason: next.reason, client_id: next.client_id,
  previous: next.previous_token_id === issued.token_id, overlap: next.previous_valid_until > next.issued_at,
});
const again = await rotate(issued.token);
say('again', { same: again.token === next.token, replayed: again.replayed, reason: again.reason });
say('both', await sql`SELECT valid, status FROM tr_validate_many(${[issued.token, next.token]}) ORDER BY ord`);

await sql`SELECT tr_revoke(${issued.token})`;
await asClient(issued.token, () => {}).catch((error) => {
  say('refused', { sqlstate: error.code, detail: error.detail });
});
say('usable', await asClient(next.token, async (tx) => (await tx`SELECT count(*)::int AS rows FROM orders`)[0]));
// (often enough for a driver that prepares what it has run five times)
let requests = 0;
for (; requests < 10; requests++) await asClient(next.token, (tx) => tx`SELECT FROM orders`);
say('requests', requests);
say('nothing', (await sql`
  SELECT valid, reason, client_id, scopes, metadata, valid_until, token_id FROM tr_validate(${'trk_nonsense'})`)[0]);
say('types', types);
await sql.end();
