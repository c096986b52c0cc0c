//! Golden texts of real Hive servers, values that come back, and hostile text.

use super::*;
use hms::api;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Objects from the notification logs of Hive 4.0 and 4.2.
const SAMPLES: &str = include_str!("samples.jsonl");

/// Texts are equal when they are the same JSON, whatever the order of fields; numbers by value.
fn json(text: &str) -> Value {
    fn plain(value: Value) -> Value {
        match value {
            Value::Number(number) => {
                number.as_f64().filter(|it| it.abs() < 1e15).map_or(Value::Number(number), Value::from)
            }
            Value::Array(values) => values.into_iter().map(plain).collect(),
            Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, plain(value))).collect(),
            value => value,
        }
    }
    plain(serde_json::from_str(text).unwrap())
}

fn comes_back<T: Wire + Clone + PartialEq + std::fmt::Debug>(text: &str) {
    let value: T = decode(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(json(&encode(&value).unwrap()), json(text));
    assert_eq!(json(&to_text(&to_binary(text).unwrap()).unwrap()), json(text));
    assert_eq!(decode::<T>(&encode(&value).unwrap()).unwrap(), value);
}

#[test]
fn objects_of_real_logs_decode_and_come_back() {
    let mut seen = 0;
    for line in SAMPLES.lines() {
        let sample: Value = serde_json::from_str(line).unwrap();
        let text = sample["text"].as_str().unwrap();
        match sample["kind"].as_str().unwrap() {
            "Database" => comes_back::<api::Database>(text),
            "Table" => comes_back::<api::Table>(text),
            "Partition" => comes_back::<api::Partition>(text),
            "ColumnStatistics" => comes_back::<api::ColumnStatistics>(text),
            "SQLPrimaryKey" => comes_back::<api::SQLPrimaryKey>(text),
            "SQLForeignKey" => comes_back::<api::SQLForeignKey>(text),
            "SQLUniqueConstraint" => comes_back::<api::SQLUniqueConstraint>(text),
            "SQLNotNullConstraint" => comes_back::<api::SQLNotNullConstraint>(text),
            "SQLCheckConstraint" => comes_back::<api::SQLCheckConstraint>(text),
            "SQLDefaultConstraint" => comes_back::<api::SQLDefaultConstraint>(text),
            "Function" => comes_back::<api::Function>(text),
            other => panic!("no kind {other}"),
        }
        seen += 1;
    }
    assert!(seen >= 11);
}

#[test]
fn fields_that_the_idl_does_not_know_come_back() {
    let text =
        r#"{"1":{"str":"t"},"900":{"map":["i64","lst",1,{"7":["tf",2,1,0]}]},"901":{"dbl":"NaN"},"902":{"rec":{}}}"#;
    let table: api::Table = decode(text).unwrap();
    assert!(!table.unknown.is_empty());
    assert_eq!(encode(&table).unwrap(), text);
}

#[test]
fn bytes_are_base64_without_padding() {
    let decimal: api::Decimal = decode(r#"{"1":{"str":"MDk"},"3":{"i16":2}}"#).unwrap();
    assert_eq!(decimal.unscaled, Some(Binary(b"09".to_vec())));
    assert_eq!(encode(&decimal).unwrap(), r#"{"1":{"str":"MDk"},"3":{"i16":2}}"#);
    assert_eq!(decode::<api::Decimal>(r#"{"1":{"str":"MDk="}}"#).unwrap().unscaled, decimal.unscaled);
    assert!(decode::<api::Decimal>(r#"{"1":{"str":"*"}}"#).unwrap_err().what.contains("base64"));
}

#[test]
fn a_list_as_the_key_of_a_map_comes_back() {
    let locations = BTreeMap::from([(vec!["a".to_owned(), "b\"".to_owned()], "file:/x".to_owned())]);
    let skew = api::SkewedInfo { skewed_col_value_location_maps: Some(locations), ..Default::default() };
    let text = encode(&skew).unwrap();
    assert_eq!(text, r#"{"3":{"map":["lst","str",1,{["str",2,"a","b\""]:"file:/x"}]}}"#);
    assert_eq!(decode::<api::SkewedInfo>(&text).unwrap(), skew);
}

#[test]
fn hostile_text_is_an_error_that_names_its_offset() {
    let cases = [
        ("", 0, "`{` is missing"),
        ("{\"x\":{\"str\":\"\"}}", 1, "no field id"),
        ("{\"1\":{\"text\":\"\"}}", 6, "no type"),
        ("{\"1\":{\"i32\":2147483648}}", 12, "not a number of 32 bits"),
        ("{\"1\":{\"str\":\"a", 13, "without an end"),
        ("{\"1\":{\"str\":\"\\u12\"}}", 15, "four hex digits"),
        ("{\"1\":{\"str\":\"\\q\"}}", 14, "JSON does not have"),
        ("{\"1\":{\"lst\":[\"str\",-1]}}", 19, "below zero"),
        ("{\"1\":{\"lst\":[\"str\",2,\"a\"]}}", 24, "`,` is missing"),
        ("{} x", 3, "after the end"),
    ];
    for (text, at, what) in cases {
        let error = to_binary(text).unwrap_err();
        assert!(error.at == at && error.what.contains(what), "{text}: {error}");
    }
    let deep = "{\"1\":{\"rec\":".repeat(100_000);
    assert!(to_binary(&deep).unwrap_err().what.contains("too deep"));
    let many = "{\"1\":{\"lst\":[\"str\",2147483647]}}";
    assert!(to_binary(many).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}|[{}\\[\\]\",:0-9a-z\\\\]{0,80}") {
        let _any = to_binary(&text);
        let _any = decode::<api::Table>(&text);
        let _any = to_text(text.as_bytes());
    }

    #[test]
    fn no_damage_panics(cut in 0..400_usize, sign in "\\PC|\\u{0}") {
        for line in SAMPLES.lines().take(4) {
            let sample: Value = serde_json::from_str(line).unwrap();
            let text: Vec<char> = sample["text"].as_str().unwrap().chars().collect();
            let cut = cut % text.len();
            let damaged: String = text[..cut].iter().chain(sign.chars().collect::<Vec<_>>().iter()).chain(&text[cut + 1..]).collect();
            let _any = decode::<api::Table>(&damaged);
            let _any = decode::<api::Table>(&text[..cut].iter().collect::<String>());
        }
    }

    #[test]
    fn values_come_back(
        name in "\\PC{0,20}|[\\x00-\\x20\"\\\\]{0,9}", number: i64, byte: i8, flag: bool, real: f64, bytes: Vec<u8>,
        set in prop::collection::btree_set("\\PC{0,5}", 0..4),
    ) {
        let table = api::Table {
            table_name: Some(name.clone()),
            write_id: Some(number),
            access_type: Some(byte),
            temporary: Some(flag),
            creation_metadata: Some(api::CreationMetadata { tables_used: Some(BTreeSet::from_iter(set)), ..Default::default() }),
            dictionary: Some(api::ObjectDictionary {
                values: Some(BTreeMap::from([(name, vec![Binary(bytes.clone())])])),
                ..Default::default()
            }),
            ..Default::default()
        };
        prop_assert_eq!(decode::<api::Table>(&encode(&table).unwrap()).unwrap(), table);
        prop_assume!(!real.is_nan());
        let data = api::DoubleColumnStatsData { low_value: Some(real), bit_vectors: Some(Binary(bytes)), ..Default::default() };
        prop_assert_eq!(decode::<api::DoubleColumnStatsData>(&encode(&data).unwrap()).unwrap(), data);
    }
}
