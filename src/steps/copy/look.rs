//! Looks the tables of a copy up on both sides: which they are, where each goes, in which order, and by what columns.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Column as _, Executor, Row, SqlSafeStr, Statement};

use super::check::is_one_database;
use super::columns::{Ends, is_of_every_server, of_target, travels_in_binary};
use super::order::{Pattern, levels, pattern};
use super::pair::{Pair, Ready, Share};
use crate::engine::ports::StepError;
use crate::plan::model::{PlanSource, Sql};
use crate::plan::movers::Copy;
use crate::postgres::catalog::{self, Table};
use crate::postgres::key::End;
use crate::postgres::sql::SqlText;
use crate::postgres::{error, ident};
use crate::run::Cause;
use crate::steps::keyspace::Keyspace;
use crate::steps::trouble;

/// The step that is looked at.
pub(super) struct Look<'a> {
    /// The step's name.
    pub(super) step: &'a str,
    /// How messages name it.
    pub(super) what: &'a str,
    /// How messages name the source: `shop@db1:5432`.
    pub(super) origin: &'a str,
    /// The step.
    pub(super) copy: &'a Copy,
    /// The plan.
    pub(super) plan: &'a PlanSource,
}

/// The two sides; one connection where they are one database.
pub(super) struct Sides<'a> {
    /// Where the ledger is, and the target.
    pub(super) target: &'a mut PgConnection,
    /// Where rows come from. `None`: the same.
    pub(super) source: Option<&'a mut PgConnection>,
}

impl Sides<'_> {
    /// A connection to the source.
    pub(super) fn source(&mut self) -> &mut PgConnection {
        self.source.as_deref_mut().unwrap_or(self.target)
    }
}

/// A table of the source, and the words of the plan that led to it.
struct Named {
    table: Table,
    written: Sql,
}

impl Look<'_> {
    fn refuse(&self, place: &Sql, message: &str) -> Cause {
        let mut cause = Cause::usage(format!("{}: {message}", self.what));
        cause.details = self.plan.excerpt_in_sql(place, 0);
        cause
    }

    fn failed(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(self.what, e))
    }

    fn failed_there(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&format!("{}, reading {}", self.what, self.origin), e))
    }

    /// Looks everything up.
    ///
    /// # Errors
    /// Why it cannot be copied, with the place in the plan.
    pub(super) async fn ready(&self, sides: &mut Sides<'_>) -> Result<Ready, StepError> {
        let named = self.sources(sides.source()).await?;
        let apart = sides.source.is_some();
        let same_database = match &mut sides.source {
            Some(source) => is_one_database(sides.target, source).await,
            None => true,
        };
        let mut targets = Vec::new();
        for one in &named {
            let written = self.target_name(one, named.len())?;
            let target = catalog::table(sides.target, self.step, &written, self.plan).await.map_err(|cause| {
                let hint = format!(
                    "make it first, in a `statement` or by: pg_dump --schema-only --table '{}'",
                    one.table.label()
                );
                if cause.message.contains("there is no table") { cause.hint(hint) } else { cause }
            })?;
            if same_database && target.oid == one.table.oid {
                let message = format!("`{}` would be copied into itself", one.table.label());
                return Err(self.refuse(&written, &message).hint("name another table in `to`").into());
            }
            targets.push(target);
        }
        let order = self.order(sides.target, &named, &targets).await?;
        let mut pairs = Vec::new();
        for ((one, target), (level, refers_to_itself)) in named.into_iter().zip(targets).zip(order) {
            let pair = self.pair(sides, one, target, apart).await?;
            pairs.push(Arc::new(Pair { level, refers_to_itself, ..pair }));
        }
        let mut shares = Vec::new();
        for pair in &pairs {
            for part in &pair.source.parts {
                let keys = Keyspace::new(part.clone());
                let first = keys.end(sides.source(), End::First).await.map_err(|e| self.failed_there(&e))?;
                shares.push(Arc::new(Share { pair: Arc::clone(pair), keys, first }));
            }
        }
        Ok(Ready { pairs, shares })
    }

    /// The tables that the step names, each once.
    async fn sources(&self, connection: &mut PgConnection) -> Result<Vec<Named>, StepError> {
        let mut found: Vec<Named> = Vec::new();
        for written in &self.copy.tables {
            let names = match pattern(&written.text) {
                Some(pattern) => self.matching(connection, written, &pattern).await?,
                None => vec![written.clone()],
            };
            for name in names {
                let table = catalog::table(connection, self.step, &name, self.plan).await?;
                if found.iter().all(|one| one.table.oid != table.oid) {
                    found.push(Named { table, written: written.clone() });
                }
            }
        }
        let mut owners: HashMap<i64, &Named> = HashMap::new();
        for one in &found {
            for part in &one.table.parts {
                if let Some(other) = owners.insert(part.oid, one) {
                    let (a, b) = (other.table.label(), one.table.label());
                    let message = format!("`{a}` and `{b}` both hold the rows of `{}`", part.label());
                    return Err(self.refuse(&one.written, &message).hint("name one of them").into());
                }
            }
        }
        Ok(found)
    }

    /// The tables whose names fit: not partitions, which go with their tables, and not those of an extension.
    async fn matching(
        &self,
        connection: &mut PgConnection,
        written: &Sql,
        pattern: &Pattern,
    ) -> Result<Vec<Sql>, StepError> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname LIKE $2 \
               AND CASE WHEN $1::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname LIKE $1 END \
               AND n.nspname NOT IN ('information_schema', 'howdah') AND n.nspname !~ '^pg_' \
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
                               AND d.deptype = 'e') ORDER BY 1",
        )
        .bind(&pattern.schema)
        .bind(&pattern.table)
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(|e| self.failed_there(&e))?;
        if names.is_empty() {
            let message = format!("there is no table that fits `{}` in {}", written.text, self.origin);
            return Err(self
                .refuse(written, &message)
                .hint("`*` stands for any characters: app.*, public.order_*")
                .into());
        }
        Ok(names.into_iter().map(|text| Sql { text, span: written.span.clone() }).collect())
    }

    /// Where a table goes, as SQL writes it.
    fn target_name(&self, one: &Named, tables: usize) -> Result<Sql, Cause> {
        let own = |schema: &str| format!("{}.{}", ident::quote(schema), ident::quote(&one.table.name));
        let Some(to) = &self.copy.to else {
            return Ok(Sql { text: own(&one.table.schema), span: one.written.span.clone() });
        };
        let text = match to.text.trim().strip_suffix(".*") {
            Some(schema) => {
                let schema = ident::parse(schema).map_err(|bad| self.refuse(to, &format!("`to`: {bad}")))?;
                own(&schema)
            }
            None if to.text.trim() == "*" => own(&one.table.schema),
            None if tables == 1 => return Ok(to.clone()),
            None => {
                let message = format!("{tables} tables cannot all go into `{}`", to.text);
                return Err(self
                    .refuse(to, &message)
                    .hint("write the schema that they go to: to = \"archive.*\"")
                    .hint("or write a step for each table"));
            }
        };
        Ok(Sql { text, span: to.span.clone() })
    }

    /// For each target: its level by the foreign keys among them, and whether it refers to itself.
    async fn order(
        &self,
        connection: &mut PgConnection,
        named: &[Named],
        targets: &[Table],
    ) -> Result<Vec<(usize, bool)>, StepError> {
        let mut places: HashMap<i64, usize> = HashMap::new();
        for (place, target) in targets.iter().enumerate() {
            let oids = std::iter::once(target.oid).chain(target.parts.iter().map(|part| part.oid));
            for oid in oids {
                if let Some(other) = places.insert(oid, place).filter(|other| *other != place) {
                    let (a, b) = (named[other].table.label(), named[place].table.label());
                    let message = format!("`{a}` and `{b}` would both go into `{}`", target.label());
                    return Err(self.refuse(&named[place].written, &message).hint("write a step for each").into());
                }
            }
        }
        let oids: Vec<i64> = places.keys().copied().collect();
        let rows = sqlx::query(
            "SELECT conrelid::int8 AS child, confrelid::int8 AS parent FROM pg_constraint WHERE contype = 'f' \
             AND conrelid::int8 = ANY($1) AND confrelid::int8 = ANY($1)",
        )
        .bind(oids)
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(|e| self.failed(&e))?;
        let mut edges = Vec::new();
        for row in &rows {
            let (child, parent): (i64, i64) = (
                row.try_get("child").map_err(|e| self.failed(&e))?,
                row.try_get("parent").map_err(|e| self.failed(&e))?,
            );
            edges.extend(places.get(&child).copied().zip(places.get(&parent).copied()));
        }
        let levels = levels(targets.len(), &edges).map_err(|cycle| {
            let names: Vec<String> = cycle.iter().map(|table| format!("`{}`", targets[*table].label())).collect();
            let message =
                format!("{} refer to each other in a circle: none of them can be copied first", names.join(", "));
            self.refuse(&named[cycle[0]].written, &message)
                .hint("drop one of the foreign keys in a `statement` before, and add it again after the copy")
        })?;
        Ok(levels.into_iter().enumerate().map(|(table, level)| (level, edges.contains(&(table, table)))).collect())
    }

    /// What goes where, and whether both servers understand the SQL of it.
    async fn pair(&self, sides: &mut Sides<'_>, one: Named, target: Table, apart: bool) -> Result<Pair, StepError> {
        let Named { table: source, written } = one;
        let columns = of_target(sides.target, target.oid).await.map_err(|e| self.failed(&e))?;
        let label = target.label();
        let ends = Ends {
            what: self.what,
            source: &source,
            target: &label,
            columns: &columns,
            written: &written,
            plan: self.plan,
        };
        let columns = ends.map(&self.copy.columns)?;
        let casts = vec![false; columns.len()];
        let filter = self.copy.filter.clone();
        let mut pair =
            Pair { source, target, columns, filter, level: 0, refers_to_itself: false, casts, binary: false };
        if !(apart || self.copy.consistent) {
            self.understood(sides.target, &pair, |share| {
                // The keys themselves do not matter to the words of the SQL.
                share.insert(Some(&Vec::new()), &Vec::new())
            })
            .await?;
            return Ok(pair);
        }
        let sent = self.understood(sides.source(), &pair, |share| share.select("true", false)).await?;
        // Of a table without partitions nothing is known, and nothing is copied.
        let Some(sent) = sent else { return Ok(pair) };
        let known = |(at, column): (usize, &super::columns::Mapped)| {
            let target = column.to.type_oid;
            !travels_in_binary(sent[at], target) && is_of_every_server(target) && travels_in_binary(target, target)
        };
        pair.casts = pair.columns.iter().enumerate().map(known).collect();
        let sent =
            self.understood(sides.source(), &pair, |share| share.select("true", true)).await?.unwrap_or_default();
        pair.binary = pair.columns.iter().zip(sent).all(|(column, sent)| travels_in_binary(sent, column.to.type_oid));
        Ok(pair)
    }

    /// Lets a server parse and analyse a pair's SQL. Returns the ids of the types that it answers with.
    async fn understood(
        &self,
        connection: &mut PgConnection,
        pair: &Pair,
        sql: impl FnOnce(&Share) -> SqlText,
    ) -> Result<Option<Vec<u32>>, StepError> {
        let Some(part) = pair.source.parts.first() else { return Ok(None) };
        let pair = Pair {
            source: pair.source.clone(),
            target: pair.target.clone(),
            columns: pair.columns.clone(),
            filter: pair.filter.clone(),
            casts: pair.casts.clone(),
            ..*pair
        };
        let sql = sql(&Share { pair: Arc::new(pair), keys: Keyspace::new(part.clone()), first: None });
        let prepared = connection.prepare(AssertSqlSafe(sql.as_str().to_owned()).into_sql_str()).await;
        let prepared =
            prepared.map_err(|e| trouble::step_error(&e, error::cause_in_plan(self.what, &e, &sql, self.plan)))?;
        let oid = |column: &sqlx::postgres::PgColumn| column.type_info().oid().map_or(0, |oid| oid.0);
        Ok(Some(prepared.columns().iter().map(oid).collect()))
    }
}
