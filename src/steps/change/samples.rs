//! A table for the tests of this folder.

use crate::plan::model::{PlanSource, Sql};
use crate::postgres::catalog::{Column, Part, Table, Writes};
use crate::postgres::key::{Key, KeyColumn};
use crate::postgres::walk::Walk;

pub(super) fn users() -> Table {
    let column =
        |name: &str, type_name: &str, writes| Column { name: name.into(), type_name: type_name.into(), writes };
    let walk = Walk::Key(Key { columns: vec![KeyColumn::new("id", "bigint")] });
    Table {
        oid: 1,
        schema: "public".into(),
        name: "users".into(),
        columns: vec![
            column("id", "bigint", Writes::Anyone),
            column("email", "text", Writes::Anyone),
            column("region", "text", Writes::Anyone),
            column("lower_email", "text", Writes::Generated),
            column("number", "bigint", Writes::Identity),
        ],
        partition_key: Vec::new(),
        parts: vec![Part { oid: 1, schema: "public".into(), name: "users".into(), is_partition: false, walk }],
    }
}

pub(super) fn partition() -> Part {
    let part = users().parts.remove(0);
    Part { oid: 42, schema: "old".into(), name: "users_eu".into(), is_partition: true, ..part }
}

pub(super) fn sql(text: &str) -> Sql {
    Sql { text: text.into(), span: 0..0 }
}

pub(super) fn source() -> PlanSource {
    PlanSource { path: None, label: "plan.toml".into(), text: String::new() }
}
