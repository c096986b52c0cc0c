//! The choice of folders, case by case, and against what a reader would do by itself.

use super::*;

fn folders(names: &[&str]) -> Vec<Folder> {
    names.iter().map(|name| Folder::parse(name).unwrap()).collect()
}

fn ids(high_water: i64, aborted: &[i64]) -> WriteIds {
    WriteIds { high_water: Some(high_water), open: BTreeSet::new(), aborted: aborted.iter().copied().collect() }
}

/// Transactions up to 100, of which 41 is open and 42 was given up.
fn transactions() -> Transactions {
    Transactions { high_water: 100, open: [41].into(), aborted: [42].into() }
}

fn chosen(names: &[&str], ids: &WriteIds) -> Choice {
    choose(&folders(names), ids, &transactions()).unwrap()
}

fn shown(names: &[&str], ids: &WriteIds) -> Vec<String> {
    chosen(names, ids).folders.into_iter().collect()
}

#[test]
fn names_are_read_as_hive_reads_them() {
    type Read = (Kind, i64, i64, i64, Option<i64>);
    let read = |name: &str| -> Option<Read> {
        let folder = Folder::parse(name).ok()?;
        Some((folder.kind, folder.min, folder.max, folder.statement, folder.compaction))
    };
    for (name, expected) in [
        ("base_0000005", (Kind::Base, 5, 5, -1, None)),
        ("base_5", (Kind::Base, 5, 5, -1, None)),
        ("base_0000004_v0000049", (Kind::Base, 4, 4, -1, Some(49))),
        ("base_-9223372036854775808_v0000049", (Kind::Base, i64::MIN, i64::MIN, -1, Some(49))),
        ("base_10000002", (Kind::Base, 10_000_002, 10_000_002, -1, None)),
        ("delta_0000001_0000001_0000", (Kind::Delta, 1, 1, 0, None)),
        ("delta_0000001_0000004", (Kind::Delta, 1, 4, -1, None)),
        ("delta_0000001_0000004_v0000041", (Kind::Delta, 1, 4, -1, Some(41))),
        ("delete_delta_0000002_0000002_0003", (Kind::DeleteDelta, 2, 2, 3, None)),
        ("delete_delta_0000001_0000004_v0000041", (Kind::DeleteDelta, 1, 4, -1, Some(41))),
        ("delta_10000001_10000001_0000", (Kind::Delta, 10_000_001, 10_000_001, 0, None)),
    ] {
        assert_eq!(read(name), Some(expected), "{name}");
        assert!(Folder::is_named_so(name));
    }
    for name in [
        "base_",
        "base_x",
        "base_5_v",
        "base_5_v0",
        "base_5_v-1",
        "base_5_7",
        "delta_",
        "delta_1",
        "delta_2_1",
        "delta_0_1",
        "delta_1_1_",
        "delta_1_1_-1",
        "delta_1_1_0_0",
        "delete_delta_1",
        "delta_1_1_v",
        "delta_a_b",
        "delta_1_99999999999999999999",
    ] {
        assert_eq!(read(name), None, "{name}");
    }
    for name in ["p=1", "000000_0", "bucket_00000", "deltas", "based_on", "_orc_acid_version"] {
        assert!(!Folder::is_named_so(name) && read(name).is_none(), "{name}");
    }
}

#[test]
fn what_a_reader_sees() {
    type Case<'a> = (&'a [&'a str], i64, &'a [i64], &'a [&'a str], bool);
    let cases: [Case<'_>; 22] = [
        (&[], 0, &[], &[], true),
        (&["delta_1_1_0", "delta_2_2_0"], 2, &[], &["delta_1_1_0", "delta_2_2_0"], true),
        // Not given out yet, or open.
        (&["delta_1_1_0", "delta_2_2_0"], 1, &[], &["delta_1_1_0"], true),
        (&["delta_1_1_0"], 0, &[], &[], true),
        // Given up.
        (
            &["delta_1_1_0", "delta_2_2_0", "delete_delta_2_2_1", "delta_3_3_0"],
            3,
            &[2],
            &["delta_1_1_0", "delta_3_3_0"],
            true,
        ),
        // What an update writes.
        (
            &["delta_1_1_0", "delete_delta_2_2_0", "delta_2_2_1"],
            2,
            &[],
            &["delete_delta_2_2_0", "delta_1_1_0", "delta_2_2_1"],
            true,
        ),
        // Many statements of one transaction.
        (
            &["delta_1_1_0", "delta_1_1_2", "delete_delta_1_1_3", "delta_1_1_4"],
            1,
            &[],
            &["delete_delta_1_1_3", "delta_1_1_0", "delta_1_1_2", "delta_1_1_4"],
            true,
        ),
        // INSERT OVERWRITE.
        (&["delta_1_1_0", "base_2", "delta_3_3_0"], 3, &[], &["base_2", "delta_3_3_0"], false),
        (&["delta_1_1_0", "base_2"], 1, &[], &["delta_1_1_0"], true),
        (&["delta_1_1_0", "base_2", "delta_3_3_0"], 3, &[2], &["delta_1_1_0", "delta_3_3_0"], true),
        (&["base_2", "base_5", "base_4"], 5, &[], &["base_5"], false),
        (&["base_2", "base_5", "base_4"], 4, &[], &["base_4"], false),
        // A major compaction, and those that have not ended, or badly.
        (&["delta_1_1_0", "delta_2_2_0", "base_2_v40"], 2, &[], &["base_2_v40"], false),
        (&["delta_1_1_0", "delta_2_2_0", "base_2_v41"], 2, &[], &["delta_1_1_0", "delta_2_2_0"], true),
        (&["delta_1_1_0", "delta_2_2_0", "base_2_v42"], 2, &[], &["delta_1_1_0", "delta_2_2_0"], true),
        (&["delta_1_1_0", "delta_2_2_0", "base_2_v101"], 2, &[], &["delta_1_1_0", "delta_2_2_0"], true),
        // It leaves out what was given up.
        (&["delta_1_1_0", "base_2_v40"], 2, &[2], &["base_2_v40"], false),
        // The compaction of an overwrite, and the overwrite itself.
        (&["base_2", "base_2_v40"], 2, &[], &["base_2_v40"], false),
        (&["base_2_v40", "base_2"], 2, &[], &["base_2_v40"], false),
        // A minor one, with what was written before and after it.
        (
            &[
                "delta_1_1_0",
                "delta_2_2_0",
                "delete_delta_3_3_0",
                "delta_1_3_v40",
                "delete_delta_1_3_v40",
                "delta_4_4_0",
            ],
            4,
            &[],
            &["delete_delta_1_3_v40", "delta_1_3_v40", "delta_4_4_0"],
            true,
        ),
        (&["delta_1_3_v40", "delta_1_2_v39", "delta_3_3_0"], 3, &[2], &["delta_1_3_v40"], true),
        // What a base holds is no longer needed.
        (&["base_3", "delta_1_2_v40", "delta_3_3_0", "delta_2_4_v40"], 4, &[], &["base_3", "delta_2_4_v40"], false),
    ];
    for (names, high_water, aborted, expected, originals) in cases {
        let choice = chosen(names, &ids(high_water, aborted));
        let found: Vec<&str> = choice.folders.iter().map(String::as_str).collect();
        assert_eq!((found.as_slice(), choice.originals), (expected, originals), "{names:?} up to {high_water}");
    }
}

#[test]
fn a_base_of_originals_stands_before_all_writes() {
    let first = "base_-9223372036854775808_v40";
    assert_eq!(shown(&[first, "delta_1_1_0"], &ids(1, &[])), [first, "delta_1_1_0"]);
    assert_eq!(shown(&[first, "base_1", "delta_1_1_0"], &ids(1, &[])), ["base_1"]);
}

#[test]
fn what_may_have_ended_meanwhile_is_a_doubt() {
    let doubts = |names: &[&str], high_water| chosen(names, &ids(high_water, &[])).doubts;
    assert_eq!(doubts(&["delta_1_1_0", "delta_2_2_0"], 1), [], "a delta takes nothing away");
    assert_eq!(doubts(&["delta_1_1_0", "base_2"], 1), [Doubt::Overwrite(2)]);
    let of = [Doubt::Compaction(41), Doubt::Compaction(101)];
    assert_eq!(doubts(&["base_1_v41", "delta_1_1_0", "delta_1_1_v101"], 1), of);
    assert_eq!(doubts(&["base_1_v40", "delta_1_1_0"], 1), []);
    let later = Transactions { high_water: 200, open: [101].into(), aborted: BTreeSet::new() };
    assert!(Doubt::Compaction(41).stands(&ids(1, &[]), &later));
    assert!(!Doubt::Compaction(101).stands(&ids(1, &[]), &later));
    assert!(Doubt::Overwrite(2).stands(&ids(2, &[]), &later) && !Doubt::Overwrite(2).stands(&ids(2, &[2]), &later));
}

#[test]
fn what_cannot_be_told_apart_is_an_error() {
    let refused = |names: &[&str], ids: &WriteIds| choose(&folders(names), ids, &transactions()).unwrap_err();
    // A streaming writer's folder of many transactions.
    assert!(refused(&["delta_1_4"], &ids(4, &[2])).contains("delta_1_4 holds writes that are committed and others"));
    assert!(refused(&["delta_1_4_0"], &ids(3, &[])).contains("delta_1_4_0"));
    assert_eq!(shown(&["delta_1_4"], &ids(4, &[])), ["delta_1_4"]);
    // Compactions never hold what was open when they began.
    assert!(refused(&["base_4_v40", "delta_5_5"], &ids(3, &[])).contains("nothing is left"));
    assert!(refused(&["delta_1_4_v40"], &ids(3, &[])).contains("delta_1_4_v40"));
    // A base of Hive 3 says only inside of it what it is.
    let old = Folder { has_metadata: true, ..Folder::parse("base_2").unwrap() };
    assert!(choose(std::slice::from_ref(&old), &ids(2, &[2]), &transactions()).is_err());
    assert!(choose(&[old], &ids(2, &[]), &transactions()).is_ok());
}

#[test]
fn what_was_chosen_is_chosen_again_by_a_reader_that_knows_of_nothing_given_up() {
    // A replica holds the chosen folders, and its writes all count.
    let all = [
        "base_2",
        "base_2_v40",
        "base_4_v40",
        "delta_1_1_0",
        "delta_2_2_0",
        "delete_delta_2_2_1",
        "delta_3_3_0",
        "delta_3_4_v40",
        "delete_delta_3_4_v40",
        "delta_4_4_0",
        "delete_delta_4_4_0",
        "delta_5_5_0",
        "delta_5_5_1",
        "base_5",
        "delta_1_5_v41",
    ];
    let mut seen = 0;
    for set in 0..1_u32 << all.len() {
        // Every seventh set: thousands of them.
        if set % 7 != 0 {
            continue;
        }
        let names: Vec<&str> =
            all.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, name)| *name).collect();
        for aborted in [&[][..], &[2], &[3, 5]] {
            for high_water in [2, 4, 5] {
                let Ok(choice) = choose(&folders(&names), &ids(high_water, aborted), &transactions()) else { continue };
                let kept: Vec<&str> = choice.folders.iter().map(String::as_str).collect();
                let replica = Transactions { high_water: 1 << 40, ..Transactions::default() };
                let again = choose(&folders(&kept), &ids(high_water, &[]), &replica).unwrap();
                assert_eq!(again.folders, choice.folders, "{names:?} up to {high_water} without {aborted:?}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10_000, "{seen}");
}
