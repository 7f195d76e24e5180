// The story of 094_drivers.pl through JDBC (PostgreSQL's own driver).
//
// It says in lines of a name and JSON what came back; the test knows what that must be.
import java.io.PrintStream;
import java.sql.*;
import java.time.*;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.*;
import org.postgresql.util.PSQLException;

public class Jdbc {
    static final PrintStream out = new PrintStream(System.out, true, java.nio.charset.StandardCharsets.UTF_8);
    static final Map<String, Object> types = new TreeMap<>();
    static Connection db;

    interface Work {
        void run() throws SQLException;
    }

    // What a request does, as the client whose token it brought: one transaction.
    static void asClient(String token, Work work) throws SQLException {
        db.setAutoCommit(false);
        try (PreparedStatement who = db.prepareStatement("SELECT client_id FROM tr_authenticate(?)")) {
            who.setString(1, token);
            who.executeQuery().close();
            work.run();
            db.commit();
        } catch (SQLException | RuntimeException error) {
            db.rollback();
            throw error;
        } finally {
            db.setAutoCommit(true);
        }
    }

    // jsonb comes as its text; so a value that is JSON already is marked.
    record Json(String text) {
    }

    static String json(Object value) {
        if (value instanceof Json j)
            return j.text();
        if (value == null || value instanceof Boolean || value instanceof Number)
            return String.valueOf(value);
        if (value instanceof Map<?, ?> map) {
            StringJoiner all = new StringJoiner(",", "{", "}");
            map.forEach((k, v) -> all.add(json(k) + ":" + json(v)));
            return all.toString();
        }
        if (value instanceof Collection<?> list) {
            StringJoiner all = new StringJoiner(",", "[", "]");
            list.forEach(v -> all.add(json(v)));
            return all.toString();
        }
        if (value instanceof OffsetDateTime t)
            return json(DateTimeFormatter.ISO_INSTANT.format(t.truncatedTo(ChronoUnit.MILLIS)));
        return '"' + value.toString().replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    static void say(String what, Object value) {
        out.println(what + " " + json(value));
    }

    // The rows of a query, each column as what a user would ask for; their types are noted.
    static List<Map<String, Object>> rows(String sql, Object... values) throws SQLException {
        List<Map<String, Object>> all = new ArrayList<>();
        try (PreparedStatement s = db.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++)
                s.setObject(i + 1, values[i]);
            if (!s.execute())
                return all;
            ResultSet r = s.getResultSet();
            ResultSetMetaData columns = r.getMetaData();
            while (r.next()) {
                Map<String, Object> row = new LinkedHashMap<>();
                for (int i = 1; i <= columns.getColumnCount(); i++) {
                    Object value = get(r, i, columns.getColumnTypeName(i));
                    row.put(columns.getColumnName(i), value);
                    types.putIfAbsent(columns.getColumnName(i), value == null ? "null"
                        : value instanceof Json ? "String" : value instanceof List ? "Array" : value.getClass().getSimpleName());
                }
                all.add(row);
            }
        }
        return all;
    }

    static Object get(ResultSet r, int i, String type) throws SQLException {
        switch (type) {
            case "timestamptz":
                return r.getObject(i, OffsetDateTime.class);
            case "uuid":
                return r.getObject(i, UUID.class);
            case "jsonb":
                return r.getString(i) == null ? null : new Json(r.getString(i));
            case "_text":
                Array array = r.getArray(i);
                return array == null ? null : Arrays.asList((String[]) array.getArray());
            default:
                return r.getObject(i);
        }
    }

    static Map<String, Object> some(Map<String, Object> row, String... names) {
        Map<String, Object> picked = new LinkedHashMap<>();
        for (String name : names)
            picked.put(name, row.get(name));
        return picked;
    }

    static Map<String, Object> rotate(String token) throws SQLException {
        return rows("SELECT * FROM tr_rotate(?)", token).get(0);
    }

    public static void main(String[] args) throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/postgres?user=app";
        if (System.getenv("TR_POOLED") != null)
            url += "&prepareThreshold=0";
        db = DriverManager.getConnection(url);

        Map<String, Object> issued = rows("SELECT * FROM tr_issue(?, scopes => ?, metadata => ?::jsonb)", System.getenv("TR_CLIENT"),
            db.createArrayOf("text", new String[] {"orders", "odd,{scope}"}), "{\"team\": \"Zo\u00eb\", \"seats\": 3, \"none\": null}").get(0);
        String token = (String) issued.get("token");
        Map<String, Object> told = some(issued, "client_id", "owner", "status", "rotation_key", "scopes", "metadata");
        OffsetDateTime from = (OffsetDateTime) issued.get("issued_at");
        told.put("own_family", issued.get("token_id").equals(issued.get("family_id")));
        told.put("life", Duration.between(from, (OffsetDateTime) issued.get("expires_at")).toMillis());
        told.put("just_now", Duration.between(from, OffsetDateTime.now()).abs().toMinutes() < 1);
        say("issued", told);

        asClient(token, () -> {
            Map<String, Object> bound = rows("SELECT tr_client() AS client, tr_token_id() AS bound_id, tr_scopes() AS scopes").get(0);
            Map<String, Object> who = some(bound, "client", "scopes");
            who.put("same_id", bound.get("bound_id").equals(issued.get("token_id")));
            say("bound", who);
            rows("INSERT INTO orders (id, placed_at, tags, body, note) VALUES (?, ?, ?, ?::jsonb, ?)",
                UUID.fromString("5f3b1c2e-7a90-4d1e-8c55-0123456789ab"), OffsetDateTime.parse("2026-02-03T04:05:06.789Z"),
                db.createArrayOf("text", new String[] {"plain", "with space", "comma, {brace} \"quote\" \\", null}),
                "{\"n\": 1.5, \"deep\": {\"list\": [1, \"two\", null]}, \"on\": true}", null);
            say("orders", rows("SELECT id, client_id, placed_at, tags, body, note FROM orders"));
        });
        say("after", rows("SELECT tr_client() AS client, (SELECT count(*) FROM orders) AS rows").get(0));

        Map<String, Object> next = rotate(token);
        Map<String, Object> rotated = some(next, "replayed", "reason", "client_id");
        rotated.put("other", !next.get("token").equals(token));
        rotated.put("previous", next.get("previous_token_id").equals(issued.get("token_id")));
        rotated.put("overlap", ((OffsetDateTime) next.get("previous_valid_until")).isAfter((OffsetDateTime) next.get("issued_at")));
        say("rotated", rotated);
        Map<String, Object> again = rotate(token);
        Map<String, Object> replay = some(again, "replayed", "reason");
        replay.put("same", again.get("token").equals(next.get("token")));
        say("again", replay);
        say("both", rows("SELECT valid, status FROM tr_validate_many(?) ORDER BY ord",
            db.createArrayOf("text", new Object[] {token, next.get("token")})));

        rows("SELECT tr_revoke(?)", token);
        try {
            asClient(token, () -> {});
        } catch (SQLException error) {
            String detail = ((PSQLException) error).getServerErrorMessage().getDetail();
            say("refused", Map.of("sqlstate", error.getSQLState(), "detail", detail));
        }
        asClient((String) next.get("token"), () -> say("usable", rows("SELECT count(*) AS rows FROM orders").get(0)));
        // (often enough for a driver that prepares what it has run five times)
        int requests = 0;
        for (; requests < 10; requests++)
            asClient((String) next.get("token"), () -> rows("SELECT count(*) AS rows FROM orders"));
        say("requests", requests);
        say("nothing", rows("SELECT valid, reason, client_id, scopes, metadata, valid_until, token_id FROM tr_validate(?)",
            "trk_nonsense").get(0));
        say("types", types);
    }
}
