//! The sequences behind the target's columns, set to where the copied rows leave them.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::CopyStep;
use super::pair::Pair;
use crate::engine::ports::{StepContext, StepError};
use crate::postgres::{error, ident};
use crate::run::Cause;
use crate::steps::interruptible::{self, OwnConnection, Watch};

impl CopyStep {
    /// Sets the sequences of serial and identity columns that were copied so that their next number is a new one. Never
    /// backwards.
    pub(super) async fn set_sequences(&self, context: &StepContext) -> Result<(), StepError> {
        let limit = self.bench.limits.count_timeout;
        for pair in &self.ready()?.pairs {
            let what = format!("setting the sequences of {}", pair.target.label());
            let mut own = OwnConnection::take(&self.bench, limit, self.bench.limits.lock_timeout).await?;
            let pid = own.pid;
            let done =
                interruptible::wait(&self.bench.pool, pid, context, &what, Watch::Nothing, set(own.get(), pair)).await;
            own.close().await;
            done.map_err(|e| e.into_step_error(|e| self.explain(pair, e)))?;
        }
        Ok(())
    }

    fn explain(&self, pair: &Pair, e: &sqlx::Error) -> Cause {
        let label = pair.target.label();
        error::cause(&format!("{}: setting the sequences of `{label}`", self.bench.what()), e).hint(
            "every row is copied; let the role use them (GRANT UPDATE, SELECT ON SEQUENCE ...) and resume the run",
        )
    }
}

async fn set(connection: &mut PgConnection, pair: &Pair) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT a.attname::text AS name, format('%I.%I', n.nspname, c.relname) AS sequence, q.seqincrement > 0 AS upwards \
         FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' \
         JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence q ON q.seqrelid = c.oid \
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
           AND d.refobjid = $1::int8::oid AND a.attname = ANY ($2::text[])",
    )
    .bind(pair.target.oid)
    .bind(pair.names())
    .persistent(false)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let (name, sequence): (String, String) = (row.try_get("name")?, row.try_get("sequence")?);
        let (extreme, sign) = if row.try_get("upwards")? { ("max", ">") } else { ("min", "<") };
        // One that was never asked gives its first number itself.
        let sql = format!(
            "SELECT setval($1::text::regclass, far.value) FROM (SELECT {extreme}({})::int8 AS value FROM {}) AS far, \
             {sequence} AS now, pg_sequence AS q WHERE q.seqrelid = $1::text::regclass \
             AND (far.value {sign} now.last_value OR (far.value = now.last_value AND NOT now.is_called)) \
             AND far.value BETWEEN q.seqmin AND q.seqmax",
            ident::quote(&name),
            pair.target.quoted()
        );
        sqlx::query(AssertSqlSafe(sql)).bind(&sequence).persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}
