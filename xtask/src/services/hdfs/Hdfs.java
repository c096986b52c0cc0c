import java.io.File;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.server.datanode.DataNode;
import org.apache.hadoop.hdfs.server.namenode.NameNode;
import org.apache.hadoop.metrics2.lib.DefaultMetricsSystem;
import org.apache.hadoop.util.VersionInfo;

/**
 * A NameNode and a DataNode in one process, on loopback. `version` prints Hadoop's; `serve PORT FOLDER` keeps its data in
 * FOLDER, writes the NameNode's port to FOLDER/namenode, and once files can be written says so to whoever connects to PORT.
 */
public final class Hdfs {
    private static final String LOOPBACK = "127.0.0.1";

    public static void main(String[] arguments) throws Exception {
        if (arguments.length == 1 && arguments[0].equals("version")) {
            System.out.println("Hadoop " + VersionInfo.getVersion());
            return;
        }
        if (arguments.length != 3 || !arguments[0].equals("serve")) {
            System.err.println("usage: version | serve PORT FOLDER");
            System.exit(2);
        }
        serve(Integer.parseInt(arguments[1]), new File(arguments[2]).getCanonicalFile());
    }

    private static void serve(int port, File folder) throws Exception {
        Configuration configuration = new Configuration();
        String anyPort = LOOPBACK + ":0";
        configuration.set("fs.defaultFS", "hdfs://" + anyPort);
        configuration.set("hadoop.tmp.dir", folder + "/tmp");
        configuration.set("dfs.namenode.name.dir", "file://" + folder + "/name");
        configuration.set("dfs.datanode.data.dir", "file://" + folder + "/data");
        for (String address : new String[] {"dfs.namenode.rpc-address", "dfs.namenode.http-address",
                "dfs.datanode.address", "dfs.datanode.http.address", "dfs.datanode.ipc.address"}) {
            configuration.set(address, anyPort);
        }
        configuration.set("dfs.datanode.hostname", LOOPBACK);
        configuration.set("dfs.replication", "1");
        // A DataNode keeps a whole block free for every file that is being written.
        configuration.set("dfs.blocksize", "8388608");
        configuration.set("dfs.namenode.datanode.registration.ip-hostname-check", "false");
        configuration.set("dfs.namenode.fs-limits.min-block-size", "4096");
        configuration.set("dfs.namenode.safemode.extension", "0");
        // Test data need not survive a power cut.
        configuration.set("dfs.namenode.edits.noeditlogchannelflush", "true");
        // Formatting and serving in one process registers some metrics twice.
        DefaultMetricsSystem.setMiniClusterMode(true);
        NameNode.format(configuration);
        NameNode nameNode = NameNode.createNameNode(new String[0], configuration);
        int namePort = nameNode.getNameNodeAddress().getPort();
        String address = LOOPBACK + ":" + namePort;
        configuration.set("fs.defaultFS", "hdfs://" + address);
        configuration.set("dfs.namenode.rpc-address", address);
        DataNode.createDataNode(new String[0], configuration);
        while (nameNode.getNamesystem().getNumLiveDataNodes() == 0 || nameNode.isInSafeMode()) {
            Thread.sleep(20);
        }
        Files.writeString(Path.of(folder.getPath(), "namenode"), Integer.toString(namePort));
        try (ServerSocket ready = new ServerSocket(port, 16, InetAddress.getByName(LOOPBACK))) {
            while (true) {
                ready.accept().close();
            }
        }
    }
}
