//! Constraints. KEY_CONSTRAINTS names columns by their place in a column list or, where it names no list, among the partition
//! keys; "parent" is the constrained table, but for a foreign key, whose parent is the table that it refers to.

use super::Reader;
use super::children::IDS_PER_STATEMENT;
use super::tables;
use crate::metastore::sql::dialect::id_list;
use crate::metastore::sql::value::Row;
use crate::metastore::{Batch, Damaged, Result};
use crate::model::{Constraint, ConstraintKind, DatabaseName, ForeignColumn, HIVE_CATALOG, TableName};
use std::collections::{BTreeMap, HashMap};

/// Hive's numbers of kinds.
pub(crate) const PRIMARY_KEY: i64 = 0;
pub(crate) const FOREIGN_KEY: i64 = 1;
pub(crate) const UNIQUE: i64 = 2;
pub(crate) const NOT_NULL: i64 = 3;
pub(crate) const DEFAULT: i64 = 4;
pub(crate) const CHECK: i64 = 5;

/// The place of the column of a check that is on none.
pub(crate) const NOWHERE: i64 = -1;

/// The bits of ENABLE_VALIDATE_RELY.
pub(crate) const ENABLE: i64 = 4;
pub(crate) const VALIDATE: i64 = 2;
pub(crate) const RELY: i64 = 1;

/// One row, its columns by name.
struct Part {
    kind: i64,
    position: i64,
    bits: i64,
    update_rule: i32,
    delete_rule: i32,
    value: Option<String>,
    parent_column: Place,
    child_column: Place,
    /// None where it is not there.
    parent: Option<TableName>,
    parent_id: i64,
}

/// A column that a row names.
struct Place {
    /// Its list; none for a partition key.
    list: Option<i64>,
    /// Its place; negative for no column at all.
    index: i64,
    name: Option<String>,
}

impl Place {
    /// Errors: what is wrong.
    fn name(&self) -> std::result::Result<String, String> {
        self.name.clone().ok_or_else(|| match (self.list, self.index) {
            (Some(list), index) => format!("KEY_CONSTRAINTS names column {index} of CDS {list}, which is not there"),
            (None, index) => format!("KEY_CONSTRAINTS names partition key {index}, which is not there"),
        })
    }

    /// As [`Self::name`], where there need not be a column.
    fn name_if_any(&self) -> std::result::Result<Option<String>, String> {
        if self.index < 0 { Ok(None) } else { self.name().map(Some) }
    }
}

pub(crate) async fn constraints(
    reader: &mut Reader,
    database: &DatabaseName,
    names: &[String],
) -> Result<Batch<Constraint>> {
    let mut batch = Batch::empty();
    let tables = tables::ids(reader, database, names).await?;
    if tables.is_empty() || !reader.schema.has_table("KEY_CONSTRAINTS") {
        return Ok(batch);
    }
    let mut ids: Vec<i64> = tables.keys().copied().collect();
    ids.sort_unstable();
    let mut parts: BTreeMap<(i64, String, bool), Vec<Part>> = BTreeMap::new();
    for ids in ids.chunks(IDS_PER_STATEMENT) {
        let ids = id_list(ids);
        let own = format!("k.\"CONSTRAINT_TYPE\" <> {FOREIGN_KEY} AND k.\"PARENT_TBL_ID\" IN ({ids})");
        let foreign = format!("k.\"CONSTRAINT_TYPE\" = {FOREIGN_KEY} AND k.\"CHILD_TBL_ID\" IN ({ids})");
        for condition in [own, foreign] {
            let sql = statement(reader, &condition);
            for mut row in reader.connection.query(&sql, &[]).await? {
                let (constrained, name, part) = part(&mut row)?;
                parts.entry((constrained, name, part.kind == FOREIGN_KEY)).or_default().push(part);
            }
        }
    }
    let keys = primary_keys(reader, parts.values().flatten()).await?;
    for ((id, name, _), mut parts) in parts {
        let Some(table) = tables.get(&id).map(|table| database.table(table)) else { continue };
        parts.sort_by_key(|part| part.position);
        match constraint(&table, &name, &parts, &keys) {
            Ok(constraint) => batch.found.push(constraint),
            Err(why) => batch.damaged.push(Damaged::constraint(table, name, why)),
        }
    }
    batch.found.sort();
    batch.damaged.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(batch)
}

fn statement(reader: &Reader, condition: &str) -> String {
    let schema = &reader.schema;
    let value = schema.select("KEY_CONSTRAINTS", "k", &["DEFAULT_VALUE"]);
    let catalog = schema.select("DBS", "pd", &["CTLG_NAME"]);
    format!(
        "SELECT CASE WHEN k.\"CONSTRAINT_TYPE\" = {FOREIGN_KEY} THEN k.\"CHILD_TBL_ID\" ELSE k.\"PARENT_TBL_ID\" END, \
         k.\"CONSTRAINT_NAME\", k.\"CONSTRAINT_TYPE\", k.\"POSITION\", k.\"ENABLE_VALIDATE_RELY\", k.\"UPDATE_RULE\", \
         k.\"DELETE_RULE\", {value}, pc.\"COLUMN_NAME\", pk.\"PKEY_NAME\", cc.\"COLUMN_NAME\", ck.\"PKEY_NAME\", \
         {catalog}, pd.\"NAME\", pt.\"TBL_NAME\", k.\"PARENT_TBL_ID\", k.\"PARENT_CD_ID\", k.\"PARENT_INTEGER_IDX\", \
         k.\"CHILD_CD_ID\", k.\"CHILD_INTEGER_IDX\" \
         FROM \"KEY_CONSTRAINTS\" k \
         LEFT JOIN \"TBLS\" pt ON pt.\"TBL_ID\" = k.\"PARENT_TBL_ID\" LEFT JOIN \"DBS\" pd ON pd.\"DB_ID\" = pt.\"DB_ID\" \
         LEFT JOIN \"COLUMNS_V2\" pc ON pc.\"CD_ID\" = k.\"PARENT_CD_ID\" AND pc.\"INTEGER_IDX\" = k.\"PARENT_INTEGER_IDX\" \
         LEFT JOIN \"PARTITION_KEYS\" pk ON pk.\"TBL_ID\" = k.\"PARENT_TBL_ID\" \
         AND pk.\"INTEGER_IDX\" = k.\"PARENT_INTEGER_IDX\" AND k.\"PARENT_CD_ID\" IS NULL \
         LEFT JOIN \"COLUMNS_V2\" cc ON cc.\"CD_ID\" = k.\"CHILD_CD_ID\" AND cc.\"INTEGER_IDX\" = k.\"CHILD_INTEGER_IDX\" \
         LEFT JOIN \"PARTITION_KEYS\" ck ON ck.\"TBL_ID\" = k.\"CHILD_TBL_ID\" \
         AND ck.\"INTEGER_IDX\" = k.\"CHILD_INTEGER_IDX\" AND k.\"CHILD_CD_ID\" IS NULL \
         WHERE {condition}"
    )
}

fn part(row: &mut Row) -> Result<(i64, String, Part)> {
    let (constrained, name) = (row.id(0)?, row.string(1)?);
    let catalog = row.text(12)?.unwrap_or_else(|| HIVE_CATALOG.to_owned());
    let part = Part {
        kind: row.id(2)?,
        position: row.int(3)?.unwrap_or(0),
        bits: row.int(4)?.unwrap_or(0),
        update_rule: row.int32(5)?,
        delete_rule: row.int32(6)?,
        value: row.text(7)?,
        parent_column: place(row, 16, 8)?,
        child_column: place(row, 18, 10)?,
        parent: match (row.text(13)?, row.text(14)?) {
            (Some(database), Some(table)) => Some(TableName { catalog, database, table }),
            _ => None,
        },
        parent_id: row.id(15)?,
    };
    Ok((constrained, name, part))
}

/// List and place are at `at`; the name is in one of two columns from `name` on.
fn place(row: &mut Row, at: usize, name: usize) -> Result<Place> {
    let name = row.text(name)?.or(row.text(name + 1)?);
    Ok(Place { list: row.int(at)?, index: row.int(at + 1)?.unwrap_or(NOWHERE), name })
}

/// The names of the primary keys of tables that foreign keys refer to: KEY_CONSTRAINTS says which table, not which key.
async fn primary_keys(reader: &mut Reader, parts: impl Iterator<Item = &Part>) -> Result<HashMap<i64, String>> {
    let foreign = parts.filter(|part| part.kind == FOREIGN_KEY);
    let mut parents: Vec<i64> = foreign.map(|part| part.parent_id).collect();
    parents.sort_unstable();
    parents.dedup();
    let mut keys = HashMap::new();
    for parents in parents.chunks(IDS_PER_STATEMENT) {
        let sql = format!(
            "SELECT \"PARENT_TBL_ID\", \"CONSTRAINT_NAME\" FROM \"KEY_CONSTRAINTS\" \
             WHERE \"CONSTRAINT_TYPE\" = {PRIMARY_KEY} AND \"PARENT_TBL_ID\" IN ({})",
            id_list(parents)
        );
        for mut row in reader.connection.query(&sql, &[]).await? {
            keys.insert(row.id(0)?, row.string(1)?);
        }
    }
    Ok(keys)
}

/// One from its rows, by position. Errors: what is wrong with it.
fn constraint(
    table: &TableName,
    name: &str,
    parts: &[Part],
    keys: &HashMap<i64, String>,
) -> std::result::Result<Constraint, String> {
    let Some(first) = parts.first() else { return Err("KEY_CONSTRAINTS has no rows of it".to_owned()) };
    let columns = || parts.iter().map(|part| part.parent_column.name()).collect::<std::result::Result<Vec<_>, _>>();
    let kind = match first.kind {
        PRIMARY_KEY => ConstraintKind::PrimaryKey { columns: columns()? },
        UNIQUE => ConstraintKind::Unique { columns: columns()? },
        FOREIGN_KEY => {
            let mut pairs = Vec::with_capacity(parts.len());
            for part in parts {
                let (column, parent_column) = (part.child_column.name()?, part.parent_column.name()?);
                pairs.push(ForeignColumn { column, parent_column });
            }
            ConstraintKind::ForeignKey {
                parent: first.parent.clone().ok_or_else(|| {
                    format!("KEY_CONSTRAINTS names TBLS {}, which is not there or in no database", first.parent_id)
                })?,
                parent_key: keys.get(&first.parent_id).cloned(),
                columns: pairs,
                update_rule: first.update_rule,
                delete_rule: first.delete_rule,
            }
        }
        NOT_NULL => ConstraintKind::NotNull { column: first.parent_column.name()? },
        DEFAULT => ConstraintKind::Default {
            column: first.parent_column.name()?,
            value: first.value.clone().unwrap_or_default(),
        },
        CHECK => ConstraintKind::Check {
            column: first.parent_column.name_if_any()?,
            expression: first.value.clone().unwrap_or_default(),
        },
        other => return Err(format!("KEY_CONSTRAINTS says that it is of type {other}, which Hive has not")),
    };
    let bits = first.bits;
    let (enable, validate, rely) = (bits & ENABLE != 0, bits & VALIDATE != 0, bits & RELY != 0);
    Ok(Constraint { table: table.clone(), name: name.to_owned(), kind, enable, validate, rely })
}
