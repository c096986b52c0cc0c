//! JSON of which some values are exchanged: everything else stays as it was written, in its order.
//!
//! Pure.

use super::Result;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of an object, in their order, each as it was written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((Cow::Owned(key), value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

/// The object with other values: `exchange` is given each field with its text, and answers with what it becomes, if it does.
pub fn object(text: &str, exchange: &mut dyn FnMut(&str, &str) -> Result<Option<String>>) -> Result<String> {
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    let mut out = String::with_capacity(text.len());
    out.push('{');
    for (at, (key, value)) in fields.0.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&quoted(key)?);
        out.push(':');
        match exchange(key, value.get())? {
            Some(new) => out.push_str(&new),
            None => out.push_str(value.get()),
        }
    }
    out.push('}');
    Ok(out)
}

/// The same for a list.
pub fn list(text: &str, exchange: &mut dyn FnMut(&str) -> Result<String>) -> Result<String> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| format!("it is no JSON list: {error}"))?;
    let items: Result<Vec<String>> = items.into_iter().map(|item| exchange(item.get())).collect();
    Ok(format!("[{}]", items?.join(",")))
}

/// A text as JSON writes it.
pub fn quoted(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|error| error.to_string())
}

/// The text that is written so.
pub fn text(raw: &str) -> Result<String> {
    serde_json::from_str(raw).map_err(|error| format!("a path is no text: {error}"))
}
