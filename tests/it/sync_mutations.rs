//! Small random damage to a replica, 200 times: rows and parameters of its metastore, its files, its table logs. Each is
//! found by `verify` as what it is, each is mended by `--repair`, and afterwards everything is equal, by an oracle of our own.
//!
//! `UNDERSTUDY_TEST_SEED=N` replays one.

use distcp::exit::ExitCode;
use distcp::verify::{Level, Mark};
use metasync::metastore::Change;
use metasync::model::{Table, TableName};
use metasync::object::Object;
use metasync::sync::verify::{Ask, Finding, Pass, verify};
use metasync::sync::{Allowed, Setting, run};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tests::lake::Lake;
use tests::metastores::objects;
use tests::trees::set_mtime;
use tokio::runtime::Runtime;

/// How often something is damaged.
const MUTATIONS: u64 = 200;
/// After so many, the programs themselves are asked, too.
const BETWEEN_ORACLES: u64 = 50;

/// A table of the target's metastore whose rows can be damaged: what is chosen (the object's name first, then values for the
/// script), the script with `{1}`, `{2}` for these, and what is found.
struct OfRows {
    name: &'static str,
    choose: &'static str,
    script: &'static str,
    mark: Mark,
    /// With `{0}` for the name.
    object: &'static str,
    /// What the detail says, at least.
    says: &'static str,
}

const ROWS: [OfRows; 26] = [
    OfRows {
        name: "a parameter is changed",
        choose: "SELECT TBL_NAME, CAST(TBL_ID AS TEXT), PARAM_KEY FROM TABLE_PARAMS JOIN TBLS USING (TBL_ID) \
                 WHERE PARAM_KEY NOT LIKE 'understudy.%'",
        script: "UPDATE TABLE_PARAMS SET PARAM_VALUE = PARAM_VALUE || 'x' WHERE TBL_ID = {1} AND PARAM_KEY = '{2}'",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "parameters.",
    },
    OfRows {
        name: "a parameter is lost",
        choose: "SELECT TBL_NAME, CAST(TBL_ID AS TEXT), PARAM_KEY FROM TABLE_PARAMS JOIN TBLS USING (TBL_ID) \
                 WHERE PARAM_KEY NOT LIKE 'understudy.%'",
        script: "DELETE FROM TABLE_PARAMS WHERE TBL_ID = {1} AND PARAM_KEY = '{2}'",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "parameters",
    },
    OfRows {
        name: "a parameter is added",
        choose: "SELECT TBL_NAME, CAST(TBL_ID AS TEXT) FROM TBLS",
        script: "INSERT INTO TABLE_PARAMS VALUES ({1}, 'mutant', '1')",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "parameters",
    },
    OfRows {
        name: "a column is renamed",
        choose: "SELECT TBL_NAME, CAST(CD_ID AS TEXT), CAST(INTEGER_IDX AS TEXT) FROM TBLS JOIN SDS USING (SD_ID) \
                 JOIN COLUMNS_V2 USING (CD_ID)",
        script: "UPDATE COLUMNS_V2 SET COLUMN_NAME = COLUMN_NAME || '_x' WHERE CD_ID = {1} AND INTEGER_IDX = {2}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "storage.columns",
    },
    OfRows {
        name: "a column's type is changed",
        choose: "SELECT TBL_NAME, CAST(CD_ID AS TEXT), CAST(INTEGER_IDX AS TEXT) FROM TBLS JOIN SDS USING (SD_ID) \
                 JOIN COLUMNS_V2 USING (CD_ID)",
        script: "UPDATE COLUMNS_V2 SET TYPE_NAME = 'binary' WHERE CD_ID = {1} AND INTEGER_IDX = {2}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "type_name",
    },
    OfRows {
        name: "a column is lost",
        choose: "SELECT TBL_NAME, CAST(CD_ID AS TEXT), CAST(MAX(INTEGER_IDX) AS TEXT) FROM TBLS JOIN SDS USING (SD_ID) \
                 JOIN COLUMNS_V2 USING (CD_ID) WHERE TBL_NAME IN ('items', 'delta') GROUP BY TBL_NAME, CD_ID",
        script: "DELETE FROM COLUMNS_V2 WHERE CD_ID = {1} AND INTEGER_IDX = {2}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "storage.columns",
    },
    OfRows {
        name: "a table is moved",
        choose: "SELECT TBL_NAME, CAST(SD_ID AS TEXT) FROM TBLS JOIN SDS USING (SD_ID) WHERE LOCATION IS NOT NULL",
        script: "UPDATE SDS SET LOCATION = LOCATION || '_moved' WHERE SD_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "storage.location",
    },
    OfRows {
        name: "a table is moved out of the map",
        choose: "SELECT TBL_NAME, CAST(SD_ID AS TEXT) FROM TBLS JOIN SDS USING (SD_ID) WHERE LOCATION IS NOT NULL",
        script: "UPDATE SDS SET LOCATION = 's3://elsewhere/t' WHERE SD_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "storage.location",
    },
    OfRows {
        name: "a partition is moved out of the map",
        choose: "SELECT PART_NAME, TBL_NAME, CAST(P.SD_ID AS TEXT) FROM PARTITIONS P JOIN TBLS USING (TBL_ID)",
        script: "UPDATE SDS SET LOCATION = 's3://elsewhere/p' WHERE SD_ID = {2}",
        mark: Mark::Differ,
        object: "partition {0} of sales.{1}",
        says: "",
    },
    OfRows {
        name: "a partition's parameter is changed",
        choose: "SELECT PART_NAME, TBL_NAME, CAST(PART_ID AS TEXT), PARAM_KEY FROM PARTITION_PARAMS \
                 JOIN PARTITIONS USING (PART_ID) JOIN TBLS USING (TBL_ID)",
        script: "UPDATE PARTITION_PARAMS SET PARAM_VALUE = PARAM_VALUE || '9' WHERE PART_ID = {2} AND PARAM_KEY = '{3}'",
        mark: Mark::Differ,
        object: "partition {0} of sales.{1}",
        says: "",
    },
    OfRows {
        name: "a partition's format is changed",
        choose: "SELECT PART_NAME, TBL_NAME, CAST(P.SD_ID AS TEXT) FROM PARTITIONS P JOIN TBLS USING (TBL_ID)",
        script: "UPDATE SDS SET INPUT_FORMAT = 'other' WHERE SD_ID = {2}",
        mark: Mark::Differ,
        object: "partition {0} of sales.{1}",
        says: "",
    },
    OfRows {
        name: "a partition is lost",
        choose: "SELECT PART_NAME, TBL_NAME, CAST(PART_ID AS TEXT) FROM PARTITIONS JOIN TBLS USING (TBL_ID)",
        script: "DELETE FROM PART_COL_STATS WHERE PART_ID = {2}; DELETE FROM PARTITION_PARAMS WHERE PART_ID = {2}; \
                 DELETE FROM PARTITION_KEY_VALS WHERE PART_ID = {2}; DELETE FROM PARTITIONS WHERE PART_ID = {2}",
        mark: Mark::OnlySource,
        object: "partition {0} of sales.{1}",
        says: "",
    },
    OfRows {
        name: "a partition's statistics are changed",
        choose: "SELECT PART_NAME, TBL_NAME, CAST(CS_ID AS TEXT) FROM PART_COL_STATS JOIN PARTITIONS USING (PART_ID) \
                 JOIN TBLS USING (TBL_ID)",
        script: "UPDATE PART_COL_STATS SET NUM_NULLS = NUM_NULLS + 1 WHERE CS_ID = {2}",
        mark: Mark::Differ,
        object: "partition {0} of sales.{1}",
        says: "",
    },
    OfRows {
        name: "statistics are changed",
        choose: "SELECT TBL_NAME, CAST(CS_ID AS TEXT) FROM TAB_COL_STATS JOIN TBLS USING (TBL_ID)",
        script: "UPDATE TAB_COL_STATS SET NUM_NULLS = NUM_NULLS + 1 WHERE CS_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "statistics of ",
    },
    OfRows {
        name: "statistics are lost",
        choose: "SELECT TBL_NAME, CAST(CS_ID AS TEXT) FROM TAB_COL_STATS JOIN TBLS USING (TBL_ID)",
        script: "DELETE FROM TAB_COL_STATS WHERE CS_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "statistics of ",
    },
    OfRows {
        name: "a constraint is lost",
        choose: "SELECT DISTINCT TBL_NAME, CONSTRAINT_NAME FROM KEY_CONSTRAINTS \
                 JOIN TBLS ON TBL_ID = COALESCE(CHILD_TBL_ID, PARENT_TBL_ID)",
        script: "DELETE FROM KEY_CONSTRAINTS WHERE CONSTRAINT_NAME = '{1}'",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "constraint {1}",
    },
    OfRows {
        name: "a constraint is another",
        choose: "SELECT DISTINCT TBL_NAME, CONSTRAINT_NAME FROM KEY_CONSTRAINTS \
                 JOIN TBLS ON TBL_ID = COALESCE(CHILD_TBL_ID, PARENT_TBL_ID)",
        script: "UPDATE KEY_CONSTRAINTS SET CONSTRAINT_NAME = '{1}_x' WHERE CONSTRAINT_NAME = '{1}'",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "constraint {1}_x",
    },
    OfRows {
        name: "a SerDe is another",
        choose: "SELECT TBL_NAME, CAST(SERDE_ID AS TEXT) FROM TBLS JOIN SDS USING (SD_ID) JOIN SERDES USING (SERDE_ID)",
        script: "UPDATE SERDES SET SLIB = 'other' WHERE SERDE_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "storage.serde",
    },
    OfRows {
        name: "buckets are others",
        choose: "SELECT TBL_NAME, CAST(SD_ID AS TEXT) FROM TBLS JOIN SDS USING (SD_ID)",
        script: "UPDATE SDS SET NUM_BUCKETS = NUM_BUCKETS + 3 WHERE SD_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "storage.bucket",
    },
    OfRows {
        name: "an owner is another",
        choose: "SELECT TBL_NAME, CAST(TBL_ID AS TEXT) FROM TBLS",
        script: "UPDATE TBLS SET OWNER = 'mallory' WHERE TBL_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "owner",
    },
    OfRows {
        name: "a view says something else",
        choose: "SELECT TBL_NAME, CAST(TBL_ID AS TEXT) FROM TBLS WHERE TBL_TYPE = 'VIRTUAL_VIEW'",
        script: "UPDATE TBLS SET VIEW_EXPANDED_TEXT = 'select 1' WHERE TBL_ID = {1}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "view_expanded_text",
    },
    OfRows {
        name: "a partition key is of another type",
        choose: "SELECT TBL_NAME, CAST(TBL_ID AS TEXT), CAST(INTEGER_IDX AS TEXT) FROM PARTITION_KEYS \
                 JOIN TBLS USING (TBL_ID)",
        script: "UPDATE PARTITION_KEYS SET PKEY_TYPE = 'date' WHERE TBL_ID = {1} AND INTEGER_IDX = {2}",
        mark: Mark::Differ,
        object: "table sales.{0}",
        says: "partition keys",
    },
    OfRows {
        name: "a database's parameter is changed",
        choose: "SELECT NAME, CAST(DB_ID AS TEXT), PARAM_KEY FROM DATABASE_PARAMS JOIN DBS USING (DB_ID) \
                 WHERE NAME = 'sales' AND PARAM_KEY NOT LIKE 'repl.%' AND PARAM_KEY NOT LIKE 'understudy.%'",
        script: "UPDATE DATABASE_PARAMS SET PARAM_VALUE = 'x' WHERE DB_ID = {1} AND PARAM_KEY = '{2}'",
        mark: Mark::Differ,
        object: "database {0}",
        says: "",
    },
    OfRows {
        name: "a database is moved",
        choose: "SELECT NAME, CAST(DB_ID AS TEXT) FROM DBS WHERE NAME = 'sales'",
        script: "UPDATE DBS SET DB_LOCATION_URI = 's3://elsewhere/db' WHERE DB_ID = {1}",
        mark: Mark::Differ,
        object: "database {0}",
        says: "",
    },
    OfRows {
        name: "a function is another",
        choose: "SELECT FUNC_NAME, CAST(FUNC_ID AS TEXT) FROM FUNCS",
        script: "UPDATE FUNCS SET CLASS_NAME = 'com.example.Whisper' WHERE FUNC_ID = {1}",
        mark: Mark::Differ,
        object: "function sales.{0}",
        says: "",
    },
    OfRows {
        name: "a function is lost",
        choose: "SELECT FUNC_NAME, CAST(FUNC_ID AS TEXT) FROM FUNCS",
        script: "DELETE FROM FUNC_RU WHERE FUNC_ID = {1}; DELETE FROM FUNCS WHERE FUNC_ID = {1}",
        mark: Mark::OnlySource,
        object: "function sales.{0}",
        says: "",
    },
];

/// Kinds of damage that are no single rows.
const OTHERS: [&str; 13] = [
    "a byte is flipped",
    "a byte is flipped and the time kept",
    "a file is cut off",
    "a file grew",
    "a file is lost",
    "a file is extra",
    "a file holds another one's content",
    "a table's log is changed",
    "a folder's files are lost",
    "a folder is extra",
    "a table is lost",
    "a table is extra",
    "a partition is extra",
];

/// What is expected to be found: the mark, the object (or how its name ends), and what the detail holds.
struct Expected {
    mark: Mark,
    object: String,
    says: String,
}

struct Replica {
    lake: Lake,
    setting: Setting,
    runtime: Runtime,
}

impl Replica {
    /// Every part of the model in a database, with files, and a table whose log names its files.
    fn new() -> Self {
        let lake = Lake::in_memory();
        lake.policy("max_deletes = \"100%\"");
        std::fs::create_dir_all(lake.source("")).unwrap();
        let root = format!("file:{}", lake.root().join("source").display());
        let carried = |object: &Object| !matches!(object, Object::Role(_) | Object::RoleGrant(_) | Object::Grant(_));
        let objects = objects::everything("sales", &root).into_iter().filter(carried);
        lake.apply(&objects.map(Object::into_change).collect::<Vec<_>>());
        let mut delta = lake.unmade_table("delta", &[]);
        delta.parameters.insert("spark.sql.sources.provider".to_owned(), "delta".to_owned());
        lake.apply(&[Change::PutTable(Box::new(delta))]);
        for name in ["orders", "items/day=2026-11-21/shop=é", "items/day=a b/shop=é", "delta", "items_old/1999"] {
            for part in 0..3 {
                lake.write(&format!("sales.db/{name}/part-{part}"), &format!("rows of {name}, part {part}"));
            }
        }
        for version in 0..2 {
            let log = format!("sales.db/delta/_delta_log/{version:020}.json");
            lake.write(&log, &format!("{{\"add\":{{\"path\":\"part-{version}\"}}}}"));
        }
        std::fs::create_dir_all(lake.source("sales.db/shaped")).unwrap();
        lake.write("jars/shout.jar", "a jar");
        lake.write("jars/words.txt", "words");
        let setting = lake.setting();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (summary, failure) = runtime.block_on(run(&setting, "run", &Allowed::default()));
        assert!(failure.is_none() && summary.exit_code == ExitCode::Done, "{failure:?} {summary:?}");
        Self { lake, setting, runtime }
    }

    /// What is found, before and after a repair if one is asked for, and how it ends.
    fn verify(&self, level: Level, repair: bool) -> (Vec<Finding>, Vec<Finding>, ExitCode) {
        let (mut first, mut after) = (Vec::new(), Vec::new());
        let ask = Ask { level, repair, ..Ask::default() };
        let mut sink = |pass: Pass, finding: Finding| match (pass, finding.mark) {
            (_, Mark::Equal) => {}
            (Pass::First, _) => first.push(finding),
            (Pass::AfterRepair, _) => after.push(finding),
        };
        let (summary, failure) = self.runtime.block_on(verify(&self.setting, &ask, &mut sink));
        assert!(failure.is_none(), "{failure:?}");
        (first, after, summary.exit_code)
    }

    /// Files of the target, or those of a folder of it.
    fn files(&self, below: &str) -> Vec<String> {
        let files = self.lake.files(&self.lake.target(""));
        files.into_keys().filter(|path| path.starts_with(below)).collect()
    }

    /// The target's version of a table of the lake.
    fn table_of_target(&self, name: &str, keys: &[&str]) -> Table {
        let root = format!("file:{}", self.lake.root().join("target").display());
        objects::table(TableName::new("sales", name), &root, keys)
    }

    fn damage_rows(&self, kind: &OfRows, dice: &mut StdRng) -> Expected {
        let rows = self.lake.sql("target", kind.choose);
        let row = rows.choose(dice).unwrap_or_else(|| panic!("{}: there is nothing to choose from", kind.name));
        let fill = |text: &str| {
            let values = row.iter().enumerate();
            values.fold(text.to_owned(), |text, (at, value)| text.replace(&format!("{{{at}}}"), value))
        };
        self.lake.sql("target", &fill(kind.script));
        Expected { mark: kind.mark, object: fill(kind.object), says: fill(kind.says) }
    }

    fn damage_other(&self, kind: &str, dice: &mut StdRng) -> Expected {
        let path = self.files("").choose(dice).cloned().unwrap();
        let place = self.lake.target(&path);
        let bytes = std::fs::read(&place).unwrap();
        let at = dice.random_range(0..bytes.len());
        let flipped = || {
            let mut other = bytes.clone();
            other[at] ^= 1 << 3;
            other
        };
        let found =
            |mark: Mark, object: &str| Expected { mark, object: format!("/target/{object}"), says: String::new() };
        let sized = |object: &str| Expected { says: "bytes at the source".to_owned(), ..found(Mark::Differ, object) };
        match kind {
            "a byte is flipped" => {
                std::fs::write(&place, flipped()).unwrap();
                Expected { says: "content differs".to_owned(), ..found(Mark::Differ, &path) }
            }
            "a byte is flipped and the time kept" => {
                let time = place.metadata().unwrap().modified().unwrap();
                std::fs::write(&place, flipped()).unwrap();
                set_mtime(&place, time);
                Expected { says: "content differs".to_owned(), ..found(Mark::Differ, &path) }
            }
            "a file is cut off" => {
                std::fs::write(&place, &bytes[..at]).unwrap();
                sized(&path)
            }
            "a file grew" => {
                std::fs::write(&place, [&bytes[..], b"!"].concat()).unwrap();
                sized(&path)
            }
            "a file is lost" => {
                std::fs::remove_file(&place).unwrap();
                found(Mark::OnlySource, &path)
            }
            "a file is extra" => {
                let folder = self.files("sales.db/").choose(dice).cloned().unwrap();
                let (folder, _) = folder.rsplit_once('/').unwrap();
                self.write(&format!("{folder}/mutant"));
                found(Mark::OnlyTarget, &format!("{folder}/mutant"))
            }
            "a file holds another one's content" => {
                let other = self.files("").into_iter().find(|other| *other != path).unwrap();
                std::fs::copy(self.lake.target(&other), &place).unwrap();
                found(Mark::Differ, &path)
            }
            "a table's log is changed" => {
                let log = self.files("sales.db/delta/_delta_log/").choose(dice).cloned().unwrap();
                let text = std::fs::read_to_string(self.lake.target(&log)).unwrap();
                std::fs::write(self.lake.target(&log), text.replace("part-", "Part-")).unwrap();
                found(Mark::Differ, &log)
            }
            "a folder's files are lost" => {
                let files = self.files("sales.db/orders/");
                files.iter().for_each(|file| std::fs::remove_file(self.lake.target(file)).unwrap());
                found(Mark::OnlySource, files.choose(dice).unwrap())
            }
            "a folder is extra" => {
                std::fs::create_dir(self.lake.target("sales.db/orders/mutant")).unwrap();
                found(Mark::OnlyTarget, "sales.db/orders/mutant")
            }
            "a table is lost" => {
                let name = *["orders", "items", "delta", "shaped", "cheap_orders"].choose(dice).unwrap();
                self.lake.apply_to_target(&[Change::DropTable(TableName::new("sales", name))]);
                Expected { mark: Mark::OnlySource, object: format!("table sales.{name}"), says: String::new() }
            }
            "a table is extra" => {
                let mutant = self.table_of_target("mutant", &[]);
                self.lake.apply_to_target(&[Change::PutTable(Box::new(mutant))]);
                let object = "table sales.mutant".to_owned();
                Expected { mark: Mark::OnlyTarget, object, says: "no run of this policy".to_owned() }
            }
            "a partition is extra" => {
                let items = self.table_of_target("items", &["day", "shop"]);
                let partitions = vec![objects::partition(&items, &["mutant", "1"])];
                self.lake.apply_to_target(&[Change::PutPartitions { table: items.name, partitions }]);
                let object = "partition day=mutant/shop=1 of sales.items".to_owned();
                Expected { mark: Mark::OnlyTarget, object, says: String::new() }
            }
            other => panic!("nobody knows how {other}"),
        }
    }

    /// A file of the target that is not young.
    fn write(&self, path: &str) {
        let place: PathBuf = self.lake.target(path);
        std::fs::write(&place, "mutant").unwrap();
        set_mtime(&place, SystemTime::now() - Duration::from_secs(10));
    }

    /// Damages something, and has it found and mended.
    fn play(&self, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed);
        let kind = seed as usize % (ROWS.len() + OTHERS.len());
        let (name, expected) = match ROWS.get(kind) {
            Some(rows) => (rows.name, self.damage_rows(rows, &mut dice)),
            None => (OTHERS[kind - ROWS.len()], self.damage_other(OTHERS[kind - ROWS.len()], &mut dice)),
        };
        let told = format!("seed {seed}: {name}, expected {:?} {}", expected.mark, expected.object);
        let level = if dice.random_bool(0.5) { Level::Manifest } else { Level::Content };
        let (first, after, code) = self.verify(level, true);
        let is_it = |found: &&Finding| found.mark == expected.mark && found.object.ends_with(&expected.object);
        let found = first.iter().find(is_it).unwrap_or_else(|| panic!("{told}: not among {first:?}"));
        let detail = found.detail.as_deref().unwrap_or_default();
        assert!(detail.contains(&expected.says), "{told}: {detail:?} does not say {:?}", expected.says);
        assert_eq!((after, code), (Vec::new(), ExitCode::Done), "{told}: after the repair");
        assert_eq!(self.verify(Level::Content, false), (Vec::new(), Vec::new(), ExitCode::Done), "{told}: in the end");
        let (source, target) = (self.lake.files(&self.lake.source("")), self.lake.files(&self.lake.target("")));
        assert_eq!(source, target, "{told}: files");
    }
}

#[test]
fn every_small_damage_to_a_replica_is_found_as_what_it_is_and_mended() {
    let replica = Replica::new();
    let seeds: Vec<u64> = match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..MUTATIONS).collect(),
    };
    for seed in seeds {
        replica.play(seed);
        if seed % BETWEEN_ORACLES == BETWEEN_ORACLES - 1 {
            replica.lake.assert_in_step();
        }
    }
    replica.lake.assert_in_step();
    let names: BTreeSet<&str> = ROWS.iter().map(|kind| kind.name).chain(OTHERS).collect();
    assert!(names.len() == ROWS.len() + OTHERS.len() && MUTATIONS as usize > 5 * names.len(), "each comes five times");
}
