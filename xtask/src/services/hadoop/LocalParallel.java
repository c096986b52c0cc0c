// Hadoop's own provider of local jobs asks for a single map, which makes DistCp ignore -m. This one is the same without that.

import java.net.InetSocketAddress;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.mapred.LocalJobRunner;
import org.apache.hadoop.mapreduce.protocol.ClientProtocol;
import org.apache.hadoop.mapreduce.protocol.ClientProtocolProvider;

public class LocalParallel extends ClientProtocolProvider {
    @Override
    public ClientProtocol create(Configuration conf) throws java.io.IOException {
        return "local-parallel".equals(conf.get("mapreduce.framework.name")) ? new LocalJobRunner(conf) : null;
    }

    @Override
    public ClientProtocol create(InetSocketAddress address, Configuration conf) {
        return null;
    }

    @Override
    public void close(ClientProtocol protocol) {
    }
}
