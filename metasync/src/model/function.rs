//! Permanent functions and the files that they need.

use super::{DatabaseName, Principal, UnknownFields};
use serde::Serialize;

/// A permanent function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Its database.
    #[serde(flatten)]
    pub database: DatabaseName,
    /// Lower case.
    pub name: String,
    /// The Java class.
    pub class_name: Option<String>,
    /// Who owns it.
    pub owner: Option<Principal>,
    /// Seconds since 1970.
    pub create_time: i32,
    /// In which language.
    pub kind: FunctionKind,
    /// In order.
    pub resources: Vec<Resource>,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

/// The language of a function, with Hive's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionKind {
    /// 1, the only one.
    Java,
}

/// A file that a function needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// A URL.
    pub uri: String,
}

/// The kind of a resource, with Hive's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// 1
    Jar,
    /// 2
    File,
    /// 3
    Archive,
}
