//! What `metasync plan` says that a run writes otherwise than the source has it, and whether the run right after does that:
//! places in parameters, names of databases, what a version cannot hold, what is switched off.

use metasync::metastore::Change;
use metasync::model::{Function, FunctionKind, PartitionName, Resource, ResourceKind, Table, UnknownFields};
use serde_json::{Value, json};
use tests::cli::Ran;
use tests::hms::{Kind, Version, fresh_database};
use tests::lake::Lake;
use tests::metastores::objects;

/// Lines of a plan of this type.
fn lines(ran: &Ran, kind: &str) -> Vec<Value> {
    let lines = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["type"] == kind).collect()
}

/// The rewrites of a plan, each as object, why, key and count.
fn told(ran: &Ran) -> Vec<(String, String, String, u64)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let one =
        |line: &Value| (text(line, "object"), text(line, "why"), text(line, "key"), line["count"].as_u64().unwrap());
    lines(ran, "rewrite").iter().map(one).collect()
}

/// A table with a place in every corner, of which three partitions have one too.
fn everywhere(lake: &Lake) -> Table {
    let root = format!("file:{}/source", lake.root().display());
    let mut table = lake.unmade_table("orders", &["dt"]);
    let more = [
        ("avro.schema.url", format!("{root}/sales.db/orders.avsc")),
        ("discover.partitions", "true".to_owned()),
        ("partition.retention.period", "7d".to_owned()),
        ("team.home", format!("{root}/home")),
        ("team.page", "https://wiki.example/orders".to_owned()),
        ("transient_lastDdlTime", "1700000000".to_owned()),
    ];
    table.parameters.extend(more.map(|(key, value)| (key.to_owned(), value)));
    table.storage.serde.parameters.insert("path".to_owned(), format!("{root}/sales.db/orders"));
    lake.write("sales.db/orders.avsc", "{}");
    lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
    let partition = |day: &str| {
        let mut partition = objects::partition(&table, &[day]);
        let place = partition.storage.location.clone().unwrap();
        partition.storage.serde.parameters.insert("path".to_owned(), place);
        lake.write(&format!("sales.db/orders/dt={day}/part-0"), day);
        partition
    };
    let partitions = ["1", "2", "3"].map(partition).into();
    lake.apply(&[Change::PutPartitions { table: table.name.clone(), partitions }]);
    table
}

fn managed(lake: &Lake) -> Table {
    let mut table = lake.unmade_table("brief", &[]);
    table.table_type = Some("MANAGED_TABLE".to_owned());
    table.parameters.remove("EXTERNAL");
    table
}

#[test]
fn a_plan_names_every_value_that_the_run_after_it_rewrites() {
    let lake = Lake::logged();
    lake.database("sales");
    lake.policy_of("databases = [\"sales\"]\nrename = { sales = \"copy\" }\n", "");
    let orders = everywhere(&lake);
    let mut view = lake.unmade_table("recent", &[]);
    view.table_type = Some("VIRTUAL_VIEW".to_owned());
    view.storage.location = None;
    view.parameters = objects::parameters(&[("view.catalogAndNamespace.part.1", "sales")]);
    view.view_original_text = Some("select * from sales.orders".to_owned());
    view.view_expanded_text = Some("select 1".to_owned());
    lake.write("jars/f.jar", "jar");
    let uri = format!("file:{}/source/jars/f.jar", lake.root().display());
    let function = Function {
        database: orders.name.database(),
        name: "f".to_owned(),
        class_name: Some("example.F".to_owned()),
        owner: None,
        create_time: 1_700_000_000,
        kind: FunctionKind::Java,
        resources: vec![Resource { kind: ResourceKind::Jar, uri }],
        unknown: UnknownFields::default(),
    };
    lake.apply(&[Change::PutTable(Box::new(view)), Change::PutFunction(function)]);

    let planned = lake.metasync("plan", &[]).expect(0);
    let of = |object: &str, why: &str, key: &str, count| (object.to_owned(), why.to_owned(), key.to_owned(), count);
    assert_eq!(
        told(&planned),
        [
            of("function copy.f", "location", "resources", 1),
            of("table copy.orders", "location", "parameters.avro.schema.url", 1),
            of("table copy.orders", "location", "parameters.team.home", 1),
            of("table copy.orders", "location", "storage.serde.parameters.path", 1),
            of("table copy.orders", "switched_off", "parameters.discover.partitions", 1),
            of("table copy.orders", "switched_off", "parameters.partition.retention.period", 1),
            of("partitions of copy.orders", "location", "storage.serde.parameters.path", 3),
            of("table copy.recent", "rename", "parameters.view.catalogAndNamespace.part.1", 1),
            of("table copy.recent", "rename", "view_original_text", 1),
        ]
    );
    let shown = lines(&planned, "not_compared");
    let keys: Vec<&str> = shown[0]["keys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(shown.len() == 1 && keys.contains(&"transient_lastDdlTime") && keys.contains(&"repl.last.id"), "{shown:?}");

    // What was said is what was written, and nothing else is another.
    lake.metasync("run", &[]).expect(0);
    let held: Vec<Value> = lake.objects("target").iter().map(|object| serde_json::to_value(object).unwrap()).collect();
    let table = |name: &str| held.iter().find(|one| one["type"] == "table" && one["table"] == name).unwrap();
    let first = held.iter().find(|one| one["type"] == "partition" && one["partition_name"] == "dt=1").unwrap();
    for line in lines(&planned, "rewrite") {
        let object = match line["object"].as_str().unwrap() {
            "table copy.orders" => table("orders"),
            "table copy.recent" => table("recent"),
            "partitions of copy.orders" => first,
            _ => continue,
        };
        let key = line["key"].as_str().unwrap();
        let (of, key) = match (key.strip_prefix("parameters."), key.strip_prefix("storage.serde.parameters.")) {
            (Some(key), _) => (&object["parameters"], key),
            (_, Some(key)) => (&object["storage"]["serde"]["parameters"], key),
            _ => continue,
        };
        assert_eq!(of.get(key).unwrap_or(&Value::Null), &line["to"], "{line}");
        assert_ne!(line["from"], line["to"], "{line}");
    }
    let parameters = &table("orders")["parameters"];
    assert_eq!(parameters["team.page"], "https://wiki.example/orders");
    let target = format!("file:{}/target", lake.root().display());
    assert_eq!(parameters["team.home"], json!(format!("{target}/home")));

    // In step, nothing is rewritten; a change of one partition rewrites that one, and not its table.
    let nothing = lake.metasync("plan", &[]).expect(0);
    assert!(told(&nothing).is_empty() && lines(&nothing, "not_compared").is_empty(), "{}", nothing.stdout);
    let mut changed = objects::partition(&orders, &["2"]);
    let place = changed.storage.location.clone().unwrap();
    changed.storage.serde.parameters.insert("path".to_owned(), place);
    changed.parameters.insert("k".to_owned(), "v".to_owned());
    lake.apply(&[Change::PutPartitions { table: orders.name.clone(), partitions: vec![changed] }]);
    let planned = lake.metasync("plan", &[]).expect(0);
    assert_eq!(told(&planned), [of("partitions of copy.orders", "location", "storage.serde.parameters.path", 1)]);
    lake.metasync("run", &[]).expect(0);
    let gone = Change::DropPartitions { table: orders.name, names: vec![PartitionName("dt=3".to_owned())] };
    lake.apply(&[gone]);
    lake.policy_of("databases = [\"sales\"]\nrename = { sales = \"copy\" }\n", "max_drops = \"100%\"");
    assert!(told(&lake.metasync("plan", &[]).expect(0)).is_empty(), "what goes is not written");
}

#[test]
fn rule_30_a_plan_names_what_the_targets_version_makes_of_a_table() {
    let Some(database) = fresh_database(Kind::Postgres, Version::V40) else { return };
    let lake = Lake::logged();
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    let own = format!("sqlite://{}/target.db", lake.root().display());
    std::fs::write(lake.root().join("p.toml"), text.replace(&own, &database.url)).unwrap();
    lake.database("sales");
    let brief = managed(&lake);
    lake.write("sales.db/brief/part-0", "brief");
    lake.apply(&[Change::PutTable(Box::new(brief))]);
    lake.table("items", &[]);

    let planned = lake.metasync("plan", &[]).expect(0);
    let converted: Vec<_> = told(&planned).into_iter().filter(|(_, why, ..)| why == "version").collect();
    let limit = "a managed table without transactions: becomes an external one that is purged when dropped: changed";
    assert_eq!(converted, [("table sales.brief".to_owned(), "version".to_owned(), limit.to_owned(), 1)]);
    let shown = lake.shell.metasync(&["plan", "p.toml"]).expect(0);
    assert!(shown.stdout.contains(&format!("convert table sales.brief: {limit}\n")), "{}", shown.stdout);

    lake.metasync("run", &[]).expect(0);
    let dumped = lake.shell.metasync(&["metastore", "dump", &database.url]).expect(0);
    let kind = |name: &str| {
        let lines = dumped.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut found = lines.filter(|line| line["type"] == "table" && line["table"] == name);
        found.next().unwrap()["table_type"].clone()
    };
    assert_eq!((kind("brief"), kind("items")), (json!("EXTERNAL_TABLE"), json!("EXTERNAL_TABLE")));
    assert!(told(&lake.metasync("plan", &[]).expect(0)).is_empty());
}

#[test]
fn a_plan_for_people_says_from_where_to_where_and_how_often() {
    let lake = Lake::logged();
    lake.database("sales");
    everywhere(&lake);
    let shown = lake.shell.metasync(&["plan", "p.toml"]).expect(0).stdout;
    let root = lake.root().display();
    for line in [
        format!(
            "rewrite table sales.orders: parameters.avro.schema.url from file:{root}/source/sales.db/orders.avsc \
             to file:{root}/target/sales.db/orders.avsc\n"
        ),
        format!(
            "rewrite partitions of sales.orders: storage.serde.parameters.path, 3 times, such as \
             from file:{root}/source/sales.db/orders/dt=1 to file:{root}/target/sales.db/orders/dt=1\n"
        ),
        "off table sales.orders: parameters.discover.partitions from true to false\n".to_owned(),
        "off table sales.orders: parameters.partition.retention.period from 7d to none\n".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line}\n{shown}");
    }
    assert!(shown.ends_with("and what begins with bootstrap.dump.state. or understudy.\n"), "{shown}");
}
