//! Constraints. Hive does not enforce them; its optimizer trusts those that say RELY.

use super::TableName;
use serde::Serialize;

/// A constraint on a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Constraint {
    /// The constrained table; for a foreign key the one that refers.
    pub table: TableName,
    /// Unique within the table; unique in the whole metastore before Hive 4.
    pub name: String,
    /// What it says.
    pub kind: ConstraintKind,
    /// ENABLE
    pub enable: bool,
    /// VALIDATE
    pub validate: bool,
    /// RELY
    pub rely: bool,
}

/// What a constraint says. Columns in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ConstraintKind {
    /// These columns are the key.
    PrimaryKey {
        /// The key's columns.
        columns: Vec<String>,
    },
    /// These columns refer to a key of another table.
    ForeignKey {
        /// The table referred to.
        parent: TableName,
        /// The name of the key referred to.
        parent_key: Option<String>,
        /// Pairs of columns.
        columns: Vec<ForeignColumn>,
        /// Hive's number.
        update_rule: i32,
        /// Hive's number.
        delete_rule: i32,
    },
    /// These columns are unique together.
    Unique {
        /// The columns.
        columns: Vec<String>,
    },
    /// This column is never null.
    NotNull {
        /// The column.
        column: String,
    },
    /// This column has a default; Hive 3.1 and later.
    Default {
        /// The column.
        column: String,
        /// An expression.
        value: String,
    },
    /// An expression holds; Hive 3.1 and later.
    Check {
        /// The column, for one that was written at a column.
        column: Option<String>,
        /// The expression.
        expression: String,
    },
}

/// A pair of columns of a foreign key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ForeignColumn {
    /// Of the constrained table.
    pub column: String,
    /// Of the table referred to.
    pub parent_column: String,
}
