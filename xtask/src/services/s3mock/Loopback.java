import com.adobe.testing.s3mock.S3MockApplication;
import org.apache.catalina.connector.Connector;
import org.springframework.beans.factory.config.BeanPostProcessor;
import org.springframework.boot.Banner;
import org.springframework.boot.builder.SpringApplicationBuilder;

/**
 * S3Mock on loopback: `serve PORT FOLDER BUCKET` keeps its data in FOLDER and has BUCKET from the start. `version` says that the
 * classes can be loaded.
 *
 * S3Mock's plain HTTP connector listens on every interface whatever is configured, and only its HTTPS connector decodes
 * %2F in a path and takes a backslash. So the HTTPS connector is made to speak plain HTTP, and the other one is bound to a free
 * port of loopback, where nobody asks for it.
 */
public final class Loopback {
    private static final String ADDRESS = "127.0.0.1";
    /** Under this key ETags are no MD5 of the content, as with a key management service. */
    private static final String KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/understudy-test";

    public static void main(String[] arguments) throws Exception {
        if (arguments.length == 1 && arguments[0].equals("version")) {
            System.out.println(S3MockApplication.class.getName());
            return;
        }
        if (arguments.length != 4 || !arguments[0].equals("serve")) {
            System.err.println("usage: version | serve PORT FOLDER BUCKET");
            System.exit(2);
        }
        BeanPostProcessor bound = new BeanPostProcessor() {
            @Override
            public Object postProcessAfterInitialization(Object bean, String name) {
                if (bean instanceof Connector connector && !connector.setProperty("address", ADDRESS)) {
                    throw new IllegalStateException("the connector " + name + " cannot be bound to " + ADDRESS);
                }
                return bean;
            }
        };
        new SpringApplicationBuilder(S3MockApplication.class)
                .initializers(context -> context.getBeanFactory().addBeanPostProcessor(bound))
                .bannerMode(Banner.Mode.OFF)
                .run(
                        "--server.address=" + ADDRESS,
                        "--server.port=" + arguments[1],
                        "--server.ssl.enabled=false",
                        "--server.tomcat.threads.max=16",
                        "--http.port=0",
                        "--logging.level.root=WARN",
                        "--com.adobe.testing.s3mock.store.validKmsKeys=" + KMS_KEY,
                        "--com.adobe.testing.s3mock.store.root=" + arguments[2],
                        "--com.adobe.testing.s3mock.store.initialBuckets=" + arguments[3]);
    }
}
