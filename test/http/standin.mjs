// A stand-in for PostgREST, for tests: it makes PostgREST's transaction and its answers for
// function calls, and for plain reads and inserts, as the documentation of PostgREST 16 has
// them (https://docs.postgrest.org/en/v16/, "D" below).  It is not PostgREST: there are no
// filters, no embedding, no OpenAPI, no media types but JSON and forms.
//
//   node standin.mjs postgrest.conf
//
// Of the file it reads db-schemas (one), db-anon-role, db-pre-request, db-extra-search-path,
// db-pool, jwt-secret, server-port and app.settings.*; PGRST_SERVER_PORT and the like go
// before (D references/configuration.html).  Where the database is, PGHOST and its kin say.
// Says where it listens, then a line for each request.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import pg from 'pg';

const config = { 'db-extra-search-path': 'public', 'db-pool': '2', 'server-port': '3000' };
for (const line of readFileSync(process.argv[2], 'utf8').split('\n')) {
  const [, key, value] = /^\s*([\w.-]+)\s*=\s*"?(.*?)"?\s*$/.exec(line) ?? [];
  if (key) config[key] = value;
}
for (const [key, value] of Object.entries(process.env)) {
  if (key.startsWith('PGRST_')) config[key.slice(6).toLowerCase().replaceAll('_', '-')] = value;
}
const schema = config['db-schemas'];
const anon = config['db-anon-role'];
const ident = (name) => pg.escapeIdentifier(name);
const inSchema = (name) => `${ident(schema)}.${ident(name)}`;
const isRead = ({ method }) => method === 'GET' || method === 'HEAD';

// 1. A small pool (PostgREST has 10), logged in as the authenticator (D references/auth.html#overview-of-role-system,
// references/connection_pool.html).  A connection that breaks is no end.
const pool = new pg.Pool({ max: Number(config['db-pool']) });
pool.on('error', () => {});

// All statements are prepared once in a connection, so that what a cached plan does is seen
// (D references/transactions.html#main-query).
const statements = new Map();
function prepared(text, values = []) {
  if (!statements.has(text)) statements.set(text, `s${statements.size + 1}`);
  return { name: statements.get(text), text, values };
}

// What PostgREST knows beforehand of the schema (D references/schema_cache.html), and of the
// settings of roles (D references/transactions.html#impersonated-role-settings).
const functions = (await pool.query(
  `SELECT p.proname AS name, p.provolatile AS volatility, p.proretset AS "set", p.proconfig AS config,
     p.prorettype = 'void'::regtype AS void, t.typtype = 'c' OR t.oid = 'record'::regtype AS composite,
     p.pronargs - p.pronargdefaults AS required,
     ARRAY(SELECT json_build_object('name', p.proargnames[n], 'type', format_type(p.proargtypes[n - 1], NULL))
       FROM generate_series(1, p.pronargs) n) AS arguments
   FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
   WHERE p.pronamespace = $1::regnamespace AND p.prokind = 'f'`, [schema])).rows;
const relations = (await pool.query(
  `SELECT c.relname AS name,
     (SELECT json_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)) FROM pg_attribute a
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
   FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'v', 'm', 'f', 'p')`, [schema])).rows;
const roles = (await pool.query(
  `SELECT rolname AS name, rolconfig AS config FROM pg_roles
   WHERE rolconfig IS NOT NULL AND pg_has_role(oid, 'MEMBER')`)).rows;

const pairs = (list) => (list ?? []).map((s) => [s.slice(0, s.indexOf('=')), s.slice(s.indexOf('=') + 1)]);
const roleSettings = (role) => pairs(roles.find((r) => r.name === role)?.config);
const hoisted = ['statement_timeout', 'plan_filter.statement_cost_limit', 'default_transaction_isolation'];

class Refusal extends Error {
  constructor(status, code, message, headers = {}, details = null, hint = null) {
    super(message);
    Object.assign(this, { status, headers, body: { code, details, hint, message } });
  }
}

// 2. What follows Bearer is a JWT; other schemes are nobody's, who is the anonymous role
// (D references/auth.html#bearer-authentication, references/errors.html#group-3-jwt).
function refuseJwt(message) {
  const challenge = `Bearer error="invalid_token", error_description=${JSON.stringify(message)}`;
  const code = message === 'JWT expired' ? 'PGRST303' : 'PGRST301';
  return new Refusal(401, code, message, { 'WWW-Authenticate': challenge });
}

function authenticate(authorization = '') {
  const [scheme, token = ''] = /^bearer(?:\s+(.*))?$/i.exec(authorization) ?? [];
  if (scheme === undefined) return { claims: {}, role: anon };
  if (!config['jwt-secret']) throw new Refusal(500, 'PGRST300', 'Server lacks JWT secret');
  if (token === '') throw refuseJwt('Empty JWT is sent in Authorization header');
  const parts = token.split('.');
  if (parts.length !== 3) throw refuseJwt(`Expected 3 parts in JWT; got ${parts.length}`);
  const mac = createHmac('sha256', config['jwt-secret']).update(`${parts[0]}.${parts[1]}`).digest();
  const given = Buffer.from(parts[2], 'base64url');
  if (given.length !== mac.length || !timingSafeEqual(given, mac)) {
    throw refuseJwt('JWT cryptographic operation failed');
  }
  const claims = JSON.parse(Buffer.from(parts[1], 'base64url'));
  if (claims.exp !== undefined && claims.exp < Date.now() / 1000 - 30) throw refuseJwt('JWT expired');
  return { claims, role: claims.role ?? anon };
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    throw new Refusal(400, 'PGRST102', 'Empty or invalid json');
  }
}

// Rows of a JSON value, as these columns.
const unpacked = (names, types, how) => `SELECT ${names.map(ident).join(', ')}
  FROM ${how}(pgrst_payload.json_data) AS _(${names.map((n, i) => `${ident(n)} ${types[i]}`).join(', ')})`;

// 6. The main query: what is asked for, as JSON, and in the same SELECT what was set for the
// answer (D references/transactions.html#main-query, #response-headers).
const main = (source, body) => `WITH pgrst_source AS (${source})
  SELECT pg_catalog.count(_postgrest_t) AS page_total, (${body})::text AS body,
    nullif(current_setting('response.headers', true), '') AS response_headers,
    nullif(current_setting('response.status', true), '') AS response_status
  FROM (SELECT * FROM pgrst_source) _postgrest_t`;
const anArray = "coalesce(json_agg(_postgrest_t), '[]')";

// A function, by its name and those of its arguments, which are JSON, a form, or in the URL
// (D references/api/functions.html).
function planCall(name, request) {
  const reads = isRead(request);
  if (!reads && request.method !== 'POST') {
    throw new Refusal(405, 'PGRST101', `Cannot use the ${request.method} method on RPC`);
  }
  const form = reads || /^application\/x-www-form-urlencoded/.test(request.headers['content-type'] ?? '');
  const given = !form ? parse(request.body || '{}')
    : Object.fromEntries(reads ? request.query : new URLSearchParams(request.body));
  if (reads) delete given.select;
  const names = Object.keys(given).sort();
  const f = functions.find((x) => x.name === name &&
    names.every((n) => x.arguments.some((a) => a.name === n)) &&
    x.arguments.slice(0, x.required).every((a) => names.includes(a.name)));
  if (!f) {
    const called = `${schema}.${name}(${names.join(', ')})`;
    throw new Refusal(404, 'PGRST202', `Could not find the function ${called} in the schema cache`);
  }
  const types = names.map((n) => f.arguments.find((a) => a.name === n).type);
  const list = names.map((n, i) => `${ident(n)} := ${form ? `$${i + 1}::${types[i]}` : `pgrst_body.${ident(n)}`}`);
  const from = form || names.length === 0 ? '' : `(SELECT $1::json AS json_data) pgrst_payload,
    LATERAL (${unpacked(names, types, 'json_to_record')} LIMIT 1) pgrst_body, LATERAL `;
  const call = `${inSchema(name)}(${list.join(', ')})`;
  // 8. One composite is an object, a set is an array, void is nothing (D references/api/functions.html).
  const all = `json_agg(${f.composite ? '_postgrest_t' : '_postgrest_t.pgrst_scalar'})`;
  const shape = f.void ? "''" : f.set ? `coalesce(${all}, '[]')` : `coalesce(${all}->0, 'null')`;
  const source = f.composite ? `SELECT pgrst_call.* FROM ${from}${call} pgrst_call`
    : `SELECT pgrst_call.pgrst_scalar FROM ${from}(SELECT ${call} pgrst_scalar) pgrst_call`;
  return {
    readOnly: reads || f.volatility !== 'v', // 3. D references/transactions.html#access-mode-on-functions
    settings: pairs(f.config).filter(([n]) => hoisted.includes(n)),
    text: main(source, shape),
    values: form ? names.map((n) => given[n]) : names.length ? [JSON.stringify(given)] : [],
    status: f.void ? 204 : 200,
  };
}

// A relation: some of its columns, or rows for it (D references/api/tables_views.html).
function planRelation(name, request) {
  const relation = relations.find((x) => x.name === name);
  if (!relation) {
    throw new Refusal(404, 'PGRST205', `Could not find the table '${schema}.${name}' in the schema cache`);
  }
  const { query } = request;
  if (![...query.keys()].every((k) => k === 'select' || k === 'columns')) {
    throw new Refusal(501, 'STANDIN', 'the stand-in has no filters');
  }
  const columns = (query.get('select') ?? '*').split(',').map((c) => (c === '*' ? c : ident(c))).join(', ');
  if (isRead(request)) { // 3. D references/transactions.html#access-mode-on-tables-and-views
    const text = main(`SELECT ${columns} FROM ${inSchema(name)}`, anArray);
    return { readOnly: true, settings: [], text, values: [], status: 200 };
  }
  if (request.method !== 'POST') throw new Refusal(501, 'STANDIN', 'the stand-in neither updates nor deletes');
  const rows = [parse(request.body)].flat();
  const names = query.get('columns')?.replaceAll('"', '').split(',') ?? Object.keys(rows[0]);
  const shown = /return=representation/.test(request.headers.prefer ?? '');
  const source = `INSERT INTO ${inSchema(name)} (${names.map(ident).join(', ')})
    SELECT pgrst_body.* FROM (SELECT $1::json AS json_data) pgrst_payload,
      LATERAL (${unpacked(names, names.map((n) => relation.columns[n]), 'json_to_recordset')}) pgrst_body
    RETURNING ${shown ? columns : '1'}`;
  const text = main(source, shown ? anArray : "''");
  return { readOnly: false, settings: [], text, values: [JSON.stringify(rows)], status: 201 };
}

// 4. One statement sets everything, with bound values, in this order
// (D references/transactions.html#transaction-scoped-settings).
function settings(request, plan, { claims, role }) {
  const { cookie, ...headers } = request.headers;
  const cookies = Object.fromEntries((cookie ?? '').split(/;\s*/).filter((c) => c.includes('='))
    .map((c) => c.split('=')));
  const list = [
    ['search_path', [schema, ...config['db-extra-search-path'].split(/\s*,\s*/)].map(ident).join(', ')],
    ...roleSettings(role),
    ['role', role],
    ['request.jwt.claims', JSON.stringify({ ...claims, role })],
    ['request.method', request.method],
    ['request.path', request.path],
    ['request.headers', JSON.stringify(headers)],
    ['request.cookies', JSON.stringify(cookies)],
    ...plan.settings,
    ...Object.entries(config).filter(([n]) => n.startsWith('app.settings.')),
  ];
  const calls = list.map(([n], i) => `set_config(${pg.escapeLiteral(n)}, $${i + 1}, true)`);
  return prepared(`select ${calls.join(', ')}`, list.map(([, value]) => value));
}

// 3 to 7. The transaction: what fails is rolled back, nothing is tried again
// (D references/transactions.html, with #isolation-level, #pre-request, #transaction-end).
async function transaction(request, plan, who) {
  const level = new Map([...roleSettings(who.role), ...plan.settings]).get('default_transaction_isolation');
  const hook = config['db-pre-request'];
  const client = await pool.connect();
  let broken;
  try {
    const mode = plan.readOnly ? 'READ ONLY' : 'READ WRITE';
    await client.query(`BEGIN ISOLATION LEVEL ${level ?? 'READ COMMITTED'} ${mode}`);
    await client.query(settings(request, plan, who));
    if (hook) await client.query(prepared(`select ${hook.split('.').map(ident).join('.')}()`)); // 5
    const { rows: [row] } = await client.query(prepared(plan.text, plan.values));
    await client.query('COMMIT');
    return row;
  } catch (error) {
    await client.query('ROLLBACK').catch((e) => { broken = e; });
    throw error;
  } finally {
    client.release(broken);
  }
}

// 7. SQLSTATEs as statuses, the first that fits (D references/errors.html#http-status-codes,
// #raise-errors-with-http-status-codes).  That a privilege is missing is 401 where PostgREST's
// own role is the anonymous one, whomever the hook let in.
const statuses = [
  [/^25006$/, 405], [/^57P01$/, 503], [/^08/, 503], [/^(0L|0P|28)/, 403], [/^2350[35]$/, 409], [/^53400$/, 500],
  [/^53/, 503], [/^P0001$/, 400], [/^(42883|42P01)$/, 404], [/^(42P17|21000)$/, 500],
  [/^(09|25|2D|38|39|3B|40|54|55|57|58|F0|HV|P0|XX)/, 500],
];

function statusOf(code, message, role) {
  if (code.startsWith('PT')) return Number(code.slice(2)) || 500;
  if (code === '42501') return role === anon ? 401 : 403;
  if (code === '22023' && /^role .* does not exist$/.test(message)) return 401;
  return statuses.find(([pattern]) => pattern.test(code))?.[1] ?? 400;
}

function refusalOf(error, role) {
  if (error instanceof Refusal) return error;
  if (!(error instanceof pg.DatabaseError)) {
    return new Refusal(503, 'PGRST001', 'Database client error. Retrying the connection.');
  }
  const { code, message, detail = null, hint = null } = error;
  if (code !== 'PGRST') {
    const status = statusOf(code, message, role);
    return new Refusal(status, code, message, status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}, detail, hint);
  }
  // PostgREST's own SQLSTATE has everything in JSON (D references/errors.html#add-http-headers-with-raise).
  try {
    const body = JSON.parse(message);
    const { status, headers } = JSON.parse(detail);
    if (!body.code || !body.message || !status || !headers) throw new Error('a key is missing');
    return new Refusal(status, body.code, body.message, headers, body.details ?? null, body.hint ?? null);
  } catch {
    return new Refusal(500, 'PGRST121', 'Could not parse JSON in the "RAISE SQLSTATE \'PGRST\'" error');
  }
}

// 8. What was set for the answer: an array of objects with one member each, and a number
// (D references/transactions.html#response-headers, #response-status-code).
function answerOf(row, status) {
  const headers = [];
  try {
    for (const object of JSON.parse(row.response_headers ?? '[]')) {
      const [[name, value], ...more] = Object.entries(object);
      if (more.length || typeof value !== 'string') throw new Error('not one text');
      headers.push([name, value]);
    }
  } catch {
    throw new Refusal(500, 'PGRST111',
      'response.headers guc must be a JSON array composed of objects with a single key and a string value');
  }
  if (!/^\d/.test(row.response_status ?? '0')) {
    throw new Refusal(500, 'PGRST112', 'response.status guc must be a valid status code');
  }
  return { status: row.response_status === null ? status : parseInt(row.response_status, 10), headers, body: row.body };
}

async function answer(request, who) {
  const [, first, second, ...rest] = request.path.split('/').map(decodeURIComponent);
  const rpc = first === 'rpc' && second !== undefined;
  if (!first || rest.length || (second !== undefined && !rpc)) {
    throw new Refusal(404, first ? 'PGRST125' : 'PGRST126', 'Invalid path specified in request URL');
  }
  // 9. OPTIONS opens no transaction (D references/api/options.html).
  if (request.method === 'OPTIONS') return { status: 200, headers: [['Allow', 'OPTIONS,GET,HEAD,POST']], body: '' };
  const plan = rpc ? planCall(second, request) : planRelation(first, request);
  return answerOf(await transaction(request, plan, who), plan.status);
}

async function respond(incoming, outgoing) {
  const [path, query] = incoming.url.split('?');
  const { method, headers } = incoming;
  const request = { method, path, query: new URLSearchParams(query), headers, body: '' };
  let role = '-';
  let out;
  try {
    for await (const chunk of incoming.setEncoding('utf8')) request.body += chunk;
    const who = authenticate(headers.authorization);
    role = who.role;
    out = await answer(request, who);
  } catch (error) {
    const refusal = refusalOf(error, role);
    out = { ...refusal, headers: Object.entries(refusal.headers), body: JSON.stringify(refusal.body) };
  }
  const typed = out.body === '' || out.headers.some(([name]) => /^content-type$/i.test(name));
  const own = typed ? [] : [['Content-Type', 'application/json; charset=utf-8']];
  outgoing.writeHead(out.status, [...own, ...out.headers].flat());
  outgoing.end(method === 'HEAD' ? '' : out.body);
  console.log(`${role} "${method} ${incoming.url}" ${out.status}`);
}

const server = http.createServer(respond);
server.listen(Number(config['server-port']), '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
