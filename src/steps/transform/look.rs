//! What a transform is made of, once the plan's names have been looked up.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::insert::InsertSql;
use super::reading::Share;
use super::shape::{Kind, ReadColumn, Shape, ToColumn};
use super::update::UpdateSql;
use crate::plan::model::{PlanSource, Sql};
use crate::plan::movers::{OnConflict, Program, RowProgram, Sink, Source, Transform};
use crate::postgres::catalog::{self, Table, Writes};
use crate::postgres::error;
use crate::postgres::ident::{self, quote};
use crate::postgres::key::Key;
use crate::postgres::sql::SqlText;
use crate::postgres::walk::Walk;
use crate::run::Cause;
use crate::run::text::clean;
use crate::steps::keyspace::Keyspace;
use crate::steps::program::command;
use crate::steps::program::script::Script;

/// What is known once everything has been looked at.
pub(super) struct Ready {
    /// The table that is read.
    pub(super) table: Table,
    pub(super) shares: Vec<Arc<Share>>,
    pub(super) read: Arc<Vec<ReadColumn>>,
    pub(super) shape: Arc<Shape>,
    pub(super) to: To,
    pub(super) by: By,
}

/// Where rows go.
pub(super) enum To {
    /// Back to where they came from: the statements of each share.
    Update(Vec<UpdateSql>),
    /// Into a table.
    Insert(Box<InsertSql>, Box<Table>),
}

/// What makes new rows.
pub(super) enum By {
    /// A script.
    Script(Arc<Script>),
    /// A program.
    Command {
        /// It, and its arguments.
        argv: Vec<String>,
        /// How long it may be silent.
        timeout: Duration,
    },
}

impl Ready {
    /// The table, or the partition that the ledger calls `name`.
    pub(super) fn share(&self, name: Option<&str>) -> Result<Arc<Share>, Cause> {
        let share = self.shares.iter().find(|share| share.part().in_ledger().as_deref() == name);
        share.cloned().ok_or_else(|| {
            let name = name.unwrap_or("of another kind");
            Cause::new(format!("partition {name} is no longer there, and the walk of it was not at its end"))
                .hint("attach it again and resume, or begin a new run: howdah run PLAN --new")
        })
    }

    /// What the cursors of its walks mean, one a line.
    pub(super) fn identities(&self) -> String {
        let mut all: Vec<String> = self.shares.iter().map(|share| share.part().walk.identity()).collect();
        all.sort_unstable();
        all.dedup();
        all.join("\n")
    }

    /// How the key of a share is named.
    pub(super) fn key_name(&self, name: Option<&str>) -> String {
        self.share(name).map_or_else(|_| "key".to_owned(), |share| share.key.describe())
    }
}

/// Whose transform it is.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) step: &'a str,
    pub(super) what: &'a str,
    pub(super) source: &'a PlanSource,
}

impl Look<'_> {
    fn refuse(&self, message: String, place: &Sql) -> Cause {
        let mut cause = Cause::usage(format!("{}: {message}", self.what));
        cause.details = self.source.excerpt_in_sql(place, 0);
        cause
    }

    fn column<'t>(&self, table: &'t Table, key: &str, written: &Sql) -> Result<&'t catalog::Column, Cause> {
        let name = ident::parse(&written.text).map_err(|bad| self.refuse(format!("`{key}`: {bad}"), written))?;
        table.column(&name).ok_or_else(|| {
            let message = format!("`{key}`: table `{}` has no column `{}`", table.label(), written.text);
            let cause = self.refuse(message, written);
            match catalog::near(&name, table.columns.iter().map(|column| column.name.as_str())) {
                Some(near) => cause.hint(format!("did you mean `{near}`?")),
                None => cause,
            }
        })
    }
}

/// Looks everything up that the plan names.
pub(super) async fn look(connection: &mut PgConnection, look: Look<'_>, transform: &Transform) -> Result<Ready, Cause> {
    let (table, place) = match &transform.source {
        Source::Table(name) => (catalog::table(connection, look.step, name, look.source).await?, name),
        Source::Query { sql, .. } => {
            return Err(look.refuse("a query as source is not built yet".to_owned(), sql));
        }
    };
    let columns: Vec<&catalog::Column> = match transform.read.as_slice() {
        [] => table.columns.iter().collect(),
        read => read.iter().map(|name| look.column(&table, "read", name)).collect::<Result<_, _>>()?,
    };
    let read: Vec<ReadColumn> = columns
        .iter()
        .map(|column| ReadColumn { name: column.name.clone(), kind: Kind::of(&column.type_name) })
        .collect();
    let alias = quote(&table.name);
    let list = columns
        .iter()
        .fold(SqlText::default(), |list, column| list.ours(&format!(", {alias}.{}", quote(&column.name))));
    let versioned = matches!(transform.sink, Sink::Update(_));
    let mut keys: Vec<Key> = Vec::new();
    let mut shares = Vec::new();
    for part in &table.parts {
        let Walk::Key(key) = &part.walk else {
            let cause = look.refuse(format!("`{}` has no key to walk it by", part.label()), place);
            return Err(cause.hint("give it a primary key, or a unique index over columns that are NOT NULL"));
        };
        if !keys.contains(key) {
            keys.push(key.clone());
        }
        shares.push(Arc::new(Share {
            keys: Keyspace::new(part.clone()),
            key: key.clone(),
            first: None,
            from: format!("{} AS {alias}", part.quoted()),
            alias: alias.clone(),
            list: list.clone(),
            filter: transform.filter.clone(),
            versioned,
            stage: keys.iter().position(|known| known == key).unwrap_or_default(),
        }));
    }
    let (shape, to) = sink(connection, look, transform, &table, &shares, &read).await?;
    let by = match &transform.by {
        RowProgram::Program(Program::Rhai { script, operations, memory }) => {
            By::Script(Arc::new(Script::new(look.what, script, *operations, *memory, &["row"], look.source)?))
        }
        RowProgram::Program(Program::Command { argv, timeout }) => command(look, argv, *timeout)?,
        RowProgram::Set(_) => return Err(look.refuse("`set` is not built yet".to_owned(), place)),
    };
    Ok(Ready { table, shares, read: Arc::new(read), shape: Arc::new(shape), to, by })
}

/// The program that a plan names, which must be there.
fn command(look: Look<'_>, argv: &[Sql], timeout: Duration) -> Result<By, Cause> {
    if let Some(program) = argv.first()
        && command::find(&program.text).is_none()
    {
        let message = format!("`command`: there is no program {}", clean(&program.text));
        return Err(look.refuse(message, program).hint("name a program on PATH, or give its path"));
    }
    Ok(By::Command { argv: argv.iter().map(|word| word.text.clone()).collect(), timeout })
}

async fn sink(
    connection: &mut PgConnection,
    look: Look<'_>,
    transform: &Transform,
    table: &Table,
    shares: &[Arc<Share>],
    read: &[ReadColumn],
) -> Result<(Shape, To), Cause> {
    match &transform.sink {
        Sink::Update(update) => {
            let mut columns: Vec<ToColumn> = Vec::new();
            for written in update {
                let column = look.column(table, "update", written)?;
                updatable(look, table, column, written)?;
                if columns.iter().all(|known| known.name != column.name) {
                    columns.push(ToColumn { name: column.name.clone(), type_name: column.type_name.clone() });
                }
            }
            let sql = shares.iter().map(|share| UpdateSql::new(share, &columns)).collect();
            let ignored = read.iter().map(|column| column.name.clone());
            let name = format!("`update` of `{}`", table.label());
            Ok((Shape::columns(name, columns, ignored, false), To::Update(sql)))
        }
        Sink::Insert { table: written, on_conflict, key } => {
            let target = catalog::table(connection, look.step, written, look.source).await?;
            let columns: Vec<ToColumn> = target
                .columns
                .iter()
                .filter(|column| column.writes != Writes::Generated)
                .map(|column| ToColumn { name: column.name.clone(), type_name: column.type_name.clone() })
                .collect();
            let mut names: Vec<String> = Vec::new();
            for written in key {
                names.push(look.column(&target, "conflict_key", written)?.name.clone());
            }
            if names.is_empty() && *on_conflict != OnConflict::Error {
                names = primary_key(connection, target.oid).await.map_err(|e| error::cause(look.what, &e))?;
                if names.is_empty() {
                    let message = format!("`on_conflict`: `{}` has no primary key", target.label());
                    return Err(look.refuse(message, written).hint("name the columns that conflict: `conflict_key`"));
                }
            }
            let generated = target.columns.iter().filter(|column| column.writes == Writes::Generated);
            let ignored: Vec<String> = generated.map(|column| column.name.clone()).collect();
            let shape = Shape::columns(format!("`{}`", target.label()), columns.clone(), ignored, true);
            let insert = InsertSql::new(&target, columns, *on_conflict, names);
            Ok((shape, To::Insert(Box::new(insert), Box::new(target))))
        }
        Sink::File { path, .. } => Err(look.refuse("`file` is not built yet".to_owned(), path)),
    }
}

/// Refuses columns that must not be updated.
fn updatable(look: Look<'_>, table: &Table, column: &catalog::Column, written: &Sql) -> Result<(), Cause> {
    let name = &column.name;
    let refuse = |message: String, hint: &str| Err(look.refuse(format!("`update`: {message}"), written).hint(hint));
    match column.writes {
        Writes::Anyone => {}
        Writes::Generated => {
            return refuse(format!("`{name}` is a generated column"), "update the columns that it is computed from");
        }
        Writes::Identity => {
            return refuse(
                format!("`{name}` is GENERATED ALWAYS AS IDENTITY"),
                "only the server writes it: leave it out",
            );
        }
    }
    if table.partition_key.contains(name) {
        let hint = "changing it would move rows into partitions that are walked already";
        return refuse(format!("`{name}` is part of the partition key of `{}`", table.label()), hint);
    }
    let in_key = |walk: &Walk| matches!(walk, Walk::Key(key) if key.columns.iter().any(|column| column.name == *name));
    if table.parts.iter().any(|part| in_key(&part.walk)) {
        let hint = "changing it would move rows in front of the walk";
        return refuse(format!("`{name}` is part of the key that the table is walked by"), hint);
    }
    Ok(())
}

/// The primary key's columns, bare.
async fn primary_key(connection: &mut PgConnection, table: i64) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, at) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = $1::int8::oid AND i.indisprimary AND at <= i.indnkeyatts ORDER BY at",
    )
    .bind(table)
    .persistent(false)
    .fetch_all(connection)
    .await
}
