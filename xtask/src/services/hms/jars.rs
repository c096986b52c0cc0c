//! The jars of each version.
//!
//! Left out is what a metastore does without, and what would be there twice: a second logger, a second Guava.

use crate::services::maven::{Jar, alone, without};

/// Drivers of both databases.
const POSTGRES: Jar = alone("org.postgresql:postgresql:42.7.4");
const MARIADB: Jar = alone("org.mariadb.jdbc:mariadb-java-client:2.7.12");

/// Of Hadoop's: loggers, and servers' parts.
const NOT_OF_HADOOP: [&str; 8] = [
    "org.slf4j:slf4j-reload4j",
    "ch.qos.reload4j:reload4j",
    "org.apache.zookeeper:*",
    "org.apache.curator:*",
    "org.apache.kerby:*",
    "com.sun.jersey:*",
    "com.github.pjfanning:*",
    "io.netty:*",
];

/// Hive 2.3: its metastore is part of Hive, and its schema tool part of Beeline.
pub const HMS_23: [Jar; 11] = [
    without(
        "org.apache.hive:hive-metastore:2.3.10",
        &[
            "org.apache.hadoop:*",
            "org.apache.hbase:*",
            "co.cask.tephra:*",
            "org.slf4j:slf4j-log4j12",
            "org.apache.ant:*",
            "org.eclipse.jetty.aggregate:*",
            "com.google.guava:guava",
        ],
    ),
    alone("org.apache.hive:hive-exec:2.3.10"),
    alone("org.apache.hive:hive-beeline:2.3.10"),
    alone("org.apache.hive:hive-jdbc:2.3.10"),
    alone("org.apache.hive:hive-service:2.3.10"),
    alone("net.sf.supercsv:super-csv:2.2.0"),
    alone("org.apache.hive.hcatalog:hive-hcatalog-server-extensions:2.3.10"),
    without(
        "org.apache.hadoop:hadoop-common:2.10.2",
        &[
            "org.slf4j:slf4j-log4j12",
            "org.slf4j:slf4j-reload4j",
            "ch.qos.reload4j:reload4j",
            "log4j:log4j",
            "com.sun.jersey:*",
        ],
    ),
    alone("org.apache.hadoop:hadoop-mapreduce-client-core:2.10.2"),
    POSTGRES,
    MARIADB,
];

/// Hive 3.1.
pub const HMS_31: [Jar; 5] = [
    without(
        "org.apache.hive:hive-standalone-metastore:3.1.3",
        &["org.apache.hadoop:*", "com.google.guava:guava", "org.apache.hbase:*"],
    ),
    alone("org.apache.hive.hcatalog:hive-hcatalog-server-extensions:3.1.3"),
    without("org.apache.hadoop:hadoop-common:3.3.6", &NOT_OF_HADOOP),
    POSTGRES,
    MARIADB,
];

/// Hive 4.0. Its own listener is not published: that of 4.2 does it, with two classes more.
pub const HMS_40: [Jar; 10] = [
    without("org.apache.hive:hive-standalone-metastore-server:4.0.1", &["org.apache.hadoop:*"]),
    alone("org.apache.hive:hive-common:4.0.1"),
    alone("org.apache.hive.hcatalog:hive-hcatalog-core:4.0.1"),
    alone("org.apache.hive.hcatalog:hive-hcatalog-server-extensions:4.2.0"),
    // Of Netty it uses more.
    without("org.apache.hadoop:hadoop-common:3.3.6", NOT_OF_HADOOP.first_chunk::<7>().unwrap()),
    alone("org.apache.hadoop:hadoop-hdfs:3.3.6"),
    alone("org.apache.hadoop:hadoop-hdfs-client:3.3.6"),
    alone("commons-cli:commons-cli:1.5.0"),
    POSTGRES,
    MARIADB,
];
