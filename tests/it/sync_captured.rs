//! Logs that real Hive servers wrote, played into a lake one event after the other, and replicas of it: whatever events one
//! run has before it, and from whatever checkpoint it starts, the replica ends as the messages say (rule 22).
//!
//! `UNDERSTUDY_TEST_LONG` runs after every single event of every log and replays from every single checkpoint; without it that
//! is done before each event that says what was meant. `UNDERSTUDY_TEST_SEED=N` replays one seed of the batches.

use metasync::event::{self, Kind};
use metasync::metastore::EventRow;
use metasync::model::{HIVE_CATALOG, Table, TableName};
use metasync::object::Object;
use metasync::translate::STILLED;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tests::captured::{Describer, Log, Saved, end_of_acid, forget};
use tests::cli::Ran;
use tests::services;

/// Seeds of batches without and with `UNDERSTUDY_TEST_LONG`.
const SEEDS: (u64, u64) = (3, 40);
/// The most runs of one seed.
const MOST_BATCHES: usize = 12;
/// All databases of the logs but that of another catalog.
const SCOPE: &str = "databases = [\"gold*\", \"acid*\"]\n";
/// The scripts drop much at once.
const UNGUARDED: &str = "max_drops = \"100%\"\nmax_deletes = \"100%\"";

/// What becomes of a table of the source.
#[derive(Debug, PartialEq)]
enum Fate {
    Carried,
    /// It is not in step, and named with this reason.
    Quarantined(&'static str),
    /// The policy does not ask for it.
    LeftOut,
}

/// A log does not say which transactions were committed when: here the source is one that cannot be asked.
const UNKNOWN_WRITES: &str = "it is an ACID table: which of its writes count is known only in the database of a metastore of \
                              Hive 4, which this source is not";

/// The one place that says what is not carried.
fn fate(table: &Table) -> Fate {
    let is_acid = table.parameters.get("transactional").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    match table.table_type.as_deref() {
        Some("MATERIALIZED_VIEW") => Fate::LeftOut,
        _ if is_acid => Fate::Quarantined(UNKNOWN_WRITES),
        _ => Fate::Carried,
    }
}

/// Events by type, as a run counts them.
type ByType = BTreeMap<String, u64>;

fn by_type<'a>(rows: impl IntoIterator<Item = &'a EventRow>) -> ByType {
    rows.into_iter().fold(ByType::new(), |mut types, row| {
        *types.entry(row.event_type.clone()).or_default() += 1;
        types
    })
}

/// What a run says of the events that it read.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    /// About objects of the policy.
    applied: u64,
    skipped: u64,
    by_type: ByType,
}

impl Counted {
    fn by(ran: &Ran) -> Self {
        let by_type = serde_json::from_value(ran.summary()["events"]["by_type"].clone()).unwrap();
        Self { applied: ran.number("events/applied"), skipped: ran.number("events/skipped"), by_type }
    }

    fn of(rows: &[EventRow]) -> Self {
        // Of transactions this one alone names a table.
        let applied =
            |row: &&EventRow| row.catalog.as_deref() == Some(HIVE_CATALOG) && row.event_type != "ALLOC_WRITE_ID_EVENT";
        let applied = rows.iter().filter(applied).count() as u64;
        Self { applied, skipped: rows.len() as u64 - applied, by_type: by_type(rows) }
    }

    fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.skipped += other.skipped;
        other.by_type.into_iter().for_each(|(kind, count)| *self.by_type.entry(kind).or_default() += count);
    }
}

/// A run, which ends as the tables that are there ask for, has no event that is not known, and finds no change that no event
/// tells of.
fn run(described: &Describer, when: &str) -> Ran {
    let ran = described.lake.metasync("run", &[]);
    let told = format!("{when}: {}\n{}", ran.stdout, ran.stderr);
    let quarantined = described.tables().filter_map(|table| match fate(table) {
        Fate::Quarantined(why) => Some(format!("{} is not in step: {why}", table.name)),
        _ => None,
    });
    let quarantined: BTreeSet<String> = quarantined.collect();
    let named = ran.stderr.lines().filter(|line| line.contains(" is not in step: ")).map(str::to_owned);
    assert_eq!(named.collect::<BTreeSet<String>>(), quarantined, "{told}");
    assert_eq!(ran.code, if quarantined.is_empty() { 0 } else { 3 }, "{told}");
    assert_eq!(ran.summary()["events"].get("events_missing"), None, "{told}");
    assert_eq!(ran.summary().get("behind"), None, "{told}");
    let notes: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("event ")).collect();
    assert!(notes.is_empty(), "{told}");
    ran
}

/// What a replica shows: its objects as lines of a dump, with the source's places, and the files of its tables.
#[derive(Debug, PartialEq)]
struct Shown {
    lines: Vec<String>,
    files: BTreeMap<String, String>,
}

/// What is compared of an object: nothing of what a policy never carries, and of tables only what is carried. A table that is
/// quarantined now may have been carried once: what the replica had of it stays.
fn compared(object: &Object, not_carried: &BTreeSet<&TableName>) -> bool {
    let table = match object {
        Object::Database(database) => return database.name.catalog == HIVE_CATALOG,
        Object::Function(_) => return true,
        Object::Table(table) => &table.name,
        Object::Constraint(constraint) => &constraint.table,
        Object::TableStatistics { table, .. }
        | Object::Partition { table, .. }
        | Object::PartitionStatistics { table, .. } => table,
        Object::Catalog(_) | Object::Role(_) | Object::RoleGrant(_) | Object::Grant(_) => return false,
    };
    !not_carried.contains(table)
}

/// What is compared of `source` or `target`.
fn objects(described: &Describer, side: &str) -> Vec<Object> {
    let not_carried = described.tables().filter(|table| !is_carried(table)).map(|table| &table.name).collect();
    let mut objects = described.lake.objects(side);
    objects.retain(|object| compared(object, &not_carried));
    objects
}

fn is_carried(table: &Table) -> bool {
    fate(table) == Fate::Carried
}

/// What a replica in step shows.
fn expected(described: &Describer) -> Shown {
    let mut objects = objects(described, "source");
    objects.iter_mut().for_each(still);
    Shown { lines: objects.iter().map(line).collect(), files: files(described, "source") }
}

fn line(object: &Object) -> String {
    serde_json::to_string(object).unwrap()
}

fn files(described: &Describer, side: &str) -> BTreeMap<String, String> {
    let live: Vec<String> = described.folders(is_carried).collect();
    let mut files = described.lake.files(&described.lake.root().join(side));
    files.retain(|path, _| is_below(path, &live));
    files
}

/// Asserts that the replica shows what it shall, and has no file that no table ever had.
fn in_step(described: &Describer, expected: &Shown, when: &str) {
    let root = described.lake.root().display();
    let (from, to) = (format!("{root}/target"), format!("{root}/source"));
    let lines = objects(described, "target").iter().map(|object| line(object).replace(&from, &to)).collect();
    let shown = Shown { lines, files: files(described, "target") };
    let mut both = expected.lines.iter().zip(&shown.lines);
    if let Some((expected, shown)) = both.find(|(expected, shown)| expected != shown) {
        assert_eq!(expected, shown, "{when}");
    }
    assert_eq!(expected, &shown, "{when}");
    let others = described.lake.files(&described.lake.target("")).into_keys();
    let once: Vec<String> = described.folders(|table| !is_carried(table)).collect();
    let kept = |path: &String| is_below(path, described.left()) || is_below(path, &once);
    let others: Vec<String> = others.filter(|path| !shown.files.contains_key(path) && !kept(path)).collect();
    assert!(others.is_empty(), "{when}: no table has {others:?}");
}

/// Whether a path is one of these folders or files, or inside one.
fn is_below<'a>(path: &str, folders: impl IntoIterator<Item = &'a String>) -> bool {
    let inside = |folder: &String| {
        path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    folders.into_iter().any(inside)
}

/// Rule 31: what the source would do by itself, the replica does not.
fn still(object: &mut Object) {
    let Object::Table(table) = object else { return };
    for (key, stilled) in STILLED {
        if table.parameters.remove(key).is_some()
            && let Some(stilled) = stilled
        {
            table.parameters.insert(key.to_owned(), stilled.to_owned());
        }
    }
}

fn described(log: &Log) -> Describer {
    let described = Describer::new(log);
    // As Hive 3 keeps transactions.
    described.lake.sql("source", "ALTER TABLE \"TXNS\" DROP COLUMN \"TXN_TYPE\"");
    described.lake.policy_of(SCOPE, UNGUARDED);
    described
}

fn described_plain(log: &Log) -> Describer {
    let described = Describer::plain(log);
    described.lake.policy_of(SCOPE, UNGUARDED);
    described
}

/// Whether there is a run after this event: after each; without `UNDERSTUDY_TEST_LONG` after the first, the last, and before
/// each that says of a table which is carried what could not be seen afterwards: that somebody emptied or renamed it.
fn is_stop(described: &Describer, row: &EventRow) -> bool {
    let Some(next) = described.coming() else { return true };
    let touches = event::decode(next).unwrap().touches();
    let renamed = touches.renames.iter().map(|(from, _)| from);
    let mut meant = touches.emptied.iter().map(|emptied| &emptied.table).chain(renamed);
    let carried = |name: &TableName| described.tables().any(|table| table.name == *name && is_carried(table));
    services::long() || row.event_id == 1 || meant.any(carried)
}

/// Runs after events; one run after all of them; one run from each of the states that the first left. Returns how all end.
fn replay(name: &str, described: fn(&Log) -> Describer) -> Shown {
    let log = Log::named(name);
    let rows = log.rows();
    let mut described = described(&log);
    let (kept, mut saved) = (tempfile::tempdir().unwrap(), Vec::new());
    let mut seen = Counted::default();
    while let Some(row) = described.play() {
        if !is_stop(&described, &row) {
            continue;
        }
        let when = format!("{name}, after event {} ({})", row.event_id, row.event_type);
        let ran = run(&described, &when);
        in_step(&described, &expected(&described), &when);
        assert_eq!(ran.number("to_event"), row.event_id as u64, "{when}");
        seen.add(Counted::by(&ran));
        let folder = kept.path().join(row.event_id.to_string());
        saved.push(Saved::of(&described.lake, row.event_id, folder, saved.last()));
    }
    // The first run begins where the log stands.
    assert_eq!(seen, Counted::of(&rows[1..]), "{name}");
    let when = format!("{name}, after runs after {} of {} events", saved.len(), rows.len());
    let end = expected(&described);
    println!("{when}: in step");

    forget(&described.lake);
    let when = format!("{name}, after one run");
    assert_eq!(run(&described, &when).summary()["mode"], "bootstrap", "{when}");
    in_step(&described, &end, &when);

    for saved in &saved {
        saved.restore(&described.lake);
        let when = format!("{name}, from the checkpoint after event {}", saved.event);
        let ran = run(&described, &when);
        let summary = ran.summary();
        assert_eq!((&summary["mode"], &summary["from_event"]), (&json!("incremental"), &json!(saved.event)), "{when}");
        let rest = rows.partition_point(|row| row.event_id <= saved.event);
        assert_eq!(Counted::by(&ran), Counted::of(&rows[rest..]), "{when}");
        in_step(&described, &end, &when);
    }
    println!("{name}: one run, and {} replays from older checkpoints, end the same", saved.len());
    end
}

#[test]
fn a_log_of_4_0_in_gzip_ends_the_same_from_any_checkpoint() {
    replay("4.0-gzip", described);
}

#[test]
fn a_log_of_4_0_in_json_ends_the_same_from_any_checkpoint() {
    replay("4.0-json", described);
}

#[test]
fn a_log_of_4_2_ends_the_same_from_any_checkpoint() {
    replay("4.2-gzip", described);
}

#[test]
fn a_log_of_transactional_tables_ends_the_same_from_any_checkpoint() {
    replay("4.2-acid", described);
}

#[test]
fn a_log_of_4_2_as_if_no_table_were_transactional_ends_the_same_from_any_checkpoint() {
    let end = replay("4.2-gzip", described_plain);
    let kinds = ["primary_key", "foreign_key", "unique", "not_null", "default", "check"];
    let found = kinds.map(|kind| end.lines.iter().any(|line| line.contains(&format!("{{\"kind\":\"{kind}\""))));
    assert_eq!(found, [true, false, true, true, true, true], "the foreign key is dropped in the log");
}

/// Runs after a few events that the dice choose: what a run has before it is a batch of any length.
fn batches(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let logs = Log::all();
    let log = &logs[usize::try_from(seed).unwrap() % logs.len()];
    let rows = log.rows();
    let count = dice.random_range(1..MOST_BATCHES);
    let mut stops: BTreeSet<i64> = rows.iter().map(|row| row.event_id).sample(&mut dice, count).into_iter().collect();
    stops.extend(rows.last().map(|row| row.event_id));
    let mut described = described(log);
    while let Some(row) = described.play() {
        if stops.contains(&row.event_id) {
            let when = format!("seed {seed}, {}, after event {} of {stops:?}", log.name, row.event_id);
            run(&described, &when);
            in_step(&described, &expected(&described), &when);
        }
    }
}

#[test]
fn batches_of_any_length_end_as_one_event_after_the_other_does() {
    match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => batches(seed.parse().unwrap()),
        Err(_) => (0..if services::long() { SEEDS.1 } else { SEEDS.0 }).for_each(batches),
    }
}

#[test]
fn every_captured_message_is_understood_and_names_what_it_is_about() {
    let mut count = 0;
    for log in Log::all() {
        for (at, row) in (1..).zip(log.rows()) {
            assert_eq!(row.event_id, at, "{} has no hole", log.name);
            let event = event::decode(&row).unwrap_or_else(|error| panic!("{}: {error}", log.name));
            let of_transactions = matches!(
                event.kind,
                Kind::OpenTransactions { .. }
                    | Kind::CommitTransaction { .. }
                    | Kind::AbortTransaction { .. }
                    | Kind::AllocateWriteIds { .. }
            );
            assert!(!matches!(event.kind, Kind::Unknown { .. }), "{} {at}: {}", log.name, row.event_type);
            assert_eq!(event.touches().is_empty(), of_transactions, "{} {at}: {}", log.name, row.event_type);
            count += 1;
        }
    }
    assert_eq!(count, 664 + 674 + 418 + 394);
}

/// Rule 22: what the messages of a log say is what a read of its source gives, to the last parameter. So a replica that is read
/// from the source, as above, is one that is made of messages.
#[test]
fn rule_22_the_messages_of_a_log_say_what_its_metastore_held() {
    let log = Log::named("4.2-acid");
    let mut described = described(&log);
    while described.play().is_some() {}
    let place = format!("file:{}", described.lake.root().join("source").display());
    let lines = described.lake.dump("source").into_iter().map(|line| line.replace(&place, log.warehouse));
    let told: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert_eq!(told, end_of_acid());
    assert!(told.iter().any(|line| line["parameters"]["numRows"].is_string()), "statistics are compared");
}
