//! What a plan does, as one number: a resumed run must do what it began to do.

use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::indexing::Index;
use super::model::{Backfill, Change, Expected, Plan, Sql, Step, StepKind, Undo};
use super::movers::{
    Compression, Copy, Dialect, FileFormat, FileUnit, Import, OnConflict, Program, RowProgram, Sink, Source, Transform,
};

impl Plan {
    /// SHA-256 over the fingerprints of all steps in their order, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(Step::fingerprint).collect();
        hash(&json!(steps))
    }
}

impl Step {
    /// SHA-256 of what the step does, in hex: kind, SQL (after `${ENV}` was filled in), what takes it
    /// back, and expectation.
    ///
    /// Its name, its place in the file, comments and limits are left out: a run whose statement timed out may go on
    /// with a longer `timeout`. The columns of `set` are taken in alphabetical order, since PostgreSQL sets them all at
    /// once.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hash(&canonical(&self.kind))
    }
}

/// A change of this form makes every run of an older howdah look changed: raise the number only with good reason.
const FORM: u32 = 1;

fn canonical(kind: &StepKind) -> Value {
    match kind {
        StepKind::Statement(statement) => {
            json!([FORM, "statement", statement.sql.text, text(statement.down.as_ref()), statement.cleanup])
        }
        StepKind::Backfill(step) => backfill(step),
        StepKind::Import(step) => import(step),
        StepKind::Copy(step) => copy(step),
        StepKind::Transform(step) => transform(step),
        StepKind::Files(step) => {
            let by = FileUnit::WORDS[step.by as usize];
            json!([FORM, "files", texts(&step.files), program(&step.program), by, step.backup])
        }
        StepKind::Index(step) => index(step),
        StepKind::Reindex(step) => json!([FORM, "reindex", step.what.word(), step.what.name().text]),
        StepKind::Analyze(step) => {
            let tables: Vec<[&str; 2]> = step.tables.iter().map(|one| [one.table(), one.list()]).collect();
            json!([FORM, "analyze", tables])
        }
        StepKind::Verify(verify) => json!([FORM, "verify", verify.sql.text, expected(&verify.expect)]),
    }
}

/// What takes a backfill back is left out where it has none, so that those of an older howdah stay what they were.
fn backfill(step: &Backfill) -> Value {
    let (table, change) = (&step.table.text, change(&step.change));
    match &step.undo {
        Undo::None => json!([FORM, "backfill", table, change]),
        Undo::Auto => json!([FORM, "backfill", table, change, ["undo", "auto"]]),
        Undo::Sql(sql) => json!([FORM, "backfill", table, change, ["undo", "sql", sql.text]]),
    }
}

/// What decides how fast it goes, and where a copy of bad records is kept, may change.
fn import(step: &Import) -> Value {
    let byte = |byte: Option<u8>| byte.map(|byte| char::from(byte).to_string());
    let Dialect { delimiter, quote, escape, null, header } = &step.dialect;
    json!([
        FORM,
        "import",
        texts(&step.files),
        step.into.text,
        step.format.map(|format| FileFormat::WORDS[format as usize]),
        step.compression.map(|compression| Compression::WORDS[compression as usize]),
        [json!(byte(*delimiter)), json!(byte(*quote)), json!(byte(*escape)), json!(null.as_deref()), json!(header)],
        step.fields.as_deref().map(texts),
        texts(&step.skip),
        columns(&step.columns),
        text(step.encoding.as_ref()),
        OnConflict::WORDS[step.on_conflict as usize],
        texts(&step.key),
    ])
}

fn index(step: &Index) -> Value {
    json!([
        FORM,
        "index",
        step.on.table(),
        step.on.list(),
        text(step.name.as_ref()),
        step.unique,
        text(step.method.as_ref()),
        texts(&step.include),
        text(step.filter.as_ref()),
        step.with,
        text(step.tablespace.as_ref()),
        step.during,
    ])
}

/// Where the other database is, is left out: it may move, and the passwords of roles change.
fn copy(step: &Copy) -> Value {
    json!([
        FORM,
        "copy",
        texts(&step.tables),
        step.from.is_some(),
        text(step.to.as_ref()),
        step.database.is_some(),
        columns(&step.columns),
        text(step.filter.as_ref()),
        step.consistent,
    ])
}

fn transform(step: &Transform) -> Value {
    let source = match &step.source {
        Source::Table(table) => json!(["table", table.text]),
        Source::Query { sql, key } => json!(["query", sql.text, texts(key)]),
    };
    let by = match &step.by {
        RowProgram::Set(set) => json!(["set", columns(set)]),
        RowProgram::Program(by) => program(by),
    };
    let sink = match &step.sink {
        Sink::Update(names) => json!(["update", texts(names)]),
        Sink::Insert { table, on_conflict, key } => {
            json!(["into", table.text, OnConflict::WORDS[*on_conflict as usize], texts(key)])
        }
        Sink::File { path, format, compression, rotate: _ } => {
            let (format, compression) =
                (FileFormat::WORDS[*format as usize], Compression::WORDS[*compression as usize]);
            json!(["file", path.text, format, compression])
        }
    };
    json!([FORM, "transform", source, texts(&step.read), text(step.filter.as_ref()), by, sink])
}

/// Its limits may change.
fn program(program: &Program) -> Value {
    match program {
        Program::Rhai { script, caches, .. } if caches.is_empty() => json!(["rhai", script.text]),
        // What it looks up is part of what it does; for how long that is kept is not.
        Program::Rhai { script, caches, .. } => {
            let caches: Vec<(&str, &str)> = caches.iter().map(|cache| (&*cache.name, &*cache.sql.text)).collect();
            json!(["rhai", script.text, ["caches", caches]])
        }
        Program::Command { argv, .. } => json!(["command", texts(argv)]),
    }
}

fn texts(list: &[Sql]) -> Vec<&str> {
    list.iter().map(|sql| sql.text.as_str()).collect()
}

/// In alphabetical order: that of the plan means nothing.
fn columns(columns: &[(String, Sql)]) -> Vec<(&str, &str)> {
    let mut columns: Vec<(&str, &str)> = columns.iter().map(|(column, sql)| (&**column, &*sql.text)).collect();
    columns.sort_unstable();
    columns
}

fn change(change: &Change) -> Value {
    match change {
        Change::Set { set, filter } => {
            json!(["set", columns(set), text(filter.as_ref())])
        }
        Change::Raw { sql, alias, filter } => {
            json!(["sql", sql.text, text(alias.as_ref()), text(filter.as_ref())])
        }
    }
}

fn expected(expected: &Expected) -> Value {
    match expected {
        Expected::Integer(number) => json!(number),
        Expected::Text(text) => json!(text),
        Expected::Boolean(truth) => json!(truth),
    }
}

fn text(sql: Option<&Sql>) -> Option<&str> {
    sql.map(|sql| sql.text.as_str())
}

fn hash(value: &Value) -> String {
    let digest: [u8; 32] = Sha256::digest(value.to_string()).into();
    let mut hex = String::with_capacity(64);
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load::from_text;

    fn plan(text: &str) -> Plan {
        from_text("plan.toml", None, text, &|name: &str| Some(name.to_lowercase())).expect("a good plan")
    }

    const PLAN: &str = r#"
        [[step]]
        name = "one"
        backfill = "users"
        set = { b = "1", a = "2" }
        where = "c"
        [[step]]
        name = "two"
        verify = "SELECT 0"
        expect = 0
    "#;

    #[test]
    fn what_a_plan_does_is_what_counts() {
        let before = plan(PLAN).fingerprint();
        assert_eq!(before.len(), 64);
        let same = [
            PLAN.replace("\"one\"", "'uno' # renamed"),
            PLAN.replace("b = \"1\", a = \"2\"", "a = '2', b = '1'"),
            PLAN.replace("where = \"c\"", "where = \"${C}\""),
            format!("[limits.batch]\nmax = 7\n{PLAN}"),
            PLAN.replace("expect = 0", "expect = 0\ntimeout = '1h'"),
        ];
        for text in same {
            assert_eq!(plan(&text).fingerprint(), before, "{text}");
        }
        let other = [
            PLAN.replace("\"1\"", "\"11\""),
            PLAN.replace("where = \"c\"", ""),
            PLAN.replace("where = \"c\"", "where = \"d\""),
            PLAN.replace("expect = 0", "expect = \"0\""),
            PLAN.replace("\"users\"", "\"public.users\""),
        ];
        for text in other {
            assert_ne!(plan(&text).fingerprint(), before, "{text}");
        }
    }

    #[test]
    fn a_backfill_has_the_fingerprint_that_it_had_before_it_could_be_undone() {
        let raw = "[[step]]\nname = 'x'\nbackfill = 't'\nsql = 'UPDATE t SET a = 1 WHERE {batch}'\n";
        let [set, sql] = [PLAN, raw].map(|text| plan(text).steps[0].fingerprint());
        assert_eq!(set, "d8f6f296b98a05071299211219169b054b43d2f3d3c6f874ed7f5ecf245acc98");
        assert_eq!(sql, "8f5040d57d39b69d575fed93d29b1b8c9ec234696e3c95720d48b732d07804da");
        let auto = plan(&PLAN.replace("where = \"c\"", "where = \"c\"\nundo = \"auto\""));
        assert_ne!(auto.steps[0].fingerprint(), set);
        let undo_sql = |column: &str| format!("{raw}undo_sql = 'UPDATE t SET {column} = 0 WHERE {{batch}}'\n");
        let [a, b] = ["a", "b"].map(|column| plan(&undo_sql(column)).steps[0].fingerprint());
        assert!(a != sql && b != sql && a != b);
    }

    #[test]
    fn what_a_script_looks_up_counts_and_a_script_that_looks_nothing_up_is_what_it_was() {
        let step =
            |script: &str| format!("[[step]]\nname = 't'\ntransform = 't'\nupdate = ['x']\nrhai = '''{script}'''\n");
        let cache = |name: &str, sql: &str, more: &str| format!("[cache.{name}]\nsql = '{sql}'\n{more}");
        let of = |text: String| plan(&text).fingerprint();
        let (plain, asking) = (step("row"), step("row.x = lookup(\"a\", row.x); row"));
        assert_eq!(of(plain.clone()), of([cache("a", "SELECT $1", ""), plain.clone()].concat()));
        let before = of([cache("a", "SELECT $1", ""), asking.clone()].concat());
        let more = [cache("a", "SELECT $1", "ttl = '1m'\nmost = 7\n"), cache("b", "SELECT 2", ""), asking.clone()];
        assert_eq!(before, of(more.concat()));
        assert_ne!(before, of([cache("a", "SELECT $1 || 1", ""), asking.clone()].concat()));
        assert_ne!(before, of(asking));
    }

    #[test]
    fn the_order_of_steps_counts() {
        let mut plan = plan(PLAN);
        let before = plan.fingerprint();
        plan.steps.reverse();
        assert_ne!(plan.fingerprint(), before);
    }
}
