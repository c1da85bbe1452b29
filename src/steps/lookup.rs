//! Cached look-ups of scripts, answered by the database: read-only sessions of their own, apart from the batches' ones. What a
//! step has changed and not committed yet is not seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{Arguments as _, AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement};
use tokio::sync::Semaphore;

use crate::cache::{Caches, Identity, LookError, Source};
use crate::engine::ports::Lookups;
use crate::plan::model::{CachedLookup, PlanSource};
use crate::postgres::connect::Connector;
use crate::postgres::deadline::within;
use crate::postgres::sql::SqlText;
use crate::postgres::{error, parameters, trouble};
use crate::run::{CacheView, Cause, Level, Trouble};

/// Connections for look-ups, at most.
pub const CONNECTIONS: u32 = 4;

/// Nothing is written, and a plan is kept for a look-up that comes again and again.
const SESSION: &str = "SET default_transaction_read_only = on; SET plan_cache_mode = auto";

/// read_only_sql_transaction.
const READ_ONLY: &str = "25006";

/// Which database it is, so that copies of it are told apart too, and as whom it is asked.
const IDENTITY: &str = "SELECT (SELECT system_identifier FROM pg_control_system())::text, \
    (SELECT oid FROM pg_database WHERE datname = current_database())::text, \
    current_user::text, current_setting('search_path')";

/// Answers look-ups by the database.
pub struct Database {
    connector: Arc<Connector>,
    /// How long an answer may take.
    limit: Duration,
    plan: Arc<PlanSource>,
    /// This host, where the address only means something on it.
    host: String,
    name: String,
    places: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
    known: Mutex<HashMap<String, Arc<Prepared>>>,
}

/// A look-up as it is sent.
#[derive(Debug, PartialEq, Eq)]
struct Prepared {
    sql: String,
    parameters: usize,
    columns: Vec<(String, Kind)>,
}

/// How a column's text is written as JSON: what a script is given is of the kind that a row's column would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Bool,
    Text,
}

impl Database {
    /// Asks on connections of `connector`. `host`: this one's name; `name`: of the sessions.
    #[must_use]
    pub fn new(connector: Arc<Connector>, plan: Arc<PlanSource>, limit: Duration, host: String, name: String) -> Self {
        Self {
            connector,
            limit,
            plan,
            host,
            name,
            places: Semaphore::new(CONNECTIONS as usize),
            idle: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Does `work` on a connection. One that it fails on is dropped, with those that were idle: they are from before.
    async fn on_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, LookError>,
    ) -> Result<T, LookError> {
        let closed = |_| LookError::Failed(Cause::bug("the connections of look-ups are closed"));
        let _place = self.places.acquire().await.map_err(closed)?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let done = work(&mut connection).await;
        if matches!(done, Err(LookError::Passing(..))) {
            self.idle().clear();
        } else {
            self.idle().push(connection);
        }
        done
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> Result<PgConnection, LookError> {
        let opened = self.connector.open(&self.name).await;
        let mut connection = opened.map_err(|refused| {
            if refused.may_pass {
                LookError::Passing(Trouble::Outage, refused.cause)
            } else {
                LookError::Failed(refused.cause)
            }
        })?;
        let set = within(self.limit, connection.execute(sqlx::raw_sql(SESSION))).await;
        set.map_err(|e| failure("a look-up", &e))?;
        Ok(connection)
    }

    async fn prepared(&self, connection: &mut PgConnection, cache: &CachedLookup) -> Result<Arc<Prepared>, LookError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&cache.name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let prepared = Arc::new(within_prepared(self.limit, prepare(connection, cache, &self.plan)).await?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(cache.name.clone(), Arc::clone(&prepared));
        Ok(prepared)
    }
}

async fn within_prepared(
    limit: Duration,
    work: impl Future<Output = Result<Prepared, Mistake>>,
) -> Result<Prepared, LookError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(prepared)) => Ok(prepared),
        Ok(Err(Mistake { trouble: Some(trouble), cause })) => Err(LookError::Passing(trouble, cause)),
        Ok(Err(Mistake { trouble: None, cause })) => Err(LookError::Failed(cause)),
        Err(_) => Err(LookError::Passing(Trouble::Outage, Cause::new("a look-up: no answer of the server in time"))),
    }
}

fn failure(what: &str, e: &sqlx::Error) -> LookError {
    // Elsewhere that is said by a server that has become a standby; these sessions may not write wherever they are.
    if let Some(db) = error::database(e).filter(|db| db.code() == READ_ONLY) {
        let cause = Cause::usage(format!("{what}: {}", db.message())).sqlstate(READ_ONLY);
        return LookError::Failed(
            cause.hint("a look-up only reads: it is not asked once for each row, nor in its batch"),
        );
    }
    let cause = error::cause(what, e);
    match trouble::of(e) {
        Some(trouble) => LookError::Passing(trouble, cause),
        None if trouble::is_data(e) => LookError::Row(cause),
        None => LookError::Failed(cause),
    }
}

#[async_trait]
impl Source for Database {
    async fn identity(&self) -> Result<Identity, LookError> {
        let ask = async |connection: &mut PgConnection| {
            let asked = identity(connection, self.connector.target.label(), &self.host);
            within(self.limit, asked).await.map_err(|e| failure("a look-up", &e))
        };
        self.on_connection(ask).await
    }

    async fn look(&self, cache: &CachedLookup, arguments: &[Option<String>]) -> Result<Option<String>, LookError> {
        let what = format!("look-up \"{}\"", cache.name);
        let ask = async |connection: &mut PgConnection| {
            let prepared = self.prepared(connection, cache).await?;
            if prepared.parameters != arguments.len() {
                let cause = Cause::usage(format!(
                    "{what} takes {}, and is given {}",
                    some(prepared.parameters),
                    some(arguments.len())
                ));
                let hint = "lookup(\"name\", first, second) gives `$1` and `$2` of its `sql`";
                return Err(LookError::Failed(cause.hint(hint)));
            }
            let mut bound = PgArguments::default();
            for argument in arguments {
                let added = bound.add(argument.as_deref());
                added.map_err(|e| LookError::Row(Cause::new(format!("{what}: {e}"))))?;
            }
            let query = sqlx::query_with(AssertSqlSafe(prepared.sql.clone()), bound);
            let row = within(self.limit, query.fetch_optional(connection)).await.map_err(|e| failure(&what, &e))?;
            row.map(|row| json(&row, &prepared.columns)).transpose().map_err(|e| failure(&what, &e))
        };
        self.on_connection(ask).await
    }
}

fn some(arguments: usize) -> String {
    format!("{arguments} argument{}", if arguments == 1 { "" } else { "s" })
}

/// Which database the connection leads to. `label` and `host`: how it was found, and from where.
///
/// # Errors
/// The server does not answer, or refuses to say.
pub async fn identity(connection: &mut PgConnection, label: String, host: &str) -> Result<Identity, sqlx::Error> {
    let row = sqlx::query(IDENTITY).persistent(false).fetch_one(connection).await?;
    let [system, database, user, path] = [0, 1, 2, 3].map(|at| row.try_get::<String, _>(at));
    // A copy of the server has its identifier too: the address tells them apart, and on one host also that.
    let is_local = ["@/", "@localhost:", "@127.", "@::1:", "@[::1]:"].iter().any(|near| label.contains(near));
    let host = if is_local { host } else { "" };
    Ok(Identity {
        database: format!("{}/{}/{label}/{host}", system?, database?),
        reader: format!("{}/{}", user?, path?),
    })
}

/// Why a look-up cannot be prepared.
struct Mistake {
    trouble: Option<Trouble>,
    cause: Cause,
}

/// Lets the server parse a look-up, and makes what is sent of it.
async fn prepare(
    connection: &mut PgConnection,
    cache: &CachedLookup,
    source: &PlanSource,
) -> Result<Prepared, Mistake> {
    let what = format!("cache \"{}\"", cache.name);
    let sql = SqlText::default().plans("sql", &cache.sql);
    let in_plan = |e: sqlx::Error, sql: &SqlText| {
        let mut cause = error::cause_in_plan(&what, &e, sql, source);
        if error::database(&e).is_some_and(|db| db.message().contains("multiple commands")) {
            cause = cause.hint("a look-up is one query");
        }
        Mistake { trouble: trouble::of(&e), cause }
    };
    let refuse = |message: &str, hint: &str| {
        let mut cause = Cause::usage(format!("{what}: {message}")).hint(hint);
        cause.details = source.excerpt_in_sql(&cache.sql, 0);
        Mistake { trouble: None, cause }
    };
    let parsed = connection.prepare(AssertSqlSafe(sql.as_str().to_owned()).into_sql_str()).await;
    let parsed = parsed.map_err(|e| in_plan(e, &sql))?;
    let columns: Vec<(String, Kind)> = parsed
        .columns()
        .iter()
        .map(|column| {
            let kind = match column.type_info().oid().map(|oid| oid.0) {
                Some(20 | 21 | 23 | 700 | 701) => Kind::Number,
                Some(16) => Kind::Bool,
                _ => Kind::Text,
            };
            (column.name().to_owned(), kind)
        })
        .collect();
    if columns.is_empty() {
        return Err(refuse("its `sql` returns no columns", "write a query, such as SELECT name FROM t WHERE id = $1"));
    }
    for (at, (name, _)) in columns.iter().enumerate() {
        if columns[..at].iter().any(|(other, _)| other == name) {
            let message = format!("two of its columns are called `{name}`");
            return Err(refuse(&message, "give each a name of its own: SELECT a.id AS a_id, b.id AS b_id"));
        }
    }
    let oids: Vec<i64> = match parsed.parameters() {
        Some(sqlx::Either::Left(types)) => types.iter().map(|of| of.oid().map_or(25, |oid| i64::from(oid.0))).collect(),
        Some(sqlx::Either::Right(_)) | None => Vec::new(),
    };
    let types: Vec<String> = sqlx::query_scalar(
        "SELECT format_type(u.oid::oid, NULL) FROM unnest($1::int8[]) WITH ORDINALITY AS u(oid, at) ORDER BY at",
    )
    .bind(oids)
    .persistent(false)
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| Mistake { trouble: trouble::of(&e), cause: error::cause(&what, &e) })?;
    let names: Vec<String> = (1..=columns.len()).map(|n| format!("c{n}")).collect();
    let texts: Vec<String> = names.iter().map(|name| format!("q.{name}::text")).collect();
    let wrapped = format!(
        "SELECT {} FROM (\n{}\n) AS q({}) LIMIT 1",
        texts.join(", "),
        parameters::from_text(&cache.sql.text, &types),
        names.join(", ")
    );
    let checked = connection.prepare(AssertSqlSafe(wrapped.clone()).into_sql_str()).await;
    checked.map_err(|e| {
        let mut mistake = in_plan(e, &SqlText::default());
        mistake.cause.details.splice(0..0, source.excerpt_in_sql(&cache.sql, 0));
        let hint = "its `sql` is used as a subquery: one query that only reads, without `;` at its end";
        mistake.cause = mistake.cause.hint(hint);
        mistake
    })?;
    Ok(Prepared { sql: wrapped, parameters: types.len(), columns })
}

/// Checks a look-up against the database.
///
/// # Errors
/// It cannot work, with the place in the plan.
pub async fn check(connection: &mut PgConnection, cache: &CachedLookup, source: &PlanSource) -> Result<(), Cause> {
    prepare(connection, cache, source).await.map(drop).map_err(|mistake| mistake.cause)
}

/// A row as JSON.
fn json(row: &PgRow, columns: &[(String, Kind)]) -> Result<String, sqlx::Error> {
    let value = |at: usize, kind: Kind| -> Result<String, sqlx::Error> {
        let text: Option<String> = row.try_get(at)?;
        Ok(text.map_or_else(|| "null".to_owned(), |text| written(&text, kind)))
    };
    if let [(_, kind)] = columns {
        return value(0, *kind);
    }
    let mut object = String::from("{");
    for (at, (name, kind)) in columns.iter().enumerate() {
        if at > 0 {
            object.push(',');
        }
        object.push_str(&written(name, Kind::Text));
        object.push(':');
        object.push_str(&value(at, *kind)?);
    }
    object.push('}');
    Ok(object)
}

fn written(text: &str, kind: Kind) -> String {
    match kind {
        // NaN and the infinities have no form in JSON.
        Kind::Number if text.parse::<f64>().is_ok_and(f64::is_finite) => text.to_owned(),
        Kind::Bool => (text == "true" || text == "t").to_string(),
        // A text is always JSON.
        Kind::Number | Kind::Text => serde_json::to_string(text).unwrap_or_default(),
    }
}

impl Lookups for Caches {
    fn views(&self) -> Vec<CacheView> {
        Caches::views(self)
    }

    fn news(&self) -> Vec<(Level, String)> {
        Caches::news(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_columns_text_is_written_as_json_of_its_kind() {
        for (text, kind, expected) in [
            ("9223372036854775807", Kind::Number, "9223372036854775807"),
            ("1e+20", Kind::Number, "1e+20"),
            ("NaN", Kind::Number, "\"NaN\""),
            ("true", Kind::Bool, "true"),
            ("f", Kind::Bool, "false"),
            ("a\"b\n", Kind::Text, "\"a\\\"b\\n\""),
        ] {
            assert_eq!(written(text, kind), expected);
        }
    }
}
