//! What a transform is made of, once the plan's names have been looked up.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Column as _, Executor, SqlSafeStr, Statement as _};

use super::file::FileSpec;
use super::insert::InsertSql;
use super::query;
use super::reading::Share;
use super::shape::{Kind, ReadColumn, Shape, ToColumn};
use super::update::UpdateSql;
use crate::cache::Caches;
use crate::plan::model::{PlanSource, Sql};
use crate::plan::movers::{FileFormat, OnConflict, Program, RowProgram, Sink, Source, Transform};
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
    /// What its script looks things up in.
    pub(super) caches: Option<Arc<Caches>>,
}

/// Where rows go.
pub(super) enum To {
    /// Back to where they came from: the statements of each share.
    Update(Vec<UpdateSql>),
    /// Into a table.
    Insert(Box<InsertSql>, Box<Table>),
    /// Into files.
    File(Box<FileSpec>),
}

/// What makes new rows.
pub(super) enum By {
    /// A script.
    Script(Arc<Script>),
    /// The server itself, while the rows are read.
    Server,
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

/// What the view of a query is.
#[derive(Debug, Clone, Copy)]
pub(super) enum View<'a> {
    /// Of that name, in the ledger's schema, until the step ends.
    Kept(&'a str),
    /// The session's own.
    Passing,
}

/// Whose transform it is.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) step: &'a str,
    pub(super) what: &'a str,
    pub(super) source: &'a PlanSource,
    /// What its script looks things up in. `None`: it is only looked at.
    pub(super) caches: Option<&'a Arc<Caches>>,
}

impl Look<'_> {
    pub(super) fn refuse(&self, message: &str, place: &Sql) -> Cause {
        let mut cause = Cause::usage(format!("{}: {message}", self.what));
        cause.details = self.source.excerpt_in_sql(place, 0);
        cause
    }

    fn column<'t>(&self, table: &'t Table, key: &str, written: &Sql) -> Result<&'t catalog::Column, Cause> {
        let name = ident::parse(&written.text).map_err(|bad| self.refuse(&format!("`{key}`: {bad}"), written))?;
        table.column(&name).ok_or_else(|| {
            let message = format!("`{key}`: table `{}` has no column `{}`", table.label(), written.text);
            let cause = self.refuse(&message, written);
            match catalog::near(&name, table.columns.iter().map(|column| column.name.as_str())) {
                Some(near) => cause.hint(format!("did you mean `{near}`?")),
                None => cause,
            }
        })
    }
}

/// Looks everything up that the plan names.
pub(super) async fn look(
    connection: &mut PgConnection,
    look: Look<'_>,
    transform: &Transform,
    view: View<'_>,
) -> Result<Ready, Cause> {
    let (table, place) = match &transform.source {
        Source::Table(name) => (catalog::table(connection, look.step, name, look.source).await?, name),
        Source::Query { sql, key } => {
            if let Sink::Update(update) = &transform.sink {
                let place = update.first().unwrap_or(sql);
                let cause = look.refuse("`update` needs a table as its source, not a query", place);
                return Err(cause.hint("name the table, and its rows by `where`; or write `into` another one"));
            }
            (query::table(connection, look, (sql, key), view).await?, sql)
        }
    };
    let alias = quote(&table.name);
    let lines = matches!(&transform.sink, Sink::File { format: FileFormat::JsonLines, .. });
    let (read, list) = match &transform.by {
        RowProgram::Set(set) => expressions(look, set, lines)?,
        RowProgram::Program(_) => columns(look, transform, &table, &alias)?,
    };
    let versioned = matches!(transform.sink, Sink::Update(_));
    let mut keys: Vec<Key> = Vec::new();
    let mut shares = Vec::new();
    for part in &table.parts {
        let Walk::Key(key) = &part.walk else {
            let cause = look.refuse(&format!("`{}` has no key to walk it by", part.label()), place);
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
        RowProgram::Program(Program::Rhai { script, operations, memory, caches }) => {
            let script = (script, caches.as_slice());
            By::Script(Arc::new(Script::new(look.what, script, *operations, *memory, &["row"], look.source)?))
        }
        RowProgram::Program(Program::Command { argv, timeout }) => command(look, argv, *timeout)?,
        RowProgram::Set(_) => By::Server,
    };
    let caches = look.caches.cloned();
    Ok(Ready { table, shares, read: Arc::new(read), shape: Arc::new(shape), to, by, caches })
}

/// The columns that a program is given.
fn columns(
    look: Look<'_>,
    transform: &Transform,
    table: &Table,
    alias: &str,
) -> Result<(Vec<ReadColumn>, SqlText), Cause> {
    let columns: Vec<&catalog::Column> = match transform.read.as_slice() {
        [] => table.columns.iter().collect(),
        read => read.iter().map(|name| look.column(table, "read", name)).collect::<Result<_, _>>()?,
    };
    let list = columns.iter().fold(String::new(), |list, column| format!("{list}, {alias}.{}", quote(&column.name)));
    let read = columns.iter().map(|c| ReadColumn { name: c.name.clone(), kind: Kind::of(&c.type_name) });
    Ok((read.collect(), SqlText::default().ours(&list)))
}

/// The expressions of `set`, which the server evaluates; `lines`: as JSON.
fn expressions(look: Look<'_>, set: &[(String, Sql)], lines: bool) -> Result<(Vec<ReadColumn>, SqlText), Cause> {
    let (mut read, mut list) = (Vec::new(), SqlText::default());
    for (written, expression) in set {
        let name = ident::parse(written).map_err(|bad| look.refuse(&format!("`set`: {bad}"), expression))?;
        let (before, behind) = if lines { (", to_json(", ")") } else { (", (", ")") };
        list = list.ours(before).ours("\n").plans(&format!("set.{written}"), expression).ours("\n").ours(behind);
        read.push(ReadColumn { name, kind: if lines { Kind::Json } else { Kind::Text } });
    }
    Ok((read, list))
}

/// The program that a plan names, which must be there.
fn command(look: Look<'_>, argv: &[Sql], timeout: Duration) -> Result<By, Cause> {
    if let Some(program) = argv.first()
        && command::find(&program.text).is_none()
    {
        let message = format!("`command`: there is no program {}", clean(&program.text));
        return Err(look.refuse(&message, program).hint("name a program on PATH, or give its path"));
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
                    return Err(look.refuse(&message, written).hint("name the columns that conflict: `conflict_key`"));
                }
            }
            let by_server = matches!(transform.by, RowProgram::Set(_));
            let columns = if by_server { chosen(look, transform, &target, read)? } else { columns };
            let generated = target.columns.iter().filter(|column| column.writes == Writes::Generated);
            let ignored: Vec<String> = generated.map(|column| column.name.clone()).collect();
            let shape = Shape::columns(format!("`{}`", target.label()), columns.clone(), ignored, true);
            let mut insert = InsertSql::new(&target, columns, *on_conflict, names);
            if let (true, Some(share)) = (by_server, shares.first()) {
                insert.types = natural_types(connection, look, share).await?;
            }
            Ok((shape, To::Insert(Box::new(insert), Box::new(target))))
        }
        Sink::File { path, format, compression, rotate } => {
            let lines = *format == FileFormat::JsonLines;
            let columns: Vec<ToColumn> = read
                .iter()
                .filter(|_| !lines)
                .map(|column| ToColumn { name: column.name.clone(), type_name: "text".to_owned() })
                .collect();
            let name = "`file` (its columns are those that are read; `format = \"jsonl\"` takes any)".to_owned();
            let shape = if lines { Shape::lines(name) } else { Shape::columns(name, columns.clone(), [], true) };
            let spec = FileSpec {
                path: path.text.clone(),
                format: *format,
                compression: *compression,
                rotate: rotate.map(|size| size.0),
                columns,
            };
            Ok((shape, To::File(Box::new(spec))))
        }
    }
}

/// The columns of the target that `set` names, in its order.
fn chosen(look: Look<'_>, transform: &Transform, target: &Table, read: &[ReadColumn]) -> Result<Vec<ToColumn>, Cause> {
    let RowProgram::Set(set) = &transform.by else { return Ok(Vec::new()) };
    let of = |(column, (written, expression)): (&ReadColumn, &(String, Sql))| {
        let found = target.column(&column.name).filter(|column| column.writes != Writes::Generated);
        let found = found.ok_or_else(|| {
            let message = format!("`set`: `{}` has no column `{written}` that can be written", target.label());
            look.refuse(&message, expression)
        })?;
        Ok(ToColumn { name: found.name.clone(), type_name: found.type_name.clone() })
    };
    read.iter().zip(set).map(of).collect()
}

/// The types that the expressions of `set` have by themselves: the server casts them as in any INSERT. `None`: they are
/// texts, and are read as whatever the column is.
async fn natural_types(
    connection: &mut PgConnection,
    look: Look<'_>,
    share: &Share,
) -> Result<Vec<Option<String>>, Cause> {
    let sql = SqlText::default().ours("SELECT 1").text(&share.list).ours(&format!(" FROM {}", share.from));
    let asked = connection.prepare(AssertSqlSafe(sql.as_str().to_owned()).into_sql_str()).await;
    let asked = asked.map_err(|e| error::cause_in_plan(look.what, &e, &sql, look.source))?;
    let oids: Vec<i64> =
        asked.columns().iter().skip(1).map(|c| c.type_info().oid().map_or(25, |oid| i64::from(oid.0))).collect();
    sqlx::query_scalar(
        "SELECT CASE WHEN t.typcategory NOT IN ('S', 'X') AND t.typtype <> 'd' THEN format_type(t.oid, NULL) END \
         FROM unnest($1::int8[]) WITH ORDINALITY AS u(oid, at) JOIN pg_type t ON t.oid = u.oid::oid ORDER BY at",
    )
    .bind(oids)
    .persistent(false)
    .fetch_all(connection)
    .await
    .map_err(|e| error::cause(look.what, &e))
}

/// Refuses columns that must not be updated.
fn updatable(look: Look<'_>, table: &Table, column: &catalog::Column, written: &Sql) -> Result<(), Cause> {
    let name = &column.name;
    let refuse = |message: String, hint: &str| Err(look.refuse(&format!("`update`: {message}"), written).hint(hint));
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
