//! Objects that use every part of the model, below database names that a test chooses.
//!
//! Everything is as a real Hive would have made it, odd names and values included, so that every adapter can be asked to
//! hold it; what a version cannot hold is for `held` to say.

use metasync::model::*;
use metasync::object::Object;
use std::sync::Arc;

const PARQUET_IN: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat";
const PARQUET_OUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat";
const PARQUET_SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";

/// Partition values that others got wrong: separators, escapes, blanks, quotes, the default partition.
pub const ODD_VALUES: [&str; 9] =
    ["2026-11-21", "a b", "a/b", "100%", "k=v", "tab\there", "quote'\"", "{x}[y]^", "__HIVE_DEFAULT_PARTITION__"];

/// Pairs as parameters.
pub fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A column with a comment.
pub fn column(name: &str, type_name: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        comment: Some(format!("the {name}")),
        unknown: UnknownFields::default(),
    }
}

/// A user.
pub fn user(name: &str) -> Principal {
    Principal { name: name.to_owned(), kind: PrincipalKind::User }
}

/// Parquet files at `location` with these columns.
pub fn parquet(location: &str, columns: Arc<Vec<Column>>) -> StorageDescriptor {
    StorageDescriptor {
        columns,
        location: Some(location.to_owned()),
        input_format: Some(PARQUET_IN.to_owned()),
        output_format: Some(PARQUET_OUT.to_owned()),
        bucket_count: -1,
        serde: SerDe {
            library: Some(PARQUET_SERDE.to_owned()),
            parameters: parameters(&[("serialization.format", "1")]),
            ..SerDe::default()
        },
        ..StorageDescriptor::default()
    }
}

/// An external Parquet table, `partition_keys` as names of string keys.
pub fn table(name: TableName, root: &str, partition_keys: &[&str]) -> Table {
    let columns = Arc::new(vec![column("id", "bigint"), column("price", "decimal(10,2)"), column("note", "string")]);
    let location = format!("{root}/{}.db/{}", name.database, name.table);
    Table {
        name,
        table_type: Some("EXTERNAL_TABLE".to_owned()),
        owner: Some(user("etl")),
        create_time: 1_700_000_000,
        last_access_time: 0,
        retention: 0,
        storage: parquet(&location, columns),
        partition_keys: partition_keys.iter().map(|key| column(key, "string")).collect(),
        parameters: parameters(&[("EXTERNAL", "TRUE"), ("parquet.compression", "ZSTD")]),
        view_original_text: None,
        view_expanded_text: None,
        rewrite_enabled: false,
        creation_metadata: None,
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

/// The partition of `table` with these values, its folder below the table's, columns shared with it.
pub fn partition(table: &Table, values: &[&str]) -> Partition {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    let name = PartitionName::of(table.partition_keys.iter().map(|key| key.name.as_str()), &values).unwrap();
    let mut storage = table.storage.clone();
    storage.location = table.storage.location.as_ref().map(|location| format!("{location}/{name}"));
    Partition {
        values,
        create_time: 1_700_000_001,
        last_access_time: 0,
        storage,
        parameters: parameters(&[("numRows", "7")]),
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

/// A partition of a table as an object.
pub fn partition_object(table: &Table, partition: Partition) -> Object {
    let keys = table.partition_keys.iter().map(|key| key.name.as_str());
    Object::Partition {
        table: table.name.clone(),
        partition_name: PartitionName::of(keys, &partition.values).unwrap(),
        partition: Box::new(partition),
    }
}

/// A database with its own location below `root`.
pub fn database(name: &DatabaseName, root: &str) -> Database {
    Database {
        name: name.clone(),
        description: Some("with 'quotes', \"more\" and a %".to_owned()),
        location: Some(format!("{root}/{}.db", name.database)),
        managed_location: None,
        parameters: parameters(&[("team", "sales"), ("k.with=odd", "v=1;2")]),
        owner: Some(Principal { name: "etl".to_owned(), kind: PrincipalKind::Role }),
        create_time: Some(1_700_000_000),
        kind: DatabaseKind::Native,
        unknown: UnknownFields::default(),
    }
}

/// A database by this name with everything in it, in an order in which it can be put. Names outside it (roles) begin with the
/// database's name.
pub fn everything(name: &str, root: &str) -> Vec<Object> {
    let db = DatabaseName::new(name);
    let mut objects = vec![
        Object::Role(Role { name: format!("{name}_readers"), create_time: 1, owner: Some("admin".to_owned()) }),
        Object::RoleGrant(RoleGrant {
            role: format!("{name}_readers"),
            principal: user("ann"),
            grant_option: true,
            grantor: Some(user("admin")),
            grant_time: 1_700_000_000,
        }),
        Object::Database(database(&db, root)),
        Object::Function(Function {
            database: db.clone(),
            name: "shout".to_owned(),
            class_name: Some("com.example.Shout".to_owned()),
            owner: Some(user("etl")),
            create_time: 1_700_000_000,
            kind: FunctionKind::Java,
            resources: vec![
                Resource { kind: ResourceKind::Jar, uri: format!("{root}/jars/shout.jar") },
                Resource { kind: ResourceKind::File, uri: format!("{root}/jars/words.txt") },
            ],
            unknown: UnknownFields::default(),
        }),
    ];
    let orders = table(db.table("orders"), root, &[]);
    let items = table(db.table("items"), root, &["day", "shop"]);
    for table in [&orders, &items, &shaped(&db, root), &view(&db)] {
        objects.push(Object::Table(Box::new(table.clone())));
    }
    objects.extend(ODD_VALUES.map(|value| partition_object(&items, partition(&items, &[value, "é"]))));
    objects.push(partition_object(&items, own_partition(&items)));
    objects.extend(constraints(&db));
    objects.extend(statistics(&orders, &items));
    objects.extend(grants(&db, &orders));
    objects
}

/// A table that is bucketed, sorted and skewed, with nested and long types, several SerDe parameters, and columns without
/// comments.
fn shaped(db: &DatabaseName, root: &str) -> Table {
    let mut shaped = table(db.table("shaped"), root, &["p"]);
    let nested = "struct<a:int,b:array<map<string,struct<c:decimal(38,10),d:timestamp>>>>";
    let mut plain = column("plain", "string");
    plain.comment = None;
    shaped.storage.columns = Arc::new(vec![plain, column("nested", nested), column("id", "int")]);
    shaped.storage.bucket_count = 4;
    shaped.storage.bucket_columns = vec!["id".to_owned(), "plain".to_owned()];
    shaped.storage.sort_columns = vec![
        SortColumn { name: "id".to_owned(), order: SortOrder::Descending },
        SortColumn { name: "plain".to_owned(), order: SortOrder::Ascending },
    ];
    let location = format!("{root}/{}.db/shaped/id=7/plain=x", db.database);
    shaped.storage.skew = Skew {
        columns: vec!["id".to_owned(), "plain".to_owned()],
        values: vec![vec!["7".to_owned(), "x".to_owned()], vec!["8".to_owned(), "y".to_owned()]],
        locations: vec![(vec!["7".to_owned(), "x".to_owned()], location)],
    };
    shaped.storage.stored_as_sub_directories = true;
    shaped.storage.compressed = true;
    shaped.storage.parameters = parameters(&[("sd", "1"), ("more", "\u{e9}")]);
    shaped.storage.serde.name = Some("shaped_serde".to_owned());
    shaped.storage.serde.parameters.insert("field.delim".to_owned(), "\u{1}".to_owned());
    shaped.parameters.insert("comment".to_owned(), "line one\nline two".to_owned());
    shaped.retention = 30;
    shaped
}

/// A view.
fn view(db: &DatabaseName) -> Table {
    let name = db.table("cheap_orders");
    Table {
        table_type: Some("VIRTUAL_VIEW".to_owned()),
        storage: StorageDescriptor {
            columns: Arc::new(vec![column("id", "bigint")]),
            bucket_count: -1,
            input_format: Some("org.apache.hadoop.mapred.SequenceFileInputFormat".to_owned()),
            output_format: Some("org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat".to_owned()),
            ..StorageDescriptor::default()
        },
        parameters: Parameters::new(),
        view_original_text: Some("select id from orders where price < 10".to_owned()),
        view_expanded_text: Some(format!("select `orders`.`id` from `{}`.`orders`", db.database)),
        ..table(name, "", &[])
    }
}

/// A partition that shares nothing with its table: other columns, another format, a folder elsewhere.
fn own_partition(items: &Table) -> Partition {
    let mut own = partition(items, &["1999-12-31", "old"]);
    own.storage.columns = Arc::new(vec![column("id", "int"), column("legacy", "string")]);
    own.storage.location = items.storage.location.as_ref().map(|location| format!("{location}_old/1999"));
    own.storage.input_format = Some("org.apache.hadoop.mapred.TextInputFormat".to_owned());
    own.storage.serde.library = Some("org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe".to_owned());
    own.storage.parameters = parameters(&[("skip.header.line.count", "1")]);
    own
}

fn constraints(db: &DatabaseName) -> Vec<Object> {
    let constraint = |table: &str, name: &str, kind: ConstraintKind| {
        Object::Constraint(Constraint {
            table: db.table(table),
            name: format!("{}_{name}", db.database),
            kind,
            enable: false,
            validate: false,
            rely: true,
        })
    };
    let id = || "id".to_owned();
    vec![
        constraint("orders", "pk", ConstraintKind::PrimaryKey { columns: vec![id(), "note".to_owned()] }),
        constraint(
            "items",
            "fk",
            ConstraintKind::ForeignKey {
                parent: db.table("orders"),
                parent_key: Some(format!("{}_pk", db.database)),
                columns: vec![
                    ForeignColumn { column: id(), parent_column: id() },
                    ForeignColumn { column: "note".to_owned(), parent_column: "note".to_owned() },
                ],
                update_rule: 0,
                delete_rule: 0,
            },
        ),
        constraint("orders", "uq", ConstraintKind::Unique { columns: vec!["price".to_owned()] }),
        constraint("orders", "nn", ConstraintKind::NotNull { column: id() }),
        constraint("orders", "df", ConstraintKind::Default { column: "note".to_owned(), value: "'none'".to_owned() }),
        constraint(
            "orders",
            "ck",
            ConstraintKind::Check { column: Some("price".to_owned()), expression: "price > 0".to_owned() },
        ),
    ]
}

/// Statistics of this column with these data.
pub fn column_statistics(column: &str, type_name: &str, data: StatisticsData) -> ColumnStatistics {
    ColumnStatistics {
        column: column.to_owned(),
        type_name: type_name.to_owned(),
        engine: HIVE_ENGINE.to_owned(),
        last_analyzed: 1_700_000_000,
        nulls: 3,
        data,
        unknown: UnknownFields::default(),
    }
}

fn statistics(orders: &Table, items: &Table) -> Vec<Object> {
    let long = |low, high| StatisticsData::Long {
        unit: LongUnit::Number,
        low: Some(low),
        high: Some(high),
        distinct: 99,
        bit_vector: None,
        histogram: None,
    };
    let decimal = StatisticsData::Decimal {
        low: Some(Decimal { unscaled: -5, scale: 2 }),
        high: Some(Decimal { unscaled: 999_999, scale: 2 }),
        distinct: 12,
        bit_vector: None,
        histogram: None,
    };
    let string = StatisticsData::String { max_length: 40, avg_length: 12.25, distinct: 80, bit_vector: None };
    let of_table = |statistics| Object::TableStatistics { table: orders.name.clone(), statistics };
    let keys = || items.partition_keys.iter().map(|key| key.name.as_str());
    let of_partition = |value: &str| Object::PartitionStatistics {
        table: items.name.clone(),
        partition_name: PartitionName::of(keys(), &[value.to_owned(), "é".to_owned()]).unwrap(),
        statistics: column_statistics("id", "bigint", long(1, 5)),
    };
    vec![
        of_table(column_statistics("id", "bigint", long(i64::MIN + 1, i64::MAX - 1))),
        of_table(column_statistics("note", "string", string)),
        of_table(column_statistics("price", "decimal(10,2)", decimal)),
        of_partition("a/b"),
        of_partition("a b"),
    ]
}

fn grants(db: &DatabaseName, orders: &Table) -> Vec<Object> {
    let readers = Principal { name: format!("{}_readers", db.database), kind: PrincipalKind::Role };
    let grant = |object, principal: &Principal, privilege: &str| {
        Object::Grant(Grant {
            object,
            principal: principal.clone(),
            privilege: privilege.to_owned(),
            grant_option: privilege == "INSERT",
            grantor: Some(user("admin")),
            create_time: 1_700_000_000,
            authorizer: Some("SQL".to_owned()),
        })
    };
    let table = || GrantObject::Table { table: orders.name.clone() };
    let column = GrantObject::Column { table: orders.name.clone(), column: "price".to_owned() };
    vec![
        grant(GrantObject::Database { database: db.clone() }, &readers, "SELECT"),
        grant(table(), &readers, "SELECT"),
        grant(table(), &user("bob"), "INSERT"),
        grant(column, &user("bob"), "UPDATE"),
    ]
}
