//! Values and rows as all three databases give and take them.
//!
//! Plain data. Reading a value as what it is not is an error that names the column's place, never a silent default.

use crate::metastore::{Error, Result};
use manifest::Class;

/// A value of a column or a parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Only a parameter, and PostgreSQL's only.
    Array(Array),
}

/// Many values as one parameter: the statement is the same for any number of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Array {
    Bool(Vec<Option<bool>>),
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&Vec<u8>> for Value {
    fn from(value: &Vec<u8>) -> Self {
        Self::Bytes(value.clone())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<'a> From<&'a Option<String>> for Value {
    fn from(value: &'a Option<String>) -> Self {
        value.as_ref().into()
    }
}

impl Value {
    /// Appends its kind and its bytes, so that no two lists of values are the same bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let sized = |out: &mut Vec<u8>, kind: u8, bytes: &[u8]| {
            out.push(kind);
            out.extend_from_slice(&bytes.len().to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Null => out.push(0),
            Self::Bool(value) => sized(out, 1, &[u8::from(*value)]),
            Self::Int(number) => sized(out, 2, &number.to_le_bytes()),
            Self::Float(number) => sized(out, 3, &number.to_le_bytes()),
            Self::Text(text) => sized(out, 4, text.as_bytes()),
            Self::Bytes(bytes) => sized(out, 5, bytes),
            // No result has one.
            Self::Array(_) => out.push(6),
        }
    }

    /// Bytes that it takes in a statement, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(Array::Text(texts)) => texts.iter().flatten().map(|text| text.len() + 4).sum(),
            _ => 8,
        }
    }
}

/// A row of a result: its values are taken out, each once.
#[derive(Debug, PartialEq)]
pub(crate) struct Row(pub(crate) Vec<Value>);

impl Row {
    fn take(&mut self, column: usize) -> Result<Value> {
        match self.0.get_mut(column) {
            Some(value) => Ok(std::mem::take(value)),
            None => Err(wrong(column, "a column", &Value::Null)),
        }
    }

    /// A number, if it is not null.
    pub(crate) fn int(&mut self, column: usize) -> Result<Option<i64>> {
        match self.take(column)? {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(number)),
            Value::Bool(value) => Ok(Some(value.into())),
            Value::Text(text) => text.parse().map(Some).map_err(|_| wrong(column, "a number", &Value::Text(text))),
            other => Err(wrong(column, "a number", &other)),
        }
    }

    /// A number that is never null: an id, an index.
    pub(crate) fn id(&mut self, column: usize) -> Result<i64> {
        self.int(column)?.ok_or_else(|| wrong(column, "an id", &Value::Null))
    }

    /// A number of 32 bits; null is 0, as Thrift would say it.
    pub(crate) fn int32(&mut self, column: usize) -> Result<i32> {
        let number = self.int(column)?.unwrap_or(0);
        i32::try_from(number).map_err(|_| wrong(column, "a number of 32 bits", &Value::Int(number)))
    }

    /// A yes or no; null is no. `Y` and `1` are what old drivers wrote.
    pub(crate) fn bool(&mut self, column: usize) -> Result<bool> {
        match self.take(column)? {
            Value::Null => Ok(false),
            Value::Bool(value) => Ok(value),
            Value::Int(number) => Ok(number != 0),
            Value::Text(text) => Ok(matches!(text.as_str(), "Y" | "1" | "t")),
            other => Err(wrong(column, "a yes or no", &other)),
        }
    }

    /// A fraction, if it is not null. SQLite keeps what it has no number for as text.
    pub(crate) fn float(&mut self, column: usize) -> Result<Option<f64>> {
        match self.take(column)? {
            Value::Null => Ok(None),
            Value::Float(number) => Ok(Some(number)),
            #[expect(clippy::cast_precision_loss, reason = "SQLite keeps whole fractions as integers below 2^53")]
            Value::Int(number) => Ok(Some(number as f64)),
            Value::Text(text) => text.parse().map(Some).map_err(|_| wrong(column, "a fraction", &Value::Text(text))),
            other => Err(wrong(column, "a fraction", &other)),
        }
    }

    /// A text, if it is not null.
    pub(crate) fn text(&mut self, column: usize) -> Result<Option<String>> {
        match self.take(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            Value::Int(number) => Ok(Some(number.to_string())),
            Value::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(error) => Err(wrong(column, "text", &Value::Bytes(error.into_bytes()))),
            },
            other => Err(wrong(column, "text", &other)),
        }
    }

    /// A text; null is empty.
    pub(crate) fn string(&mut self, column: usize) -> Result<String> {
        Ok(self.text(column)?.unwrap_or_default())
    }

    /// Bytes, if they are not null.
    pub(crate) fn bytes(&mut self, column: usize) -> Result<Option<Vec<u8>>> {
        match self.take(column)? {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Text(text) => Ok(Some(text.into_bytes())),
            other => Err(wrong(column, "bytes", &other)),
        }
    }
}

fn wrong(column: usize, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Int(number) => format!("the number {number}"),
        Value::Float(number) => format!("the fraction {number}"),
        Value::Text(text) => format!("a text of {} bytes", text.len()),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Array(_) => "an array".to_owned(),
    };
    Error::Failed {
        operation: "read".to_owned(),
        object: format!("column {} of a row", column + 1),
        why: format!("{found}, where {expected} should be"),
        class: Class::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_the_empty_text_are_two_things() {
        let mut row = Row(vec![Value::Null, Value::from("")]);
        assert_eq!(row.text(0).unwrap(), None);
        assert_eq!(row.text(1).unwrap(), Some(String::new()));
    }

    #[test]
    fn a_value_of_another_type_is_an_error_and_not_a_default() {
        let mut row = Row(vec![Value::Bytes(vec![0xff]), Value::from("x"), Value::Int(1 << 40)]);
        assert!(row.text(0).unwrap_err().to_string().contains("1 bytes, where text should be"));
        assert!(row.int(1).is_err());
        assert!(row.int32(2).is_err());
        assert!(row.int(3).is_err());
    }

    #[test]
    fn fractions_that_sqlite_keeps_as_text_or_integers_come_back() {
        let mut row = Row(vec![Value::from("NaN"), Value::Int(3), Value::from("-inf")]);
        assert!(row.float(0).unwrap().is_some_and(f64::is_nan));
        assert_eq!(row.float(1).unwrap(), Some(3.0));
        assert_eq!(row.float(2).unwrap(), Some(f64::NEG_INFINITY));
    }
}
