//! What is named, and what is not, of a run that finds one thing not in step.

use super::*;
use crate::model::PartitionName;
use crate::sync::state::{Intent, Quarantine, TableState};
use crate::sync::survey::Drop;

const POLICY: &str = "name = \"p\"\nstate = \"/s\"\ndatabases = [\"sales\", \"other\"]\nrename = { sales = \"kept\" }\n\
                      [source]\nmetastore = \"sqlite:///a\"\n[target]\nmetastore = \"sqlite:///b\"\n\
                      [[locations]]\nfrom = \"file:/a\"\nto = \"file:/b\"\n";

struct Given {
    policy: Policy,
    seen: Seen,
    survey: Survey,
    state: SyncState,
}

fn source(table: &str) -> TableName {
    TableName::new("sales", table)
}

fn table(name: &str, differs: bool) -> TableWork {
    let differing = differs.then(|| "columns".to_owned()).into_iter().collect();
    TableWork { differing, ..TableWork::unknown(source(name), TableName::new("kept", name)) }
}

fn database(source: &str, target: &str) -> DatabaseWork {
    DatabaseWork {
        source: DatabaseName::new(source),
        target: DatabaseName::new(target),
        location: None,
        is_new: false,
        changes: Vec::new(),
        functions: Vec::new(),
        rewritten: Vec::new(),
        digest: String::new(),
        last_id: None,
        mark: None,
        seal: None,
        drifted: false,
        settled: false,
        lacking: BTreeSet::new(),
        has_functions: false,
    }
}

/// Everything is in step but what `change` makes of it.
fn named(change: impl FnOnce(&mut Given)) -> Vec<String> {
    let policy = Policy::parse(POLICY, "p.toml").unwrap();
    let in_step = TableState { digest: Some("d".to_owned()), ..TableState::default() };
    let tables = ["a", "b", "gone"].map(|name| (name.to_owned(), in_step.clone())).into();
    let left = DatabaseState { tables, ..DatabaseState::default() };
    let state = SyncState {
        policy: still::of_policy(&policy),
        databases: [("kept".to_owned(), left), ("other".to_owned(), DatabaseState::default())].into(),
        ..SyncState::default()
    };
    let survey = Survey {
        databases: vec![database("sales", "kept"), database("other", "other")],
        tables: vec![table("a", false), table("b", false)],
        ..Survey::default()
    };
    let seen = Seen { has_log: true, is_read: true, ..Seen::default() };
    let mut given = Given { policy, seen, survey, state };
    change(&mut given);
    let Given { policy, seen, survey, state } = given;
    let found = find(Unexplained::default(), &seen, &survey, Some(&state), &policy);
    let databases = found.databases.into_iter().map(|(name, why)| format!("{name}: {why}"));
    databases.chain(found.tables.into_iter().map(|(name, why)| format!("{name}: {why}"))).collect()
}

fn drop_of(name: &str) -> Drop {
    Drop { target: TableName::new("kept", name), place: None, folders: Vec::new(), by_others: false }
}

#[test]
fn rule_25_what_came_went_or_changed_without_an_event_is_named() {
    assert_eq!(named(|_| {}), [""; 0]);
    assert_eq!(named(|given| given.survey.tables[0] = table("a", true)), ["sales.a: it changed and no event says so"]);
    let made = TableWork { is_new: true, ..table("new", false) };
    assert_eq!(named(|given| given.survey.tables.push(made)), ["sales.new: it was made and no event says so"]);
    assert_eq!(named(|given| given.survey.drops.push(drop_of("gone"))), ["kept.gone: it is gone and no event says so"]);
    let gone = |given: &mut Given| given.survey.gone.push(DatabaseName::new("other"));
    assert_eq!(named(gone), ["other: it is gone and no event says so"]);
    let made = |given: &mut Given| {
        given.state.databases.remove("other");
        given.survey.databases[1].is_new = true;
    };
    assert_eq!(named(made), ["other: it was made and no event says so"]);
    let function = crate::metastore::Change::DropFunction { database: DatabaseName::new("kept"), name: "f".to_owned() };
    let changed = |given: &mut Given| given.survey.databases[0].functions.push(function.clone());
    assert_eq!(named(changed), ["sales: it changed and no event says so"]);
}

#[test]
fn rule_25_what_an_event_says_or_has_another_reason_is_not_named() {
    type Reason = (&'static str, fn(&mut Given));
    let reasons: [Reason; 10] = [
        ("an event names them", |given| {
            given.seen.touched.extend([source("a"), source("gone")]);
            given.seen.databases.insert(DatabaseName::new("other"));
        }),
        ("the log was not read", |given| given.seen.is_read = false),
        ("a run died", |given| given.state.intent = Some(Intent::default())),
        ("the policy is another one", |given| given.state.policy.clear()),
        ("the target drifted", |given| {
            given.survey.tables[0].drifted = true;
            given.survey.drops.clear();
            given.survey.gone.clear();
        }),
        ("it was not in step", |given| {
            let quarantined = Some(Quarantine { error: "e".to_owned(), as_of: None });
            for table in given.state.databases.get_mut("kept").unwrap().tables.values_mut() {
                table.quarantined.clone_from(&quarantined);
            }
            given.survey.gone.clear();
        }),
        ("it was never there", |given| {
            for table in given.state.databases.get_mut("kept").unwrap().tables.values_mut() {
                table.digest = None;
            }
            given.survey.gone.clear();
        }),
        ("others made it", |given| {
            given.survey.tables.clear();
            given.survey.drops[0].by_others = true;
            given.survey.gone.clear();
        }),
        ("it cannot be carried", |given| {
            given.survey.tables[0].quarantine = Some("q".to_owned());
            given.survey.drops.clear();
            given.survey.gone.clear();
        }),
        ("its writes ended", |given| {
            given.survey.tables[0].acid = Some(crate::sync::writes::Acid::default());
            given.seen.by_type.insert("COMMIT_TXN".to_owned(), 1);
            given.survey.drops.clear();
            given.survey.gone.clear();
        }),
    ];
    for (reason, apply) in reasons {
        let found = named(|given| {
            given.survey.tables[0] = table("a", true);
            given.survey.drops.push(drop_of("gone"));
            given.survey.gone.push(DatabaseName::new("other"));
            apply(given);
        });
        assert_eq!(found, [""; 0], "{reason}");
    }
}

#[test]
fn rule_25_what_a_later_event_is_about_is_explained() {
    let policy = Policy::parse(POLICY, "p.toml").unwrap();
    let [sales, other] = ["sales", "other"].map(DatabaseName::new);
    let left = |later: Touches| {
        let mut found = Unexplained {
            databases: BTreeMap::from([(sales.clone(), "why".to_owned())]),
            tables: ["a", "b", "c"].map(|name| (sales.table(name), "why".to_owned())).into(),
        };
        found.explain(&later, &policy);
        let tables: Vec<String> = found.tables.into_keys().map(|name| name.table).collect();
        (found.databases.len(), tables.concat())
    };
    let partitions = vec![(sales.table("b"), vec![PartitionName("dt=1".to_owned())])];
    let later: [(Touches, (usize, &str)); 6] = [
        (Touches::default(), (1, "abc")),
        (Touches { tables: vec![sales.table("a"), other.table("b")], ..Touches::default() }, (1, "bc")),
        (Touches { partitions, ..Touches::default() }, (1, "ac")),
        (Touches { renames: vec![(sales.table("c"), sales.table("b"))], ..Touches::default() }, (1, "a")),
        (Touches { databases: vec![sales.clone()], ..Touches::default() }, (0, "")),
        (Touches { functions: vec![(other.clone(), "f".to_owned())], ..Touches::default() }, (1, "abc")),
    ];
    for (later, (databases, tables)) in later {
        let told = format!("{later:?}");
        assert_eq!(left(later), (databases, tables.to_owned()), "{told}");
    }
}
