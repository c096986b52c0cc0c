//! In what two versions of a table differ, in words that name the field, the parameter or the column. Pure.

use crate::model::Table;
use crate::object::Object;
use crate::volatile::strip;
use serde_json::{Map, Value};

/// How many differences are named.
const MAX_NAMED: usize = 8;

/// Where two versions of a table differ, as paths in their lines of a dump (`parameters.owner`, `storage.location`,
/// `storage.columns.price.type_name`); what is not compared is left out. Never empty.
pub fn differing(shall: &Table, is: &Table) -> String {
    let value = |table: &Table| {
        let mut object = Object::Table(Box::new(table.clone()));
        strip(&mut object);
        serde_json::to_value(object).unwrap_or_default()
    };
    let mut paths = Vec::new();
    walk("", &value(shall), &value(is), &mut paths);
    let more = paths.len().saturating_sub(MAX_NAMED);
    paths.truncate(MAX_NAMED);
    match (paths.is_empty(), more) {
        (true, _) => "the table itself".to_owned(),
        (false, 0) => paths.join(", "),
        (false, more) => format!("{}, and {more} more", paths.join(", ")),
    }
}

fn walk(path: &str, a: &Value, b: &Value, paths: &mut Vec<String>) {
    match (named(a), named(b)) {
        _ if a == b => {}
        (Some(a), Some(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let before = paths.len();
            for key in keys {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&inner, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), paths);
            }
            // The same columns in another order.
            if paths.len() == before {
                paths.push(format!("{path} (their order)"));
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

/// An object by its keys, a list of columns by their names.
fn named(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map.clone()),
        Value::Array(items) if !items.is_empty() => {
            let name = |item: &Value| Some((item.get("name")?.as_str()?.to_owned(), item.clone()));
            let map: Map<String, Value> = items.iter().map(name).collect::<Option<_>>()?;
            (map.len() == items.len()).then_some(map)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_named_by_its_path_and_columns_by_their_name() {
        let before = json!({"name": "t", "storage": {"location": "/a", "columns": [
            {"name": "id", "type_name": "bigint"}, {"name": "price", "type_name": "int"}]},
            "parameters": {"a": "1", "b": "2"}});
        let table: [(&str, Value, &[&str]); 7] = [
            ("/storage/location", json!("/b"), &["storage.location"]),
            ("/parameters/b", json!("3"), &["parameters.b"]),
            ("/parameters", json!({"a": "1", "c": "2"}), &["parameters.b", "parameters.c"]),
            ("/storage/columns/1/type_name", json!("string"), &["storage.columns.price.type_name"]),
            ("/storage/columns/1/name", json!("cost"), &["storage.columns.price", "storage.columns.cost"]),
            ("/storage/columns", json!([]), &["storage.columns"]),
            (
                "/storage/columns",
                json!([{"name": "price", "type_name": "int"}, {"name": "id", "type_name": "bigint"}]),
                &["storage.columns (their order)"],
            ),
        ];
        for (place, value, expected) in table {
            let (mut after, mut paths) = (before.clone(), Vec::new());
            *after.pointer_mut(place).unwrap() = value;
            walk("", &before, &after, &mut paths);
            assert_eq!(paths, expected, "{place}");
        }
        let mut paths = Vec::new();
        walk("", &before, &before, &mut paths);
        assert_eq!(paths, [""; 0]);
    }
}
