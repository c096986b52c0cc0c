//! Constraints, put and dropped, and kept true when the columns that they name move.

use super::{Shape, Writer, conflict};
use crate::event::write::Happened;
use crate::metastore::sql::read::constraints::{
    CHECK, DEFAULT, ENABLE, FOREIGN_KEY, NOT_NULL, NOWHERE, PRIMARY_KEY, RELY, UNIQUE, VALIDATE, constraints,
};
use crate::metastore::sql::rows::{Rows, cell, cell_if};
use crate::metastore::sql::value::Value;
use crate::metastore::{Error, Result, Version};
use crate::model::{Column, Constraint, ConstraintKind, TableName};
use std::sync::Arc;

/// A column as KEY_CONSTRAINTS names it: a list and a place in it; no list for a partition key, and -1 for none at all.
type Place = (Option<i64>, i64);

/// One row: of the constrained column, and of the one it refers to.
struct Line {
    parent: Place,
    child: Option<Place>,
}

fn place(shape: &Shape, column: &str) -> Option<Place> {
    let among = |columns: &[Column]| columns.iter().position(|each| each.name == column);
    let index = |at: usize| i64::try_from(at).ok();
    match among(&shape.columns) {
        Some(at) => Some((shape.cd, index(at)?)),
        None => Some((None, index(among(&shape.keys)?)?)),
    }
}

pub(super) async fn put(writer: &mut Writer<'_>, constraint: &Constraint) -> Result<()> {
    let object = || format!("constraint {} on {}", constraint.name, constraint.table);
    let schema = Arc::clone(&writer.reader.schema);
    let shape = writer.needed_shape(&constraint.table, "put", object()).await?;
    refuse_taken_name(writer, constraint, shape.id).await?;
    let before = read(writer, constraint).await?;
    remove(writer, shape.id, &constraint.name).await?;
    let find = |shape: &Shape, table: &TableName, column: &str| {
        place(shape, column).ok_or_else(|| conflict("put", object(), format!("{table} has no column {column}")))
    };
    let own = |column: &String| find(&shape, &constraint.table, column).map(|parent| Line { parent, child: None });
    let (mut parent, mut child, mut rules, mut value) = (shape.id, None, (None, None), None);
    let (kind, lines) = match &constraint.kind {
        ConstraintKind::PrimaryKey { columns } => (PRIMARY_KEY, columns.iter().map(own).collect::<Result<Vec<_>>>()?),
        ConstraintKind::Unique { columns } => (UNIQUE, columns.iter().map(own).collect::<Result<Vec<_>>>()?),
        ConstraintKind::NotNull { column } => (NOT_NULL, vec![own(column)?]),
        ConstraintKind::Default { column, value: default } => {
            value = Some(default);
            (DEFAULT, vec![own(column)?])
        }
        ConstraintKind::Check { column, expression } => {
            value = Some(expression);
            let nowhere = Line { parent: (None, NOWHERE), child: None };
            (CHECK, vec![column.as_ref().map_or(Ok(nowhere), own)?])
        }
        ConstraintKind::ForeignKey { parent: referred, columns, update_rule, delete_rule, .. } => {
            let referred_shape = writer.needed_shape(referred, "put", object()).await?;
            (parent, child, rules) = (referred_shape.id, Some(shape.id), (Some(*update_rule), Some(*delete_rule)));
            let mut lines = Vec::with_capacity(columns.len());
            for pair in columns {
                let child = find(&shape, &constraint.table, &pair.column)?;
                lines.push(Line { parent: find(&referred_shape, referred, &pair.parent_column)?, child: Some(child) });
            }
            (FOREIGN_KEY, lines)
        }
    };
    let bit = |on: bool, bit: i64| if on { bit } else { 0 };
    let bits = bit(constraint.enable, ENABLE) + bit(constraint.validate, VALIDATE) + bit(constraint.rely, RELY);
    let mut rows = Rows::new("KEY_CONSTRAINTS");
    for (position, line) in (1i64..).zip(lines) {
        let (child_list, child_index) = line.child.map_or((None, None), |(list, index)| (list, Some(index)));
        let cells = vec![
            cell("CHILD_CD_ID", child_list),
            cell("CHILD_INTEGER_IDX", child_index),
            cell("CHILD_TBL_ID", child),
            cell("PARENT_CD_ID", line.parent.0),
            cell("PARENT_INTEGER_IDX", line.parent.1),
            cell("PARENT_TBL_ID", parent),
            cell("POSITION", position),
            cell("CONSTRAINT_NAME", &constraint.name),
            cell("CONSTRAINT_TYPE", kind),
            cell("UPDATE_RULE", rules.0),
            cell("DELETE_RULE", rules.1),
            cell("ENABLE_VALIDATE_RELY", bits),
            cell_if("DEFAULT_VALUE", value, value.is_none()),
        ];
        rows.push(&schema, &object, cells)?;
    }
    rows.insert(&mut writer.reader.connection, &schema).await?;
    writer.note_constraint(before, constraint).await
}

/// The constraint of this one's name as it is, where what happens is kept.
async fn read(writer: &mut Writer<'_>, constraint: &Constraint) -> Result<Option<Constraint>> {
    if !writer.logs() {
        return Ok(None);
    }
    let names = std::slice::from_ref(&constraint.table.table);
    let found = constraints(writer.reader, &constraint.table.database(), names).await?.found;
    Ok(found.into_iter().find(|found| found.name == constraint.name))
}

/// Before Hive 4 a name is taken once in the whole metastore.
async fn refuse_taken_name(writer: &mut Writer<'_>, constraint: &Constraint, table: i64) -> Result<()> {
    let version = writer.reader.schema.version;
    if version >= Version::V4_0 || !writer.reader.schema.has_table("KEY_CONSTRAINTS") {
        return Ok(());
    }
    let sql = format!(
        "SELECT k.\"PARENT_TBL_ID\" FROM \"KEY_CONSTRAINTS\" k WHERE k.\"CONSTRAINT_NAME\" = ? AND NOT ({}) LIMIT 1",
        on_table("k.", table)
    );
    match writer.number(&sql, &[(&constraint.name).into()]).await? {
        None => Ok(()),
        Some(other) => Err(Error::CannotHold {
            object: format!("constraint {} on {}", constraint.name, constraint.table),
            version,
            why: format!("names of constraints are unique in it, and TBLS {other} has one of this name"),
        }),
    }
}

fn on_table(alias: &str, table: i64) -> String {
    format!(
        "({alias}\"CONSTRAINT_TYPE\" <> {FOREIGN_KEY} AND {alias}\"PARENT_TBL_ID\" = {table}) \
         OR ({alias}\"CONSTRAINT_TYPE\" = {FOREIGN_KEY} AND {alias}\"CHILD_TBL_ID\" = {table})"
    )
}

pub(super) async fn drop(writer: &mut Writer<'_>, table: &TableName, name: &str) -> Result<()> {
    if !writer.reader.schema.has_table("KEY_CONSTRAINTS") {
        return Ok(());
    }
    let Some(shape) = writer.shape(table).await? else { return Ok(()) };
    if remove(writer, shape.id, name).await? > 0
        && let Some(table) = writer.table_now(table).await?
    {
        writer.note(Happened::DroppedConstraint { table, name: name.to_owned() });
    }
    Ok(())
}

/// Removes a constraint, and says of how many rows it was.
async fn remove(writer: &mut Writer<'_>, table: i64, name: &str) -> Result<u64> {
    let sql = format!("DELETE FROM \"KEY_CONSTRAINTS\" WHERE \"CONSTRAINT_NAME\" = ? AND ({})", on_table("", table));
    writer.reader.connection.execute(&sql, &[name.into()]).await
}

/// A table got another list of columns: its constraints follow their columns by name. One whose column is gone goes.
pub(super) async fn follow(
    writer: &mut Writer<'_>,
    table: i64,
    (old, old_columns): (i64, &[Column]),
    (new, new_columns): (i64, &[Column]),
) -> Result<()> {
    if !writer.reader.schema.has_table("KEY_CONSTRAINTS") {
        return Ok(());
    }
    for side in ["PARENT", "CHILD"] {
        let which = format!("\"{side}_TBL_ID\" = {table} AND \"{side}_CD_ID\" = {old}");
        let sql = format!(
            "SELECT \"CONSTRAINT_NAME\", \"{side}_INTEGER_IDX\", CASE WHEN \"CONSTRAINT_TYPE\" = {FOREIGN_KEY} \
             THEN \"CHILD_TBL_ID\" ELSE \"PARENT_TBL_ID\" END FROM \"KEY_CONSTRAINTS\" WHERE {which}"
        );
        let mut rows = Vec::new();
        for mut row in writer.reader.connection.query(&sql, &[]).await? {
            rows.push((row.string(0)?, row.int(1)?.unwrap_or(-1), row.id(2)?));
        }
        for (name, index, constrained) in &rows {
            if moved(*index, old_columns, new_columns).is_none() {
                remove(writer, *constrained, name).await?;
            }
        }
        let mut indexes: Vec<i64> = rows.into_iter().map(|(_, index, _)| index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        for index in indexes {
            let Some(at) = moved(index, old_columns, new_columns) else { continue };
            // The list's id changes with the place, so that no row is moved twice.
            let sql = format!(
                "UPDATE \"KEY_CONSTRAINTS\" SET \"{side}_CD_ID\" = ?, \"{side}_INTEGER_IDX\" = ? \
                 WHERE {which} AND \"{side}_INTEGER_IDX\" = ?"
            );
            let values: [Value; 3] = [new.into(), at.into(), index.into()];
            writer.reader.connection.execute(&sql, &values).await?;
        }
    }
    Ok(())
}

/// Where the column at this place is in the new list.
fn moved(index: i64, old: &[Column], new: &[Column]) -> Option<i64> {
    let column = old.get(usize::try_from(index).ok()?)?;
    let at = new.iter().position(|each| each.name == column.name)?;
    i64::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnknownFields;

    fn columns(names: &[&str]) -> Vec<Column> {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            type_name: "int".to_owned(),
            comment: None,
            unknown: UnknownFields::default(),
        };
        names.iter().map(column).collect()
    }

    #[test]
    fn a_constraint_follows_its_column_by_name() {
        let (old, new) = (columns(&["a", "b", "c"]), columns(&["c", "x", "a"]));
        assert_eq!(moved(0, &old, &new), Some(2));
        assert_eq!(moved(2, &old, &new), Some(0));
        assert_eq!(moved(1, &old, &new), None);
        assert_eq!(moved(-1, &old, &new), None);
        assert_eq!(moved(9, &old, &new), None);
    }
}
