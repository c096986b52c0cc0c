//! The metadata of Iceberg tables rewritten for a replica, read again by a reader that is not ours; and input that nobody should
//! trust.

use apache_avro::types::Value;
use metasync::iceberg::{manifest, manifest_list, metadata};
use metasync::location::{Location, LocationMap};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use tests::iceberg::{Codec, LIST, MANIFEST, container, entry, field, list_line, of_format, records};

const SETS: u64 = 3000;

fn map() -> LocationMap {
    let location = |text| Location::parse(text).unwrap();
    let pairs =
        [("s3://eu/w", "s3://us-lake/deeper/w"), ("s3://eu/w/long/place", "abfss://c@a.dfs.core.windows.net/x")];
    LocationMap::new(pairs.map(|(from, to)| (location(from), location(to))).into()).unwrap()
}

fn there(path: &str) -> String {
    match path.strip_prefix("s3://eu/w/long/place") {
        Some(rest) => format!("abfss://c@a.dfs.core.windows.net/x{rest}"),
        None => path.replace("s3://eu/w", "s3://us-lake/deeper/w"),
    }
}

fn path(dice: &mut StdRng) -> String {
    let base = if dice.random_bool(0.3) { "s3://eu/w/long/place" } else { "s3://eu/w" };
    let segments: Vec<String> = (0..dice.random_range(1..5))
        .map(|_| ["t", "day=2026-11-22", "a%2Fb c", "größe", &"x".repeat(70)][dice.random_range(0..5)].to_owned())
        .collect();
    format!("{base}/{}/{}.parquet", segments.join("/"), dice.random::<u32>())
}

/// The record with another text in one field of it.
fn with(record: &Value, name: &str, new: Value) -> Value {
    let Value::Record(fields) = record else { panic!("{record:?}") };
    let exchange =
        |(field, value): &(String, Value)| (field.clone(), if field == name { new.clone() } else { value.clone() });
    Value::Record(fields.iter().map(exchange).collect())
}

/// The header: all before the first block, without the marker behind it.
fn header(file: &[u8], schema: &str) -> Vec<u8> {
    let at = file.windows(schema.len()).position(|bytes| bytes == schema.as_bytes()).expect("the schema as it was");
    file[..at + schema.len()].to_vec()
}

#[test]
fn thousands_of_generated_tables_are_the_same_but_for_their_places() {
    let map = map();
    for seed in 0..SETS {
        let mut dice = StdRng::seed_from_u64(seed);
        let format = dice.random_range(1..3);
        let codec = if dice.random_bool(0.5) { Codec::Deflate } else { Codec::Null };
        let in_block = dice.random_range(1..5);
        let (mut lines, mut lengths, mut names) = (Vec::new(), BTreeMap::new(), Vec::new());
        let schema = of_format(MANIFEST, format);
        for _ in 0..dice.random_range(0..4) {
            let entries: Vec<(i32, String)> =
                (0..dice.random_range(0..7)).map(|_| (dice.random_range(0..3), path(&mut dice))).collect();
            let made: Vec<Value> =
                entries.iter().map(|(status, path)| entry(format, *status, path, dice.random(), 0)).collect();
            let user = [("schema", "{\"type\":\"struct\"}"), ("partition-spec", "[]"), ("iceberg.schema", "{}")];
            let file = container(&schema, &user, &made, codec, in_block);
            let new = manifest(&file, &map).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            assert_eq!(new, manifest(&file, &map).unwrap(), "the same each time");
            assert_eq!(header(&new.rewritten, &schema), header(&file, &schema), "seed {seed}");
            let expected = made.iter().zip(&entries).map(|(made, (_, path))| {
                let file = with(field(made, "data_file"), "file_path", Value::String(there(path)));
                with(made, "data_file", file)
            });
            assert_eq!(records(&new.rewritten), expected.collect::<Vec<_>>(), "seed {seed}");
            let live: Vec<String> =
                entries.into_iter().filter(|(status, _)| *status != 2).map(|(_, path)| path).collect();
            assert_eq!(new.files, live);
            let name = path(&mut dice);
            lines.push(list_line(format, &name, file.len() as u64, 0));
            lengths.insert(name.clone(), new.rewritten.len() as u64);
            names.push(name);
        }
        let schema = of_format(LIST, format);
        let file = container(&schema, &[("format-version", "2"), ("snapshot-id", "1")], &lines, codec, in_block);
        let read = manifest_list(&file, &map, None).unwrap();
        assert_eq!(read.manifests.iter().map(|one| one.path.clone()).collect::<Vec<_>>(), names);
        let new = manifest_list(&file, &map, Some(&lengths)).unwrap().rewritten;
        assert_eq!(header(&new, &schema), header(&file, &schema));
        let expected = lines.iter().zip(&names).map(|(line, name)| {
            let line = with(line, "manifest_path", Value::String(there(name)));
            with(&line, "manifest_length", Value::Long(lengths[name] as i64))
        });
        assert_eq!(records(&new), expected.collect::<Vec<_>>(), "seed {seed}");
    }
}

const METADATA: &str = r#"{ "format-version" : 2, "zzz": {"b" : 1.50, "a": [1e400, 18446744073709551616]}, "location":"s3a:\/\/eu/w/t",
 "properties": {"write.data.path": "s3://eu/w/long/place/t", "comment": "s3://elsewhere/x", "n": "ä"},
 "snapshots": [{"x": 1, "manifest-list":"s3://eu/w/t/metadata/l1.avro", "summary": {"a":"b"}}, {"manifests": ["s3://eu/w/t/m1.avro"]}],
 "statistics":[{"snapshot-id":1,"statistics-path":"s3://eu/w/t/metadata/1.stats"}], "partition-statistics":[{"statistics-path":"s3://eu/w/t/metadata/p.parquet"}],
 "metadata-log":[{"timestamp-ms":7,"metadata-file":"s3://eu/w/t/metadata/0.json"}], "refs": {"main": {"type": "branch"}}, "aaa": null }"#;

#[test]
fn unknown_fields_of_metadata_stay_as_they_are_and_in_their_order() {
    let found = metadata(METADATA.as_bytes(), &map()).unwrap();
    assert_eq!(found.location, "s3a://eu/w/t");
    assert_eq!((&found.lists[0][..], &found.manifests[0][..]), ("s3://eu/w/t/metadata/l1.avro", "s3://eu/w/t/m1.avro"));
    assert_eq!(found.log, ["s3://eu/w/t/metadata/0.json"]);
    assert_eq!(found.statistics, ["s3://eu/w/t/metadata/1.stats", "s3://eu/w/t/metadata/p.parquet"]);
    let new = String::from_utf8(found.rewritten).unwrap();
    assert_eq!(
        new,
        r#"{"format-version":2,"zzz":{"b" : 1.50, "a": [1e400, 18446744073709551616]},"location":"s3://us-lake/deeper/w/t","properties":{"write.data.path":"abfss://c@a.dfs.core.windows.net/x/t","comment":"s3://elsewhere/x","n":"ä"},"snapshots":[{"x":1,"manifest-list":"s3://us-lake/deeper/w/t/metadata/l1.avro","summary":{"a":"b"}},{"manifests":["s3://us-lake/deeper/w/t/m1.avro"]}],"statistics":[{"snapshot-id":1,"statistics-path":"s3://us-lake/deeper/w/t/metadata/1.stats"}],"partition-statistics":[{"statistics-path":"s3://us-lake/deeper/w/t/metadata/p.parquet"}],"metadata-log":[{"timestamp-ms":7,"metadata-file":"s3://us-lake/deeper/w/t/metadata/0.json"}],"refs":{"main": {"type": "branch"}},"aaa":null}"#
    );
}

#[test]
fn what_cannot_be_carried_is_named() {
    let map = map();
    let base = || json!({"format-version": 2, "location": "s3://eu/w/t", "snapshots": [], "properties": {}});
    let changed = |change: &dyn Fn(&mut Json)| {
        let mut json = base();
        change(&mut json);
        metadata(json.to_string().as_bytes(), &map).unwrap_err()
    };
    assert!(changed(&|json| json["format-version"] = json!(3)).contains("format version 3"));
    assert!(changed(&|json| json["location"] = json!("s3://us/w")).contains("s3://us/w is in no [[locations]]"));
    assert!(changed(&|json| json["location"] = json!(7)).contains("no text"));
    assert!(changed(&|json| json["snapshots"] = json!([{"manifest-list": "/x"}])).contains("the manifest list /x"));
    assert!(changed(&|json| json["snapshots"] = json!([{"key-id": "k"}])).contains("encrypted"));
    let elsewhere = json!({"write.data.path": "s3://x/y"});
    assert!(changed(&|json| json["properties"] = elsewhere.clone()).contains("write.data.path s3://x/y"));
    let list = |line| container(LIST, &[], &[line], Codec::Null, 1);
    assert!(manifest_list(&list(list_line(2, "s3://eu/w/m", 1, 1)), &map, None).unwrap_err().contains("delete files"));
    assert!(manifest_list(&list(list_line(2, "/elsewhere", 1, 0)), &map, None).unwrap_err().contains("/elsewhere"));
    let keyed =
        with(&list_line(2, "s3://eu/w/m", 1, 0), "key_metadata", Value::Union(1, Box::new(Value::Bytes(vec![1]))));
    assert!(manifest_list(&list(keyed), &map, None).unwrap_err().contains("encrypted"));
    let deletes = container(MANIFEST, &[], &[entry(2, 1, "s3://eu/w/d", 1, 2)], Codec::Null, 1);
    assert!(manifest(&deletes, &map).unwrap_err().contains("delete files"));
    let strange = container(
        r#"{"type":"record","name":"x","fields":[{"name":"y","type":"int"}]}"#,
        &[],
        &[Value::Record(vec![("y".into(), Value::Int(1))])],
        Codec::Null,
        1,
    );
    assert!(manifest(&strange, &map).unwrap_err().contains("no path"));
}

#[test]
fn damaged_files_are_errors_and_no_panics() {
    let map = map();
    let entries: Vec<Value> = (0..20).map(|at| entry(2, 1, &format!("s3://eu/w/t/{at}"), at, 0)).collect();
    for codec in [Codec::Null, Codec::Deflate] {
        let whole = container(MANIFEST, &[("schema", "{}")], &entries, codec, 7);
        for end in 0..whole.len() {
            // What ends between two blocks is a whole file.
            if let Ok(read) = manifest(&whole[..end], &map) {
                assert!(read.files.len() < 20 && read.files.len().is_multiple_of(7), "cut at {end}");
            }
        }
        let mut dice = StdRng::seed_from_u64(1);
        for _ in 0..4000 {
            let mut damaged = whole.clone();
            for _ in 0..dice.random_range(1..4) {
                let at = dice.random_range(0..damaged.len());
                damaged[at] = dice.random();
            }
            let _ = manifest(&damaged, &map);
            let _ = manifest_list(&damaged, &map, None);
        }
    }
    for end in 0..METADATA.len() {
        assert!(metadata(&METADATA.as_bytes()[..end.min(METADATA.len() - 1)], &map).is_err(), "{end}");
    }
    for text in ["", "null", "[]", "{}", "{\"format-version\":2}", &"[".repeat(100_000), &"{\"a\":".repeat(100_000)] {
        assert!(metadata(text.as_bytes(), &map).is_err());
    }
    // A little that unpacks to much.
    let bomb = "{\"a\":".to_owned() + &" ".repeat(200_000_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bomb.as_bytes()).unwrap();
    let why = metadata(&encoder.finish().unwrap(), &map).unwrap_err();
    assert!(why.contains("larger"), "{why}");
}
