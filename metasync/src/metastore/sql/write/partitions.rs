//! Partitions, put and renamed, a chunk at a time.

use super::storage::{Slot, StorageRows, clear, parameters, unknown};
use super::{Shape, Writer, conflict, lists};
use crate::event::write::Happened;
use crate::metastore::Result;
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::read::partitions::{NAMES_PER_STATEMENT, condition, partitions};
use crate::metastore::sql::rows::{Rows, cell, cell_if};
use crate::model::{Column, Partition, PartitionName, TableName};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A partition that is there.
struct Old {
    id: i64,
    slot: Slot,
    cd: Option<i64>,
}

pub(super) async fn put(writer: &mut Writer<'_>, table: &TableName, partitions: &[Partition]) -> Result<()> {
    let shape = writer.needed_shape(table, "put", format!("partitions of {table}")).await?;
    // Of two with the same values the later one stays, as if they had been put one after the other.
    let mut named: BTreeMap<PartitionName, &Partition> = BTreeMap::new();
    for partition in partitions {
        named.insert(name(table, &shape, &partition.values)?, partition);
    }
    let names: Vec<&PartitionName> = named.keys().collect();
    let mut old = find(writer, &shape, &names).await?;
    let before = read(writer, table, old.keys().cloned().collect()).await?;
    let lists = choose_lists(writer, table, &shape, &named, &old).await?;

    let schema = Arc::clone(&writer.reader.schema);
    let (parts, sds): (Vec<i64>, Vec<i64>) =
        (old.values().map(|old| old.id).collect(), old.values().filter_map(|old| old.slot.sd).collect());
    let serdes: Vec<i64> = old.values().filter_map(|old| old.slot.serde).collect();
    if !old.is_empty() {
        clear(writer, &sds, &serdes).await?;
        writer.delete(&[("PARTITION_PARAMS", "PART_ID"), ("PARTITION_KEY_VALS", "PART_ID")], &parts).await?;
    }
    let mut storage = StorageRows::new();
    let (mut new_rows, mut old_rows) = (Rows::new("PARTITIONS"), Rows::new("PARTITIONS"));
    let (mut values, mut parameter_rows) = (Rows::new("PARTITION_KEY_VALS"), Rows::new("PARTITION_PARAMS"));
    let mut left = Vec::new();
    for ((name, partition), list) in named.iter().zip(lists) {
        let object = || format!("partition {name} of {table}");
        let old = old.remove(name);
        let slot = old.as_ref().map_or(Slot::default(), |old| old.slot);
        let sd = storage.push(&schema, &mut writer.ids, &object, &partition.storage, slot, list)?;
        left.extend(old.as_ref().and_then(|old| old.cd).filter(|cd| *cd != list && Some(*cd) != shape.cd));
        let (rows, id) = match &old {
            Some(old) => (&mut old_rows, old.id),
            None => (&mut new_rows, writer.ids.take(Sequence::Partition)?),
        };
        let cells = vec![
            cell("PART_ID", id),
            cell("CREATE_TIME", partition.create_time),
            cell("LAST_ACCESS_TIME", partition.last_access_time),
            cell("PART_NAME", &name.0),
            cell("SD_ID", sd),
            cell("TBL_ID", shape.id),
            cell_if("WRITE_ID", partition.write_id, partition.write_id == 0),
            unknown(&partition.unknown),
        ];
        rows.push(&schema, &object, cells)?;
        push_values(&mut values, &schema, &object, id, &partition.values)?;
        parameters(&mut parameter_rows, &schema, &object, ("PART_ID", id), &partition.parameters)?;
    }
    let connection = &mut writer.reader.connection;
    storage.write(connection, &schema).await?;
    new_rows.insert(connection, &schema).await?;
    old_rows.upsert(connection, &schema, "PART_ID").await?;
    values.insert(connection, &schema).await?;
    parameter_rows.insert(connection, &schema).await?;
    lists::collect(writer, left).await?;
    writer.note_partitions(table, before, &named).await
}

/// These partitions as they are, where what happens is kept; `None` for one that is damaged.
async fn read(
    writer: &mut Writer<'_>,
    table: &TableName,
    names: Vec<PartitionName>,
) -> Result<HashMap<PartitionName, Option<Partition>>> {
    let mut found: HashMap<PartitionName, Option<Partition>> = names.iter().cloned().map(|name| (name, None)).collect();
    if names.is_empty() {
        return Ok(found);
    }
    let Some(table) = writer.table_now(table).await? else { return Ok(found) };
    let keys: Vec<&str> = table.partition_keys.iter().map(|key| key.name.as_str()).collect();
    for partition in partitions(writer.reader, &table, &names).await?.found {
        if let Ok(name) = PartitionName::of(keys.iter().copied(), &partition.values) {
            found.insert(name, Some(partition));
        }
    }
    Ok(found)
}

fn name(table: &TableName, shape: &Shape, values: &[String]) -> Result<PartitionName> {
    let keys = shape.keys.iter().map(|key| key.name.as_str());
    PartitionName::of(keys, values).map_err(|why| conflict("put", format!("a partition of {table}"), why))
}

fn push_values(
    rows: &mut Rows,
    schema: &super::super::probe::Schema,
    object: &dyn Fn() -> String,
    id: i64,
    values: &[String],
) -> Result<()> {
    for (index, value) in (0i64..).zip(values) {
        let cells = vec![cell("PART_ID", id), cell("PART_KEY_VAL", value), cell("INTEGER_IDX", index)];
        rows.push(schema, object, cells)?;
    }
    Ok(())
}

/// Those of these partitions that are there, locked.
async fn find(writer: &mut Writer<'_>, shape: &Shape, names: &[&PartitionName]) -> Result<HashMap<PartitionName, Old>> {
    let mut found = HashMap::new();
    for names in names.chunks(NAMES_PER_STATEMENT) {
        let (named, values) = condition(&writer.reader.schema, shape.id, names.iter().copied());
        let connection = &mut writer.reader.connection;
        if writer.reader.schema.dialect.for_update() != "" {
            let sql = format!(
                "SELECT o.\"PART_ID\" FROM \"PARTITIONS\" o WHERE {named}{}",
                writer.reader.schema.dialect.for_update()
            );
            if connection.query(&sql, &values).await?.is_empty() {
                continue;
            }
        }
        let sql = format!(
            "SELECT o.\"PART_ID\", o.\"PART_NAME\", s.\"SD_ID\", r.\"SERDE_ID\", c.\"CD_ID\" FROM \"PARTITIONS\" o \
             LEFT JOIN \"SDS\" s ON s.\"SD_ID\" = o.\"SD_ID\" \
             LEFT JOIN \"SERDES\" r ON r.\"SERDE_ID\" = s.\"SERDE_ID\" \
             LEFT JOIN \"CDS\" c ON c.\"CD_ID\" = s.\"CD_ID\" \
             WHERE {named}"
        );
        for mut row in connection.query(&sql, &values).await? {
            let slot = Slot { sd: row.int(2)?, serde: row.int(3)? };
            found.insert(PartitionName(row.string(1)?), Old { id: row.id(0)?, slot, cd: row.int(4)? });
        }
    }
    Ok(found)
}

/// The column list of each of these partitions: the table's own or the one it has, if equal; else one that another partition
/// of the table has, else a new one.
async fn choose_lists(
    writer: &mut Writer<'_>,
    table: &TableName,
    shape: &Shape,
    named: &BTreeMap<PartitionName, &Partition>,
    old: &HashMap<PartitionName, Old>,
) -> Result<Vec<i64>> {
    let present = lists::read(writer, old.values().filter_map(|old| old.cd)).await?;
    let mut chosen: HashMap<Arc<Vec<Column>>, i64> = HashMap::new();
    // Most partitions share one list, which is compared by its address.
    let mut last: Option<(Arc<Vec<Column>>, i64)> = None;
    let mut result = Vec::with_capacity(named.len());
    for (name, partition) in named {
        let columns = &partition.storage.columns;
        let kept = old
            .get(name)
            .and_then(|old| old.cd)
            .filter(|cd| present.get(cd).is_some_and(|list| Arc::ptr_eq(list, columns) || list == columns));
        if let Some(kept) = kept {
            lists::share(writer, kept).await?;
            result.push(kept);
            continue;
        }
        if let Some((list, id)) = &last
            && Arc::ptr_eq(list, columns)
        {
            result.push(*id);
            continue;
        }
        let id = match (chosen.get(columns), shape.cd) {
            (Some(id), _) => *id,
            (None, Some(cd)) if shape.columns == *columns => {
                lists::share(writer, cd).await?;
                cd
            }
            _ => {
                let object = || format!("partition {name} of {table}");
                lists::of_partition(writer, shape.id, columns, &object).await?
            }
        };
        chosen.insert(Arc::clone(columns), id);
        last = Some((Arc::clone(columns), id));
        result.push(id);
    }
    Ok(result)
}

pub(super) async fn rename(
    writer: &mut Writer<'_>,
    table: &TableName,
    from: &PartitionName,
    to: &[String],
) -> Result<()> {
    let object = || format!("partition {from} of {table}");
    let shape = writer.needed_shape(table, "rename", object()).await?;
    let new = name(table, &shape, to)?;
    if new == *from {
        return Ok(());
    }
    let mut found = find(writer, &shape, &[from, &new]).await?;
    let id = match (found.remove(from), found.remove(&new)) {
        (None, Some(_)) => return Ok(()),
        (None, None) => return Err(conflict("rename", object(), "it is not there".to_owned())),
        (Some(_), Some(_)) => return Err(conflict("rename", object(), format!("{new} is there already"))),
        (Some(old), None) => old.id,
    };
    let before = read(writer, table, vec![from.clone()]).await?.remove(from).flatten();
    let schema = Arc::clone(&writer.reader.schema);
    let mut rows = Rows::new("PARTITION_KEY_VALS");
    push_values(&mut rows, &schema, &object, id, to)?;
    writer.delete(&[("PARTITION_KEY_VALS", "PART_ID")], &[id]).await?;
    let connection = &mut writer.reader.connection;
    rows.insert(connection, &schema).await?;
    let sql = "UPDATE \"PARTITIONS\" SET \"PART_NAME\" = ? WHERE \"PART_ID\" = ?";
    connection.execute(sql, &[(&new.0).into(), id.into()]).await?;
    if schema.has("PART_COL_STATS", "PARTITION_NAME") {
        let sql = "UPDATE \"PART_COL_STATS\" SET \"PARTITION_NAME\" = ? WHERE \"PART_ID\" = ?";
        connection.execute(sql, &[(&new.0).into(), id.into()]).await?;
    }
    if let (Some(before), Some(table)) = (before, writer.table_now(table).await?) {
        let after = Partition { values: to.to_vec(), ..before.clone() };
        let (before, after) = (Box::new(before), Box::new(after));
        writer.note(Happened::AlteredPartition { table, before, after, emptied: false });
    }
    Ok(())
}
