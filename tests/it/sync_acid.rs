//! Transactional tables between two SQLite metastores: which writes and which folders a replica gets, while some have not ended,
//! were given up, or are compacted.
//!
//! The writer keeps to Hive's names of folders and to its tables of transactions. A reader is asked by the names of the folders on
//! the replica, its largest write and its transactions; that Hive itself reads the same is in `sync_servers_acid.rs`.

use metasync::metastore::Change;
use metasync::model::{PartitionName, TableName};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::Path;
use tests::lake::{LARGE, Lake};

const TABLE: &str = "sales.db/orders";

/// A lake with one transactional table, and the transactions of its metastore.
struct Acid {
    lake: Lake,
    keys: Vec<&'static str>,
}

impl Acid {
    fn new() -> Self {
        Self::with("", &[])
    }

    fn with(options: &str, keys: &[&'static str]) -> Self {
        let lake = Lake::logged();
        lake.database("sales");
        let acid = Self { lake, keys: keys.to_vec() };
        acid.lake.policy(options);
        acid.make();
        acid.lake.sql("source", "INSERT INTO TXNS VALUES (0, 'c', 0, 0, '', '', NULL, NULL, NULL, NULL)");
        acid
    }

    fn make(&self) {
        let mut table = self.lake.unmade_table("orders", &self.keys);
        table.table_type = Some("MANAGED_TABLE".to_owned());
        table.parameters.insert("transactional".to_owned(), "true".to_owned());
        std::fs::create_dir_all(self.lake.source(TABLE)).unwrap();
        self.lake.apply(&[Change::PutTable(Box::new(table))]);
    }

    /// A transaction of this state.
    fn transaction(&self, id: i64, state: &str) {
        let sql = format!("INSERT OR REPLACE INTO TXNS VALUES ({id}, '{state}', 1, 1, 'u', 'h', NULL, NULL, NULL, 0)");
        self.lake.sql("source", &sql);
    }

    /// A write of a transaction that is open, with what it has written so far.
    fn begin(&self, write: i64, folders: &[&str]) {
        self.transaction(write + 100, "o");
        self.lake.sql(
            "source",
            &format!(
                "INSERT INTO TXN_TO_WRITE_ID VALUES ({}, 'sales', 'orders', {write});
                 INSERT OR REPLACE INTO NEXT_WRITE_ID VALUES ('sales', 'orders', {})",
                write + 100,
                write + 1
            ),
        );
        folders.iter().for_each(|folder| self.folder(folder));
    }

    fn end(&self, write: i64, state: &str) {
        self.transaction(write + 100, state);
    }

    fn write(&self, write: i64, folders: &[&str]) {
        self.begin(write, folders);
        self.end(write, "c");
    }

    /// What a compaction writes, while its transaction is in this state.
    fn compaction(&self, id: i64, state: &str, folders: &[&str]) {
        self.transaction(id, state);
        folders.iter().for_each(|folder| self.folder(folder));
    }

    fn folder(&self, folder: &str) {
        for file in ["_orc_acid_version", "bucket_00000"] {
            self.lake.write(&format!("{TABLE}/{folder}/{file}"), &format!("{file} of {folder}"));
        }
    }

    /// What the cleaner does.
    fn clean(&self, folders: &[&str]) {
        for folder in folders {
            std::fs::remove_dir_all(self.lake.source(&format!("{TABLE}/{folder}"))).unwrap();
        }
    }

    fn run(&self, code: i32) -> tests::cli::Ran {
        self.lake.metasync("run", &[]).expect(code)
    }

    /// The folders of the table on the replica, whole as they must be.
    fn there(&self) -> BTreeSet<String> {
        let root = self.lake.target(TABLE);
        let files = self.lake.files(&root);
        let folders: BTreeSet<String> =
            files.keys().filter_map(|file| Some(Path::new(file).parent()?.display().to_string())).collect();
        for folder in &folders {
            for file in ["_orc_acid_version", "bucket_00000"] {
                assert_eq!(files.get(&format!("{folder}/{file}")), Some(&format!("{file} of {folder}")), "{folder}");
            }
        }
        folders
    }

    /// The largest write that readers of the replica see.
    fn mark(&self) -> Option<i64> {
        let rows = self.lake.sql("target", "SELECT NWI_NEXT FROM NEXT_WRITE_ID");
        rows.first().map(|row| row[0].parse::<i64>().unwrap() - 1)
    }

    /// Transactions of the source's numbers that readers of the replica take for open.
    fn held(&self) -> Vec<String> {
        let rows = self.lake.sql("target", "SELECT TXN_ID FROM TXNS WHERE TXN_STATE <> 'c' ORDER BY TXN_ID");
        rows.into_iter().map(|row| row[0].clone()).collect()
    }

    fn shows(&self, mark: i64, folders: &[&str]) {
        let expected: BTreeSet<String> = folders.iter().map(|folder| (*folder).to_owned()).collect();
        assert_eq!((self.mark(), self.there()), (Some(mark), expected));
        assert_eq!(self.held(), [] as [String; 0]);
        self.lake.metasync("verify", &[]).expect(0);
    }
}

#[test]
fn a_replica_has_the_folders_of_committed_writes_and_of_no_others() {
    let acid = Acid::new();
    acid.write(1, &["delta_0000001_0000001_0000"]);
    acid.begin(2, &["delta_0000002_0000002_0000", "delete_delta_0000002_0000002_0001"]);
    acid.end(2, "a");
    acid.write(3, &["delta_0000003_0000003_0000"]);
    acid.run(0);
    let folders = ["delta_0000001_0000001_0000", "delta_0000003_0000003_0000"];
    acid.shows(3, &folders);
    let again = acid.run(0);
    assert_eq!((again.number("counts/copied"), again.number("tables/applied")), (0, 0));
    acid.write(4, &["delete_delta_0000004_0000004_0000"]);
    acid.run(0);
    acid.shows(4, &[&folders[..], &["delete_delta_0000004_0000004_0000"]].concat());
    // Nobody compacts a replica.
    let value = "SELECT PARAM_VALUE FROM TABLE_PARAMS WHERE PARAM_KEY = 'no_auto_compaction'";
    assert_eq!(acid.lake.sql("target", value), [["true"]]);
}

#[test]
fn what_has_not_ended_is_shown_when_it_has() {
    let acid = Acid::with("txn_wait = \"0s\"", &[]);
    acid.write(1, &["delta_1_1_0"]);
    acid.begin(2, &["delta_2_2_0"]);
    let first = acid.run(0);
    acid.shows(1, &["delta_1_1_0"]);
    assert!(first.summary()["as_of"].is_string(), "nothing that was committed is missing");
    // What is committed behind it waits, and so does the as-of.
    acid.write(3, &["delta_3_3_0"]);
    let ran = acid.run(0);
    assert!(ran.summary()["behind"].to_string().contains("sales.orders"), "{}", ran.summary());
    assert_eq!(ran.summary()["as_of"], first.summary()["as_of"]);
    acid.shows(1, &["delta_1_1_0"]);
    acid.end(2, "c");
    let ran = acid.run(0);
    assert_ne!(ran.summary()["as_of"], first.summary()["as_of"]);
    acid.shows(3, &["delta_1_1_0", "delta_2_2_0", "delta_3_3_0"]);
}

#[test]
fn a_first_run_waits_for_open_transactions_as_long_as_it_may() {
    let acid = Acid::with("txn_wait = \"1s\"", &[]);
    acid.write(1, &["delta_1_1_0"]);
    acid.begin(2, &["delta_2_2_0"]);
    let ran = acid.run(0);
    assert!(ran.stderr.contains("waiting up to 1 s for the open transactions of 1 table"), "{}", ran.stderr);
    acid.shows(1, &["delta_1_1_0"]);
    let ran = acid.run(0);
    assert!(!ran.stderr.contains("waiting up to"), "{}", ran.stderr);
}

#[test]
fn compactions_arrive_held_back_and_take_the_place_of_what_they_were_made_of() {
    let acid = Acid::new();
    for write in 1..=3 {
        acid.write(write, &[&format!("delta_{write}_{write}_0")]);
    }
    acid.run(0);
    acid.compaction(200, "o", &["base_3_v200"]);
    acid.run(0);
    acid.shows(3, &["delta_1_1_0", "delta_2_2_0", "delta_3_3_0"]);
    acid.compaction(200, "c", &[]);
    acid.run(0);
    acid.shows(3, &["base_3_v200"]);
    acid.clean(&["delta_1_1_0", "delta_2_2_0", "delta_3_3_0"]);
    acid.write(4, &["delete_delta_4_4_0", "delta_4_4_1"]);
    acid.write(5, &["delta_5_5_0"]);
    // Minor, with new writes in it; what it was made of is cleaned before a run saw it.
    acid.compaction(201, "c", &["delta_4_5_v201", "delete_delta_4_5_v201"]);
    acid.clean(&["delete_delta_4_4_0", "delta_4_4_1", "delta_5_5_0"]);
    acid.run(0);
    acid.shows(5, &["base_3_v200", "delta_4_5_v201", "delete_delta_4_5_v201"]);
    // An overwrite.
    acid.write(6, &["base_6"]);
    acid.run(0);
    acid.shows(6, &["base_6"]);
}

#[test]
fn a_compaction_that_a_killed_run_brought_half_is_not_seen_before_a_run_has_brought_it_whole() {
    let acid = Acid::new();
    acid.write(1, &["delta_1_1_0"]);
    acid.write(2, &["delta_2_2_0"]);
    acid.run(0);
    acid.compaction(200, "c", &["base_2_v200"]);
    acid.lake.write(&format!("{TABLE}/base_2_v200/bucket_00001"), &"x".repeat(LARGE));
    acid.clean(&["delta_1_1_0"]);
    let mut running = acid.lake.copying(TABLE);
    assert_eq!(acid.held(), ["200"]);
    running.signal(Signal::KILL);
    drop(running.end());
    assert!(acid.lake.target(&format!("{TABLE}/delta_1_1_0/bucket_00000")).exists(), "its readers still need it");
    assert_eq!(acid.mark(), Some(2));
    acid.lake.policy("");
    acid.run(0);
    acid.shows(2, &["base_2_v200"]);
}

#[test]
fn a_folder_that_the_cleaner_removes_while_it_is_copied_shows_nothing_before_the_next_run() {
    let acid = Acid::new();
    acid.write(1, &["delta_1_1_0"]);
    acid.run(0);
    acid.write(2, &["delta_2_2_0"]);
    acid.write(3, &["delta_3_3_0"]);
    acid.lake.write(&format!("{TABLE}/delta_2_2_0/bucket_00001"), &"x".repeat(LARGE));
    acid.lake.policy("bwlimit = \"400K\"\nconcurrency = 1");
    let mut running = acid.lake.start();
    let begun = acid.lake.target(&format!("{TABLE}/delta_2_2_0"));
    running.until("the copy", || begun.exists());
    running.signal(Signal::STOP);
    acid.compaction(200, "c", &["base_3_v200"]);
    acid.clean(&["delta_1_1_0", "delta_2_2_0", "delta_3_3_0"]);
    running.signal(Signal::CONT);
    let ran = running.end();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("it vanished from the source while it was copied"), "{}", ran.stderr);
    assert_eq!(acid.mark(), Some(1), "readers see what they saw");
    assert!(acid.lake.target(&format!("{TABLE}/delta_1_1_0/bucket_00000")).exists());
    acid.lake.policy("");
    acid.run(0);
    acid.shows(3, &["base_3_v200"]);
}

#[test]
fn a_number_that_the_replica_itself_uses_is_waited_for() {
    let acid = Acid::new();
    acid.write(1, &["delta_1_1_0"]);
    acid.run(0);
    acid.lake.sql("target", "INSERT INTO TXNS VALUES (200, 'o', 1, 1, 'reader', 'h', NULL, NULL, NULL, 0)");
    acid.compaction(200, "c", &["base_1_v200"]);
    let ran = acid.run(5);
    assert!(
        ran.stderr.contains("its own transaction 200 has the number of a compaction at the source"),
        "{}",
        ran.stderr
    );
    assert_eq!(acid.there(), BTreeSet::from(["delta_1_1_0".to_owned()]));
    acid.lake.sql("target", "DELETE FROM TXNS WHERE TXN_ID = 200");
    acid.run(0);
    acid.shows(1, &["base_1_v200"]);
}

#[test]
fn a_replica_that_somebody_wrote_to_is_not_overwritten() {
    let acid = Acid::new();
    acid.write(1, &["delta_1_1_0"]);
    acid.run(0);
    acid.lake.sql("target", "UPDATE NEXT_WRITE_ID SET NWI_NEXT = 3");
    acid.write(2, &["delta_2_2_0"]);
    let refused = acid.run(5);
    assert!(refused.stderr.contains("table sales.orders: it was changed"), "{}", refused.stderr);
    assert_eq!(acid.there().len(), 1);
    acid.lake.metasync("run", &["--overwrite-drift"]).expect(0);
    acid.shows(2, &["delta_1_1_0", "delta_2_2_0"]);
}

#[test]
fn a_table_that_was_made_anew_waits_for_a_resync() {
    let acid = Acid::new();
    acid.write(1, &["delta_1_1_0"]);
    acid.write(2, &["delta_2_2_0"]);
    acid.run(0);
    acid.lake.apply(&[Change::DropTable(TableName::new("sales", "orders"))]);
    std::fs::remove_dir_all(acid.lake.source(TABLE)).unwrap();
    acid.make();
    acid.write(1, &["delta_1_1_0"]);
    let ran = acid.run(3);
    assert!(ran.stderr.contains("made anew") && ran.stderr.contains("metasync resync POLICY"), "{}", ran.stderr);
    assert_eq!(acid.mark(), Some(2), "readers see what they saw");
    acid.lake.metasync("resync", &["--table", "sales.orders"]).expect(0);
    acid.lake.metasync("run", &[]).expect(0);
    acid.shows(1, &["delta_1_1_0"]);
}

#[test]
fn what_cannot_be_told_is_quarantined_by_name() {
    type Break<'a> = &'a dyn Fn(&Acid);
    let cases: [(&str, Break<'_>); 4] = [
        ("holds writes that are committed and others that are not", &|acid: &Acid| {
            acid.begin(2, &[]);
            acid.end(2, "a");
            acid.write(3, &["delta_2_3"]);
        }),
        ("is no name of a folder that Hive reads", &|acid: &Acid| acid.folder("base_x")),
        ("its metastore knows of none", &|acid: &Acid| drop(acid.lake.sql("source", "DELETE FROM NEXT_WRITE_ID"))),
        ("holds writes after 1", &|acid: &Acid| {
            acid.begin(2, &[]);
            acid.compaction(200, "c", &["base_2_v200"]);
        }),
    ];
    for (words, break_it) in cases {
        let acid = Acid::with("txn_wait = \"0s\"", &[]);
        acid.write(1, &["delta_1_1_0"]);
        break_it(&acid);
        let ran = acid.run(3);
        assert!(
            ran.stderr.contains("sales.orders is not in step: it is an ACID table: ") && ran.stderr.contains(words),
            "{}",
            ran.stderr
        );
        assert_eq!(acid.there(), BTreeSet::new());
    }
}

#[test]
fn partitions_have_folders_of_their_own() {
    let acid = Acid::with("", &["day"]);
    let table = acid.lake.unmade_table("orders", &["day"]);
    for (write, day) in [(1, "1"), (2, "2")] {
        acid.write(write, &[&format!("day={day}/delta_{write}_{write}_0")]);
        let partition = tests::metastores::objects::partition(&table, &[day]);
        acid.lake.apply(&[Change::PutPartitions { table: table.name.clone(), partitions: vec![partition] }]);
    }
    acid.run(0);
    acid.shows(2, &["day=1/delta_1_1_0", "day=2/delta_2_2_0"]);
    acid.write(3, &["day=1/base_3"]);
    acid.compaction(300, "c", &["day=2/base_2_v300"]);
    acid.run(0);
    acid.shows(3, &["day=1/base_3", "day=2/base_2_v300"]);
    let names = vec![PartitionName("day=2".to_owned())];
    acid.lake.apply(&[Change::DropPartitions { table: table.name, names }]);
    acid.clean(&["day=2"]);
    acid.run(0);
    acid.shows(3, &["day=1/base_3"]);
}

#[test]
fn beside_tables_that_are_switched_transactional_ones_stay_where_they_are() {
    let acid = Acid::with("publish = \"switch\"\nmax_deletes = \"100%\"\n", &[]);
    acid.lake.table("plain", &[]);
    acid.lake.write("sales.db/plain/part-0", "one");
    acid.write(1, &["delta_1_1_0"]);
    acid.run(0);
    acid.lake.write("sales.db/plain/part-0", "another");
    acid.write(2, &["base_2"]);
    acid.compaction(200, "o", &["base_2_v200"]);
    acid.run(0);
    acid.shows(2, &["base_2"]);
    let is_switched = |table: &str| {
        let sql = "SELECT s.LOCATION FROM TBLS t JOIN SDS s ON s.SD_ID = t.SD_ID WHERE t.TBL_NAME = ";
        acid.lake.sql("target", &format!("{sql}'{table}'"))[0][0].contains(".understudy-")
    };
    assert!(is_switched("plain") && !is_switched("orders"));
}
