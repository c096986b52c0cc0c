import java.io.IOException;
import java.lang.reflect.Field;
import java.net.InetAddress;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A Hive Metastore, or its schema tool, over the SQL URL of its database: writes the configuration, then becomes Hive's own
 * program. `FOLDER/conf` must be the first entry of the class path; all that it writes is below FOLDER.
 */
public final class Hms {
    private static final String USAGE = "usage: version | serve VERSION PORT FOLDER URL [NAME=VALUE ...]"
            + " | schematool VERSION FOLDER URL ARGUMENT ...";

    public static void main(String[] arguments) throws Throwable {
        String verb = arguments.length == 0 ? "" : arguments[0];
        if (verb.equals("version")) {
            // It cannot be loaded if one of its jars is missing.
            Class<?> server = Class.forName("org.apache.hadoop.hive.metastore.HiveMetaStore");
            Class.forName("org.apache.hive.hcatalog.listener.DbNotificationListener");
            System.out.println(server.getProtectionDomain().getCodeSource().getLocation());
        } else if (verb.equals("serve") && arguments.length >= 5) {
            Map<String, String> settings = settings(arguments[1], arguments[2], arguments[3], URI.create(arguments[4]));
            for (int i = 5; i < arguments.length; i++) {
                String[] pair = arguments[i].split("=", 2);
                settings.put(pair[0], pair[1]);
            }
            write(arguments[1], arguments[3], settings);
            listenOnLoopback();
            become("org.apache.hadoop.hive.metastore.HiveMetaStore", new String[] {"-p", arguments[2]});
        } else if (verb.equals("schematool") && arguments.length >= 5) {
            URI url = URI.create(arguments[3]);
            write(arguments[1], arguments[2], settings(arguments[1], "0", arguments[2], url));
            String[] rest = new String[arguments.length - 2];
            rest[0] = "-dbType";
            rest[1] = url.getScheme();
            System.arraycopy(arguments, 4, rest, 2, arguments.length - 4);
            become(tool(arguments[1]), rest);
        } else {
            System.err.println(USAGE);
            System.exit(2);
        }
    }

    private static String tool(String version) {
        switch (version) {
            case "2.3":
                return "org.apache.hive.beeline.HiveSchemaTool";
            case "3.1":
                return "org.apache.hadoop.hive.metastore.tools.MetastoreSchemaTool";
            default:
                return "org.apache.hadoop.hive.metastore.tools.schematool.MetastoreSchemaTool";
        }
    }

    private static Map<String, String> settings(String version, String port, String folder, URI url) {
        boolean postgres = url.getScheme().equals("postgres");
        String[] user = (url.getUserInfo() == null ? "" : url.getUserInfo()).split(":", 2);
        String jdbc = postgres
                ? "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath()
                : "jdbc:mysql://" + url.getHost() + ":" + url.getPort() + url.getPath() + "?useMysqlMetadata=true";
        Map<String, String> settings = new LinkedHashMap<>();
        settings.put("javax.jdo.option.ConnectionURL", jdbc);
        settings.put("javax.jdo.option.ConnectionDriverName",
                postgres ? "org.postgresql.Driver" : "org.mariadb.jdbc.Driver");
        settings.put("javax.jdo.option.ConnectionUserName", user[0]);
        // The schema tool asks for a password when there is none.
        settings.put("javax.jdo.option.ConnectionPassword", user.length > 1 ? user[1] : "");
        // Up to 2.3 all names begin with `hive.`; later both are read, and what 2.3 did not know has no such name.
        String prefix = version.equals("2.3") ? "hive.metastore." : "metastore.";
        settings.put(prefix + "warehouse.dir", Path.of(folder, "warehouse").toUri().toString());
        settings.put(prefix + "schema.verification", "true");
        settings.put(prefix + "transactional.event.listeners",
                "org.apache.hive.hcatalog.listener.DbNotificationListener");
        settings.put("datanucleus.schema.autoCreateAll", "false");
        if (version.equals("2.3")) {
            settings.put("hive.metastore.event.db.notification.api.auth", "false");
            settings.put("hive.async.log.enabled", "false");
        } else {
            settings.put("metastore.thrift.uris", "thrift://127.0.0.1:" + port);
            // The doubled word is right.
            settings.put("metastore.metastore.event.db.notification.api.auth", "false");
            settings.put("metastore.expression.proxy",
                    "org.apache.hadoop.hive.metastore.DefaultPartitionExpressionProxy");
            settings.put("metastore.task.threads.always", "org.apache.hadoop.hive.metastore.events.EventCleanerTask");
            settings.put("metastore.async.log.enabled", "false");
        }
        return settings;
    }

    private static void write(String version, String folder, Map<String, String> settings) throws IOException {
        StringBuilder text = new StringBuilder("<configuration>\n");
        settings.forEach((name, value) -> text.append("<property><name>").append(escaped(name)).append("</name><value>")
                .append(escaped(value)).append("</value></property>\n"));
        text.append("</configuration>\n");
        String file = version.equals("2.3") ? "hive-site.xml" : "metastore-site.xml";
        Files.writeString(Path.of(folder, "conf", file), text);
    }

    private static String escaped(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    }

    /**
     * Up to 3.1 a metastore has no setting for where it listens, and takes every interface: what Java takes for "every
     * interface" is made loopback. If a later Java keeps it elsewhere, this fails, and nothing is served.
     */
    private static void listenOnLoopback() throws ReflectiveOperationException {
        Field implementation = InetAddress.class.getDeclaredField("impl");
        implementation.setAccessible(true);
        Object addresses = implementation.get(null);
        Field any = addresses.getClass().getDeclaredField("anyLocalAddress");
        any.setAccessible(true);
        any.set(addresses, InetAddress.getLoopbackAddress());
    }

    private static void become(String program, String[] arguments) throws Throwable {
        try {
            Class.forName(program).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (java.lang.reflect.InvocationTargetException error) {
            throw error.getCause();
        }
    }
}
