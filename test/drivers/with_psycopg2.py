# The story of 094_drivers.pl through psycopg2.
#
# It says in lines of a name and JSON what came back; the test knows what that must be.
import json
import os
from datetime import datetime, timedelta, timezone
from uuid import UUID

import psycopg2
from psycopg2.extras import Json, RealDictCursor, register_uuid

register_uuid()
conn = psycopg2.connect("", cursor_factory=RealDictCursor)


# What a request does, as the client whose token it brought: one transaction.
def as_client(token, work):
    with conn, conn.cursor() as db:
        db.execute("SELECT client_id FROM tr_authenticate(%s)", [token])
        return work(db)


# A transaction without a client.
def rows(sql, values=None):
    with conn, conn.cursor() as db:
        db.execute(sql, values)
        return db.fetchall()


def plain(value):
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (value.microsecond // 1000)
    return str(value)


def say(what, value):
    print(what, json.dumps(value, default=plain))


types = {}


def note(of, *columns):
    for column in columns:
        types[column] = type(of[column]).__name__


issued, = rows("SELECT * FROM tr_issue(%s, scopes => %s, metadata => %s)",
               [os.environ["TR_CLIENT"], ["orders", "odd,{scope}"], Json({"team": "Zoë", "seats": 3, "none": None})])
note(issued, "token", "rotation_key", "token_id", "scopes", "metadata", "expires_at")
say("issued", {
    **{name: issued[name] for name in ("client_id", "owner", "status", "rotation_key", "scopes", "metadata")},
    "own_family": issued["token_id"] == issued["family_id"],
    "life": (issued["expires_at"] - issued["issued_at"]) / timedelta(milliseconds=1),
    "just_now": abs(datetime.now(timezone.utc) - issued["issued_at"]) < timedelta(minutes=1),
})


def order(db):
    db.execute("SELECT tr_client() AS client, tr_token_id() AS id, tr_scopes() AS scopes")
    bound = db.fetchone()
    say("bound", {"client": bound["client"], "same_id": bound["id"] == issued["token_id"], "scopes": bound["scopes"]})
    db.execute("INSERT INTO orders (id, placed_at, tags, body, note) VALUES (%s, %s, %s, %s, %s)", [
        UUID("5f3b1c2e-7a90-4d1e-8c55-0123456789ab"),
        datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=timezone.utc),
        ["plain", "with space", 'comma, {brace} "quote" \\', None],
        Json({"n": 1.5, "deep": {"list": [1, "two", None]}, "on": True}), None])
    db.execute("SELECT id, client_id, placed_at, tags, body, note FROM orders")
    orders = db.fetchall()
    note(orders[0], "id", "placed_at", "tags", "body", "note")
    say("orders", orders)


as_client(issued["token"], order)
say("after", rows("SELECT tr_client() AS client, (SELECT count(*) FROM orders) AS rows")[0])


def rotate(token):
    return rows("SELECT * FROM tr_rotate(%s)", [token])[0]


successor = rotate(issued["token"])
note(successor, "replayed")
say("rotated", {
    "other": successor["token"] != issued["token"],
    **{name: successor[name] for name in ("replayed", "reason", "client_id")},
    "previous": successor["previous_token_id"] == issued["token_id"],
    "overlap": successor["previous_valid_until"] > successor["issued_at"],
})
again = rotate(issued["token"])
say("again", {"same": again["token"] == successor["token"], "replayed": again["replayed"], "reason": again["reason"]})
say("both", rows("SELECT valid, status FROM tr_validate_many(%s) ORDER BY ord", [[issued["token"], successor["token"]]]))

rows("SELECT tr_revoke(%s)", [issued["token"]])
try:
    as_client(issued["token"], lambda db: None)
except psycopg2.errors.InvalidAuthorizationSpecification as error:
    say("refused", {"sqlstate": error.pgcode, "detail": error.diag.message_detail})


def count(db):
    db.execute("SELECT count(*) AS rows FROM orders")
    return db.fetchone()


say("usable", as_client(successor["token"], count))

# (often enough for a driver that prepares what it has run five times)
requests = 0
while requests < 10:
    as_client(successor["token"], lambda db: db.execute("SELECT FROM orders"))
    requests += 1
say("requests", requests)
say("nothing", rows("SELECT valid, reason, client_id, scopes, metadata, valid_until, token_id FROM tr_validate(%s)",
                    ["trk_nonsense"])[0])
say("types", types)
