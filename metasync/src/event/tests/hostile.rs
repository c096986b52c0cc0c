//! Messages that no metastore writes: an event or an error that names it, never a panic, never more memory than allowed.

use super::super::*;
use super::samples::all;
use super::{plain, row, zipped};
use crate::metastore::EventRow;
use proptest::prelude::*;

const TYPES: [&str; 45] = [
    "CREATE_DATABASE",
    "ALTER_DATABASE",
    "DROP_DATABASE",
    "CREATE_TABLE",
    "ALTER_TABLE",
    "DROP_TABLE",
    "ADD_PARTITION",
    "ALTER_PARTITION",
    "ALTER_PARTITIONS",
    "DROP_PARTITION",
    "INSERT",
    "CREATE_FUNCTION",
    "DROP_FUNCTION",
    "ADD_PRIMARYKEY",
    "ADD_FOREIGNKEY",
    "ADD_UNIQUECONSTRAINT",
    "ADD_NOTNULLCONSTRAINT",
    "ADD_DEFAULTCONSTRAINT",
    "ADD_CHECKCONSTRAINT",
    "DROP_CONSTRAINT",
    "OPEN_TXN",
    "COMMIT_TXN",
    "ABORT_TXN",
    "ALLOC_WRITE_ID_EVENT",
    "ACID_WRITE_EVENT",
    "BATCH_ACID_WRITE_EVENT",
    "UPDATE_TBL_COL_STAT_EVENT",
    "DELETE_TBL_COL_STAT_EVENT",
    "UPDATE_PART_COL_STAT_EVENT",
    "UPDATE_PART_COL_STAT_EVENT_BATCH",
    "DELETE_PART_COL_STAT_EVENT",
    "COMMIT_COMPACTION_EVENT",
    "RELOAD",
    "CREATE_INDEX",
    "ALTER_INDEX",
    "DROP_INDEX",
    "CREATE_CATALOG",
    "ALTER_CATALOG",
    "DROP_CATALOG",
    "CREATE_DATACONNECTOR",
    "CREATE_ISCHEMA",
    "ADD_SCHEMA_VERSION",
    "LOAD_PARTITION_DONE",
    "SOMETHING_NEW",
    "",
];

/// The error of a row, which names it.
fn error(row: &EventRow) -> EventError {
    let error = decode(row).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("event {} ({}", row.event_id, shortened(&row.event_type, 64))), "{text}");
    assert!(text.len() < 700, "{} bytes of error", text.len());
    error
}

#[test]
fn a_message_cut_short_anywhere_is_an_error_that_names_the_event() {
    let plain = ["ALTER_TABLE", "INSERT", "ADD_PARTITION", "CREATE_INDEX", "UPDATE_PART_COL_STAT_EVENT"];
    let zipped = ["ADD_FOREIGNKEY", "CREATE_FUNCTION", "DROP_PARTITION"];
    let of = |types: &[&str], format: &str| -> Vec<EventRow> {
        let wanted = |event_type: &&str| {
            let found = all().into_iter().map(|(_, row)| row);
            found
                .into_iter()
                .find(|row| row.event_type == **event_type && row.message_format.as_deref() == Some(format))
        };
        types.iter().map(|event_type| wanted(event_type).unwrap()).collect()
    };
    for whole in of(&plain, PLAIN_FORMAT).into_iter().chain(of(&zipped, GZIP_FORMAT)) {
        for end in (0..whole.message.len()).filter(|end| whole.message.is_char_boundary(*end)) {
            let cut = EventRow { message: whole.message[..end].to_owned(), ..whole.clone() };
            assert!(matches!(error(&cut).why, Wrong::Damaged(_)), "{} cut to {end}", whole.event_type);
        }
    }
}

#[test]
fn objects_cut_short_are_errors_that_name_the_property() {
    let (_, whole) =
        all().into_iter().find(|(server, row)| *server == "3.1-json" && row.event_type == "CREATE_TABLE").unwrap();
    let of: serde_json::Value = serde_json::from_str(&whole.message).unwrap();
    let object = of["tableObjJson"].as_str().unwrap();
    for end in (0..object.len()).filter(|end| object.is_char_boundary(*end)) {
        let message = serde_json::json!({ "tableObjJson": &object[..end] }).to_string();
        let why = error(&EventRow { message, ..whole.clone() }).to_string();
        assert!(why.contains("`tableObjJson`"), "{why}");
    }
}

#[test]
fn formats_that_are_not_known_are_named() {
    let why = error(&row("DROP_TABLE", "json", "{}"));
    assert_eq!(
        why.to_string(),
        "event 17 (DROP_TABLE): its message is of format `json`, which is not known here; `json-0.2` and \
         `gzip(json-2.0)` are"
    );
    assert_eq!(error(&EventRow { message_format: None, ..plain("DROP_TABLE", "{}") }).why, Wrong::NoFormat);
    let long = "x".repeat(1 << 20);
    assert!(matches!(error(&row(&long, &long, "{}")).why, Wrong::Format(_)));
}

#[test]
fn an_error_holds_nothing_that_a_terminal_acts_on() {
    let hostile = "\u{1b}[2J\r\n";
    for row in [row(&format!("DROP_TABLE{hostile}"), hostile, "{}"), plain("DROP_FUNCTION", &format!("{{\"{hostile}"))]
    {
        let text = error(&row).to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

#[test]
fn a_message_that_unpacks_to_too_much_is_an_error() {
    let bomb = row("DROP_TABLE", GZIP_FORMAT, &zipped(&vec![b' '; 8 << 20]));
    assert!(bomb.message.len() < 20_000);
    let why = decode_within(&bomb, MAX_MESSAGE_BYTES, 1 << 20).unwrap_err().why;
    assert_eq!(why, Wrong::TooLong { part: "uncompressed message", limit: 1 << 20 });
    // Members one after the other are one text, as in Java.
    let mut json = br#"{"db": "sales", "table": "orders""#.to_vec();
    json.resize(1 << 20, b' ');
    json[(1 << 20) - 1] = b'}';
    let fits = row("DROP_TABLE", GZIP_FORMAT, &zipped(&json));
    assert!(decode_within(&fits, MAX_MESSAGE_BYTES, 1 << 20).is_ok(), "just fits");
    assert!(decode_within(&fits, MAX_MESSAGE_BYTES, (1 << 20) - 1).is_err(), "one byte too long");
}

#[test]
fn a_message_that_is_too_long_is_an_error_before_it_is_looked_at() {
    let long = plain("DROP_TABLE", &" ".repeat(1001));
    let why = decode_within(&long, 1000, 1000).unwrap_err().why;
    assert_eq!(why, Wrong::TooLong { part: "message", limit: 1000 });
    assert!(matches!(decode_within(&long, 1001, 1000).unwrap_err().why, Wrong::Damaged(_)));
}

#[test]
fn a_list_that_is_too_long_is_an_error() {
    let zeros = vec!["0"; MAX_ELEMENTS].join(",");
    assert!(decode(&plain("OPEN_TXN", &format!("{{\"txnIds\":[{zeros}]}}"))).is_ok());
    let why = error(&plain("OPEN_TXN", &format!("{{\"txnIds\":[{zeros},0]}}")));
    assert!(why.to_string().contains("more than 1048576 elements"), "{why}");
}

#[test]
fn nesting_without_end_is_an_error() {
    let depth = 1_000_000;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    error(&plain("DROP_TABLE", &format!("{{\"db\":{nested},\"table\":\"t\"}}")));
    error(&plain("DROP_TABLE", &nested));
    error(&plain("DROP_PARTITION", &format!("{{\"db\":\"d\",\"table\":\"t\",\"partitions\":{nested}}}")));
    // What is passed over is passed over without going into it.
    let unknown = plain("DROP_TABLE", &format!("{{\"db\":\"d\",\"new\":{nested},\"table\":\"t\"}}"));
    assert!(decode(&unknown).is_ok());
    let object = "{\"7\":{\"rec\":".repeat(depth / 10);
    let message = serde_json::json!({ "tableObjJson": object }).to_string();
    assert!(error(&plain("CREATE_TABLE", &message)).to_string().contains("nested too deep"));
    let mut index = "{\"1\":".repeat(1000);
    index.push_str(&"}".repeat(1000));
    let message = serde_json::json!({ "indexObjJson": index }).to_string();
    error(&plain("CREATE_INDEX", &message));
}

#[test]
fn values_of_another_type_are_errors() {
    for (event_type, message) in [
        ("DROP_TABLE", r#"[]"#),
        ("DROP_TABLE", r#"{"db": 5, "table": "t"}"#),
        ("DROP_TABLE", r#"{"db": "d"}"#),
        ("DROP_TABLE", r#"{"db": "d", "table": "t", "tableObjJson": {}}"#),
        ("DROP_TABLE", r#"{"db": "d", "table": "t"} more"#),
        ("INSERT", r#"{"db": "d", "table": "t", "replace": true}"#),
        ("INSERT", r#"{"db": "d", "table": "t", "replace": "yes"}"#),
        ("INSERT", r#"{"db": "d", "table": "t", "files": "f"}"#),
        ("INSERT", r#"{"db": "d", "table": "t", "files": [null]}"#),
        ("INSERT", r#"{"db": "d", "table": "t", "partKeyVals": {"a": 1}}"#),
        ("INSERT", r#"{"db": "d", "table": "t", "ptnObjJson": "{\"1\":{\"lst\":[\"str\",1,\"a\"]}}"}"#),
        ("COMMIT_TXN", r#"{"txnid": "1"}"#),
        ("COMMIT_TXN", r#"{"txnid": 1.5}"#),
        ("COMMIT_TXN", r#"{"txnid": 9223372036854775808}"#),
        ("ALLOC_WRITE_ID_EVENT", r#"{"dbName": "d", "tableName": "t", "txnIdList": [1, 2], "writeIdList": [1]}"#),
        ("ADD_PRIMARYKEY", r#"{"primaryKeyListJson": []}"#),
        ("ADD_PRIMARYKEY", r#"{"primaryKeyListJson": ["{}"]}"#),
        ("DROP_PARTITION", r#"{"db": "d", "table": "t", "partitions": [{}]}"#),
        ("CREATE_TABLE", r#"{"tableObjJson": "{}"}"#),
        ("UPDATE_PART_COL_STAT_EVENT", r#"{"database": "d", "colStatsJson": "{}"}"#),
    ] {
        error(&plain(event_type, message));
    }
    let (_, whole) = all().into_iter().find(|(_, row)| row.event_type == "ADD_PARTITION").unwrap();
    let mut of: serde_json::Value = serde_json::from_str(&whole.message).unwrap();
    of["partitionListJson"] = serde_json::json!([r#"{"1":{"lst":["str",1,"only one"]}}"#]);
    let why = error(&EventRow { message: of.to_string(), ..whole }).to_string();
    assert!(why.contains("1 values for 2 partition keys"), "{why}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(event_type in prop::sample::select(&TYPES[..]), bytes in prop::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        let rows = [
            plain(event_type, &text),
            plain(event_type, &String::from_utf8_lossy(&bytes)),
            row(event_type, GZIP_FORMAT, &text),
            row(event_type, GZIP_FORMAT, &zipped(&bytes)),
        ];
        for row in rows {
            match decode(&row) {
                Ok(event) => { event.touches(); }
                Err(_) => { error(&row); }
            }
        }
    }

    #[test]
    fn a_damaged_sample_is_an_event_or_an_error(at in any::<prop::sample::Index>(), places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), event_type in prop::sample::select(&TYPES[..])) {
        let samples = all();
        let (_, sample) = at.get(&samples);
        let mut bytes = sample.message.clone().into_bytes();
        for (place, byte) in places {
            *place.get_mut(&mut bytes) = byte;
        }
        let damaged = EventRow { message: String::from_utf8_lossy(&bytes).into_owned(), ..sample.clone() };
        let mistaken = EventRow { event_type: event_type.to_owned(), ..sample.clone() };
        for row in [damaged, mistaken] {
            match decode(&row) {
                Ok(event) => { event.touches(); }
                Err(_) => { error(&row); }
            }
        }
    }
}
