//! A model that has everything, there and back.

use super::*;
use crate::metastore::{CHUNK, GrantScope};

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn unknown(byte: u8) -> UnknownFields {
    UnknownFields(vec![0x0b, 0x03, 0x84, byte])
}

fn full_columns() -> Arc<Vec<Column>> {
    Arc::new(vec![
        Column { comment: text(""), ..column("a", "int") },
        Column {
            comment: text("ein Ärger 😀"), unknown: unknown(1), ..column("b", "struct<x:int,y:array<string>>")
        },
        column("c", "decimal(38,10)"),
    ])
}

fn full_storage(columns: &Arc<Vec<Column>>) -> StorageDescriptor {
    StorageDescriptor {
        compressed: true,
        bucket_count: 4,
        bucket_columns: vec!["a".to_owned(), "c".to_owned()],
        sort_columns: vec![
            SortColumn { name: "c".to_owned(), order: SortOrder::Descending },
            SortColumn { name: "a".to_owned(), order: SortOrder::Ascending },
        ],
        parameters: parameters(&[("k", ""), ("\u{e9}", "v\n")]),
        skew: Skew {
            columns: vec!["a".to_owned()],
            values: vec![vec!["2".to_owned()], vec!["1".to_owned()], vec![String::new()]],
            locations: vec![
                (vec!["1".to_owned()], "file:/w/d/t/a=1".to_owned()),
                (vec!["2".to_owned()], "file:/w/d/t/a=2".to_owned()),
            ],
        },
        stored_as_sub_directories: true,
        unknown: unknown(2),
        serde: SerDe {
            name: text("s"),
            library: text("org.serde"),
            parameters: parameters(&[("path", "file:/x"), ("a", "")]),
            description: text("d"),
            serializer: text("S"),
            deserializer: text("D"),
            kind: Some(2),
            unknown: unknown(3),
        },
        ..storage(columns, "file:/w/d/t")
    }
}

fn full_table() -> Table {
    Table {
        owner: Some(Principal { name: "crew".to_owned(), kind: PrincipalKind::Role }),
        last_access_time: 7,
        retention: 3,
        storage: full_storage(&full_columns()),
        partition_keys: vec![
            Column { comment: text("day"), unknown: unknown(4), ..column("dt", "date") },
            column("c", "string"),
        ],
        parameters: parameters(&[("comment", "x"), ("big", &"y".repeat(1 << 20))]),
        view_original_text: text("select 1"),
        view_expanded_text: text("select 1 as `x`"),
        rewrite_enabled: true,
        write_id: 42,
        unknown: unknown(5),
        ..table("t", &full_columns(), &[])
    }
}

#[tokio::test]
async fn a_table_with_everything_comes_back_as_it_was_put() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let table = full_table();
    metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await.unwrap();
    assert_eq!(read_table(&metastore, "t").await, Some(table.clone()));
    // Once more is nothing new, and another one takes its place.
    let before = rows(&metastore).await;
    metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await.unwrap();
    assert_eq!(rows(&metastore).await, before);
    let other = Table {
        storage: storage(&columns(&["z"]), "file:/other"),
        parameters: Parameters::new(),
        owner: None,
        unknown: UnknownFields::default(),
        ..table
    };
    metastore.apply(&[Change::PutTable(Box::new(other.clone()))]).await.unwrap();
    assert_eq!(read_table(&metastore, "t").await, Some(other));
}

#[tokio::test]
async fn databases_and_catalogs_with_everything() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let catalog = Catalog {
        name: "lake".to_owned(),
        description: text("far"),
        location: "s3://lake".to_owned(),
        create_time: Some(9),
        unknown: unknown(6),
    };
    let full = Database {
        name: DatabaseName::in_catalog("lake", "r"),
        description: text(""),
        managed_location: text("s3://managed"),
        parameters: parameters(&[("repl.last.id", "5"), ("e", "")]),
        owner: Some(Principal { name: "ops".to_owned(), kind: PrincipalKind::Group }),
        create_time: Some(77),
        kind: DatabaseKind::Remote { connector: text("pg"), database: None },
        unknown: unknown(7),
        ..database("r")
    };
    let changes = [Change::PutCatalog(catalog.clone()), Change::PutDatabase(full.clone())];
    metastore.apply(&changes).await.unwrap();
    metastore.apply(&changes).await.unwrap();
    let snapshot = metastore.snapshot().await.unwrap();
    assert_eq!(snapshot.databases().await.unwrap(), [database("d"), full.clone()]);
    assert_eq!(snapshot.catalogs().await.unwrap().pop(), Some(catalog));
    assert!(metastore.apply(&[Change::DropCatalog("lake".to_owned())]).await.is_err());
    metastore.apply(&[Change::DropDatabase(full.name), Change::DropCatalog("lake".to_owned())]).await.unwrap();
    assert_eq!(metastore.snapshot().await.unwrap().databases().await.unwrap(), [database("d")]);
}

#[tokio::test]
async fn partitions_share_the_columns_that_they_shared() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let (now, before) = (columns(&["a", "b"]), columns(&["a"]));
    let name = TableName::new("d", "t");
    let partitions: Vec<Partition> = [("1", &now), ("2", &before), ("3", &before), ("a b/c=é%", &now), ("", &now)]
        .iter()
        .map(|(value, columns)| partition(columns, &[value]))
        .collect();
    let odd = Partition {
        storage: full_storage(&full_columns()),
        write_id: 9,
        last_access_time: 8,
        unknown: unknown(9),
        ..partition(&now, &["odd"])
    };
    let mut all = partitions.clone();
    all.push(odd);
    let changes = [
        Change::PutTable(Box::new(table("t", &now, &["p"]))),
        Change::PutPartitions { table: name.clone(), partitions: all.clone() },
    ];
    metastore.apply(&changes).await.unwrap();
    let found = read_partitions(&metastore, "t").await;
    let by_value = |value: &str| found.iter().find(|partition| partition.values == [value]).unwrap();
    for partition in &all {
        assert_eq!(by_value(&partition.values[0]), partition);
    }
    assert!(Arc::ptr_eq(&by_value("2").storage.columns, &by_value("3").storage.columns));
    assert!(Arc::ptr_eq(&by_value("1").storage.columns, &by_value("").storage.columns));
    assert_eq!(rows(&metastore).await.get("CDS"), Some(&3));
    // Once more is nothing new, in another call too; one more with old columns finds their list.
    let counts = rows(&metastore).await;
    metastore.apply(&changes).await.unwrap();
    assert_eq!(rows(&metastore).await, counts);
    let more = vec![partition(&columns(&["a"]), &["4"])];
    metastore.apply(&[Change::PutPartitions { table: name, partitions: more }]).await.unwrap();
    assert_eq!(rows(&metastore).await.get("CDS"), Some(&3));
}

#[tokio::test]
async fn an_altered_table_keeps_its_partitions_and_constraints() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let (old, new) = (columns(&["a", "b", "gone"]), columns(&["x", "b", "a"]));
    let name = TableName::new("d", "t");
    let constraint = |name: &str, kind| Constraint {
        table: TableName::new("d", "t"),
        name: name.to_owned(),
        kind,
        enable: false,
        validate: true,
        rely: true,
    };
    let key = constraint("pk", ConstraintKind::PrimaryKey { columns: vec!["b".to_owned(), "a".to_owned()] });
    let lost = constraint("nn", ConstraintKind::NotNull { column: "gone".to_owned() });
    metastore
        .apply(&[
            Change::PutTable(Box::new(table("t", &old, &["p"]))),
            Change::PutPartitions { table: name.clone(), partitions: vec![partition(&old, &["1"])] },
            Change::PutConstraint(key.clone()),
            Change::PutConstraint(lost),
            Change::PutTable(Box::new(table("t", &new, &["p"]))),
        ])
        .await
        .unwrap();
    assert_eq!(read_partitions(&metastore, "t").await, [partition(&old, &["1"])]);
    let snapshot = metastore.snapshot().await.unwrap();
    let found = snapshot.constraints(&DatabaseName::new("d"), &["t".to_owned()]).await.unwrap().found;
    assert_eq!(found, [key]);
    let other_keys = Change::PutTable(Box::new(table("t", &new, &["q"])));
    let error = metastore.apply(&[other_keys]).await.unwrap_err();
    assert!(error.to_string().contains("partition keys differ"), "{error}");
}

#[tokio::test]
async fn constraints_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a", "b"]);
    let make = |table: &str, name: &str, kind, enable| Constraint {
        table: TableName::new("d", table),
        name: name.to_owned(),
        kind,
        enable,
        validate: false,
        rely: !enable,
    };
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let parent = make("p", "pk", ConstraintKind::PrimaryKey { columns: strings(&["b", "a"]) }, false);
    let foreign = ConstraintKind::ForeignKey {
        parent: TableName::new("d", "p"),
        parent_key: text("pk"),
        columns: vec![
            ForeignColumn { column: "a".to_owned(), parent_column: "b".to_owned() },
            ForeignColumn { column: "k".to_owned(), parent_column: "a".to_owned() },
        ],
        update_rule: 1,
        delete_rule: 2,
    };
    let mut of_child = vec![
        make("t", "c1", ConstraintKind::Check { column: text("a"), expression: "a > 0".to_owned() }, true),
        make("t", "c2", ConstraintKind::Check { column: None, expression: "a > b".to_owned() }, true),
        make("t", "d1", ConstraintKind::Default { column: "b".to_owned(), value: "7".to_owned() }, true),
        make("t", "f1", foreign, false),
        make("t", "n1", ConstraintKind::NotNull { column: "k".to_owned() }, true),
        make("t", "u1", ConstraintKind::Unique { columns: strings(&["b", "a"]) }, false),
    ];
    of_child.sort();
    let mut changes = vec![
        Change::PutTable(Box::new(table("p", &cols, &[]))),
        Change::PutTable(Box::new(table("t", &cols, &["k"]))),
        Change::PutConstraint(parent.clone()),
    ];
    changes.extend(of_child.iter().cloned().map(Change::PutConstraint));
    metastore.apply(&changes).await.unwrap();
    metastore.apply(&changes).await.unwrap();
    let read = || async {
        let snapshot = metastore.snapshot().await.unwrap();
        let both = ["p".to_owned(), "t".to_owned()];
        snapshot.constraints(&DatabaseName::new("d"), &both).await.unwrap().found
    };
    let mut all = of_child.clone();
    all.insert(0, parent);
    all.sort();
    assert_eq!(read().await, all);
    let table = TableName::new("d", "t");
    let change = Change::DropConstraint { table, name: "u1".to_owned() };
    metastore.apply(&[change.clone(), change]).await.unwrap();
    assert_eq!(read().await.len(), all.len() - 1);
    // A table takes the foreign keys that refer to it along.
    metastore.apply(&[Change::DropTable(TableName::new("d", "p"))]).await.unwrap();
    assert!(read().await.iter().all(|constraint| !matches!(constraint.kind, ConstraintKind::ForeignKey { .. })));
}

fn statistics() -> Vec<ColumnStatistics> {
    let of = |column: &str, type_name: &str, data| ColumnStatistics {
        column: column.to_owned(),
        type_name: type_name.to_owned(),
        engine: HIVE_ENGINE.to_owned(),
        last_analyzed: 100,
        nulls: 1,
        data,
        unknown: UnknownFields::default(),
    };
    let bits = || Some(vec![0, 255, 7]);
    let number = |unit| StatisticsData::Long {
        unit,
        low: Some(i64::MIN),
        high: Some(i64::MAX),
        distinct: 3,
        bit_vector: bits(),
        histogram: Some(vec![9]),
    };
    let decimal = |unscaled, scale| Some(Decimal { unscaled, scale });
    vec![
        of("b", "boolean", StatisticsData::Boolean { trues: 1, falses: 2, bit_vector: None }),
        of("d", "date", number(LongUnit::Days)),
        of(
            "f",
            "double",
            StatisticsData::Double {
                low: Some(-0.1),
                high: Some(f64::INFINITY),
                distinct: 2,
                bit_vector: bits(),
                histogram: None,
            },
        ),
        of("i", "bigint", number(LongUnit::Number)),
        of(
            "m",
            "decimal(38,18)",
            StatisticsData::Decimal {
                low: decimal(-99_999_999_999_999_999_999_999_999_999_999_999_999, 18),
                high: decimal(5, 3),
                distinct: 2,
                bit_vector: None,
                histogram: None,
            },
        ),
        of(
            "s",
            "varchar(10)",
            StatisticsData::String { max_length: 10, avg_length: 3.333_333_333_333, distinct: 4, bit_vector: bits() },
        ),
        of("t", "timestamp", number(LongUnit::Seconds)),
        of("y", "binary", StatisticsData::Binary { max_length: 3, avg_length: 2.5, bit_vector: None }),
        ColumnStatistics {
            engine: "impala".to_owned(),
            unknown: unknown(8),
            ..of(
                "i",
                "bigint",
                StatisticsData::Long {
                    unit: LongUnit::Number,
                    low: None,
                    high: None,
                    distinct: 0,
                    bit_vector: None,
                    histogram: None,
                },
            )
        },
    ]
}

#[tokio::test]
async fn statistics_of_every_family() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["i"]);
    let name = TableName::new("d", "t");
    let part = PartitionName("p=1".to_owned());
    let changes = [
        Change::PutTable(Box::new(table("t", &cols, &["p"]))),
        Change::PutPartitions { table: name.clone(), partitions: vec![partition(&cols, &["1"])] },
        Change::PutTableStatistics { table: name.clone(), statistics: statistics() },
        Change::PutPartitionStatistics { table: name.clone(), statistics: vec![(part.clone(), statistics())] },
    ];
    metastore.apply(&changes).await.unwrap();
    metastore.apply(&changes[2..]).await.unwrap();
    let table = read_table(&metastore, "t").await.unwrap();
    let snapshot = metastore.snapshot().await.unwrap();
    let found = snapshot.table_statistics(&DatabaseName::new("d"), &["t".to_owned()]).await.unwrap();
    assert_eq!(found, statistics().into_iter().map(|each| ("t".to_owned(), each)).collect::<Vec<_>>());
    let found = snapshot.partition_statistics(&table, std::slice::from_ref(&part)).await.unwrap();
    assert_eq!(found, statistics().into_iter().map(|each| (part.clone(), each)).collect::<Vec<_>>());
    metastore
        .apply(&[
            Change::DropTableStatistics { table: name.clone(), column: Some("i".to_owned()) },
            Change::DropPartitionStatistics { table: name, partition: part.clone(), column: None },
        ])
        .await
        .unwrap();
    let snapshot = metastore.snapshot().await.unwrap();
    let left = snapshot.table_statistics(&DatabaseName::new("d"), &["t".to_owned()]).await.unwrap();
    assert_eq!(left.len(), statistics().len() - 2);
    assert_eq!(snapshot.partition_statistics(&table, &[part]).await.unwrap(), []);
}

#[tokio::test]
async fn functions_roles_and_privileges() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a"]);
    let (name, part) = (TableName::new("d", "t"), PartitionName("p=1".to_owned()));
    let ann = Principal { name: "ann".to_owned(), kind: PrincipalKind::User };
    let function = Function {
        database: DatabaseName::new("d"),
        name: "f".to_owned(),
        class_name: text("org.F"),
        owner: Some(ann.clone()),
        create_time: 5,
        kind: FunctionKind::Java,
        resources: vec![
            Resource { kind: ResourceKind::Archive, uri: "s3://b.zip".to_owned() },
            Resource { kind: ResourceKind::Jar, uri: "s3://a.jar".to_owned() },
            Resource { kind: ResourceKind::File, uri: "s3://c".to_owned() },
        ],
        unknown: unknown(1),
    };
    let role = Role { name: "crew".to_owned(), create_time: 3, owner: None };
    let membership = RoleGrant {
        role: "crew".to_owned(),
        principal: ann.clone(),
        grant_option: true,
        grantor: Some(Principal { name: "admin".to_owned(), kind: PrincipalKind::Role }),
        grant_time: 4,
    };
    let grant = |object| Grant {
        object,
        principal: Principal { name: "crew".to_owned(), kind: PrincipalKind::Role },
        privilege: "SELECT".to_owned(),
        grant_option: false,
        grantor: Some(ann.clone()),
        create_time: 6,
        authorizer: text("SQL"),
    };
    let (table_name, partition_name) = (name.clone(), part.clone());
    let grants = vec![
        grant(GrantObject::Global),
        grant(GrantObject::Database { database: DatabaseName::new("d") }),
        grant(GrantObject::Table { table: table_name.clone() }),
        Grant { grantor: None, authorizer: None, ..grant(GrantObject::Table { table: table_name.clone() }) },
        grant(GrantObject::Column { table: table_name.clone(), column: "a".to_owned() }),
        grant(GrantObject::Partition { table: table_name.clone(), partition: partition_name.clone() }),
        grant(GrantObject::PartitionColumn { table: table_name, partition: partition_name, column: "a".to_owned() }),
    ];
    let mut changes = vec![
        Change::PutTable(Box::new(table("t", &cols, &["p"]))),
        Change::PutPartitions { table: name.clone(), partitions: vec![partition(&cols, &["1"])] },
        Change::PutFunction(function.clone()),
        Change::PutRole(role.clone()),
        Change::PutRoleGrant(membership.clone()),
    ];
    changes.extend(grants.iter().cloned().map(Change::PutGrant));
    metastore.apply(&changes).await.unwrap();
    metastore.apply(&changes).await.unwrap();
    let table = read_table(&metastore, "t").await.unwrap();
    let read = || async {
        let snapshot = metastore.snapshot().await.unwrap();
        let mut found = Vec::new();
        let database = DatabaseName::new("d");
        for scope in [
            GrantScope::Global,
            GrantScope::Database(&database),
            GrantScope::Tables(&database, &["t".to_owned()]),
            GrantScope::Partitions(&table, std::slice::from_ref(&part)),
        ] {
            found.extend(snapshot.grants(scope).await.unwrap());
        }
        found.sort();
        (
            found,
            snapshot.functions(&database).await.unwrap().found,
            snapshot.roles().await.unwrap(),
            snapshot.role_grants().await.unwrap(),
        )
    };
    let mut sorted = grants.clone();
    sorted.sort();
    assert_eq!(read().await, (sorted, vec![function], vec![role], vec![membership.clone()]));
    let mut drops: Vec<Change> = grants.into_iter().map(Change::DropGrant).collect();
    drops.push(Change::DropRoleGrant(membership));
    drops.push(Change::DropRole("crew".to_owned()));
    drops.push(Change::DropFunction { database: DatabaseName::new("d"), name: "f".to_owned() });
    metastore.apply(&drops).await.unwrap();
    metastore.apply(&drops).await.unwrap();
    assert_eq!(read().await, (vec![], vec![], vec![], vec![]));
}

#[tokio::test]
async fn materialized_views_know_their_sources_which_cannot_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a"]);
    let source =
        |name: &str| MaterializationSource { table: TableName::new("d", name), inserted: 1, updated: 2, deleted: 3 };
    let view = Table {
        table_type: text("MATERIALIZED_VIEW"),
        creation_metadata: Some(CreationMetadata {
            sources: vec![source("s"), source("t")],
            valid_write_ids: text("5$x"),
            materialization_time: Some(12),
        }),
        ..table("v", &cols, &[])
    };
    metastore
        .apply(&[
            Change::PutTable(Box::new(table("s", &cols, &[]))),
            Change::PutTable(Box::new(table("t", &cols, &[]))),
            Change::PutTable(Box::new(view.clone())),
            Change::PutTable(Box::new(view.clone())),
        ])
        .await
        .unwrap();
    assert_eq!(read_table(&metastore, "v").await, Some(view.clone()));
    let error = metastore.apply(&[Change::DropTable(TableName::new("d", "s"))]).await.unwrap_err();
    assert!(error.to_string().contains("the materialized view d.v is made of it"), "{error}");
    let renamed = TableName::new("d", "w");
    metastore.apply(&[Change::RenameTable { from: view.name.clone(), to: renamed.clone() }]).await.unwrap();
    assert_eq!(read_table(&metastore, "w").await, Some(Table { name: renamed.clone(), ..view }));
    metastore
        .apply(&[renamed, TableName::new("d", "s"), TableName::new("d", "t")].map(Change::DropTable))
        .await
        .unwrap();
    assert_eq!(rows(&metastore).await.get("MV_CREATION_METADATA"), None);
}

#[tokio::test]
async fn what_is_dropped_leaves_no_orphans() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let empty = rows(&metastore).await;
    let full = full_table();
    let name = full.name.clone();
    let parts: Vec<Partition> = (0..CHUNK + 5)
        .map(|at| Partition {
            storage: full_storage(&columns(&["q"])),
            ..partition(&full_columns(), &["2026-01-01", &at.to_string()])
        })
        .collect();
    let names: Vec<PartitionName> =
        parts.iter().map(|part| PartitionName::of(["dt", "c"], &part.values).unwrap()).collect();
    let mut changes = vec![Change::PutTable(Box::new(full))];
    for chunk in parts.chunks(CHUNK) {
        changes.push(Change::PutPartitions { table: name.clone(), partitions: chunk.to_vec() });
    }
    changes.push(Change::PutTableStatistics { table: name.clone(), statistics: statistics() });
    changes.push(Change::PutPartitionStatistics {
        table: name.clone(),
        statistics: vec![(names[0].clone(), statistics()), (names[1].clone(), statistics())],
    });
    metastore.apply(&changes).await.unwrap();
    metastore.apply(&[Change::DropPartitions { table: name.clone(), names: names[..3].to_vec() }]).await.unwrap();
    assert_eq!(read_partitions(&metastore, "t").await.len(), CHUNK + 2);
    assert_eq!(rows(&metastore).await.get("PART_COL_STATS"), None);
    let drop = Change::DropTable(name);
    metastore.apply(&[drop.clone(), drop]).await.unwrap();
    assert_eq!(rows(&metastore).await, empty);
}
