import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Supplier;
import org.apache.hadoop.hive.common.io.SessionStream;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.metastore.HiveMetaStoreClient;
import org.apache.hadoop.hive.metastore.MetaStoreThread;
import org.apache.hadoop.hive.ql.DriverFactory;
import org.apache.hadoop.hive.ql.IDriver;
import org.apache.hadoop.hive.ql.processors.CommandProcessor;
import org.apache.hadoop.hive.ql.processors.CommandProcessorFactory;
import org.apache.hadoop.hive.ql.session.SessionState;
import org.apache.hadoop.hive.ql.txn.compactor.Cleaner;
import org.apache.hadoop.hive.ql.txn.compactor.Worker;

/**
 * A session of Hive in one process: SQL, the metastore over the SQL URL of its database, and its event log.
 *
 * Statements come from standard input; the last line of each ends with `;`. For each, standard output has its rows, a line each
 * after `| `, and then `ok` or `error MESSAGE`. `FOLDER/conf` must be the first entry of the class path; all that is written
 * outside of tables is below FOLDER.
 */
public final class HiveSql {
    private static final String USAGE = "usage: version | session FOLDER URL [NAME=VALUE ...]";
    private static final String LISTENER = "org.apache.hive.hcatalog.listener.DbNotificationListener";
    /** What HiveServer2 says of itself; a metastore hides transactional tables from clients that cannot do this. */
    private static final String[] CAPABILITIES = {
        "EXTREAD", "EXTWRITE", "HIVEBUCKET2", "HIVECACHEINVALIDATE", "HIVEFULLACIDREAD", "HIVEFULLACIDWRITE",
        "HIVEMANAGEDINSERTREAD", "HIVEMANAGEDINSERTWRITE", "HIVEMANAGESTATS", "HIVEMQT", "HIVEONLYMQTWRITE", "HIVESQL",
    };

    /** What is no SQL: a pass of the thread that compacts what was asked for, and of the one that removes what that left. */
    private static final Map<String, Supplier<MetaStoreThread>> THREADS = Map.of("!worker", Worker::new, "!cleaner", Cleaner::new);

    public static void main(String[] arguments) throws Exception {
        String verb = arguments.length == 0 ? "" : arguments[0];
        if (verb.equals("version")) {
            // They cannot be loaded if one of their jars is missing.
            Class.forName(LISTENER);
            Class.forName("org.apache.hadoop.hive.metastore.HMSHandler");
            System.out.println(IDriver.class.getProtectionDomain().getCodeSource().getLocation());
            return;
        }
        if (!verb.equals("session") || arguments.length < 3) {
            System.err.println(USAGE);
            System.exit(2);
        }
        Path folder = Path.of(arguments[1]);
        Map<String, String> settings = settings(folder, URI.create(arguments[2]));
        for (int i = 3; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        write(folder.resolve("conf/hive-site.xml"), settings);
        PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
        // What Hive says to a terminal.
        System.setOut(System.err);
        HiveConf conf = started();
        serve(conf, answers);
        answers.flush();
        // Threads of its pools would keep the process.
        Runtime.getRuntime().halt(0);
    }

    private static Map<String, String> settings(Path folder, URI url) {
        Map<String, String> settings = new LinkedHashMap<>();
        String[] user = (url.getUserInfo() == null ? "" : url.getUserInfo()).split(":", 2);
        settings.put("javax.jdo.option.ConnectionURL",
                "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath());
        settings.put("javax.jdo.option.ConnectionDriverName", "org.postgresql.Driver");
        settings.put("javax.jdo.option.ConnectionUserName", user[0]);
        settings.put("javax.jdo.option.ConnectionPassword", user.length > 1 ? user[1] : "");
        settings.put("datanucleus.schema.autoCreateAll", "false");
        settings.put("hive.metastore.schema.verification", "true");
        settings.put("hive.metastore.transactional.event.listeners", LISTENER);
        settings.put("hive.metastore.dml.events", "true");
        settings.put("hive.metastore.event.db.notification.api.auth", "false");
        for (String place : new String[] {"warehouse.dir", "warehouse.external.dir"}) {
            settings.put("hive.metastore." + place, folder.resolve("warehouse").toUri().toString());
        }
        settings.put("fs.defaultFS", "file:///");
        Map<String, String> folders = Map.of("hive.exec.scratchdir", "scratch", "hive.exec.local.scratchdir", "local",
                "hive.downloaded.resources.dir", "resources", "hive.querylog.location", "queries",
                "hadoop.tmp.dir", "hadoop", "mapreduce.jobtracker.staging.root.dir", "staging",
                "mapreduce.cluster.local.dir", "mapreduce");
        folders.forEach((name, inner) -> settings.put(name, folder.resolve("tmp").resolve(inner).toString()));
        settings.put("hive.scratch.dir.permission", "733");
        // Jobs run in this process, and are looked at often: by default every second.
        settings.put("hive.execution.engine", "mr");
        settings.put("mapreduce.framework.name", "local");
        settings.put("hive.exec.submit.local.task.via.child", "false");
        settings.put("hive.exec.counters.pull.interval", "50");
        settings.put("mapreduce.client.progressmonitor.pollinterval", "50");
        settings.put("mapreduce.client.completion.pollinterval", "50");
        settings.put("hive.auto.convert.join", "false");
        settings.put("hive.fetch.task.conversion", "more");
        settings.put("hive.exec.dynamic.partition.mode", "nonstrict");
        // Transactional tables need them.
        settings.put("hive.support.concurrency", "true");
        settings.put("hive.txn.manager", "org.apache.hadoop.hive.ql.lockmgr.DbTxnManager");
        settings.put("hive.server2.materializedviews.registry.impl", "DUMMY");
        settings.put("hive.query.results.cache.enabled", "false");
        settings.put("hive.security.authorization.enabled", "false");
        settings.put("hive.metastore.metrics.enabled", "false");
        return settings;
    }

    private static void write(Path file, Map<String, String> settings) throws IOException {
        StringBuilder text = new StringBuilder("<configuration>\n");
        settings.forEach((name, value) -> text.append("<property><name>").append(escaped(name)).append("</name><value>")
                .append(escaped(value)).append("</value></property>\n"));
        Files.writeString(file, text.append("</configuration>\n"));
    }

    private static String escaped(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    }

    private static HiveConf started() throws Exception {
        HiveConf conf = new HiveConf(SessionState.class);
        HiveMetaStoreClient.setProcessorIdentifier("HiveServer2#HiveSql");
        HiveMetaStoreClient.setProcessorCapabilities(CAPABILITIES);
        SessionState session = new SessionState(conf);
        session.initTxnMgr(conf);
        SessionState.start(session);
        session.setIsSilent(true);
        session.out = session.err = session.info = new SessionStream(System.err);
        return conf;
    }

    private static void serve(HiveConf conf, PrintStream answers) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        StringBuilder statement = new StringBuilder();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            statement.append(line).append('\n');
            if (!line.endsWith(";")) {
                continue;
            }
            String text = statement.toString().strip();
            statement.setLength(0);
            try {
                for (Object row : run(conf, text.substring(0, text.length() - 1))) {
                    answers.println("| " + oneLine(row));
                }
                answers.println("ok");
            } catch (Exception error) {
                error.printStackTrace();
                answers.println("error " + oneLine(error));
            }
            answers.flush();
        }
    }

    private static String oneLine(Object value) {
        return String.valueOf(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r");
    }

    /** One pass of a thread that a metastore runs for transactional tables. */
    private static void pass(HiveConf conf, Supplier<MetaStoreThread> made) throws Exception {
        MetaStoreThread thread = made.get();
        thread.setConf(conf);
        // It stops after the first pass.
        thread.init(new AtomicBoolean(true));
        ((Thread) thread).run();
    }

    private static List<Object> run(HiveConf conf, String statement) throws Exception {
        List<Object> rows = new ArrayList<>();
        if (THREADS.containsKey(statement)) {
            pass(conf, THREADS.get(statement));
            return rows;
        }
        String[] words = statement.split("\\s+");
        // SET and its like; nothing if it is SQL.
        CommandProcessor command = CommandProcessorFactory.getForHiveCommand(words, conf);
        if (command != null) {
            command.run(statement.substring(words[0].length()).strip());
            return rows;
        }
        IDriver driver = DriverFactory.newDriver(conf);
        try {
            driver.run(statement);
            List<Object> some = new ArrayList<>();
            while (driver.getResults(some)) {
                rows.addAll(some);
                some.clear();
            }
        } finally {
            driver.close();
            driver.destroy();
        }
        return rows;
    }
}
