# The story of 094_drivers.pl through psycopg (version 3).
#
# It says in lines of a name and JSON what came back; the test knows what that must be.
import json
import os
from datetime import datetime, timedelta, timezone
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

pooled = {"prepare_threshold": None}
conn = psycopg.connect(autocommit=True, row_factory=dict_row, **(pooled if "TR_POOLED" in os.environ else {}))


# What a request does, as the client whose token it brought: one transaction.
def as_client(token, work):
    with conn.transaction():
        conn.execute("SELECT client_id FROM tr_authenticate(%s)", [token])
        return work()


def row(sql, values=None):
    return conn.execute(sql, values).fetchone()


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


issued = row("SELECT * FROM tr_issue(%s, scopes => %s, metadata => %s)",
             [os.environ["TR_CLIENT"], ["orders", "odd,{scope}"], Jsonb({"team": "Zoë", "seats": 3, "none": None})])
note(issued, "token", "rotation_key", "token_id", "scopes", "metadata", "expires_at")
say("issued", {
    **{name: issued[name] for name in ("client_id", "owner", "status", "rotation_key", "scopes", "metadata")},
    "own_family": issued["token_id"] == issued["family_id"],
    "life": (issued["expires_at"] - issued["issued_at"]) / timedelta(milliseconds=1),
    "just_now": abs(datetime.now(timezone.utc) - issued["issued_at"]) < timedelta(minutes=1),
})


def order():
    bound = row("SELECT tr_client() AS client, tr_token_id() AS id, tr_scopes() AS scopes")
    say("bound", {"client": bound["client"], "same_id": bound["id"] == issued["token_id"], "scopes": bound["scopes"]})
    conn.execute("INSERT INTO orders (id, placed_at, tags, body, note) VALUES (%s, %s, %s, %s, %s)", [
        UUID("5f3b1c2e-7a90-4d1e-8c55-0123456789ab"),
        datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=timezone.utc),
        ["plain", "with space", 'comma, {brace} "quote" \\', None],
        Jsonb({"n": 1.5, "deep": {"list": [1, "two", None]}, "on": True}), None])
    orders = conn.execute("SELECT id, client_id, placed_at, tags, body, note FROM orders").fetchall()
    note(orders[0], "id", "placed_at", "tags", "body", "note")
    say("orders", orders)


as_client(issued["token"], order)
say("after", row("SELECT tr_client() AS client, (SELECT count(*) FROM orders) AS rows"))


def rotate(token):
    return row("SELECT * FROM tr_rotate(%s)", [token])


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
say("both", conn.execute("SELECT valid, status FROM tr_validate_many(%s) ORDER BY ord",
                         [[issued["token"], successor["token"]]]).fetchall())

conn.execute("SELECT tr_revoke(%s)", [issued["token"]])
try:
    as_client(issued["token"], lambda: None)
except psycopg.errors.InvalidAuthorizationSpecification as error:
    say("refused", {"sqlstate": error.sqlstate, "detail": error.diag.message_detail})
say("usable", as_client(successor["token"], lambda: row("SELECT count(*) AS rows FROM orders")))

# (often enough for a driver that prepares what it has run five times)
requests = 0
while requests < 10:
    as_client(successor["token"], lambda: conn.execute("SELECT FROM orders"))
    requests += 1
say("requests", requests)
say("nothing", row("SELECT valid, reason, client_id, scopes, metadata, valid_until, token_id FROM tr_validate(%s)",
                   ["trk_nonsense"]))
say("types", types)
