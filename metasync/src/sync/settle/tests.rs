use super::*;
use crate::roots::{Narrowed, Wave};
use manifest::ObjectKey;

fn location(text: &str) -> Location {
    Location::parse(text).unwrap()
}

fn root(folders: &[(&str, Owner)]) -> Root {
    Root {
        from: location("/source/db"),
        to: location("/target/db"),
        wave: Wave::Data,
        folders: folders.iter().map(|(key, owner)| (ObjectKey::from(*key), vec![*owner])).collect(),
        except: Vec::new(),
        narrowed: Narrowed::default(),
        retired: Vec::new(),
        half_done: false,
        late: Vec::new(),
    }
}

fn survey() -> Survey {
    let table = |name: &str| TableWork::unknown(TableName::new("db", name), TableName::new("db", name));
    let quarantined = TableWork { quarantine: Some("it is damaged".to_owned()), ..table("c") };
    Survey {
        tables: vec![table("a"), table("b"), quarantined, table("d")],
        left: vec![(3, location("/target/db/old"))],
        ..Survey::default()
    }
}

fn lacking(failures: &[(Owner, &str)], ends: Option<Ends>) -> Lacking {
    let root = root(&[
        ("a", Owner::Table(0)),
        ("c", Owner::Table(2)),
        ("jars", Owner::Database(0)),
        ("gone", Owner::Removal),
        ("old", Owner::Removal),
    ]);
    let failures = failures.iter().map(|(owner, why)| (*owner, (*why).to_owned())).collect();
    let mut lacking = Lacking::default();
    lacking.add([(&root, failures, &ends)], &survey());
    lacking
}

#[test]
fn a_copy_that_came_to_its_end_leaves_what_failed() {
    let lacking = lacking(
        &[(Owner::Table(0), "no"), (Owner::Table(2), "no"), (Owner::Database(0), "nor that")],
        Some(Ends::default()),
    );
    assert_eq!(lacking.failed, [(0, "no".to_owned())].into());
    assert_eq!(lacking.functions, [(0, "nor that".to_owned())].into());
    assert!(lacking.waiting.is_empty() && lacking.removals.is_empty());
}

#[test]
fn rule_28_a_copy_that_broke_off_has_put_nothing_on_record_that_is_to_go() {
    let lacking = lacking(&[], None);
    assert_eq!(lacking.removals, [location("file:/target/db/gone"), location("file:/target/db/old")]);
    // What stands in the tree waits, and so does the table that leaves a folder of it.
    assert_eq!(lacking.waiting, [0, 3].into());
    assert_eq!(lacking.functions, [(0, BROKE_OFF.to_owned())].into());
}
