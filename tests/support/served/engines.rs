//! Engines on a lake that is served: a Spark session that works in steps, and Hive's own TRUNCATE TABLE.

use crate::hms;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// How long a step of a session may take on a busy machine.
const STEP_LIMIT: Duration = Duration::from_secs(300);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// A Spark session that works in steps: the test looks at what it did between them.
pub struct Spark {
    folder: TempDir,
    step: usize,
    session: Option<JoinHandle<Option<String>>>,
    printed: Receiver<()>,
}

/// What makes a session one of Delta Lake's.
const DELTA: [&str; 3] = [
    "spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog",
    // Each look at a small table else takes 50 tasks.
    "spark.databricks.delta.snapshotPartitions=1",
];

/// What makes a session one of Iceberg's.
const ICEBERG: [&str; 3] = [
    "spark.sql.extensions=org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    "spark.sql.catalog.spark_catalog=org.apache.iceberg.spark.SparkSessionCatalog",
    "spark.sql.catalog.spark_catalog.type=hive",
];

/// What the session does between two steps.
const LOOP: &str = r#"
import os, time, traceback
step = 0
while True:
    step += 1
    script = f'{FOLDER}/{step}.py'
    waited = 0
    while not os.path.exists(script):
        time.sleep(0.02)
        waited += 0.02
        if waited > 600:
            raise Exception('nobody asks for anything')
    text = open(script).read()
    if text == 'end':
        break
    rows = []
    def show(*values):
        rows.append(' '.join(str(value) for value in values))
    try:
        for line in text.split(';\n'):
            if line.strip().startswith('SELECT') or line.strip().startswith('SHOW'):
                for row in spark.sql(line).collect():
                    show(*row)
            elif line.strip():
                spark.sql(line)
        result = 'done\n' + '\n'.join(rows)
    except Exception:
        result = 'failed\n' + traceback.format_exc()
    with open(f'{FOLDER}/{step}.out.new', 'w') as out:
        out.write(result)
    os.rename(f'{FOLDER}/{step}.out.new', f'{FOLDER}/{step}.out')
"#;

impl Spark {
    /// A session on a metastore 2.3 or 3.1; it starts while the test goes on.
    pub fn start(thrift: &str) -> Option<Self> {
        Self::start_with(thrift, &[])
    }

    /// The same, with Delta Lake.
    pub fn with_delta(thrift: &str) -> Option<Self> {
        Self::start_with(thrift, &DELTA)
    }

    /// The same, with Iceberg.
    pub fn with_iceberg(thrift: &str) -> Option<Self> {
        Self::start_with(thrift, &ICEBERG)
    }

    fn start_with(thrift: &str, settings: &'static [&'static str]) -> Option<Self> {
        if crate::services::skipped("spark") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!(
            "FOLDER = '{}'\nspark.conf.set('hive.exec.dynamic.partition.mode', 'nonstrict')\n{LOOP}",
            folder.path().display()
        );
        let thrift = thrift.to_owned();
        let (ended, printed): (Sender<()>, _) = mpsc::channel();
        let session = std::thread::spawn(move || {
            // Dropped when the session ends, however it does.
            let _ended = ended;
            hms::spark_with(&script, &thrift, settings)
        });
        Some(Self { folder, step: 0, session: Some(session), printed })
    }

    /// Runs statements, `;` at the end of each line; answers with the rows of its SELECTs and SHOWs, values between blanks.
    ///
    /// # Panics
    /// If one of them fails.
    pub fn run(&mut self, statements: &str) -> Vec<String> {
        self.step += 1;
        let path = |name: String| self.folder.path().join(name);
        let (script, out) = (path(format!("{}.py", self.step)), path(format!("{}.out", self.step)));
        let new = path(format!("{}.new", self.step));
        std::fs::write(&new, statements).expect("the script");
        std::fs::rename(&new, script).expect("the script");
        let mut left = STEP_LIMIT;
        while !out.exists() {
            if !matches!(self.printed.try_recv(), Err(mpsc::TryRecvError::Empty)) {
                let ended = self.session.take().map(JoinHandle::join);
                panic!("the session ended: {ended:?}");
            }
            std::thread::sleep(POLL);
            left = left.checked_sub(POLL).expect("the session takes too long");
        }
        let result = std::fs::read_to_string(out).expect("its result");
        let rows = result.strip_prefix("done\n");
        rows.unwrap_or_else(|| panic!("{result}")).lines().map(str::to_owned).collect()
    }
}

impl Drop for Spark {
    fn drop(&mut self) {
        let _ = std::fs::write(self.folder.path().join(format!("{}.py", self.step + 1)), "end");
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
    }
}

/// Hive's own TRUNCATE TABLE, which only later engines than Spark's client call: the server removes the files and says so in
/// an event. Versions from 3.0 on.
///
/// # Panics
/// If the server does not answer, or refuses.
pub fn truncate(thrift: &str, database: &str, table: &str, partitions: &[&str]) {
    let mut arguments = Vec::new();
    for (field, text) in [(1, database), (2, table)] {
        arguments.extend([STRING, 0, field]);
        string(&mut arguments, text);
    }
    if !partitions.is_empty() {
        arguments.extend([LIST, 0, 3, STRING]);
        arguments.extend(u32::try_from(partitions.len()).expect("few").to_be_bytes());
        partitions.iter().for_each(|name| string(&mut arguments, name));
    }
    // A result that holds no field: no exception.
    call(thrift, "truncate_table", &arguments, &[0]);
}

/// Hive's own EXCHANGE PARTITION: the server moves the folder, and says that one came and one went.
///
/// # Panics
/// If the server does not answer, or refuses.
pub fn exchange_partition(thrift: &str, database: &str, spec: &[(&str, &str)], from: &str, to: &str) {
    let mut arguments = vec![MAP, 0, 1, STRING, STRING];
    arguments.extend(u32::try_from(spec.len()).expect("few").to_be_bytes());
    for (key, value) in spec {
        string(&mut arguments, key);
        string(&mut arguments, value);
    }
    for (field, text) in [(2, database), (3, from), (4, database), (5, to)] {
        arguments.extend([STRING, 0, field]);
        string(&mut arguments, text);
    }
    // A result whose field is what the call returns: no exception.
    call(thrift, "exchange_partition", &arguments, &[STRUCT, 0, 0]);
}

/// Types of the binary protocol.
const STRING: u8 = 11;
const STRUCT: u8 = 12;
const MAP: u8 = 13;
const LIST: u8 = 15;

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Calls a method, and asserts that its result begins with these bytes.
fn call(thrift: &str, name: &str, arguments: &[u8], result: &[u8]) {
    let mut call = vec![0x80, 0x01, 0x00, 0x01];
    string(&mut call, name);
    call.extend(1u32.to_be_bytes());
    call.extend(arguments);
    call.push(0);
    let mut stream = TcpStream::connect(thrift.trim_start_matches("thrift://")).expect("a server");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    stream.write_all(&call).expect("the call");
    let header = 4 + 4 + name.len() + 4;
    let mut answer = vec![0; header + result.len()];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!((answer[3], &answer[header..]), (2, result), "{name}: {answer:?}");
}
