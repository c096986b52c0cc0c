//! Objects come back from Thrift's structs as they were, by way of bytes.

use super::*;
use crate::metastore::Version;
use crate::model::*;
use hms::wire::{from_bytes, to_bytes};
use proptest::prelude::*;
use proptest::{collection, option};
use std::sync::Arc;

/// What unknown fields hold: field 900, a string.
fn unknown() -> impl Strategy<Value = UnknownFields> {
    prop_oneof![Just(Vec::new()), Just(vec![11, 3, 132, 0, 0, 0, 1, b'x'])].prop_map(UnknownFields)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn parameters() -> impl Strategy<Value = Parameters> {
    collection::btree_map(text(), text(), 0..4)
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let column = (text(), text(), option::of(text()), unknown());
    let column = column.prop_map(|(name, type_name, comment, unknown)| Column { name, type_name, comment, unknown });
    collection::vec(column, 0..4)
}

fn principal() -> impl Strategy<Value = Option<Principal>> {
    let kind = prop_oneof![Just(PrincipalKind::User), Just(PrincipalKind::Role), Just(PrincipalKind::Group)];
    option::of((text(), kind).prop_map(|(name, kind)| Principal { name, kind }))
}

fn serde() -> impl Strategy<Value = SerDe> {
    let texts = (option::of(text()), option::of(text()), option::of(text()), option::of(text()), option::of(text()));
    (texts, parameters(), option::of(any::<i32>()), unknown()).prop_map(|(texts, parameters, kind, unknown)| {
        let (name, library, description, serializer, deserializer) = texts;
        SerDe { name, library, parameters, description, serializer, deserializer, kind, unknown }
    })
}

fn skew() -> impl Strategy<Value = Skew> {
    let row = || collection::vec(text(), 0..3);
    let locations = collection::btree_map(row(), text(), 0..3).prop_map(|map| map.into_iter().collect());
    (row(), collection::vec(row(), 0..3), locations).prop_map(|(columns, values, locations)| Skew {
        columns,
        values,
        locations,
    })
}

prop_compose! {
    fn storage()(
        columns in columns(), location in option::of(text()), formats in (option::of(text()), option::of(text())),
        flags: (bool, bool), bucket_count: i32, serde in serde(), bucket_columns in collection::vec(text(), 0..3),
        sort in collection::vec((text(), any::<bool>()), 0..3), parameters in parameters(), skew in skew(),
        unknown in unknown(),
    ) -> StorageDescriptor {
        let order = |ascending| if ascending { SortOrder::Ascending } else { SortOrder::Descending };
        let sort = sort.into_iter().map(|(name, ascending)| SortColumn { name, order: order(ascending) });
        StorageDescriptor {
            columns: Arc::new(columns), location, input_format: formats.0, output_format: formats.1, compressed: flags.0,
            bucket_count, serde, bucket_columns, sort_columns: sort.collect(), parameters, skew,
            stored_as_sub_directories: flags.1, unknown,
        }
    }
}

prop_compose! {
    fn creation()(
        tables in collection::btree_set(("[a-z]{1,5}", "[a-z]{1,5}"), 0..3), counts: (i64, i64, i64),
        valid_write_ids in option::of(text()), materialization_time in option::of(1..i64::MAX),
    ) -> CreationMetadata {
        let source = |(database, table): (String, String)| MaterializationSource {
            table: TableName::new(&database, &table), inserted: counts.0, updated: counts.1, deleted: counts.2,
        };
        let sources = tables.into_iter().map(source).collect();
        CreationMetadata { sources, valid_write_ids, materialization_time }
    }
}

prop_compose! {
    fn table()(
        table_type in option::of(text()), owner in principal(), times: (i32, i32, i32), storage in storage(),
        partition_keys in columns(), parameters in parameters(), views in (option::of(text()), option::of(text())),
        rewrite_enabled: bool, creation_metadata in option::of(creation()), write_id in 0..i64::MAX, unknown in unknown(),
    ) -> Table {
        Table {
            name: TableName::new("d", "t"), table_type, owner, create_time: times.0, last_access_time: times.1,
            retention: times.2, storage, partition_keys, parameters, view_original_text: views.0,
            view_expanded_text: views.1, rewrite_enabled, creation_metadata, write_id, unknown,
        }
    }
}

fn data() -> impl Strategy<Value = StatisticsData> {
    let sketch = || option::of(collection::vec(any::<u8>(), 1..5));
    let long = |unit| {
        let fields = (option::of(any::<i64>()), option::of(any::<i64>()), any::<i64>(), sketch(), sketch());
        fields.prop_map(move |(low, high, distinct, bit_vector, histogram)| StatisticsData::Long {
            unit,
            low,
            high,
            distinct,
            bit_vector,
            histogram,
        })
    };
    let decimal =
        || option::of((any::<i128>(), any::<i16>()).prop_map(|(unscaled, scale)| Decimal { unscaled, scale }));
    let real = || option::of(-1e9..1e9);
    prop_oneof![
        long(LongUnit::Number),
        long(LongUnit::Days),
        long(LongUnit::Seconds),
        (any::<i64>(), any::<i64>(), sketch()).prop_map(|(trues, falses, bit_vector)| StatisticsData::Boolean {
            trues,
            falses,
            bit_vector
        }),
        (real(), real(), any::<i64>(), sketch(), sketch()).prop_map(|(low, high, distinct, bit_vector, histogram)| {
            StatisticsData::Double { low, high, distinct, bit_vector, histogram }
        }),
        (decimal(), decimal(), any::<i64>(), sketch(), sketch()).prop_map(
            |(low, high, distinct, bit_vector, histogram)| {
                StatisticsData::Decimal { low, high, distinct, bit_vector, histogram }
            }
        ),
        (any::<i64>(), -1e9..1e9, any::<i64>(), sketch()).prop_map(|(max_length, avg_length, distinct, bit_vector)| {
            StatisticsData::String { max_length, avg_length, distinct, bit_vector }
        }),
        (any::<i64>(), -1e9..1e9, sketch()).prop_map(|(max_length, avg_length, bit_vector)| {
            StatisticsData::Binary { max_length, avg_length, bit_vector }
        }),
    ]
}

proptest! {
    #[test]
    fn rule_30_tables_come_back(table in table()) {
        let sent = to_bytes(&to_table(&table).unwrap());
        prop_assert_eq!(from_table(from_bytes(&sent).unwrap()).unwrap(), table);
    }

    #[test]
    fn rule_30_partitions_come_back(
        values in collection::vec(text(), 0..3), times: (i32, i32), storage in storage(), parameters in parameters(),
        write_id in 0..i64::MAX, unknown in unknown(),
    ) {
        let (create_time, last_access_time) = times;
        let partition = Partition { values, create_time, last_access_time, storage, parameters, write_id, unknown };
        let sent = to_bytes(&to_partition(&TableName::new("d", "t"), &partition).unwrap());
        prop_assert_eq!(from_partition(from_bytes(&sent).unwrap()).unwrap(), partition);
    }

    #[test]
    fn rule_30_databases_come_back(
        texts in (option::of(text()), option::of(text()), option::of(text())), parameters in parameters(),
        owner in principal(), time in option::of(any::<i32>()), remote in option::of((option::of(text()), option::of(text()))),
        unknown in unknown(),
    ) {
        let (description, location, managed_location) = texts;
        let kind = remote.map_or(DatabaseKind::Native, |(connector, database)| DatabaseKind::Remote { connector, database });
        let database = Database {
            name: DatabaseName::in_catalog("c", "d"), description, location, managed_location, parameters, owner,
            create_time: time.map(i64::from), kind, unknown,
        };
        let sent = to_bytes(&to_database(&database).unwrap());
        prop_assert_eq!(from_database(from_bytes(&sent).unwrap()).unwrap(), database);
    }

    #[test]
    fn rule_30_statistics_come_back(data in data(), nulls: i64, unknown in unknown()) {
        let type_name = match &data {
            StatisticsData::Long { unit: LongUnit::Seconds, .. } => "timestamp",
            _ => "some",
        };
        let statistics = ColumnStatistics {
            column: "c".to_owned(), type_name: type_name.to_owned(), engine: HIVE_ENGINE.to_owned(), last_analyzed: 0,
            nulls, data, unknown,
        };
        for version in [Version::V2_3, Version::V3_1, Version::V4_0] {
            let sent = to_bytes(&to_statistics(&statistics, version).unwrap());
            let found = from_statistics(from_bytes(&sent).unwrap(), Some(HIVE_ENGINE), 0).unwrap();
            prop_assert_eq!(&found, &statistics);
        }
    }
}

#[test]
fn decimals_are_as_short_as_java_writes_them() {
    let bytes = |unscaled: i128| {
        let data = StatisticsData::Decimal {
            low: Some(Decimal { unscaled, scale: 0 }),
            high: None,
            distinct: 0,
            bit_vector: None,
            histogram: None,
        };
        let statistics = ColumnStatistics {
            column: "c".to_owned(),
            type_name: "decimal(38,0)".to_owned(),
            engine: HIVE_ENGINE.to_owned(),
            last_analyzed: 0,
            nulls: 0,
            data,
            unknown: UnknownFields::default(),
        };
        let found = to_statistics(&statistics, Version::V3_1).unwrap().stats_data.unwrap().decimal_stats.unwrap();
        found.low_value.unwrap().unscaled.unwrap().0
    };
    let cases: [(i128, &[u8]); 7] =
        [(0, &[0]), (1, &[1]), (127, &[127]), (128, &[0, 128]), (-1, &[255]), (-128, &[128]), (-129, &[255, 127])];
    for (unscaled, expected) in cases {
        assert_eq!(bytes(unscaled), expected, "{unscaled}");
    }
}

#[test]
fn the_catalog_that_2_3_10_has_in_another_place_is_no_unknown_field() {
    let text = [vec![11, 0, 16], to_bytes(&"hive".to_owned())].concat();
    let table = hms::api::Table {
        table_name: Some("t".to_owned()),
        db_name: Some("d".to_owned()),
        unknown: Unknown::from_bytes(text).unwrap(),
        ..Default::default()
    };
    let found = from_table(table).unwrap();
    assert!(found.unknown.is_empty() && found.name == TableName::new("d", "t"));
}

#[test]
fn constraints_come_back_whatever_the_order_of_their_rows() {
    let constraint = |kind| Constraint {
        table: TableName::new("d", "t"),
        name: "c1".to_owned(),
        kind,
        enable: true,
        validate: false,
        rely: true,
    };
    let columns = vec!["b".to_owned(), "a".to_owned(), "c".to_owned()];
    let key = constraint(ConstraintKind::PrimaryKey { columns: columns.clone() });
    let mut rows = primary_key_rows(&key, &columns);
    rows.reverse();
    assert_eq!(from_primary_keys(rows).unwrap(), [key]);
    let unique = constraint(ConstraintKind::Unique { columns: columns.clone() });
    let mut rows = unique_rows(&unique, &columns);
    rows.rotate_left(1);
    assert_eq!(from_uniques(rows).unwrap(), [unique]);
    let column = |column: &str| ForeignColumn { column: column.to_owned(), parent_column: format!("p_{column}") };
    let foreign = constraint(ConstraintKind::ForeignKey {
        parent: TableName::new("e", "p"),
        parent_key: Some("pk".to_owned()),
        columns: vec![column("b"), column("a")],
        update_rule: 1,
        delete_rule: 2,
    });
    let mut rows = foreign_key_rows(&foreign);
    rows.reverse();
    assert_eq!(from_foreign_keys(rows).unwrap(), [foreign]);
    let check = constraint(ConstraintKind::Check { column: None, expression: "a > 0".to_owned() });
    assert_eq!(from_checks(check_rows(&check, None, "a > 0")).unwrap(), [check]);
}
