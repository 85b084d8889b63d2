import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;

/** JDBC over loopback TCP: lists, jsonb, vectors in text and binary, a cursor by fetch size, a batch, a timeout, errors with their hint. */
public final class JdbcTest {
    private static final String[] LABELS = {"billing", "delivery", "praise"};
    private static int passed;
    private static int failed;

    private static void check(boolean ok, String what, Object... shown) {
        if (ok) {
            passed++;
        } else {
            failed++;
            System.out.println("FAILED: " + what + " " + Arrays.toString(shown));
        }
    }

    private static String one(PreparedStatement s) throws SQLException {
        try (ResultSet r = s.executeQuery()) {
            r.next();
            return r.getString(1);
        }
    }

    private static void labels(Connection c) throws SQLException {
        Array labels = c.createArrayOf("text", LABELS);
        try (PreparedStatement s = c.prepareStatement("SELECT slm_classify(?, ?)")) {
            s.setString(1, "I was charged twice");
            s.setArray(2, labels);
            for (int i = 0; i < 7; i++) {
                check("billing".equals(one(s)), "setArray, from the sixth on prepared");
            }
            s.setObject(2, LABELS);
            check("billing".equals(one(s)), "setObject with an array");
        }
        try (PreparedStatement s = c.prepareStatement("SELECT slm_classify(?, descriptions => ?)")) {
            PGobject json = new PGobject();
            json.setType("jsonb");
            json.setValue("{\"billing\": \"charges\", \"delivery\": \"parcels\"}");
            s.setString(1, "I was charged twice");
            s.setObject(2, json);
            check("billing".equals(one(s)), "descriptions");
        }
        try (PreparedStatement s = c.prepareStatement("SELECT slm_classify_multi(?, ?, threshold => 0)")) {
            s.setString(1, "x");
            s.setArray(2, labels);
            try (ResultSet r = s.executeQuery()) {
                r.next();
                check(Arrays.equals((String[]) r.getArray(1).getArray(), LABELS), "several labels");
            }
        }
    }

    private static void vectors(Connection c) throws SQLException {
        try (PreparedStatement s = c.prepareStatement("SELECT slm_embed(?)")) {
            s.setString(1, "a parcel");
            for (int i = 0; i < 7; i++) {
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    check(((Float[]) r.getArray(1).getArray()).length == 384, "a vector, in text, then in binary");
                }
            }
        }
        try (PreparedStatement s = c.prepareStatement("SELECT count(*) FROM slm_embed_many(?)")) {
            s.setArray(1, c.createArrayOf("text", new String[] {"a", "b", null}));
            check("3".equals(one(s)), "many");
        }
    }

    private static void statements(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (PreparedStatement s = c.prepareStatement("SELECT slm_classify(body, ?) FROM tickets WHERE id < 4 ORDER BY id")) {
            s.setFetchSize(1);
            s.setArray(1, c.createArrayOf("text", LABELS));
            int n = 0;
            try (ResultSet r = s.executeQuery()) {
                while (r.next()) {
                    check(LABELS[n++].equals(r.getString(1)), "a row of a cursor");
                }
            }
            check(n == 3, "its rows", n);
        }
        try (PreparedStatement s = c.prepareStatement("UPDATE tickets SET label = slm_classify(body, ?) WHERE id = ?")) {
            for (int id = 1; id < 4; id++) {
                s.setArray(1, c.createArrayOf("text", LABELS));
                s.setInt(2, id);
                s.addBatch();
            }
            check(Arrays.equals(s.executeBatch(), new int[] {1, 1, 1}), "a batch");
        }
        try (Statement s = c.createStatement()) {
            s.setFetchSize(1);
            ResultSet r = s.executeQuery("SELECT slm_generate_stream('Count to fifty.', max_tokens => 8)");
            check(r.next() && r.getString(1) != null, "the first piece of a stream");
        }
        c.rollback();
        c.setAutoCommit(true);
        try (PreparedStatement s = c.prepareStatement("SELECT slm_classify('x', ?)")) {
            s.setArray(1, c.createArrayOf("text", new String[0]));
            one(s);
            check(false, "no labels");
        } catch (PSQLException e) {
            check("22023".equals(e.getSQLState()) && e.getServerErrorMessage().getHint().contains("ARRAY['billing'"), "no labels", e);
        }
        long begin = System.nanoTime();
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            s.executeQuery("SELECT slm_generate('Tell a very long story.', max_tokens => 4000, seed => n) FROM generate_series(1, 50) n");
            check(false, "a timeout");
        } catch (SQLException e) {
            check("57014".equals(e.getSQLState()) && System.nanoTime() - begin < 10_000_000_000L, "a timeout", e);
        }
    }

    public static void main(String[] arguments) throws SQLException {
        try (Connection c = DriverManager.getConnection(arguments[0])) {
            labels(c);
            vectors(c);
            statements(c);
        }
        System.out.printf("jdbc: %d passed, %d failed%n", passed, failed);
        System.exit(failed > 0 ? 1 : 0);
    }
}
