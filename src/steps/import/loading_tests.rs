//! What is sent to load a file.

use super::*;
use crate::plan::model::StepKind;
use crate::postgres::catalog::Column;

fn import(more: &str) -> Import {
    let text = format!("[[step]]\nname = 'x'\nimport = 'a'\ninto = 't'\n{more}\n");
    let plan = crate::plan::load::from_text("p", None, &text, &|_: &str| None).expect("a plan");
    let StepKind::Import(import) = plan.steps[0].kind.clone() else { panic!("an import") };
    *import
}

fn table() -> Table {
    let column =
        |name: &str, type_name: &str, writes| Column { name: name.into(), type_name: type_name.into(), writes };
    Table {
        oid: 1,
        schema: "public".into(),
        name: "t".into(),
        columns: vec![
            column("id", "bigint", Writes::Identity),
            column("email", "text", Writes::Anyone),
            column("price", "numeric", Writes::Anyone),
            column("sum", "numeric", Writes::Generated),
        ],
        partition_key: Vec::new(),
        parts: Vec::new(),
    }
}

fn facts() -> Facts {
    Facts { defaults: vec![("price".into(), "1.5".into())], primary_key: vec!["id".into()], denied: vec!["sum".into()] }
}

fn ordered(names: &[&str]) -> Fields {
    Fields::Ordered(names.iter().map(|name| (*name).to_owned()).collect())
}

fn planned(more: &str, fields: &Fields) -> Result<LoadSql, Refusal> {
    plan(&table(), &facts(), &import(more), FileFormat::Csv, fields, 0)
}

#[test]
fn fields_that_are_columns_are_copied_right_into_the_table_in_the_files_order() {
    let sql = planned("delimiter = ';'", &ordered(&["price", "id"])).expect("a plan");
    assert_eq!(
        sql.copy,
        "COPY \"public\".\"t\" (\"price\", \"id\") FROM STDIN WITH (FORMAT csv, DELIMITER E';', ENCODING E'UTF8')"
    );
    assert_eq!((sql.stage, sql.insert), (None, None));
    let renamed = planned("columns = { email = '\"E-Mail\"' }", &ordered(&["id", "E-Mail"])).expect("a plan");
    assert!(renamed.copy.contains("(\"id\", \"email\")"), "{}", renamed.copy);
}

#[test]
fn expressions_and_conflicts_go_through_a_stage() {
    let sql = planned(
        "columns = { email = 'lower(mail)' }\nskip = ['note']\non_conflict = 'update'",
        &ordered(&["id", "mail", "note"]),
    )
    .expect("a plan");
    let stage = sql.stage.expect("a stage");
    assert!(stage.contains("\"id\" bigint, \"mail\" text, \"note\" text"), "{stage}");
    let insert = sql.insert.expect("an insert");
    let insert = insert.as_str();
    assert!(insert.starts_with("INSERT INTO \"public\".\"t\" (\"email\", \"id\") OVERRIDING SYSTEM VALUE"), "{insert}");
    assert!(insert.contains("(lower(mail)) AS \"email\", howdah_f.\"id\" AS \"id\""), "{insert}");
    assert!(insert.ends_with("ON CONFLICT (\"id\") DO UPDATE SET \"email\" = excluded.\"email\""), "{insert}");
}

#[test]
fn documents_keep_the_defaults_of_what_they_do_not_name() {
    let fields = Fields::Keyed(vec!["id".into(), "price".into(), "unknown".into()]);
    let sql = plan(&table(), &facts(), &import(""), FileFormat::JsonLines, &fields, 3).expect("a plan");
    assert!(sql.stage.expect("a stage").contains("\"howdah_stage_3\""));
    let insert = sql.insert.expect("an insert");
    assert!(insert.as_str().contains("IS NULL THEN 1.5 ELSE r.\"price\" END AS howdah_c1"), "{}", insert.as_str());
    assert_eq!(sql.unknown, ["unknown"]);
}

#[test]
fn keys_that_come_late_have_their_columns_and_an_update_sets_only_what_was_seen() {
    let fields = Fields::Keyed(vec!["id".into()]);
    let columns = |more: &str| {
        plan(&table(), &facts(), &import(more), FileFormat::JsonLines, &fields, 0).expect("a plan").columns
    };
    assert_eq!(columns(""), ["id", "email", "price"]);
    assert_eq!(columns("skip = ['price']"), ["id", "email"]);
    assert_eq!(columns("on_conflict = 'update'"), ["id"]);
    let nothing = Fields::Keyed(vec!["no".into()]);
    let refusal = plan(&table(), &facts(), &import(""), FileFormat::JsonLines, &nothing, 0).expect_err("no column");
    assert!(refusal.message.contains("none of the fields has a column"), "{refusal:?}");
}

#[test]
fn what_cannot_be_loaded_is_refused_with_a_hint() {
    let table = [
        ("", ordered(&["id", "emial"]), "no column for the field `emial`", "did you mean column `email`?"),
        ("", ordered(&["id", "zzz"]), "no column for the field `zzz`", "skip = [\"zzz\"]"),
        ("", ordered(&["id", "sum"]), "is generated", "skip"),
        ("skip = ['x']", ordered(&["id"]), "the file has no field `x`", "its fields are id"),
        ("on_conflict = 'skip'", ordered(&["email"]), "`id` is part of the key", "key ="),
        ("on_conflict = 'skip'\nkey = ['no']", ordered(&["email"]), "no column `no`", "`key`"),
        ("columns = { no = '1' }", ordered(&["email"]), "no column `no`", ""),
    ];
    for (more, fields, message, hint) in table {
        let refusal = planned(more, &fields).expect_err(message);
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{refusal:?}");
    }
}
