//! The contract of a metastore: what every adapter does, whatever stands behind it.
//!
//! Works below database names that nobody else uses, and leaves a server that is shared as it was found.

use super::objects;
use anyhow::{Context as _, Result, bail, ensure};
use metasync::held::hold;
use metasync::metastore::{Change, Error, Metastore, Snapshot};
use metasync::model::*;
use metasync::object::Object;
use metasync::volatile::strip;
use metasync::walk::walk_database;

/// Everything in the databases whose names begin with `name`, and the roles that do; volatile parts stripped, in walking
/// order. Errors: damaged objects too.
pub async fn read_back(snapshot: &dyn Snapshot, name: &str) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    objects.extend(snapshot.roles().await?.into_iter().filter(|role| role.name.starts_with(name)).map(Object::Role));
    let grants = snapshot.role_grants().await?.into_iter();
    objects.extend(grants.filter(|grant| grant.role.starts_with(name)).map(Object::RoleGrant));
    for database in snapshot.databases().await? {
        if database.name.database.starts_with(name) {
            walk_database::<anyhow::Error>(snapshot, database, &mut |step| {
                objects.push(step.map_err(|damaged| anyhow::anyhow!("{}: {}", damaged.object, damaged.why))?);
                Ok(())
            })
            .await?;
        }
    }
    objects.iter_mut().for_each(strip);
    Ok(objects)
}

/// The objects as this metastore can hold them, stripped and in the order of [`read_back`]; what it refuses is left out.
pub fn as_held(objects: &[Object], metastore: &dyn Metastore) -> Vec<Object> {
    let mut held: Vec<Object> = objects
        .iter()
        .filter_map(|object| hold(object.clone(), metastore.holder()).ok())
        .map(|(held, _)| held)
        .collect();
    held.iter_mut().for_each(strip);
    held
}

/// One line an object, sorted: the order of walking is compared by tests of `walk`.
pub fn lines(objects: &[Object]) -> Vec<String> {
    let mut lines: Vec<String> = objects.iter().map(|object| serde_json::to_string(object).unwrap()).collect();
    lines.sort();
    lines
}

/// Errors: the lines that only one side has.
pub fn ensure_same(expected: &[Object], found: &[Object]) -> Result<()> {
    let (expected, found) = (lines(expected), lines(found));
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    ensure!(expected == found, "missing:\n  {}\nunexpected:\n  {}", only(&expected, &found), only(&found, &expected));
    Ok(())
}

/// Puts objects, converted to what the metastore can hold; what it refuses is left out.
pub async fn put(metastore: &dyn Metastore, objects: &[Object]) -> Result<()> {
    let held = objects.iter().filter_map(|object| hold(object.clone(), metastore.holder()).ok());
    let (last, first): (Vec<Object>, Vec<Object>) = held.map(|(object, _)| object).partition(Object::is_foreign_key);
    let changes: Vec<Change> = first.into_iter().chain(last).map(Object::into_change).collect();
    metastore.apply(&changes).await.context("put")
}

/// Drops everything that [`read_back`] finds; twice, which must do nothing more.
pub async fn clear(metastore: &dyn Metastore, name: &str) -> Result<()> {
    let snapshot = metastore.snapshot().await?;
    let objects = read_back(snapshot.as_ref(), name).await?;
    drop(snapshot);
    let (mut tables, mut rest) = (Vec::new(), Vec::new());
    for object in objects {
        match object {
            Object::Table(table) => tables.push(Change::DropTable(table.name)),
            Object::Function(function) => {
                tables.push(Change::DropFunction { database: function.database, name: function.name });
            }
            Object::Grant(grant) if matches!(grant.object, GrantObject::Database { .. }) => {
                tables.push(Change::DropGrant(grant));
            }
            Object::Database(database) => rest.push(Change::DropDatabase(database.name)),
            Object::Role(role) => rest.push(Change::DropRole(role.name)),
            _ => (),
        }
    }
    tables.append(&mut rest);
    for _ in 0..2 {
        metastore.apply(&tables).await.context("clear")?;
    }
    let left = read_back(metastore.snapshot().await?.as_ref(), name).await?;
    ensure!(left.is_empty(), "left after drops: {:?}", lines(&left));
    Ok(())
}

/// Runs the whole contract below `name`, with locations below `root` (a URL of a folder that the server may make).
pub async fn run(metastore: &dyn Metastore, name: &str, root: &str) -> Result<()> {
    clear(metastore, name).await.context("before")?;
    put_get_put(metastore, name, root).await.context("put_get_put")?;
    alter(metastore, name).await.context("alter")?;
    rename(metastore, name).await.context("rename")?;
    drops(metastore, name).await.context("drops")?;
    compare_and_set(metastore, name).await.context("compare_and_set")?;
    clear(metastore, name).await.context("after")
}

async fn found(metastore: &dyn Metastore, name: &str) -> Result<Vec<Object>> {
    read_back(metastore.snapshot().await?.as_ref(), name).await
}

/// What was put is read back equal; putting it again changes nothing; putting what was read changes nothing.
async fn put_get_put(metastore: &dyn Metastore, name: &str, root: &str) -> Result<()> {
    let objects = objects::everything(name, root);
    put(metastore, &objects).await?;
    let first = found(metastore, name).await?;
    ensure_same(&as_held(&objects, metastore), &first).context("first")?;
    put(metastore, &objects).await.context("again")?;
    ensure_same(&first, &found(metastore, name).await?).context("again")?;
    put(metastore, &first).await.context("what was read")?;
    ensure_same(&first, &found(metastore, name).await?).context("what was read")?;
    shared_columns(metastore, name).await
}

/// Partitions that share their table's columns share one list, also after a round trip; the one that does not, does not.
async fn shared_columns(metastore: &dyn Metastore, name: &str) -> Result<()> {
    let snapshot = metastore.snapshot().await?;
    let db = DatabaseName::new(name);
    let tables = snapshot.tables(&db, &["items".to_owned()]).await?;
    let table = tables.found.first().context("items is not there")?;
    let names = snapshot.partition_names(&table.name).await?;
    ensure!(names.len() == objects::ODD_VALUES.len() + 1, "{names:?}");
    let partitions = snapshot.partitions(table, &names).await?.found;
    let shares =
        |partition: &Partition| std::sync::Arc::ptr_eq(&partition.storage.columns, &partitions[1].storage.columns);
    let sharing = partitions.iter().filter(|partition| shares(partition)).count();
    ensure!(sharing == objects::ODD_VALUES.len(), "{sharing} of {} share their columns", partitions.len());
    Ok(())
}

fn take_table(objects: &[Object], wanted: &str) -> Result<Table> {
    let table = objects.iter().find_map(|object| match object {
        Object::Table(table) if table.name.table == wanted => Some(table.as_ref().clone()),
        _ => None,
    });
    table.with_context(|| format!("no table {wanted}"))
}

/// Alters keep what they do not name: partitions, constraints, statistics, privileges.
async fn alter(metastore: &dyn Metastore, name: &str) -> Result<()> {
    let before = found(metastore, name).await?;
    let mut items = take_table(&before, "items")?;
    let mut columns = items.storage.columns.as_ref().clone();
    columns.push(objects::column("added", "map<string,int>"));
    items.storage.columns = columns.into();
    items.parameters.insert("altered".to_owned(), "yes".to_owned());
    items.parameters.remove("parquet.compression");
    metastore.apply(&[Change::PutTable(Box::new(items.clone()))]).await?;
    let mut expected = before;
    for object in &mut expected {
        if let Object::Table(table) = object
            && table.name == items.name
        {
            **table = items.clone();
        }
    }
    ensure_same(&expected, &found(metastore, name).await?)?;
    let mut other_keys = items;
    other_keys.partition_keys.pop();
    match metastore.apply(&[Change::PutTable(Box::new(other_keys))]).await {
        Err(Error::Conflict { .. }) => Ok(()),
        other => bail!("other partition keys: {other:?}"),
    }
}

/// Renames of a table, also into another database, and of a partition; done twice they are done once.
async fn rename(metastore: &dyn Metastore, name: &str) -> Result<()> {
    let before = found(metastore, name).await?;
    let shaped = take_table(&before, "shaped")?;
    let (other, from) = (DatabaseName::new(&format!("{name}_other")), shaped.name.clone());
    let mut database = before
        .iter()
        .find_map(|object| match object {
            Object::Database(database) => Some(database.clone()),
            _ => None,
        })
        .context("no database")?;
    database.name = other.clone();
    database.location = database.location.map(|location| format!("{location}_other"));
    let there = Change::RenameTable { from: from.clone(), to: other.table("moved") };
    let back = Change::RenameTable { from: other.table("moved"), to: from };
    metastore.apply(&[Change::PutDatabase(database)]).await?;
    for _ in 0..2 {
        metastore.apply(std::slice::from_ref(&there)).await.context("there")?;
    }
    let moved = take_table(&found(metastore, name).await?, "moved")?;
    ensure!(moved.storage == shaped.storage, "the location moved with the name: {:?}", moved.storage.location);
    metastore.apply(&[back, Change::DropDatabase(other)]).await.context("back")?;
    ensure_same(&before, &found(metastore, name).await?).context("back")?;

    let table = DatabaseName::new(name).table("items");
    let partition = |day: &str| PartitionName::of(["day", "shop"], &[day.to_owned(), "é".to_owned()]).unwrap();
    let to = |day: &str| vec![day.to_owned(), "é".to_owned()];
    let there = Change::RenamePartition { table: table.clone(), from: partition("a b"), to: to("c/d") };
    for _ in 0..2 {
        metastore.apply(std::slice::from_ref(&there)).await.context("partition there")?;
    }
    let names = metastore.snapshot().await?.partition_names(&table).await?;
    ensure!(names.contains(&partition("c/d")) && !names.contains(&partition("a b")), "{names:?}");
    metastore.apply(&[Change::RenamePartition { table, from: partition("c/d"), to: to("a b") }]).await?;
    ensure_same(&before, &found(metastore, name).await?).context("partition back")
}

/// Drops take what belongs to an object and nothing else; of what is missing they do nothing.
async fn drops(metastore: &dyn Metastore, name: &str) -> Result<()> {
    let before = found(metastore, name).await?;
    let items = DatabaseName::new(name).table("items");
    let gone = PartitionName::of(["day", "shop"], &["a/b".to_owned(), "é".to_owned()]).unwrap();
    let drop = Change::DropPartitions { table: items.clone(), names: vec![gone.clone()] };
    for _ in 0..2 {
        metastore.apply(std::slice::from_ref(&drop)).await?;
    }
    let is_of_gone = |object: &Object| match object {
        Object::Partition { partition_name, .. } | Object::PartitionStatistics { partition_name, .. } => {
            *partition_name == gone
        }
        _ => false,
    };
    let expected: Vec<Object> = before.iter().filter(|object| !is_of_gone(object)).cloned().collect();
    ensure_same(&expected, &found(metastore, name).await?).context("partition")?;

    let orders = DatabaseName::new(name).table("orders");
    let mut changes = vec![Change::DropTableStatistics { table: orders.clone(), column: Some("note".to_owned()) }];
    let constraint = format!("{name}_fk");
    changes.push(Change::DropConstraint { table: items, name: constraint.clone() });
    changes.push(Change::DropFunction { database: DatabaseName::new(name), name: "shout".to_owned() });
    for _ in 0..2 {
        metastore.apply(&changes).await?;
    }
    let is_gone = |object: &Object| match object {
        Object::TableStatistics { statistics, .. } => statistics.column == "note",
        Object::Constraint(found) => found.name == constraint,
        Object::Function(_) => true,
        _ => false,
    };
    let expected: Vec<Object> = expected.into_iter().filter(|object| !is_gone(object)).collect();
    ensure_same(&expected, &found(metastore, name).await?).context("parts")?;

    metastore.apply(&[Change::DropTable(orders.clone())]).await?;
    let left = found(metastore, name).await?;
    let of_orders = lines(&left).into_iter().filter(|line| line.contains("\"table\":\"orders\"")).collect::<Vec<_>>();
    ensure!(of_orders.is_empty(), "{of_orders:?}");
    Ok(())
}

/// Rule 15: a parameter changes only from what it is known to be.
async fn compare_and_set(metastore: &dyn Metastore, name: &str) -> Result<()> {
    let set = |expected: Option<&str>, value: Option<&str>| Change::SetDatabaseParameter {
        database: DatabaseName::new(name),
        key: "repl.last.id".to_owned(),
        expected: expected.map(str::to_owned),
        value: value.map(str::to_owned),
    };
    metastore.apply(&[set(None, Some("5"))]).await.context("first")?;
    metastore.apply(&[set(None, Some("5"))]).await.context("done already")?;
    metastore.apply(&[set(Some("5"), Some("9"))]).await.context("second")?;
    for wrong in [set(None, Some("7")), set(Some("5"), Some("7")), set(Some("5"), None)] {
        match metastore.apply(std::slice::from_ref(&wrong)).await {
            Err(Error::Conflict { .. }) => (),
            other => bail!("{wrong:?}: {other:?}"),
        }
    }
    let databases = metastore.snapshot().await?.databases().await?;
    let found = databases.iter().find(|database| database.name == DatabaseName::new(name)).context("no database")?;
    ensure!(found.parameters.get("repl.last.id").map(String::as_str) == Some("9"), "{:?}", found.parameters);
    metastore.apply(&[set(Some("9"), None)]).await.context("taken away")
}
