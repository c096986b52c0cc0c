//! A replica in a SQLite file on a machine that vanishes: the state, which is elsewhere, has it (rule 35).

use distcp::store::s3::{S3Config, S3Store};
use distcp::store::{ListOptions, PutOptions, Store};
use manifest::ObjectKey;
use metasync::metastore::Change;
use metasync::model::TableName;
use rustix::process::Signal;
use std::collections::BTreeMap;
use tests::contract::list_all;
use tests::lake::{LARGE, Lake};
use tests::services::{self, S3};

/// A lake whose state is in a bucket, with that bucket.
struct Away {
    lake: Lake,
    server: S3,
    bucket: String,
}

impl Away {
    fn new() -> Option<Self> {
        let server = services::s3()?;
        let mut lake = Lake::new();
        let bucket = server.fresh_bucket("state");
        lake.shell = lake.shell.clone().with_s3(&server);
        lake.database("sales");
        for name in ["a", "b"] {
            lake.table(name, &[]);
            lake.write(&format!("sales.db/{name}/part-0"), name);
        }
        let away = Self { lake, server, bucket };
        away.policy("");
        Some(away)
    }

    fn policy(&self, options: &str) {
        self.lake.policy(options);
        let path = self.lake.root().join("p.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let here = format!("state = \"{}/state\"", self.lake.root().display());
        assert!(text.contains(&here), "{text}");
        std::fs::write(&path, text.replace(&here, &format!("state = \"s3://{}/state\"", self.bucket))).unwrap();
    }

    /// The machine goes; its disk with the data is another one's.
    fn vanish(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.lake.root().join(format!("target.db{suffix}")));
        }
    }

    fn store(&self) -> S3Store {
        let options = BTreeMap::from([
            ("endpoint".to_owned(), self.server.endpoint.clone()),
            ("access_key_id".to_owned(), self.server.access_key.clone()),
            ("secret_access_key".to_owned(), self.server.secret_key.clone()),
        ]);
        S3Store::open(S3Config { bucket: self.bucket.clone(), options, ..S3Config::default() }).unwrap()
    }

    /// Keys of the parts of the target's file.
    fn parts(&self) -> Vec<ObjectKey> {
        let listed = block_on(async { list_all(&self.store(), ListOptions::default()).await });
        let keys = listed.into_iter().map(|listed| listed.key);
        keys.filter(|key| key.as_bytes().starts_with(b"state/sales/replica/")).collect()
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.server.remove_bucket(&self.bucket);
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn rule_35_a_run_on_another_machine_goes_on_with_the_replica_that_the_state_has() {
    let Some(away) = Away::new() else { return };
    let lake = &away.lake;
    lake.metasync("run", &[]).expect(0);
    assert_eq!(away.parts().len(), 1);
    away.vanish();
    let plan = lake.metasync("plan", &[]).expect(0);
    assert_eq!(plan.stdout.lines().count(), 1, "nothing to do: {}", plan.stdout);
    lake.metasync("verify", &[]).expect(0);
    assert!(!lake.root().join("target.db").exists(), "neither makes anything");
    let ran = lake.metasync("run", &[]).expect(0);
    assert!(ran.stderr.contains("target.db was not there: the state has it"), "{}", ran.stderr);
    assert_eq!((ran.number("tables/applied"), ran.number("counts/copied")), (0, 0), "{}", ran.stdout);
    lake.assert_in_step();
    // What changed since is in the next one, and the one before goes.
    lake.table("c", &[]);
    lake.apply(&[Change::DropTable(TableName::new("sales", "a"))]);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(away.parts().len(), 1);
    away.vanish();
    assert_eq!(lake.metasync("run", &[]).expect(0).number("tables/applied"), 0);
    assert_eq!(lake.dump("source"), lake.dump("target"));
    // Somebody's own changes are drift there, too.
    lake.apply_to_target(&[Change::DropTable(TableName::new("sales", "b"))]);
    lake.metasync("run", &[]).expect(5);
}

#[test]
fn rule_35_what_a_run_that_did_not_end_wrote_is_done_again_elsewhere() {
    let Some(away) = Away::new() else { return };
    let lake = &away.lake;
    lake.metasync("run", &[]).expect(0);
    lake.table("large", &[]);
    lake.write("sales.db/large/part-0", &"x".repeat(LARGE));
    away.policy("bwlimit = \"400K\"");
    let mut running = lake.start();
    running.until("the copy", || lake.target("sales.db/large").exists());
    running.signal(Signal::TERM);
    running.end().expect(143);
    away.vanish();
    away.policy("");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_35_a_part_that_is_damaged_is_named_and_nothing_is_made_of_it() {
    let Some(away) = Away::new() else { return };
    let lake = &away.lake;
    lake.metasync("run", &[]).expect(0);
    away.vanish();
    let part = away.parts().remove(0);
    let before = (lake.files(&lake.target("")), lake.dump("source"));
    let damage = away.store();
    block_on(async { damage.put(&part, "not a part".into(), &PutOptions::default()).await }).unwrap();
    for verb in ["run", "plan", "verify"] {
        let failed = lake.metasync(verb, &[]).expect(1);
        let said = failed.stderr.replace("%20", " ");
        assert!(said.contains("a part of the replica's metastore, is damaged or missing"), "{verb}: {}", failed.stderr);
    }
    assert!(!lake.root().join("target.db").exists());
    assert_eq!(before, (lake.files(&lake.target("")), lake.dump("source")));
}

#[test]
fn rule_35_beside_a_state_on_the_same_machine_the_file_stays_where_it_is() {
    let lake = Lake::new();
    lake.database("sales");
    lake.table("a", &[]);
    lake.metasync("run", &[]).expect(0);
    assert!(lake.root().join("state/sales").is_dir() && !lake.root().join("state/sales/replica").exists());
}
