//! `verify`: a query whose answer must be as expected.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, Row, ValueRef};

use super::Workbench;
use super::interruptible::{self, OwnConnection, Watch};
use crate::engine::ports::{Once, StepContext, StepError};
use crate::plan::model::{Expected, Verify};
use crate::postgres::sql::SqlText;
use crate::postgres::{error, sqlstate};
use crate::run::{Cause, human};

/// A `verify` step.
pub struct VerifyStep {
    bench: Workbench,
    verify: Verify,
}

/// What the query is wrapped in: the first row's first column, as text. `expected` names it, whatever the query calls it.
fn wrapped(verify: &Verify) -> SqlText {
    SqlText::default()
        .ours("SELECT answer.value::text FROM (\n")
        .plans("verify", &verify.sql)
        .ours("\n) AS answer(value) LIMIT 1")
}

impl VerifyStep {
    /// A step that is ready to run.
    #[must_use]
    pub fn new(bench: Workbench, verify: Verify) -> Self {
        Self { bench, verify }
    }

    /// The query as it is sent.
    #[must_use]
    pub fn sql(verify: &Verify) -> SqlText {
        wrapped(verify)
    }

    async fn answer(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        let limit = self.verify.timeout.unwrap_or(self.bench.limits.count_timeout);
        let mut own = OwnConnection::take(&self.bench, limit, self.bench.limits.lock_timeout).await?;
        let pid = own.pid;
        let text = wrapped(&self.verify);
        let query = async {
            let mut tx = own.get().begin_with("BEGIN READ ONLY").await?;
            let row = sqlx::query(AssertSqlSafe(text.as_str())).persistent(false).fetch_optional(&mut *tx).await;
            drop(tx.rollback().await);
            let Some(row) = row? else { return Ok(None) };
            if row.try_get_raw(0)?.is_null() { Ok(None) } else { row.try_get::<String, _>(0).map(Some) }
        };
        let answer = interruptible::wait(&self.bench.pool, pid, context, "checking", Watch::Nothing, query).await;
        own.close().await;
        answer.map_err(|e| {
            e.into_step_error(|e| {
                if error::code(e) == Some(sqlstate::QUERY_CANCELED) {
                    return Cause::new(format!("{}: no answer within {}", self.bench.what(), human::duration(limit)))
                        .hint("give the step a longer `timeout`, or the query an index");
                }
                error::cause_in_plan(&self.bench.what(), e, &text, &self.bench.source)
            })
        })
    }
}

/// Whether an answer in PostgreSQL's text form is what was expected.
fn agrees(expected: &Expected, answer: Option<&str>) -> bool {
    match (expected, answer) {
        (Expected::Integer(n), Some(answer)) => {
            // `0.00` is 0, and 9007199254740993 is not 9007199254740992: compared as decimal digits, never as a double.
            let (whole, fraction) = answer.split_once('.').unwrap_or((answer, ""));
            whole.parse::<i64>() == Ok(*n) && fraction.bytes().all(|digit| digit == b'0')
        }
        (Expected::Text(text), Some(answer)) => text == answer,
        (Expected::Boolean(yes), Some(answer)) => answer == if *yes { "true" } else { "false" },
        (Expected::Integer(_) | Expected::Text(_) | Expected::Boolean(_), None) => false,
    }
}

fn words(expected: &Expected) -> String {
    match expected {
        Expected::Integer(n) => n.to_string(),
        Expected::Text(text) => format!("\"{text}\""),
        Expected::Boolean(yes) => yes.to_string(),
    }
}

#[async_trait]
impl Once for VerifyStep {
    async fn execute(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        let answer = self.answer(context).await?;
        if !agrees(&self.verify.expect, answer.as_deref()) {
            let got = answer.as_deref().unwrap_or("no row, or NULL");
            let mut cause =
                Cause::new(format!("{}: expected {}, got {got}", self.bench.what(), words(&self.verify.expect)))
                    .hint("look at the rows in question, then resume: the step asks again");
            cause.details = self.bench.source.excerpt_in_sql(&self.verify.sql, 0);
            return Err(StepError::Failed(cause));
        }
        let outcome = answer.map(|answer| format!("is {answer}, as expected"));
        self.bench.step_done(outcome.as_deref()).await?;
        Ok(outcome)
    }

    async fn clean_up(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_exactly() {
        let table = [
            (Expected::Integer(0), Some("0"), true),
            (Expected::Integer(0), Some("0.00"), true),
            (Expected::Integer(0), Some("0.01"), false),
            (Expected::Integer(9_007_199_254_740_992), Some("9007199254740993"), false),
            (Expected::Integer(-5), Some("-5"), true),
            (Expected::Integer(0), None, false),
            (Expected::Integer(0), Some("zero"), false),
            (Expected::Text("a".into()), Some("a"), true),
            (Expected::Text("a".into()), Some("A"), false),
            (Expected::Boolean(true), Some("true"), true),
            (Expected::Boolean(true), Some("false"), false),
        ];
        for (expected, answer, agreed) in table {
            assert_eq!(agrees(&expected, answer), agreed, "{expected:?} {answer:?}");
        }
    }
}
