//! Hadoop's DistCp, for benchmarks: its maps run in one process, as many at a time as it is asked for.
//!
//! The jars come through Maven. A cluster would add its own start to every run; what is measured is the copying.

use super::Service;
use super::maven::{self, Jar, without};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, remove_folder, write_program, write_whole};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// What is taken of it.
const JARS: [Jar; 6] = [
    without("org.apache.hadoop:hadoop-distcp:3.4.3", &[]),
    without("org.apache.hadoop:hadoop-common:3.4.3", &[]),
    without("org.apache.hadoop:hadoop-hdfs-client:3.4.3", &[]),
    without("org.apache.hadoop:hadoop-mapreduce-client-core:3.4.3", &[]),
    without("org.apache.hadoop:hadoop-mapreduce-client-common:3.4.3", &[]),
    without("org.apache.hadoop:hadoop-mapreduce-client-jobclient:3.4.3", &[]),
];
/// How long the compiler may take.
const COMPILE_LIMIT: Duration = Duration::from_secs(120);
/// How it finds jobs that run here. Not in core-site.xml, which the defaults of MapReduce would override.
const MAPRED_SITE: &str = "\
<configuration>
<property><name>mapreduce.framework.name</name><value>local-parallel</value></property>
<property><name>mapreduce.local.map.tasks.maximum</name><value>4</value></property>
</configuration>
";
/// A wait before each block but the first, made for clusters with more than one machine.
const HDFS_SITE: &str = "\
<configuration>
<property><name>dfs.client.block.write.locateFollowingBlock.initial.delay.ms</name><value>5</value></property>
<property><name>dfs.replication</name><value>1</value></property>
</configuration>
";

/// See the module.
pub struct HadoopDistCp;

impl Service for HadoopDistCp {
    fn name(&self) -> &'static str {
        "hadoop-distcp"
    }

    fn about(&self) -> &'static str {
        "Hadoop's DistCp, a peer"
    }

    fn package(&self) -> &'static str {
        "org.apache.hadoop:hadoop-distcp:3.4.3 and what it needs"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join("hadoop-distcp")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_HADOOP_DISTCP"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = folders.services().join(self.name());
        let (jars, classes) = (home.join("jars"), home.join("classes"));
        // Jars of another version must not be in the way.
        remove_folder(&jars)?;
        remove_folder(&classes)?;
        write_whole(&home.join("LocalParallel.java"), include_str!("hadoop/LocalParallel.java"))?;
        write_whole(&classes.join("log4j.properties"), include_str!("hdfs/log4j.properties"))?;
        write_whole(&classes.join("mapred-site.xml"), MAPRED_SITE)?;
        write_whole(&classes.join("hdfs-site.xml"), HDFS_SITE)?;
        let provider = "META-INF/services/org.apache.hadoop.mapreduce.protocol.ClientProtocolProvider";
        write_whole(&classes.join(provider), "LocalParallel\n")?;
        maven::jars(folders, self.name(), &home, &JARS, interrupt)?;
        let mut compiler = program("javac");
        compiler.arg("-cp").arg(jars.join("*")).arg("-d").arg(&classes).arg(home.join("LocalParallel.java"));
        run_logged(&mut compiler, &folders.log("hadoop-distcp-compile"), COMPILE_LIMIT, interrupt)
            .context("a JDK, 17 or later, compiles it")?;
        let script = format!(
            "#!/bin/sh\n\
             if [ \"$1\" = version ]; then main=org.apache.hadoop.util.VersionInfo; shift\n\
             else main='org.apache.hadoop.tools.DistCp -Dfs.defaultFS=file:///'; fi\n\
             exec java -Xmx1g -cp '{}:{}/*' $main -Dhadoop.tmp.dir='{}' \"$@\"\n",
            classes.display(),
            jars.display(),
            home.join("tmp").display()
        );
        write_program(&self.binary(folders), &script)
    }
}
