//! What stands against a change, what is damaged, and what was begun and not finished.

use super::*;
use crate::metastore::Damaged;
use crate::object::Object;

async fn damage(metastore: &SqlMetastore, sql: &str) {
    let mut connection = metastore.writing().await.unwrap();
    connection.command("PRAGMA foreign_keys = OFF").await.unwrap();
    connection.command(sql).await.unwrap();
}

fn is_conflict(error: &Error, why: &str) -> bool {
    matches!(error, Error::Conflict { .. }) && error.to_string().contains(why)
}

#[tokio::test]
async fn a_batch_is_done_or_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let before = rows(&metastore).await;
    let cols = columns(&["a"]);
    let batch = [
        Change::PutTable(Box::new(table("t", &cols, &["p"]))),
        Change::PutPartitions { table: TableName::new("d", "t"), partitions: vec![partition(&cols, &["1"])] },
        Change::PutPartitions { table: TableName::new("d", "missing"), partitions: vec![] },
    ];
    let error = metastore.apply(&batch).await.unwrap_err();
    assert!(is_conflict(&error, "the table d.missing is not there"), "{error}");
    assert_eq!(rows(&metastore).await, before);
    metastore.apply(&batch[..2]).await.unwrap();
    assert_eq!(read_partitions(&metastore, "t").await.len(), 1);
}

#[tokio::test]
async fn rule_32_a_transaction_that_is_open_for_long_takes_no_further_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut metastore = open(folder.path()).await;
    let cols = columns(&["a"]);
    let part = |name: &str| {
        let table = table(name, &cols, &["p"]);
        let partitions = vec![partition(&cols, &["1"])];
        let partitions = Change::PutPartitions { table: table.name.clone(), partitions };
        vec![Change::PutTable(Box::new(table)), partitions]
    };
    let parts: Vec<Vec<Change>> = ["t", "u", "v"].map(part).into();
    let slices: Vec<&[Change]> = parts.iter().map(Vec::as_slice).collect();
    // Each look at the clock is so much later than the one before: one when it begins, one after each part.
    for (step, written) in [(BATCH_TIME, 1), (BATCH_TIME / 2, 2), (BATCH_TIME / 10, 3)] {
        let looks = std::sync::atomic::AtomicU32::new(0);
        metastore.clock = Arc::new(move || step * looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        assert_eq!(metastore.apply_some(&slices).await.unwrap(), written, "{step:?}");
        for (at, name) in ["t", "u", "v"].iter().enumerate() {
            let there = read_table(&metastore, name).await.is_some();
            assert_eq!(there, at < written, "{name} with {step:?}");
            if there {
                assert_eq!(read_partitions(&metastore, name).await.len(), 1, "{name}");
                metastore.apply(&[Change::DropTable(TableName::new("d", name))]).await.unwrap();
            }
        }
    }
    // One part is never cut, however long it takes, and what is refused leaves nothing.
    metastore.clock = {
        let looks = std::sync::atomic::AtomicU32::new(0);
        Arc::new(move || BATCH_TIME * looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    };
    metastore.apply(&parts.concat()).await.unwrap();
    assert!(read_table(&metastore, "v").await.is_some());
    let missing = [Change::PutPartitions { table: TableName::new("d", "missing"), partitions: vec![] }];
    metastore.clock = Arc::new(|| Duration::ZERO);
    metastore.apply_some(&[&part("w"), &missing]).await.unwrap_err();
    assert!(read_table(&metastore, "w").await.is_none());
}

#[tokio::test]
async fn rule_15_a_parameter_is_set_by_compare_and_set() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let set = |expected: Option<&str>, value: Option<&str>| Change::SetDatabaseParameter {
        database: DatabaseName::new("d"),
        key: "repl.last.id".to_owned(),
        expected: expected.map(str::to_owned),
        value: value.map(str::to_owned),
    };
    metastore.apply(&[set(None, Some("1")), set(Some("1"), Some("2"))]).await.unwrap();
    // Again is no conflict: it is so already.
    metastore.apply(&[set(Some("1"), Some("2"))]).await.unwrap();
    let error = metastore.apply(&[set(Some("1"), Some("3"))]).await.unwrap_err();
    assert!(is_conflict(&error, "it is `2`, not `1`"), "{error}");
    assert!(is_conflict(&metastore.apply(&[set(None, Some("3"))]).await.unwrap_err(), "not absent"));
    metastore.apply(&[set(Some("2"), None), set(Some("2"), None)]).await.unwrap();
    let snapshot = metastore.snapshot().await.unwrap();
    assert_eq!(snapshot.databases().await.unwrap(), [database("d")]);
}

#[tokio::test]
async fn renames_are_done_once_and_do_not_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a"]);
    let (from, to) = (TableName::new("d", "t"), TableName::new("e", "u"));
    let rename = Change::RenameTable { from: from.clone(), to: to.clone() };
    let part = |from: &str, to: &str| Change::RenamePartition {
        table: TableName::new("e", "u"),
        from: PartitionName(format!("p={from}")),
        to: vec![to.to_owned()],
    };
    metastore
        .apply(&[
            Change::PutDatabase(database("e")),
            Change::PutTable(Box::new(table("t", &cols, &["p"]))),
            Change::PutPartitions {
                table: from.clone(),
                partitions: vec![partition(&cols, &["1"]), partition(&cols, &["2"])],
            },
            rename.clone(),
            rename.clone(),
            part("1", "x y"),
            part("1", "x y"),
        ])
        .await
        .unwrap();
    assert!(is_conflict(&metastore.apply(&[part("x y", "2")]).await.unwrap_err(), "p=2 is there already"));
    assert!(is_conflict(&metastore.apply(&[part("9", "8")]).await.unwrap_err(), "it is not there"));
    let snapshot = metastore.snapshot().await.unwrap();
    let names = snapshot.partition_names(&to).await.unwrap();
    assert_eq!(names, [PartitionName("p=2".to_owned()), PartitionName("p=x y".to_owned())]);
    assert_eq!(snapshot.table_names(&DatabaseName::new("d")).await.unwrap(), Vec::<String>::new());
    drop(snapshot);
    metastore.apply(&[Change::PutTable(Box::new(table("t", &cols, &["p"])))]).await.unwrap();
    assert!(is_conflict(&metastore.apply(&[rename]).await.unwrap_err(), "e.u is there already"));
    assert!(is_conflict(&metastore.apply(&[Change::DropDatabase(to.database())]).await.unwrap_err(), "it has tables"));
}

#[tokio::test]
async fn dangling_rows_are_reported_with_ids_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a"]);
    let mut changes: Vec<Change> =
        ["t1", "t2", "t3", "t4"].iter().map(|name| Change::PutTable(Box::new(table(name, &cols, &["p"])))).collect();
    changes.push(Change::PutPartitions {
        table: TableName::new("d", "t1"),
        partitions: ["1", "2", "3"].iter().map(|value| partition(&cols, &[value])).collect(),
    });
    metastore.apply(&changes).await.unwrap();
    let id = "(SELECT \"SD_ID\" FROM \"TBLS\" WHERE \"TBL_NAME\" =";
    damage(&metastore, &format!("UPDATE \"SDS\" SET \"CD_ID\" = 999 WHERE \"SD_ID\" = {id} 't2')")).await;
    damage(&metastore, &format!("UPDATE \"SDS\" SET \"SERDE_ID\" = 998 WHERE \"SD_ID\" = {id} 't3')")).await;
    damage(&metastore, "UPDATE \"TBLS\" SET \"SD_ID\" = NULL WHERE \"TBL_NAME\" = 't4'").await;
    damage(&metastore, "UPDATE \"PARTITIONS\" SET \"SD_ID\" = 997 WHERE \"PART_NAME\" = 'p=2'").await;
    let sql = "DELETE FROM \"PARTITION_KEY_VALS\" WHERE \"PART_KEY_VAL\" = '3'";
    damage(&metastore, sql).await;
    let snapshot = metastore.snapshot().await.unwrap();
    let database = DatabaseName::new("d");
    let names = snapshot.table_names(&database).await.unwrap();
    let batch = snapshot.tables(&database, &names).await.unwrap();
    assert_eq!(batch.found.len(), 1);
    let said: Vec<String> = batch.damaged.iter().map(|each| format!("{}: {}", each.object, each.why)).collect();
    assert!(
        said[0].starts_with("table d.t2: SDS ") && said[0].ends_with("names CDS 999, which is not there"),
        "{said:?}"
    );
    assert!(said[1].ends_with("names SERDES 998, which is not there"), "{said:?}");
    assert!(said[2].starts_with("table d.t4: TBLS ") && said[2].ends_with("names no SDS"), "{said:?}");
    let names = snapshot.partition_names(&batch.found[0].name).await.unwrap();
    let batch = snapshot.partitions(&batch.found[0], &names).await.unwrap();
    assert_eq!(batch.found, [partition(&cols, &["1"])]);
    assert!(batch.damaged[0].why.ends_with("names SDS 997, which is not there"), "{:?}", batch.damaged);
    assert!(batch.damaged[1].why.ends_with("has 0 values for 1 partition keys"), "{:?}", batch.damaged);
    drop(snapshot);
    // Putting and dropping works on what is damaged, too.
    let mend: Vec<Change> = changes[..4].to_vec();
    metastore.apply(&mend).await.unwrap();
    assert_eq!(read_table(&metastore, "t2").await, Some(table("t2", &cols, &["p"])));
    metastore.apply(&["t1", "t2", "t3", "t4"].map(|name| Change::DropTable(TableName::new("d", name)))).await.unwrap();
}

#[tokio::test]
async fn damaged_functions_and_constraints_are_reported_and_a_walk_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a", "b"]);
    let database = DatabaseName::new("d");
    let function = |name: &str| Function {
        database: database.clone(),
        name: name.to_owned(),
        class_name: None,
        owner: None,
        create_time: 0,
        kind: FunctionKind::Java,
        resources: vec![Resource { kind: ResourceKind::Jar, uri: "file:/f.jar".to_owned() }],
        unknown: UnknownFields::default(),
    };
    let constraint = |name: &str, kind: ConstraintKind| Constraint {
        table: database.table("t"),
        name: name.to_owned(),
        kind,
        enable: true,
        validate: false,
        rely: false,
    };
    let check = |column: Option<&str>| ConstraintKind::Check {
        column: column.map(str::to_owned),
        expression: "a < b".to_owned(),
    };
    let foreign = ConstraintKind::ForeignKey {
        parent: database.table("parent"),
        parent_key: None,
        columns: vec![ForeignColumn { column: "a".to_owned(), parent_column: "a".to_owned() }],
        update_rule: 0,
        delete_rule: 0,
    };
    let whole = constraint("of_no_column", check(None));
    let mut changes: Vec<Change> =
        ["t", "parent"].iter().map(|name| Change::PutTable(Box::new(table(name, &cols, &[])))).collect();
    changes.extend(["f1", "f2", "f3"].map(|name| Change::PutFunction(function(name))));
    changes.extend([
        Change::PutConstraint(whole.clone()),
        Change::PutConstraint(constraint("of_b", check(Some("b")))),
        Change::PutConstraint(constraint("refers", foreign)),
    ]);
    metastore.apply(&changes).await.unwrap();
    damage(&metastore, "UPDATE \"FUNCS\" SET \"FUNC_TYPE\" = 7 WHERE \"FUNC_NAME\" = 'f1'").await;
    let id = "(SELECT \"FUNC_ID\" FROM \"FUNCS\" WHERE \"FUNC_NAME\" = 'f2')";
    damage(&metastore, &format!("UPDATE \"FUNC_RU\" SET \"RESOURCE_TYPE\" = 9 WHERE \"FUNC_ID\" = {id}")).await;
    let sql = "UPDATE \"KEY_CONSTRAINTS\" SET \"PARENT_TBL_ID\" = 999 WHERE \"CONSTRAINT_NAME\" = 'refers'";
    damage(&metastore, sql).await;
    let sql = "UPDATE \"KEY_CONSTRAINTS\" SET \"PARENT_INTEGER_IDX\" = 77 WHERE \"CONSTRAINT_NAME\" = 'of_b'";
    damage(&metastore, sql).await;
    let snapshot = metastore.snapshot().await.unwrap();
    let (mut found, mut said) = (Vec::new(), Vec::new());
    crate::walk::walk::<Error>(snapshot.as_ref(), &mut |step| {
        match step {
            Ok(Object::Function(function)) => found.push(function.name),
            Ok(Object::Constraint(constraint)) => found.push(constraint.name),
            Ok(_) => (),
            Err(Damaged { object, why, .. }) => said.push(format!("{object}: {why}")),
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(found, ["f3", "of_no_column"]);
    for (said, (starts, ends)) in said.iter().zip([
        ("function d.f1: FUNCS ", " is of type 7, which Hive has not"),
        ("function d.f2: a resource of FUNCS ", " is of type 9, which Hive has not"),
        ("constraint of_b on d.t: KEY_CONSTRAINTS names column 77 of CDS ", ", which is not there"),
        ("constraint refers on d.t: KEY_CONSTRAINTS names TBLS 999, ", "which is not there or in no database"),
    ]) {
        assert!(said.starts_with(starts) && said.ends_with(ends), "{said}");
    }
    assert_eq!(said.len(), 4, "{said:?}");
}

#[tokio::test]
async fn a_snapshot_sees_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let before = metastore.snapshot().await.unwrap();
    metastore.apply(&[Change::PutTable(Box::new(table("t", &columns(&["a"]), &[])))]).await.unwrap();
    let database = DatabaseName::new("d");
    assert_eq!(before.table_names(&database).await.unwrap(), Vec::<String>::new());
    assert_eq!(metastore.snapshot().await.unwrap().table_names(&database).await.unwrap(), ["t"]);
}

#[tokio::test]
async fn a_file_that_is_not_ours_or_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let limits = SqlLimits::default();
    let metastore = open(folder.path()).await;
    let url = SqlUrl::file(&folder.path().join("replica.db"));
    assert!(matches!(init(&url, limits).await, Err(Error::Conflict { .. })));
    damage(&metastore, "UPDATE \"METASYNC_VERSION\" SET \"VERSION\" = 2").await;
    let error = SqlMetastore::open(url, limits).await.err().unwrap();
    assert!(matches!(&error, Error::UnknownVersion { found, .. } if found == "schema 2 of ours"), "{error}");
    let other = folder.path().join("other.db");
    std::fs::write(&other, "").unwrap();
    let error = SqlMetastore::open(SqlUrl::file(&other), limits).await.err().unwrap();
    assert!(matches!(error, Error::NotAMetastore { .. }), "{error}");
    std::fs::write(&other, "this is no database, and long enough to be read as one").unwrap();
    let error = SqlMetastore::open(SqlUrl::file(&other), limits).await.err().unwrap();
    assert!(matches!(error, Error::NotAMetastore { .. }), "{error}");
    let missing = SqlUrl::file(&folder.path().join("missing.db"));
    let error = SqlMetastore::open(missing, limits).await.err().unwrap();
    assert!(matches!(error, Error::NotAMetastore { .. }), "{error}");
    assert!(!folder.path().join("missing.db").exists());
}

#[tokio::test]
async fn rule_32_ids_are_reserved_beyond_all_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a"]);
    metastore.apply(&[Change::PutTable(Box::new(table("t", &cols, &[])))]).await.unwrap();
    damage(&metastore, "UPDATE \"TBLS\" SET \"TBL_ID\" = 500").await;
    damage(&metastore, "UPDATE \"TABLE_PARAMS\" SET \"TBL_ID\" = 500").await;
    damage(&metastore, "DELETE FROM \"SEQUENCE_TABLE\" WHERE \"SEQUENCE_NAME\" LIKE '%MStorageDescriptor'").await;
    metastore.apply(&[Change::PutTable(Box::new(table("u", &cols, &[])))]).await.unwrap();
    let mut connection = metastore.writing().await.unwrap();
    for (class, sql) in [
        ("MTable", "SELECT MAX(\"TBL_ID\") FROM \"TBLS\""),
        ("MStorageDescriptor", "SELECT MAX(\"SD_ID\") FROM \"SDS\""),
    ] {
        let largest = connection.query(sql, &[]).await.unwrap().remove(0).id(0).unwrap();
        let sql = "SELECT \"NEXT_VAL\" FROM \"SEQUENCE_TABLE\" WHERE \"SEQUENCE_NAME\" = ?";
        let name = format!("org.apache.hadoop.hive.metastore.model.{class}");
        let next = connection.query(sql, &[(&name).into()]).await.unwrap().remove(0).id(0).unwrap();
        assert!(next > largest, "{class}: {next} {largest}");
    }
    assert!(read_table(&metastore, "u").await.is_some());
}

#[tokio::test]
async fn the_notification_log_is_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let snapshot = metastore.snapshot().await.unwrap();
    assert_eq!(snapshot.current_event_id().await.unwrap(), 0);
    assert_eq!(snapshot.events_after(0, 10).await.unwrap(), []);
    drop(snapshot);
    let sql = "INSERT INTO \"NOTIFICATION_LOG\" VALUES (9, 1, 5, 'A', NULL, NULL, NULL, 'm', NULL), \
               (2, 3, 6, 'C', 'hive', 'd', 't', '{}', 'json-0.2'), (1, 2, 5, 'B', 'hive', 'd', NULL, 'm', NULL)";
    damage(&metastore, sql).await;
    damage(&metastore, "UPDATE \"NOTIFICATION_SEQUENCE\" SET \"NEXT_EVENT_ID\" = 4").await;
    let snapshot = metastore.snapshot().await.unwrap();
    assert_eq!(snapshot.current_event_id().await.unwrap(), 3);
    let ids = |events: Vec<crate::metastore::EventRow>| events.iter().map(|event| event.event_id).collect::<Vec<_>>();
    assert_eq!(ids(snapshot.events_after(0, 2).await.unwrap()), [1, 2]);
    let last = snapshot.events_after(2, 10).await.unwrap();
    assert_eq!(last[0].message_format.as_deref(), Some("json-0.2"));
    assert_eq!(ids(last), [3]);
}
