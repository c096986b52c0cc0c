//! Rule 33: what is written is understood again, by every version's rules.

use super::super::write::{Happened, MAX_BATCH_BYTES, Rows, Unwritable, of_one_moment};
use super::super::*;
use crate::metastore::Version;
use crate::model::{
    Column, ColumnStatistics, Constraint, ConstraintKind, Database, DatabaseKind, DatabaseName, ForeignColumn,
    Function, FunctionKind, HIVE_ENGINE, Parameters, Partition, PartitionName, Principal, PrincipalKind, Resource,
    ResourceKind, StatisticsData, StorageDescriptor, Table, TableName, UnknownFields,
};
use proptest::prelude::*;
use std::sync::Arc;

const TIME: i64 = 1_795_253_023;

fn written(happened: Vec<Happened>, version: Version) -> Vec<EventRow> {
    let rows: Result<Vec<EventRow>, Unwritable> = Rows::new(happened.into(), version, TIME).collect();
    rows.unwrap()
}

/// The kind of the one event that this is.
fn again(happened: Happened) -> Kind {
    let rows = written(vec![happened], Version::V4_0);
    assert_eq!(rows.len(), 1);
    assert!(rows[0].message.is_ascii());
    assert_eq!(rows[0].message_format.as_deref(), Some(PLAIN_FORMAT));
    let event = decode(&rows[0]).unwrap();
    assert_eq!(event.time, TIME);
    event.kind
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn database() -> Database {
    Database {
        name: DatabaseName::new("sales"),
        description: text("Umsätze 😀 \"\\\u{1}"),
        location: text("file:/w/sales.db"),
        managed_location: text("file:/m"),
        parameters: [("k".to_owned(), "v".to_owned())].into(),
        owner: Some(Principal { name: "ann".to_owned(), kind: PrincipalKind::Role }),
        create_time: Some(7),
        kind: DatabaseKind::Native,
        unknown: UnknownFields::default(),
    }
}

fn column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_name: "string".to_owned(),
        comment: text("é"),
        unknown: UnknownFields::default(),
    }
}

fn table(name: &str) -> Arc<Table> {
    Arc::new(Table {
        name: TableName::new("sales", name),
        table_type: text("EXTERNAL_TABLE"),
        owner: None,
        create_time: 5,
        last_access_time: 6,
        retention: 0,
        storage: StorageDescriptor {
            columns: Arc::new(vec![column("a"), column("b")]),
            location: Some(format!("file:/w/sales.db/{name}")),
            ..StorageDescriptor::default()
        },
        partition_keys: vec![column("zone"), column("dt")],
        parameters: [("EXTERNAL".to_owned(), "TRUE".to_owned())].into(),
        view_original_text: None,
        view_expanded_text: None,
        rewrite_enabled: false,
        creation_metadata: None,
        write_id: 0,
        unknown: UnknownFields(vec![0x0b, 0x03, 0x84, 0, 0, 0, 1, b'x']),
    })
}

fn partition(values: [&str; 2]) -> Partition {
    Partition {
        values: values.map(str::to_owned).to_vec(),
        create_time: 9,
        last_access_time: 0,
        storage: StorageDescriptor { columns: Arc::clone(&table("t").storage.columns), ..StorageDescriptor::default() },
        parameters: Parameters::new(),
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

fn named(values: [&str; 2]) -> NamedPartition {
    let name = PartitionName::of(["zone", "dt"], &values.map(str::to_owned)).unwrap();
    NamedPartition { name, partition: partition(values) }
}

fn statistics(column: &str, engine: &str, analyzed: i64) -> ColumnStatistics {
    ColumnStatistics {
        engine: engine.to_owned(),
        column: column.to_owned(),
        type_name: "string".to_owned(),
        last_analyzed: analyzed,
        nulls: 1,
        data: StatisticsData::Boolean { trues: 1, falses: 2, bit_vector: Some(vec![0, 255]) },
        unknown: UnknownFields::default(),
    }
}

fn constraint(kind: ConstraintKind) -> Constraint {
    Constraint {
        table: TableName::new("sales", "t"),
        name: "c1".to_owned(),
        kind,
        enable: true,
        validate: false,
        rely: true,
    }
}

fn columns() -> Vec<String> {
    vec!["b".to_owned(), "a".to_owned()]
}

fn constraints() -> Vec<Constraint> {
    let column = || "a".to_owned();
    [
        ConstraintKind::PrimaryKey { columns: columns() },
        ConstraintKind::ForeignKey {
            parent: TableName::new("other", "p"),
            parent_key: text("pk"),
            columns: vec![ForeignColumn { column: column(), parent_column: "x".to_owned() }],
            update_rule: 0,
            delete_rule: 1,
        },
        ConstraintKind::Unique { columns: columns() },
        ConstraintKind::NotNull { column: column() },
        ConstraintKind::Default { column: column(), value: "'é'".to_owned() },
        ConstraintKind::Check { column: None, expression: "a > 0".to_owned() },
    ]
    .map(constraint)
    .to_vec()
}

#[test]
fn rule_33_databases_tables_and_functions_come_back_whole() {
    let (before, after) = (database(), Database { description: None, ..database() });
    assert_eq!(
        again(Happened::CreatedDatabase(Box::new(before.clone()))),
        Kind::CreateDatabase { name: before.name.clone(), database: Some(Box::new(before.clone())) }
    );
    assert_eq!(
        again(Happened::DroppedDatabase(Box::new(before.clone()))),
        Kind::DropDatabase { name: before.name.clone(), database: Some(Box::new(before.clone())) }
    );
    let (before, after) = (Box::new(before), Box::new(after));
    let altered = Happened::AlteredDatabase { before: before.clone(), after: after.clone() };
    assert_eq!(again(altered), Kind::AlterDatabase { before, after });

    let (t, u) = (table("t"), table("u"));
    let whole = |table: &Arc<Table>| Box::new(Table::clone(table));
    let created = Kind::CreateTable { table: whole(&t), files: Vec::new() };
    assert_eq!(again(Happened::CreatedTable(Arc::clone(&t))), created);
    for emptied in [false, true] {
        let altered = Happened::AlteredTable { before: Arc::clone(&t), after: Arc::clone(&u), emptied };
        let expected =
            Kind::AlterTable { before: whole(&t), after: whole(&u), truncated: Some(emptied), write_id: Some(0) };
        assert_eq!(again(altered), expected);
    }
    let dropped = Kind::DropTable { name: t.name.clone(), table: Some(whole(&t)) };
    assert_eq!(again(Happened::DroppedTable(Arc::clone(&t))), dropped);

    let function = Function {
        database: DatabaseName::new("sales"),
        name: "f".to_owned(),
        class_name: text("org.F"),
        owner: None,
        create_time: 3,
        kind: FunctionKind::Java,
        resources: vec![Resource { kind: ResourceKind::File, uri: "file:/é.txt".to_owned() }],
        unknown: UnknownFields::default(),
    };
    let dropped = Happened::DroppedFunction { database: function.database.clone(), name: "f".to_owned() };
    let expected = Kind::DropFunction { database: function.database.clone(), function: "f".to_owned() };
    assert_eq!(again(dropped), expected);
    let function = Box::new(function);
    assert_eq!(again(Happened::CreatedFunction(function.clone())), Kind::CreateFunction { function });
}

#[test]
fn rule_33_constraints_and_statistics_come_back_whole() {
    let t = table("t");
    for constraint in constraints() {
        let added = Happened::AddedConstraint { table: Arc::clone(&t), constraint: Box::new(constraint.clone()) };
        assert_eq!(again(added), Kind::AddConstraints { constraints: vec![constraint] });
    }
    let dropped = Happened::DroppedConstraint { table: Arc::clone(&t), name: "c1".to_owned() };
    let expected = Kind::DropConstraint { table: t.name.clone(), constraint: "c1".to_owned() };
    assert_eq!(again(dropped), expected);

    let of = vec![statistics("a", "impala", 8), statistics("b", "impala", 8)];
    let put = Happened::PutTableStatistics { table: Arc::clone(&t), statistics: of.clone() };
    let whole = Some(Box::new(Table::clone(&t)));
    let expected = Kind::UpdateTableStatistics {
        name: t.name.clone(),
        table: whole.clone(),
        statistics: of.clone(),
        parameters: t.parameters.clone(),
        write_id: Some(0),
    };
    assert_eq!(again(put), expected);
    let (name, parameters) = (named(["x/y", ""]).name, Parameters::from([("n".to_owned(), "1".to_owned())]));
    let put = Happened::PutPartitionStatistics {
        table: Arc::clone(&t),
        partition: name.clone(),
        parameters: parameters.clone(),
        statistics: of.clone(),
    };
    let expected = Kind::UpdatePartitionStatistics {
        name: t.name.clone(),
        table: whole,
        partition: name.clone(),
        statistics: of,
        parameters,
        write_id: Some(0),
    };
    assert_eq!(again(put), expected);
    for column in [None, text("a")] {
        let dropped = Happened::DroppedTableStatistics { table: Arc::clone(&t), column: column.clone() };
        let expected = Kind::DeleteTableStatistics { name: t.name.clone(), column: column.clone() };
        assert_eq!(again(dropped), expected);
        let (table, partition) = (Arc::clone(&t), name.clone());
        let dropped = Happened::DroppedPartitionStatistics { table, partition, column: column.clone() };
        let (name, partition) = (t.name.clone(), name.clone());
        assert_eq!(again(dropped), Kind::DeletePartitionStatistics { name, partition, column });
    }
}

#[test]
fn statistics_of_one_engine_and_moment_are_one_event() {
    let of = |column, engine, at| statistics(column, engine, at);
    let all = [of("a", HIVE_ENGINE, 1), of("b", "impala", 1), of("c", HIVE_ENGINE, 2), of("d", HIVE_ENGINE, 1)];
    let [a, b, c, d] = all.clone();
    assert_eq!(of_one_moment(all.to_vec()), [vec![a, d], vec![b], vec![c]]);
}

#[test]
fn rule_33_a_hive_without_a_type_for_it_gets_an_altered_table_once() {
    let (t, u) = (table("t"), table("u"));
    let one = |table: &Arc<Table>| Happened::PutTableStatistics {
        table: Arc::clone(table),
        statistics: vec![statistics("a", HIVE_ENGINE, 1)],
    };
    let added: Vec<Happened> = constraints()
        .into_iter()
        .map(|constraint| Happened::AddedConstraint { table: Arc::clone(&t), constraint: Box::new(constraint) })
        .collect();
    let (before, after) = (Box::new(database()), Box::new(database()));
    let happened = [vec![Happened::AlteredDatabase { before, after }, one(&u)], added, vec![one(&t), one(&t)]].concat();
    let types = |version| {
        let rows = written(happened.clone(), version);
        rows.iter().map(|row| row.event_type.clone()).collect::<Vec<String>>()
    };
    assert_eq!(types(Version::V2_3), ["ALTER_TABLE", "ALTER_TABLE"]);
    let first = ["ALTER_DATABASE", "ALTER_TABLE", "ADD_PRIMARYKEY", "ADD_FOREIGNKEY", "ADD_UNIQUECONSTRAINT"];
    assert_eq!(types(Version::V3_1), [&first[..], &["ADD_NOTNULLCONSTRAINT", "ALTER_TABLE"]].concat());
    assert_eq!(types(Version::V4_0).len(), happened.len());
    let rows = written(happened, Version::V2_3);
    assert!(rows.iter().all(|row| row.catalog.is_none()));
    let touched: Vec<TableName> = rows.iter().flat_map(|row| decode(row).unwrap().touches().tables).collect();
    assert_eq!(touched, [u.name.clone(), t.name.clone()]);
}

#[test]
fn partitions_that_are_too_large_for_one_event_take_several() {
    let large = |at: usize| {
        let filler = [("x".to_owned(), "y".repeat(MAX_BATCH_BYTES / 2))];
        Partition { parameters: filler.into(), ..partition(["z", &at.to_string()]) }
    };
    let partitions: Vec<Partition> = (0..5).map(large).collect();
    let rows = written(vec![Happened::AddedPartitions { table: table("t"), partitions }], Version::V3_1);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.message.len() < 2 * MAX_BATCH_BYTES));
    let names = |row| decode(row).unwrap().touches().partitions.pop().unwrap().1.len();
    assert_eq!(rows.iter().map(names).collect::<Vec<usize>>(), [2, 2, 1]);
}

proptest! {
    #[test]
    fn rule_33_partitions_of_any_values_come_back_with_their_names(
        values in prop::collection::vec(("[^\\x00]{0,9}", "[^\\x00]{0,9}"), 1..4),
        to in "[^\\x00]{0,9}",
    ) {
        let t = table("t");
        let whole = Box::new(Table::clone(&t));
        let all: Vec<NamedPartition> = values.iter().map(|(a, b)| named([a, b])).collect();
        let partitions = all.iter().map(|named| named.partition.clone()).collect();
        let expected = Kind::AddPartitions { table: whole.clone(), partitions: all.clone(), files: Vec::new() };
        prop_assert_eq!(again(Happened::AddedPartitions { table: Arc::clone(&t), partitions }), expected);
        let names: Vec<PartitionName> = all.iter().map(|named| named.name.clone()).collect();
        let expected =
            Kind::DropPartitions { name: t.name.clone(), table: Some(whole.clone()), partitions: names.clone() };
        prop_assert_eq!(again(Happened::DroppedPartitions { table: Arc::clone(&t), names }), expected);
        let (before, after) = (all[0].clone(), named([&values[0].0, &to]));
        let altered = Happened::AlteredPartition {
            table: t,
            before: Box::new(before.partition.clone()),
            after: Box::new(after.partition.clone()),
            emptied: true,
        };
        let (before, after) = (Box::new(before), Box::new(after));
        let expected = Kind::AlterPartition { table: whole, before, after, truncated: Some(true), write_id: Some(0) };
        prop_assert_eq!(again(altered), expected);
    }
}
