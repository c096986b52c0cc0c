import java.util.Locale;
import org.apache.hadoop.hive.ql.exec.UDF;

/** A function for tests, in a jar of its own: whoever calls it has loaded that jar. */
public final class Shout extends UDF {
    public String evaluate(String text) {
        return text == null ? null : text.toUpperCase(Locale.ROOT) + "!";
    }
}
