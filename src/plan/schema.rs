//! The JSON Schema of a plan, for editors: completion and help while writing one.

use schemars::SchemaGenerator;
use serde_json::{Map, Value};

use super::raw::RawPlan;

/// The JSON Schema of a plan, pretty, with a line break at the end. A copy lies in `assets/plan.schema.json`.
#[must_use]
pub fn json() -> String {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<RawPlan>().to_value();
    without_null(&mut schema);
    format!("{schema:#}\n")
}

/// Takes out `null`, which an optional value may be in JSON, but which TOML does not have.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(only) = only_one(object, "type", |kind| *kind == "null") {
                object.insert("type".to_owned(), only);
            }
            if let Some(Value::Object(only)) = only_one(object, "anyOf", |one| one["type"] == "null") {
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Removes what `is_null` from the list at `key`; the single one that is left, if it is single.
fn only_one(object: &mut Map<String, Value>, key: &str, is_null: impl Fn(&Value) -> bool) -> Option<Value> {
    let list = object.get_mut(key)?.as_array_mut()?;
    list.retain(|one| !is_null(one));
    if list.len() == 1 { list.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::format::TABLES;

    #[test]
    fn the_checked_in_schema_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/plan.schema.json");
        if std::env::var("HOWDAH_BLESS").is_ok_and(|bless| bless == "1") {
            std::fs::write(path, json()).expect("assets can be written");
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(stored, json(), "run this test with HOWDAH_BLESS=1 to write {path}");
    }

    #[test]
    fn the_schema_and_the_format_know_the_same_keys() {
        let schema: Value = serde_json::from_str(&json()).expect("JSON");
        for table in TABLES {
            let inner = match table.path {
                "" => String::new(),
                "step" => "/properties/step/items".to_owned(),
                "cache.NAME" => "/properties/cache/additionalProperties".to_owned(),
                path if table.in_step().is_some() => {
                    format!("/properties/step/items/properties/{}", path.trim_start_matches("step."))
                }
                "alerts.rule" => "/properties/alerts/properties/rule/items".to_owned(),
                "notify" => "/properties/notify/items".to_owned(),
                "limits.probe" => "/properties/limits/properties/probe/items".to_owned(),
                path => format!("/properties/{}", path.replace('.', "/properties/")),
            };
            let at = schema.pointer(&inner).expect("the table is in the schema");
            // A signal may be written in other ways than as a table.
            let table_of_ways = |ways: &'_ Vec<Value>| ways.iter().position(|way| way["properties"].is_object());
            let at = at["anyOf"].as_array().and_then(table_of_ways).map_or(at, |way| &at["anyOf"][way]);
            let properties = at["properties"].as_object().expect("it has properties");
            let in_schema: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            let in_format: BTreeSet<&str> = table.keys.iter().map(|key| key.name).collect();
            assert_eq!(in_schema, in_format, "[{}]", table.path);
            assert_eq!(at["additionalProperties"], false, "[{}]", table.path);
            for (key, property) in properties {
                assert!(property["description"].is_string(), "{}.{key} is described", table.path);
            }
        }
    }

    #[test]
    fn nothing_in_the_schema_may_be_null() {
        fn assert_none(value: &Value, place: &str) {
            match value {
                Value::Null => panic!("{place} is null"),
                Value::String(text) => assert!(!(place.ends_with("type") && text == "null"), "{place}"),
                Value::Array(items) => items.iter().for_each(|item| assert_none(item, place)),
                Value::Object(object) => {
                    object.iter().for_each(|(key, value)| assert_none(value, &format!("{place}.{key}")));
                }
                Value::Bool(_) | Value::Number(_) => {}
            }
        }
        assert_none(&serde_json::from_str(&json()).expect("JSON"), "");
    }

    #[test]
    fn what_a_plan_must_have_is_required() {
        let schema: Value = serde_json::from_str(&json()).expect("JSON");
        assert_eq!(schema["required"], serde_json::json!(["step"]));
        assert_eq!(schema["properties"]["step"]["minItems"], 1);
        assert_eq!(schema["properties"]["step"]["items"]["required"], serde_json::json!(["name"]));
    }
}
