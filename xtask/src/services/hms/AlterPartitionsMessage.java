package org.apache.hadoop.hive.metastore.messaging;

/** New in Hive 4.1 and named by its listener; a 4.0 server never makes one. */
public abstract class AlterPartitionsMessage extends EventMessage {
    protected AlterPartitionsMessage() {
        super(null);
    }
}
