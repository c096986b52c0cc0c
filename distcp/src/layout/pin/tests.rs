use super::*;
use crate::options::CopyOptions;
use crate::plan::PlanTotals;
use crate::plan::file::PlanHeader;
use manifest::{Attributes, Entry, EntryKind, Evidence, Fingerprint};

/// The action on a key: copied, of the version that this number stands for.
fn copied(key: &str, version: u64) -> Action {
    let etag = Some(version.to_string());
    Action {
        key: ObjectKey::from(key),
        step: Step::Copy,
        reason: Reason::New,
        kind: EntryKind::Object,
        source: Some(Fingerprint { size_bytes: 10, etag, ..Fingerprint::default() }),
        target: None,
        entry: None,
        donor: None,
    }
}

fn over(action: Action) -> Action {
    Action { target: action.source.clone(), ..action }
}

fn deleted(key: &str) -> Action {
    let action = over(copied(key, 1));
    Action { step: Step::Delete, reason: Reason::Extra, source: None, ..action }
}

fn temporary() -> Result<(PlanWriter, File)> {
    let file = tempfile::tempfile().unwrap();
    Ok((PlanWriter::new(file.try_clone().unwrap(), "a plan")?, file))
}

fn plan(mut actions: Vec<Action>) -> Plan {
    actions.sort_by(|a, b| a.key.cmp(&b.key));
    let (mut writer, file) = temporary().unwrap();
    let mut totals = PlanTotals::default();
    for action in &actions {
        let count = |copies: &mut u64| *copies += 1;
        match action.step {
            Step::Copy => count(&mut totals.copies),
            Step::Delete => count(&mut totals.deletes),
            step => panic!("{step:?}"),
        }
        totals.listed += 1;
        totals.copy_bytes += if action.step == Step::Copy { action.size_bytes() } else { 0 };
        totals.overwrites += u64::from(action.step == Step::Copy && action.target.is_some());
        totals.server_side += u64::from(action.donor.is_some());
        writer.push(action).unwrap();
    }
    let text = String::new;
    let header = PlanHeader {
        job: text(),
        source: text(),
        target: text(),
        state: text(),
        id: text(),
        base: None,
        as_of: text(),
        options: CopyOptions::default(),
        chunk_bytes: 1,
        totals,
    };
    writer.finish(header).unwrap();
    Plan::from_unnamed(file).unwrap()
}

/// What is left to the next run, and what fails, after these two plans, of which the first knows what goes, too.
fn left(first: Vec<Action>, second: Vec<Action>) -> (Vec<String>, Vec<String>) {
    let goes = second.iter().filter(|action| action.step == Step::Delete).cloned();
    left_of(first.into_iter().chain(goes).collect(), second)
}

fn left_of(first: Vec<Action>, second: Vec<Action>) -> (Vec<String>, Vec<String>) {
    let pinned = pin(&plan(first), plan(second), Layout::Auto, temporary).unwrap();
    let totals = &pinned.header.totals;
    assert!(totals.add_up(), "{totals:?}");
    let rows: Vec<Action> = pinned.actions().unwrap().map(Result::unwrap).collect();
    let of = |step: Step| rows.iter().filter(move |row| row.step == step);
    assert!(
        of(Step::Skip).all(|row| row.reason == Reason::Later) && of(Step::Fail).all(|row| row.reason == Reason::Fork)
    );
    let copies: Vec<&Action> = of(Step::Copy).collect();
    assert_eq!(totals.copies, copies.len() as u64);
    assert_eq!(totals.copy_bytes, copies.iter().map(|row| row.size_bytes()).sum::<u64>());
    assert_eq!(totals.overwrites, copies.iter().filter(|row| row.target.is_some()).count() as u64);
    assert_eq!(totals.server_side, copies.iter().filter(|row| row.donor.is_some()).count() as u64);
    let keys = |step| of(step).map(|row| row.key.to_string()).collect();
    (keys(Step::Skip), keys(Step::Fail))
}

fn log(table: &str, version: u64, end: &str) -> String {
    format!("{table}/_delta_log/{version:020}.{end}")
}

fn new(keys: &[String]) -> Vec<Action> {
    keys.iter().map(|key| copied(key, 1)).collect()
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn commits_behind_the_newest_that_was_seen_first_wait_and_data_does_not() {
    let first = new(&[log("a", 4, "json"), log("a", 6, "json"), "a/part-4".into()]);
    let names =
        [log("a", 5, "json"), log("a", 6, "json"), log("a", 7, "crc"), log("a", 7, "json"), log("b", 0, "json")];
    let second = [new(&names), new(&strings(&["a/part-4", "a/part-7", "b/part-0", "x"]))].concat();
    let waits = vec![log("a", 7, "crc"), log("a", 7, "json"), log("b", 0, "json")];
    assert_eq!(left(first, second), (waits, vec![]), "of b nothing was seen");
}

#[test]
fn a_hint_waits_with_the_snapshot_that_it_may_name_and_what_that_replaced_stays() {
    let hint = "a/_delta_log/_last_checkpoint";
    let checkpoint = |version| log("a", version, "checkpoint.parquet");
    let first = || new(&[checkpoint(10), log("a", 10, "json"), hint.into()]);
    let second = || [first(), vec![deleted(&log("a", 0, "json")), deleted("a/old"), deleted("b/old")]].concat();
    assert_eq!(left(first(), second()), (vec![], vec![]));
    // A checkpoint more: nobody knows whether its sidecars were listed.
    let more = [second(), new(&[checkpoint(20)])].concat();
    let waits = vec![log("a", 0, "json"), checkpoint(20), hint.to_owned(), "a/old".to_owned()];
    assert_eq!(left(first(), more), (waits, vec![]));
    // The hint was written over: the old one is what the target's readers have, with the checkpoint that it names.
    let gone = vec![deleted(&log("a", 0, "json")), deleted(&log("b", 0, "json")), deleted("a/old")];
    let changed = [new(&[checkpoint(10), log("a", 10, "json")]), vec![copied(hint, 2)], gone].concat();
    assert_eq!(left(first(), changed), (vec![log("a", 0, "json"), hint.to_owned()], vec![]));
}

#[test]
fn a_metadata_file_waits_and_takes_its_hint_along_and_manifests_do_not() {
    let metadata = |name: &str| format!("i/metadata/{name}");
    let first = || new(&[metadata("v1.metadata.json"), metadata("version-hint.text")]);
    let more = new(&[metadata("v2.metadata.json"), metadata("snap-2-1-u.avro"), "i/data/f".into()]);
    let second = [first(), more, vec![deleted("i/data/old")]].concat();
    let waits = vec![metadata("v2.metadata.json"), metadata("version-hint.text")];
    assert_eq!(left(first(), second), (waits, vec![]), "busy tables lose what expires");
}

#[test]
fn a_folder_of_transactions_that_grew_waits_as_a_whole() {
    let first =
        || new(&strings(&["h/p=1/delta_0000001_0000001/a", "h/p=1/delta_0000002_0000002/a", "h/p=2/base_0000002/a"]));
    let grown = || [first(), new(&strings(&["h/p=1/delta_0000002_0000002/b"])), vec![deleted("h/p=1/old")]].concat();
    assert_eq!(
        left(first(), grown()),
        (strings(&["h/p=1/delta_0000002_0000002/a", "h/p=1/delta_0000002_0000002/b"]), vec![])
    );
    let changed = new(&strings(&["h/p=1/delta_0000001_0000001/a", "h/p=1/delta_0000002_0000002/a"]));
    let changed = [
        changed,
        vec![copied("h/p=2/base_0000002/a", 2), deleted("h/p=2/delta_0000001_0000001/a"), deleted("h/p=1/old")],
    ]
    .concat();
    assert_eq!(left(first(), changed), (strings(&["h/p=2/base_0000002/a", "h/p=2/delta_0000001_0000001/a"]), vec![]));
    // A stretch of several takes the place of them.
    let compacted =
        [first(), new(&strings(&["h/p=1/delta_0000001_0000002/a"])), vec![deleted("h/p=1/delta_0000000_0000000/a")]]
            .concat();
    assert_eq!(
        left(first(), compacted),
        (strings(&["h/p=1/delta_0000000_0000000/a", "h/p=1/delta_0000001_0000002/a"]), vec![])
    );
}

#[test]
fn a_commit_that_is_another_one_on_the_target_fails() {
    let other = || {
        let action = over(copied(&log("a", 1, "json"), 1));
        Action { target: Some(Fingerprint { size_bytes: 11, ..Fingerprint::default() }), ..action }
    };
    let rows = || vec![other(), copied(&log("a", 2, "json"), 1), over(copied("a/x", 1))];
    assert_eq!(left(rows(), rows()), (vec![], vec![log("a", 1, "json")]));
    // A checksum may be made again.
    let rows = || vec![over(copied(&log("a", 1, "crc"), 1))];
    assert_eq!(left(rows(), rows()), (vec![], vec![]));
}

#[test]
fn a_commit_of_the_same_size_is_compared_before_anybody_says_that_it_is_another_one() {
    let rows = || vec![over(copied(&log("a", 1, "json"), 1)), over(copied("a/x", 1))];
    let pinned = pin(&plan(rows()), plan(rows()), Layout::Auto, temporary).unwrap();
    let steps: Vec<Step> = pinned.actions().unwrap().map(|row| row.unwrap().step).collect();
    assert_eq!(steps, [Step::Compare, Step::Copy]);
    let totals = &pinned.header.totals;
    assert!(totals.add_up());
    let counted = (totals.copies, totals.copy_bytes, totals.compares, totals.compare_bytes, totals.overwrites);
    assert_eq!(counted, (1, 10, 1, 10, 2));
}

#[test]
fn what_is_gone_only_since_the_first_listing_stays_until_the_next_run() {
    // A base may have come where the listing had passed by.
    let gone = || vec![deleted("h/delta_0000001_0000001/a"), deleted("x")];
    assert_eq!(left_of(vec![], gone()), (strings(&["h/delta_0000001_0000001/a", "x"]), vec![]));
    assert_eq!(left_of(gone(), gone()), (vec![], vec![]));
}

#[test]
fn where_a_file_went_that_was_to_be_carried_its_table_waits_and_keeps_what_it_has() {
    let metadata = |name: &str| format!("i/metadata/{name}");
    let logs =
        |table: &str| [log(table, 7, "crc"), log(table, 7, "json"), format!("{table}/_delta_log/_last_checkpoint")];
    let both = || new(&[&logs("a")[..], &logs("b")[..], &strings(&["b/part-7"])[..]].concat());
    let goes = || vec![deleted("a/part-1"), deleted("b/part-1")];
    let waits = [&strings(&["a/part-1"])[..], &logs("a")].concat().into_iter().collect::<BTreeSet<_>>();
    for (gone, is_named) in [
        ("a/part-7", true),
        ("a/d=1/part-7", true),
        ("a/_delta_log/_sidecars/s.parquet", true),
        ("a/_change_data/cdc-7", true),
        // These come and go beside every commit.
        ("a/_delta_log/.7.json.u.tmp", false),
        ("a/_SUCCESS", false),
        ("a/d=1/part-7.tmp", false),
        ("c/part-7", false),
        ("part-7", false),
    ] {
        let (later, failed) = left([both(), new(&strings(&[gone]))].concat(), [both(), goes()].concat());
        let wanted = if is_named { waits.clone() } else { BTreeSet::new() };
        assert_eq!((later.into_iter().collect::<BTreeSet<_>>(), failed), (wanted, vec![]), "{gone}");
    }
    // What was to be written over, and is to be deleted now, went as well; what changed again did not.
    let first = || [both(), vec![over(copied("a/part-7", 1))]].concat();
    let (later, _) = left_of(first(), [both(), vec![deleted("a/part-7")]].concat());
    assert_eq!(later.len(), 1 + logs("a").len(), "{later:?}");
    assert_eq!(left(first(), [both(), vec![over(copied("a/part-7", 2))]].concat()), (vec![], vec![]));
    // Manifests are files of an Iceberg table, and its hint waits with its metadata.
    let names = [metadata("v2.metadata.json"), metadata("version-hint.text")];
    let (later, _) =
        left([new(&names), new(&[metadata("m.avro")])].concat(), [new(&names), vec![deleted("i/old")]].concat());
    assert_eq!(later, [&names[..], &strings(&["i/old"])].concat());
    // Of transactions of Hive each folder is for itself.
    let hive = || new(&strings(&["h/delta_0000001_0000001/a"]));
    assert_eq!(left([hive(), new(&strings(&["h/x"]))].concat(), hive()), (vec![], vec![]));
}

#[test]
fn where_a_hint_stays_and_snapshots_go_all_that_they_name_stays() {
    let metadata = |name: &str| format!("i/metadata/{name}");
    let hint = metadata("version-hint.text");
    let goes = || vec![deleted("i/data/old"), deleted(&metadata("v1.metadata.json")), deleted("j/data/old")];
    let first = || new(std::slice::from_ref(&hint));
    let all = strings(&["i/data/old", "i/metadata/v1.metadata.json"]);
    let changed = [vec![copied(&hint, 2)], goes()].concat();
    assert_eq!(left(first(), changed), ([all.clone(), vec![hint.clone()]].concat(), vec![]));
    // The hint is the same, and waits for what it may name.
    let more = [first(), new(&[metadata("v9.metadata.json")]), goes()].concat();
    let waits = [all, vec![metadata("v9.metadata.json"), hint.clone()]].concat();
    assert_eq!(left(first(), more), (waits, vec![]));
}

#[test]
fn nothing_that_names_others_is_copied_from_a_donor_before_them() {
    let donor = |key: &str| {
        let action = copied(key, 1);
        let fingerprint = action.source.clone().unwrap();
        let entry = Entry {
            key: ObjectKey::from("before"),
            kind: EntryKind::Object,
            hash: None,
            evidence: Evidence::None,
            chunks: None,
            fingerprint,
            source: None,
            attributes: Attributes::new(),
        };
        Action { donor: Some(crate::plan::Donor { entry }), ..action }
    };
    let commit = log("a", 1, "json");
    let rows = || vec![donor(&commit), donor("a/x"), donor("h/base_0000001/x")];
    let pinned = pin(&plan(rows()), plan(rows()), Layout::Auto, temporary).unwrap();
    let given: Vec<bool> = pinned.actions().unwrap().map(|row| row.unwrap().donor.is_some()).collect();
    assert_eq!((given, pinned.header.totals.server_side), (vec![false, true, true], 2));
}
