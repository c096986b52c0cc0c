//! Rule 33: what a batch does stands in the event log, with it or not at all.

use super::*;
use crate::event::{self, Touches};
use crate::metastore::EventRow;

/// As [`open`], with the log written, and emptied once the database is there.
async fn logging(folder: &Path) -> SqlMetastore {
    let metastore = open(folder).await;
    let url = SqlUrl::file(&folder.join("replica.db"));
    drop(metastore);
    SqlMetastore::open(url, SqlLimits::default()).await.unwrap().with_events()
}

async fn log(metastore: &SqlMetastore) -> Vec<EventRow> {
    metastore.snapshot().await.unwrap().events_after(0, 1000).await.unwrap()
}

/// Does a batch, and says which events it left: their types and what they touch, together.
async fn events(metastore: &SqlMetastore, batch: &[Change]) -> (Vec<String>, Touches) {
    let before = log(metastore).await.len();
    metastore.apply(batch).await.unwrap();
    let all = log(metastore).await;
    let ids: Vec<i64> = all.iter().map(|row| row.event_id).collect();
    assert_eq!(ids, (1..=all.len() as i64).collect::<Vec<i64>>());
    let current = metastore.snapshot().await.unwrap().current_event_id().await.unwrap();
    assert_eq!(current, all.len() as i64);
    let (mut types, mut touched) = (Vec::new(), Touches::default());
    for row in &all[before..] {
        types.push(row.event_type.clone());
        let touches = event::decode(row).unwrap().touches();
        touched.databases.extend(touches.databases);
        touched.tables.extend(touches.tables);
        touched.partitions.extend(touches.partitions);
        touched.functions.extend(touches.functions);
    }
    touched.databases.dedup();
    touched.tables.dedup();
    touched.functions.dedup();
    (types, touched)
}

fn name() -> TableName {
    TableName::new("d", "t")
}

fn part(text: &str) -> PartitionName {
    PartitionName::of(["p"], &[text.to_owned()]).unwrap()
}

/// What a change is about.
fn about(change: &Change) -> Touches {
    let database = |name: &DatabaseName| Touches { databases: vec![name.clone()], ..Touches::default() };
    let table = |name: &TableName| Touches { tables: vec![name.clone()], ..Touches::default() };
    let partitions = |table: &TableName, names: Vec<PartitionName>| Touches {
        partitions: vec![(table.clone(), names)],
        ..Touches::default()
    };
    let function = |database: &DatabaseName, name: &str| Touches {
        functions: vec![(database.clone(), name.to_owned())],
        ..Touches::default()
    };
    match change {
        Change::PutDatabase(it) => database(&it.name),
        Change::DropDatabase(name) | Change::SetDatabaseParameter { database: name, .. } => database(name),
        Change::PutTable(it) => table(&it.name),
        Change::RenameTable { from, to } => Touches { tables: vec![from.clone(), to.clone()], ..Touches::default() },
        Change::DropTable(name)
        | Change::DropConstraint { table: name, .. }
        | Change::PutTableStatistics { table: name, .. }
        | Change::DropTableStatistics { table: name, .. } => table(name),
        Change::PutPartitions { table, partitions: put } => {
            partitions(table, put.iter().map(|one| part(&one.values[0])).collect())
        }
        Change::RenamePartition { table, from, to } => partitions(table, vec![from.clone(), part(&to[0])]),
        Change::DropPartitions { table, names } => partitions(table, names.clone()),
        Change::PutConstraint(it) => table(&it.table),
        Change::PutFunction(it) => function(&it.database, &it.name),
        Change::DropFunction { database, name } => function(database, name),
        Change::PutPartitionStatistics { table, statistics } => {
            partitions(table, statistics.iter().map(|(name, _)| name.clone()).collect())
        }
        Change::DropPartitionStatistics { table, partition, .. } => partitions(table, vec![partition.clone()]),
        Change::TellEmptied { table: of, partition } => match partition {
            Some(name) => partitions(of, vec![name.clone()]),
            None => table(of),
        },
        Change::PutWriteIds { .. }
        | Change::HoldCompactions { .. }
        | Change::PutCatalog(_)
        | Change::DropCatalog(_)
        | Change::PutRole(_)
        | Change::DropRole(_)
        | Change::PutRoleGrant(_)
        | Change::DropRoleGrant(_)
        | Change::PutGrant(_)
        | Change::DropGrant(_) => Touches::default(),
    }
}

fn statistics(trues: i64) -> ColumnStatistics {
    ColumnStatistics {
        engine: HIVE_ENGINE.to_owned(),
        column: "a".to_owned(),
        type_name: "boolean".to_owned(),
        last_analyzed: 4,
        nulls: 0,
        data: StatisticsData::Boolean { trues, falses: 2, bit_vector: None },
        unknown: UnknownFields::default(),
    }
}

fn function(class: &str) -> Change {
    Change::PutFunction(Function {
        database: DatabaseName::new("d"),
        name: "f".to_owned(),
        class_name: Some(class.to_owned()),
        owner: Some(Principal { name: "ann".to_owned(), kind: PrincipalKind::User }),
        create_time: 1,
        kind: FunctionKind::Java,
        resources: Vec::new(),
        unknown: UnknownFields::default(),
    })
}

fn key(columns: &[&str]) -> Change {
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    let kind = ConstraintKind::PrimaryKey { columns };
    Change::PutConstraint(Constraint {
        table: name(),
        name: "k".to_owned(),
        kind,
        enable: false,
        validate: false,
        rely: true,
    })
}

fn changes() -> Vec<(Change, &'static [&'static str])> {
    let cols = columns(&["a", "b"]);
    let put = |values: &[&str]| Change::PutPartitions {
        table: name(),
        partitions: values.iter().map(|value| partition(&cols, &[value])).collect(),
    };
    let mut altered = partition(&cols, &["1"]);
    altered.parameters.clear();
    let set = |expected: Option<&str>, value: &str| Change::SetDatabaseParameter {
        database: DatabaseName::new("e"),
        key: "repl.last.id".to_owned(),
        expected: expected.map(str::to_owned),
        value: Some(value.to_owned()),
    };
    let catalog = Catalog {
        name: "lake".to_owned(),
        description: None,
        location: "s3://lake".to_owned(),
        create_time: None,
        unknown: UnknownFields::default(),
    };
    let role = Role { name: "crew".to_owned(), create_time: 1, owner: None };
    vec![
        (Change::PutCatalog(catalog), &[]),
        (Change::DropCatalog("lake".to_owned()), &[]),
        (Change::PutRole(role), &[]),
        (Change::DropRole("crew".to_owned()), &[]),
        (Change::PutDatabase(database("e")), &["CREATE_DATABASE"]),
        (Change::PutDatabase(Database { owner: None, ..database("e") }), &["ALTER_DATABASE"]),
        (set(None, "1"), &["ALTER_DATABASE"]),
        (set(Some("1"), "2"), &["ALTER_DATABASE"]),
        (Change::PutTable(Box::new(table("t", &cols, &["p"]))), &["CREATE_TABLE"]),
        (Change::PutTable(Box::new(Table { retention: 9, ..table("t", &cols, &["p"]) })), &["ALTER_TABLE"]),
        (put(&["1", "2"]), &["ADD_PARTITION"]),
        (put(&["2", "é/ "]), &["ADD_PARTITION"]),
        (Change::PutPartitions { table: name(), partitions: vec![altered] }, &["ALTER_PARTITION"]),
        (key(&["a"]), &["ADD_PRIMARYKEY"]),
        (key(&["b", "a"]), &["DROP_CONSTRAINT", "ADD_PRIMARYKEY"]),
        (Change::PutTableStatistics { table: name(), statistics: vec![statistics(1)] }, &["UPDATE_TBL_COL_STAT_EVENT"]),
        (Change::PutTableStatistics { table: name(), statistics: vec![statistics(2)] }, &["UPDATE_TBL_COL_STAT_EVENT"]),
        (
            Change::PutPartitionStatistics { table: name(), statistics: vec![(part("1"), vec![statistics(1)])] },
            &["UPDATE_PART_COL_STAT_EVENT"],
        ),
        (
            Change::DropPartitionStatistics { table: name(), partition: part("1"), column: None },
            &["DELETE_PART_COL_STAT_EVENT"],
        ),
        (Change::DropTableStatistics { table: name(), column: Some("a".to_owned()) }, &["DELETE_TBL_COL_STAT_EVENT"]),
        (Change::DropConstraint { table: name(), name: "k".to_owned() }, &["DROP_CONSTRAINT"]),
        (Change::RenamePartition { table: name(), from: part("2"), to: vec!["3".to_owned()] }, &["ALTER_PARTITION"]),
        (Change::DropPartitions { table: name(), names: vec![part("1"), part("3")] }, &["DROP_PARTITION"]),
        (function("org.F"), &["CREATE_FUNCTION"]),
        (function("org.G"), &["DROP_FUNCTION", "CREATE_FUNCTION"]),
        (Change::DropFunction { database: DatabaseName::new("d"), name: "f".to_owned() }, &["DROP_FUNCTION"]),
        (Change::RenameTable { from: name(), to: TableName::new("e", "u") }, &["ALTER_TABLE"]),
        (Change::DropTable(TableName::new("e", "u")), &["DROP_TABLE"]),
        (Change::DropDatabase(DatabaseName::new("e")), &["DROP_DATABASE"]),
    ]
}

#[tokio::test]
async fn rule_33_every_change_is_logged_once_and_its_repetition_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = logging(folder.path()).await;
    for (change, types) in changes() {
        let there = metastore.snapshot().await.unwrap().partition_names(&name()).await.unwrap();
        let (logged, mut touched) = events(&metastore, std::slice::from_ref(&change)).await;
        assert_eq!(logged, types, "{change:?}");
        let mut expected = about(&change);
        // Of partitions those that were there as they are now are no event.
        if types == ["ADD_PARTITION"] {
            expected.partitions.iter_mut().for_each(|(_, names)| names.retain(|name| !there.contains(name)));
        }
        touched.partitions.iter_mut().for_each(|(_, names)| names.sort());
        expected.partitions.iter_mut().for_each(|(_, names)| names.sort());
        assert_eq!(touched, expected, "{change:?}");
        let (again, _) = events(&metastore, std::slice::from_ref(&change)).await;
        assert!(again.is_empty(), "{change:?}: {again:?}");
    }
}

#[tokio::test]
async fn rule_33_a_batch_that_fails_leaves_no_event_and_gives_its_ids_back() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = logging(folder.path()).await;
    let cols = columns(&["a"]);
    let batch = [
        Change::PutTable(Box::new(table("t", &cols, &["p"]))),
        Change::PutPartitions { table: name(), partitions: vec![partition(&cols, &["1"])] },
        Change::PutPartitions { table: TableName::new("d", "missing"), partitions: vec![] },
    ];
    assert!(metastore.apply(&batch).await.is_err());
    assert_eq!(log(&metastore).await, []);
    assert_eq!(read_table(&metastore, "t").await, None);
    let (types, _) = events(&metastore, &batch[..2]).await;
    assert_eq!(types, ["CREATE_TABLE", "ADD_PARTITION"]);
}

#[tokio::test]
async fn rule_33_nothing_is_logged_unless_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    metastore.apply(&[Change::PutTable(Box::new(table("t", &columns(&["a"]), &[])))]).await.unwrap();
    assert_eq!(log(&metastore).await, []);
}
