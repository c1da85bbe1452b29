//! What a plan does to which table, as far as its words tell: what rights it takes, which columns it writes.

use sqlparser::ast::{AssignmentTarget, FromTable, ObjectName, Statement, TableFactor, TableWithJoins};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::plan::model::{Backfill, Change, Plan, Step, StepKind};
use crate::plan::movers::{OnConflict, RowProgram, Sink, Source};
use crate::postgres::ident;

/// What one step does to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The step's name.
    pub step: String,
    /// The step's place in the plan, from 0.
    pub index: usize,
    /// The table.
    pub table: TableName,
    /// What is done.
    pub does: Does,
    /// Whether the rows of a table with partitions are changed partition by partition, by the partitions' own names.
    pub by_part: bool,
}

/// A table as a plan names it: bare names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName {
    /// The schema. `None`: by the search path.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

/// What is done to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Does {
    /// Rows are updated.
    Update {
        /// The columns that are written, bare. `None`: nobody can tell from the words.
        columns: Option<Vec<String>>,
    },
    /// Rows are deleted.
    Delete,
    /// Rows are added.
    Insert {
        /// Rows that are there take the new values.
        updates: bool,
    },
    /// Rows are read.
    Read,
    /// Its definition is changed: what only its owner may do.
    Define,
}

impl Does {
    /// The columns that an update writes, where they are known.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        match self {
            Self::Update { columns: Some(columns) } => columns,
            Self::Update { columns: None } | Self::Delete | Self::Insert { .. } | Self::Read | Self::Define => &[],
        }
    }

    /// Whether rows that are there become dead.
    #[must_use]
    pub fn leaves_dead_rows(&self) -> bool {
        match self {
            Self::Update { .. } | Self::Delete | Self::Insert { updates: true } => true,
            Self::Insert { updates: false } | Self::Read | Self::Define => false,
        }
    }

    /// Whether rows are written at all.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self, Self::Insert { .. }) || self.leaves_dead_rows()
    }
}

/// What a plan does, step by step. Tables that are named by a pattern, or lie in another database, are left out.
#[must_use]
pub fn of_plan(plan: &Plan) -> Vec<Work> {
    plan.steps.iter().enumerate().flat_map(|(index, step)| of_step(index, step)).collect()
}

fn of_step(index: usize, step: &Step) -> Vec<Work> {
    let work = |table: Option<TableName>, does: Does| {
        table.map(|table| Work { step: step.name.clone(), index, table, does, by_part: false })
    };
    let named = |written: &str| TableName::read(written);
    let done: Vec<Option<Work>> = match &step.kind {
        StepKind::Backfill(backfill) => {
            let by_part = matches!(backfill.change, Change::Set { .. });
            let done = work(named(&backfill.table.text), of_backfill(backfill));
            vec![done.map(|work| Work { by_part, ..work })]
        }
        StepKind::Import(import) => {
            let updates = import.on_conflict == OnConflict::Update;
            vec![work(named(&import.into.text), Does::Insert { updates })]
        }
        StepKind::Copy(copy) => {
            let here = copy.database.is_none();
            let to = match (&copy.to, copy.tables.as_slice()) {
                (Some(to), _) => named(&to.text),
                (None, [table]) => named(&table.text),
                (None, _) => None,
            };
            let mut done: Vec<Option<Work>> = Vec::new();
            if copy.from.is_none() {
                done.extend(copy.tables.iter().map(|table| work(named(&table.text), Does::Read)));
            }
            done.push(work(to.filter(|_| here), Does::Insert { updates: false }));
            done
        }
        StepKind::Transform(transform) => {
            let from = match &transform.source {
                Source::Table(table) => named(&table.text),
                Source::Query { .. } => None,
            };
            let bare = |names: Vec<&str>| names.into_iter().map(|name| ident::parse(name).ok()).collect();
            let into = match &transform.sink {
                Sink::Update(columns) => {
                    let mut written: Vec<&str> = columns.iter().map(|column| column.text.as_str()).collect();
                    if let RowProgram::Set(set) = &transform.by {
                        written.extend(set.iter().map(|(column, _)| column.as_str()));
                    }
                    work(from.clone(), Does::Update { columns: bare(written) })
                }
                Sink::Insert { table, on_conflict, .. } => {
                    work(named(&table.text), Does::Insert { updates: *on_conflict == OnConflict::Update })
                }
                Sink::File { .. } => None,
            };
            vec![work(from, Does::Read), into]
        }
        StepKind::Statement(statement) => vec![work(defined(&statement.sql.text), Does::Define)],
        StepKind::Index(index) => vec![work(named(index.on.table()), Does::Define)],
        // Who may do these is not always the owner: what is missing the step's own check tells.
        StepKind::Reindex(_) | StepKind::Analyze(_) | StepKind::Files(_) | StepKind::Verify(_) => Vec::new(),
    };
    done.into_iter().flatten().collect()
}

fn of_backfill(backfill: &Backfill) -> Does {
    match &backfill.change {
        Change::Set { set, .. } => {
            Does::Update { columns: set.iter().map(|(column, _)| ident::parse(column).ok()).collect() }
        }
        Change::Raw { sql, .. } => of_raw(&sql.text.replace("{batch}", "(true)"), &backfill.table.text),
    }
}

/// What a statement of the plan's own does to `table`. What is not understood may update any column.
fn of_raw(sql: &str, table: &str) -> Does {
    let table = TableName::read(table).map(|table| table.name);
    let is_it = |with: &TableWithJoins| match &with.relation {
        TableFactor::Table { name, .. } => last(name) == table,
        _ => false,
    };
    match parsed(sql) {
        Some(Statement::Update(update)) if is_it(&update.table) => {
            let mut columns: Option<Vec<String>> = Some(Vec::new());
            for assignment in &update.assignments {
                let names: Vec<&ObjectName> = match &assignment.target {
                    AssignmentTarget::ColumnName(name) => vec![name],
                    AssignmentTarget::Tuple(names) => names.iter().collect(),
                };
                for name in names {
                    match (last(name), &mut columns) {
                        (Some(name), Some(columns)) => columns.push(name),
                        _ => columns = None,
                    }
                }
            }
            Does::Update { columns }
        }
        Some(Statement::Delete(delete)) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            if from.iter().any(is_it) { Does::Delete } else { Does::Read }
        }
        Some(Statement::Update(_) | Statement::Insert(_)) => Does::Read,
        Some(_) | None => Does::Update { columns: None },
    }
}

/// The table whose definition a statement changes.
fn defined(sql: &str) -> Option<TableName> {
    let name = match parsed(sql)? {
        Statement::CreateIndex(index) => index.table_name,
        Statement::AlterTable(table) => table.name,
        _ => return None,
    };
    let mut names: Vec<String> = Vec::new();
    for part in &name.0 {
        names.push(bare(part.as_ident()?));
    }
    TableName::of(names)
}

/// The one statement of a text, where it is understood.
pub(super) fn parsed(sql: &str) -> Option<Statement> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
    if statements.len() == 1 { statements.pop() } else { None }
}

fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(bare)
}

fn bare(name: &sqlparser::ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

impl TableName {
    /// Reads `users`, `app.users`, `"Odd name"."T"`. `None`: it is a pattern, or no name.
    #[must_use]
    pub fn read(written: &str) -> Option<Self> {
        let mut names: Vec<String> = Vec::new();
        let (mut part, mut quoted) = (String::new(), false);
        for c in written.trim().chars() {
            match c {
                '.' if !quoted => names.push(ident::parse(&std::mem::take(&mut part)).ok()?),
                c => {
                    quoted ^= c == '"';
                    part.push(c);
                }
            }
        }
        names.push(ident::parse(&part).ok()?);
        Self::of(names)
    }

    fn of(mut names: Vec<String>) -> Option<Self> {
        let name = names.pop()?;
        let schema = names.pop();
        names.is_empty().then_some(Self { schema, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load;

    fn works(steps: &str) -> Vec<Work> {
        let env = |_: &str| None;
        of_plan(&load::from_text("p.toml", None, steps, &env).expect("a plan"))
    }

    fn name(schema: Option<&str>, name: &str) -> TableName {
        TableName { schema: schema.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn tables_are_read_as_sql_writes_them_and_patterns_are_none() {
        let table = [
            ("users", Some(name(None, "users"))),
            ("App.Users", Some(name(Some("app"), "users"))),
            ("\"Odd.name\".\"T\"", Some(name(Some("Odd.name"), "T"))),
            ("app.*", None),
            ("a.b.c", None),
            ("", None),
        ];
        for (written, expected) in table {
            assert_eq!(TableName::read(written), expected, "{written}");
        }
    }

    #[test]
    fn a_raw_statement_tells_the_columns_that_it_writes() {
        let columns = |names: &[&str]| Does::Update { columns: Some(names.iter().map(|n| (*n).to_owned()).collect()) };
        let table = [
            ("UPDATE users u SET Email = lower(email), \"N\" = 1 WHERE (true)", columns(&["email", "N"])),
            ("UPDATE app.users SET (a, b) = (SELECT 1, 2) WHERE (true)", columns(&["a", "b"])),
            ("DELETE FROM users WHERE (true)", Does::Delete),
            ("INSERT INTO archive SELECT * FROM users WHERE (true)", Does::Read),
            ("WITH gone AS (DELETE FROM users WHERE (true) RETURNING *) SELECT 1", Does::Update { columns: None }),
            ("not sql at all", Does::Update { columns: None }),
        ];
        for (sql, expected) in table {
            assert_eq!(of_raw(sql, "app.users"), expected, "{sql}");
        }
    }

    #[test]
    fn each_kind_of_step_says_what_it_does_to_a_table() {
        let done = works(
            "[[step]]\nname = 'i'\nstatement = 'CREATE INDEX CONCURRENTLY todo ON app.users (id)'\n\
             [[step]]\nname = 's'\nbackfill = 'users'\nset = { email = 'lower(email)' }\n\
             [[step]]\nname = 'l'\nimport = 'x.csv'\ninto = 'users'\non_conflict = 'update'\n\
             [[step]]\nname = 'c'\ncopy = 'users'\nto = 'people'\n\
             [[step]]\nname = 'v'\nverify = 'SELECT 1'\nexpect = 1\n",
        );
        let told: Vec<(&str, &str, &Does)> =
            done.iter().map(|work| (work.step.as_str(), work.table.name.as_str(), &work.does)).collect();
        assert_eq!(
            told,
            [
                ("i", "users", &Does::Define),
                ("s", "users", &Does::Update { columns: Some(vec!["email".to_owned()]) }),
                ("l", "users", &Does::Insert { updates: true }),
                ("c", "users", &Does::Read),
                ("c", "people", &Does::Insert { updates: false }),
            ]
        );
        assert!(done[1].by_part && !done[2].by_part);
    }
}
