//! The example plans, and the page of every setting.

use std::path::PathBuf;

use super::format::TABLES;
use super::load::from_file;
use super::schema;
use super::tests::env;

fn examples() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/plans");
    let entries = std::fs::read_dir(directory).expect("the examples are there");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn every_example_loads_and_the_schema_knows_its_keys() {
    fn assert_known(value: &toml::Value, schema: &serde_json::Value, place: &str) {
        // Of what may be written in more than one way, the way of this value.
        let is_table = |schema: &&serde_json::Value| schema["properties"].is_object();
        let is_list = |schema: &&serde_json::Value| schema["items"].is_object();
        let ways = || schema["anyOf"].as_array().into_iter().flatten();
        match value {
            toml::Value::Table(entries) => {
                let schema = ways().find(is_table).unwrap_or(schema);
                for (key, value) in entries {
                    let inner = schema["properties"].get(key).or_else(|| schema.get("additionalProperties"));
                    let inner = inner.filter(|inner| inner.is_object());
                    assert_known(value, inner.unwrap_or_else(|| panic!("{place}.{key} is in the schema")), key);
                }
            }
            toml::Value::Array(items) => {
                let schema = ways().find(is_list).unwrap_or(schema);
                for item in items {
                    assert_known(item, &schema["items"], place);
                }
            }
            _ => assert!(schema.get("type").or_else(|| schema.get("anyOf")).is_some(), "{place} has a type"),
        }
    }
    let schema: serde_json::Value = serde_json::from_str(&schema::json()).expect("JSON");
    assert!(examples().len() >= 3);
    for path in examples() {
        let plan = from_file(&path, &env).unwrap_or_else(|error| panic!("{error}"));
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        assert_eq!(Some(plan.name), stem, "an example is named as its file");
        let document: toml::Table = plan.source.text.parse().expect("TOML");
        assert_known(&toml::Value::Table(document), &schema, "plan");
    }
}

#[test]
fn the_page_of_every_setting_has_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/plans/every-setting.toml");
    let text = std::fs::read_to_string(path).expect("the page is there");
    for table in TABLES {
        for key in table.keys {
            let header = format!("[{}]", table.full_name(key.name));
            let named = format!("[{}.", table.full_name(key.name));
            let is_there = text.contains(&format!("{} =", key.name)) || text.contains(&header) || text.contains(&named);
            assert!(is_there, "{}.{}", table.path, key.name);
        }
    }
}
