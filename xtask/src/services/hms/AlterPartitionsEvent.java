package org.apache.hadoop.hive.metastore.events;

/** New in Hive 4.1 and named by its listener; a 4.0 server never makes one. */
public abstract class AlterPartitionsEvent extends ListenerEvent {
    protected AlterPartitionsEvent() {
        super(false, null);
    }
}
