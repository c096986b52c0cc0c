//! Reading a table of TOML key by key: what is left over at the end is an unknown key.

use super::PolicyError;
use distcp::place::nearest;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A table of the file, and which keys were asked of it.
pub(super) struct Reader {
    file: String,
    /// Empty for the root, else with a dot at the end.
    path: String,
    table: Table,
    known: Vec<String>,
}

impl Reader {
    /// The file itself.
    pub(super) fn root(text: &str, file: &str) -> Result<Self, PolicyError> {
        match text.parse() {
            Ok(table) => Ok(Self { file: file.to_owned(), path: String::new(), table, known: Vec::new() }),
            Err(error) => {
                // The message alone: the rendered form shows the line, which may hold a password.
                let error: toml::de::Error = error;
                let line =
                    error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
                let place = line.map(|line| format!(" in line {line}")).unwrap_or_default();
                Err(PolicyError::Syntax { file: file.to_owned(), why: format!("{}{place}", error.message()) })
            }
        }
    }

    /// That this key cannot be used.
    pub(super) fn bad(&self, key: &str, why: &str) -> PolicyError {
        PolicyError::Bad { file: self.file.clone(), key: format!("{}{key}", self.path), why: why.to_owned() }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.remove(key)
    }

    /// The value of a key.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, PolicyError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value
            .try_into()
            .map(Some)
            .map_err(|error: toml::de::Error| self.bad(key, &format!("cannot be used: {}", error.message())))
    }

    /// The value of a key that must be there.
    pub(super) fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, PolicyError> {
        self.optional(key)?.ok_or_else(|| self.bad(key, "is missing"))
    }

    /// The value of a key as `parse` reads it from a text or a number.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, PolicyError> {
        let text = match self.take(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text,
            Some(Value::Integer(number)) => number.to_string(),
            Some(_) => return Err(self.bad(key, "is neither a text nor a number")),
        };
        parse(&text).map(Some).map_err(|why| self.bad(key, &format!("cannot be used: {why}")))
    }

    /// A table, empty when it is not there.
    pub(super) fn table(&mut self, key: &str) -> Result<Self, PolicyError> {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => return Err(self.bad(key, "is no table")),
        };
        Ok(Self { file: self.file.clone(), path: format!("{}{key}.", self.path), table, known: Vec::new() })
    }

    /// The tables of an array, none when it is not there.
    pub(super) fn tables(&mut self, key: &str) -> Result<Vec<Self>, PolicyError> {
        let array: Vec<Table> = self.optional(key)?.unwrap_or_default();
        let path = |at: usize| format!("{}{key}[{at}].", self.path);
        let reader = |(at, table)| Self { file: self.file.clone(), path: path(at), table, known: Vec::new() };
        Ok(array.into_iter().enumerate().map(reader).collect())
    }

    /// The one value of a table that holds nothing else.
    pub(super) fn only<T: DeserializeOwned>(mut self, key: &str) -> Result<T, PolicyError> {
        let value = self.required(key)?;
        self.end()?;
        Ok(value)
    }

    /// Whatever was not asked for is unknown.
    pub(super) fn end(self) -> Result<(), PolicyError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(PolicyError::UnknownKey {
                file: self.file,
                key: format!("{}{key}", self.path),
                hint: nearest(key, self.known.iter().map(String::as_str)),
            }),
        }
    }
}
