//! The codec of the generated structs: what the IDL does not know survives, what is hostile is an error.
#![allow(clippy::unwrap_used)]

use hms::api::*;
use hms::message::{Reply, ReplyError, decode_reply, encode_call};
use hms::scan::Scanner;
use hms::wire::{Binary, MAX_DEPTH, Unknown, Wire, Wrong, from_bytes, to_bytes};
use hms::{ExceptionKind, calls};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Fields 900 and up, one of each type, among them structs and containers in each other.
fn foreign() -> Vec<u8> {
    let mut out = Vec::new();
    let mut field = |of: u8, id: i16, value: &[u8]| {
        out.push(of);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(value);
    };
    field(2, 900, &[1]);
    field(3, 901, &[0xfe]);
    field(4, 902, &1.5_f64.to_be_bytes());
    field(6, 903, &(-3_i16).to_be_bytes());
    field(8, 904, &70_000_i32.to_be_bytes());
    field(10, 905, &i64::MIN.to_be_bytes());
    field(11, 906, &to_bytes(&"é😀".to_owned()));
    field(11, 907, &to_bytes(&Binary(vec![0xff, 0, 0xfe])));
    field(12, 908, &to_bytes(&Order { col: Some("c".into()), order: Some(1), ..Default::default() }));
    field(13, 909, &to_bytes(&BTreeMap::from([("k".to_owned(), vec![vec![1_i64]])])));
    field(14, 910, &to_bytes(&BTreeSet::from([1_i32, 2])));
    field(15, 911, &to_bytes(&vec![FieldSchema { name: Some("x".into()), ..Default::default() }]));
    field(15, 912, &to_bytes(&Vec::<String>::new()));
    field(12, 913, &[0]);
    out
}

/// A struct's bytes with foreign fields before and after its own.
fn with_foreign<T: Wire>(value: &T) -> Vec<u8> {
    let own = to_bytes(value);
    let mut bytes = foreign();
    bytes.extend_from_slice(&own[..own.len() - 1]);
    bytes.extend_from_slice(&foreign());
    bytes.push(0);
    bytes
}

fn survives<T: Wire + std::fmt::Debug + PartialEq>(value: &T, unknown: impl Fn(&T) -> &Unknown) {
    let bytes = with_foreign(value);
    let read: T = from_bytes(&bytes).unwrap();
    let expected: Vec<u8> = foreign().into_iter().chain(foreign()).collect();
    assert_eq!(unknown(&read).as_bytes(), expected);
    let again = to_bytes(&read);
    assert_eq!(again.len(), bytes.len(), "nothing is lost");
    assert_eq!(from_bytes::<T>(&again).unwrap(), read);
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn rule_30_fields_that_the_idl_does_not_know_survive_in_every_object() {
    survives(&Table { table_name: text("t"), write_id: Some(-1), ..Default::default() }, |it| &it.unknown);
    survives(&StorageDescriptor { location: text("file:/x"), ..Default::default() }, |it| &it.unknown);
    survives(&SerDeInfo { name: text("s"), ..Default::default() }, |it| &it.unknown);
    survives(&FieldSchema { name: text("c"), r#type: text("int"), ..Default::default() }, |it| &it.unknown);
    survives(&Partition { values: Some(vec!["1".into()]), ..Default::default() }, |it| &it.unknown);
    survives(&Database { name: text("d"), ..Default::default() }, |it| &it.unknown);
    survives(&ColumnStatisticsData::default(), |it| &it.unknown);
}

#[test]
fn rule_30_unknown_fields_of_nested_objects_survive_in_their_place() {
    let unknown = Unknown::from_bytes(foreign()).unwrap();
    let column = FieldSchema { name: text("c"), unknown: unknown.clone(), ..Default::default() };
    let serde = SerDeInfo { unknown: unknown.clone(), ..Default::default() };
    let sd = StorageDescriptor {
        cols: Some(vec![column.clone(), column]),
        serde_info: Some(serde),
        unknown: unknown.clone(),
        ..Default::default()
    };
    let source = Table { sd: Some(sd.clone()), unknown: unknown.clone(), ..Default::default() };
    let sources = vec![SourceTable { table: Some(source), unknown: unknown.clone(), ..Default::default() }];
    let creation = CreationMetadata { source_tables: Some(sources), ..Default::default() };
    let table = Table { sd: Some(sd), creation_metadata: Some(creation), unknown, ..Default::default() };
    assert_eq!(from_bytes::<Table>(&to_bytes(&table)).unwrap(), table);
}

#[test]
fn a_known_field_of_another_type_is_kept_as_unknown() {
    let mut bytes = vec![8, 0, 1];
    bytes.extend_from_slice(&7_i32.to_be_bytes());
    bytes.push(0);
    let table: Table = from_bytes(&bytes).unwrap();
    assert_eq!((table.table_name.as_deref(), to_bytes(&table)), (None, bytes));
}

#[test]
fn hostile_bytes_are_errors() {
    let list = |count: i32| [vec![15, 0, 1, 11], count.to_be_bytes().to_vec()].concat();
    let cases: [(Vec<u8>, Wrong); 7] = [
        (vec![], Wrong::Truncated),
        (vec![11, 0, 2, 0, 0, 0, 9, b'x'], Wrong::Truncated),
        (vec![11, 0, 2, 0xff, 0xff, 0xff, 0xff], Wrong::Negative(-1)),
        (list(i32::MAX), Wrong::TooMany(i32::MAX as u32)),
        (vec![15, 0, 1, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0], Wrong::Element { expected: 11, found: 8 }),
        (vec![1, 3, 1], Wrong::Type(1)),
        (vec![11, 0, 2, 0, 0, 0, 1, 0xff, 0], Wrong::Text),
    ];
    for (bytes, wrong) in cases {
        assert_eq!(from_bytes::<Partition>(&bytes).unwrap_err().what, wrong, "{bytes:?}");
    }
    let deep: Vec<u8> = std::iter::repeat_n([12, 3, 132], 4 * MAX_DEPTH).flatten().collect();
    assert_eq!(from_bytes::<Partition>(&deep).unwrap_err().what, Wrong::TooDeep);
    assert_eq!(from_bytes::<Partition>(&[0, 0]).unwrap_err().what, Wrong::Trailing);
}

fn reply(of: u8, name: &str, sequence: i32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 0x01, 0, of];
    name.to_owned().write(&mut out);
    sequence.write(&mut out);
    out.extend_from_slice(body);
    out
}

#[test]
fn a_reply_is_a_result_an_exception_or_a_refusal() {
    let read = |bytes: &[u8]| decode_reply::<calls::GetTable>(bytes, 5).unwrap();
    let table = Table { table_name: text("t"), ..Default::default() };
    let body = [vec![12, 0, 0], to_bytes(&table), vec![0]].concat();
    assert_eq!(read(&reply(2, "get_table", 5, &body)), Reply::Result(table));

    let thrown = [vec![12, 0, 2, 11, 0, 1], to_bytes(&"d.t".to_owned()), vec![0, 0]].concat();
    let Reply::Exception(exception) = read(&reply(2, "get_table", 5, &thrown)) else { panic!() };
    assert_eq!((exception.kind, exception.message.as_str()), (ExceptionKind::NoSuchObjectException, "d.t"));
    let Reply::Exception(exception) = read(&reply(2, "get_table", 5, &[0])) else { panic!() };
    assert_eq!(exception.message, "the reply holds no result");

    let refused = [vec![11, 0, 1], to_bytes(&"no".to_owned()), vec![8, 0, 2, 0, 0, 0, 1, 0]].concat();
    let Reply::Refused(refusal) = read(&reply(3, "get_table", 5, &refused)) else { panic!() };
    assert!(refusal.is_unknown_method());

    let other = decode_reply::<calls::GetTable>(&reply(2, "get_table", 4, &[0]), 5).unwrap_err();
    assert_eq!(other, ReplyError::Other { name: "get_table".into(), sequence: 4 });
    assert_eq!(decode_reply::<calls::CreateTable>(&reply(2, "create_table", 5, &[0]), 5), Ok(Reply::Result(())));
}

#[test]
fn the_scanner_finds_the_end_whatever_the_pieces() {
    let table = Table { table_name: text("t"), unknown: Unknown::from_bytes(foreign()).unwrap(), ..Default::default() };
    let partitions =
        vec![Partition { parameters: Some(BTreeMap::from([("a".into(), "b".into())])), ..Default::default() }; 3];
    let body = [vec![12, 0, 0], to_bytes(&table), vec![15, 0, 1], to_bytes(&partitions), vec![0]].concat();
    let message = reply(2, "get_table", 1, &body);
    for step in [1, 2, 3, 7, message.len() + 2] {
        let mut scanner = Scanner::new();
        let stream = [message.clone(), vec![0x80, 1]].concat();
        let mut end = 0;
        let found = loop {
            end = (end + step).min(stream.len());
            if let Some(found) = scanner.advance(&stream[..end]).unwrap() {
                break found;
            }
            assert!(end < stream.len(), "the end was not found");
        };
        assert_eq!(found, message.len());
    }
    let call = encode_call(&calls::GetAllDatabases {}, 9);
    assert_eq!(Scanner::new().advance(&call).unwrap(), Some(call.len()));
}

#[test]
fn the_scanner_names_what_is_no_message() {
    let wrong = |bytes: &[u8]| Scanner::new().advance(bytes).unwrap_err().what;
    assert_eq!(wrong(b"HTTP/1.1 400"), Wrong::NoMessage(0x4854_5450));
    let deep = reply(2, "x", 1, &std::iter::repeat_n([12, 0, 1], 100).flatten().collect::<Vec<u8>>());
    assert_eq!(wrong(&deep), Wrong::TooDeep);
    assert_eq!(wrong(&reply(2, "x", 1, &[9, 0, 1])), Wrong::Type(9));
    assert_eq!(wrong(&reply(2, "x", 1, &[11, 0, 1, 0xff, 0, 0, 0])), Wrong::Negative(-16_777_216));
}

#[test]
fn a_count_without_elements_costs_no_time() {
    let body = [vec![15, 0, 1, 2], i32::MAX.to_be_bytes().to_vec(), vec![1, 1]].concat();
    let begun = std::time::Instant::now();
    let stream = reply(2, "x", 1, &body);
    let mut scanner = Scanner::new();
    for _ in 0..100 {
        assert_eq!(scanner.advance(&stream).unwrap(), None);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _any = from_bytes::<Table>(&bytes);
        let _any = decode_reply::<calls::GetPartitionsByNames>(&bytes, 1);
        let mut stream = reply(2, "x", 1, &bytes);
        let _any = Scanner::new().advance(&stream);
        stream.truncate(9);
        let _any = Scanner::new().advance(&stream);
    }

    #[test]
    fn damaged_objects_do_not_panic_and_the_scanner_agrees_with_the_reader(at in 0..300_usize, byte: u8) {
        let table = Table { table_name: text("t"), unknown: Unknown::from_bytes(foreign()).unwrap(), ..Default::default() };
        let mut body = to_bytes(&table);
        let at = at % body.len();
        body[at] = byte;
        let mut message = reply(2, "x", 1, &body);
        message.extend_from_slice(&[0; 8]);
        let scanned = Scanner::new().advance(&message);
        let mut reader = hms::wire::Reader::new(&message[13..]);
        if let Ok(()) = reader.skip(12) {
            prop_assert_eq!(scanned.unwrap(), Some(13 + reader.at()));
        }
    }
}
