//! Statements that lock a whole table, and how long they would wait for that with everybody queued behind them.

use std::time::Duration;

use super::case::{mended, of_database};
use super::finding::{Code, Finding, Severity};
use crate::plan::model::{Plan, Step, StepKind};
use crate::postgres::tokens::{self, Token};
use crate::run::human;

/// A statement waits for an ACCESS EXCLUSIVE lock for long, or without a limit.
pub const LOCK_TIMEOUT: Code = Code("lock-timeout-long");

/// Codes of this file.
pub const CODES: [Code; 1] = [LOCK_TIMEOUT];

/// A table may stand still for so long while a statement waits for its lock.
const LONGEST: Duration = Duration::from_secs(10);

/// The statements of a plan that wait too long for their lock.
#[must_use]
pub fn of_plan(plan: &Plan) -> Vec<Finding> {
    plan.steps.iter().filter_map(|step| of_step(step, plan.limits.lock_timeout)).collect()
}

/// A step's statement runs under `limits.lock_timeout`, but for those that PostgreSQL refuses in a transaction: they wait as
/// long as it takes.
fn of_step(step: &Step, lock_timeout: Duration) -> Option<Finding> {
    let StepKind::Statement(statement) = &step.kind else { return None };
    if !locks_out(&statement.sql.text) {
        return None;
    }
    let unlimited = tokens::refuses_transaction(&statement.sql.text);
    if !unlimited && lock_timeout <= LONGEST {
        return None;
    }
    let waits =
        if unlimited { "without a limit".to_owned() } else { format!("for up to {}", human::duration(lock_timeout)) };
    let what = format!("it takes an ACCESS EXCLUSIVE lock, and waits for it {waits}");
    let why = "while it waits, every query of the table queues behind it, reads as well";
    let mend = if unlimited {
        vec![
            "-- run it in a window in which nobody needs the table; pg_repack does the same without the lock"
                .to_owned(),
        ]
    } else {
        vec![
            "-- in the plan: [limits] lock_timeout = \"2s\"; a statement that does not get its lock is tried again"
                .to_owned(),
        ]
    };
    let found = of_database(LOCK_TIMEOUT, Severity::Warning, "lock_timeout", what, why);
    Some(mended(Finding { step: Some(step.name.clone()), ..found }, mend))
}

/// Whether a statement takes an ACCESS EXCLUSIVE lock on a table that is there, by its words.
fn locks_out(sql: &str) -> bool {
    let tokens = tokens::tokens(sql);
    let words: Vec<&str> = tokens
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(word.as_str()),
            Token::Quoted(_) | Token::Symbol(_) | Token::Text => None,
        })
        .collect();
    let has = |word: &str| words.contains(&word);
    match words.as_slice() {
        ["truncate" | "cluster" | "refresh" | "reindex", ..] | ["drop", "index", ..] => !has("concurrently"),
        ["vacuum", ..] => has("full"),
        ["drop", "table" | "view" | "materialized" | "trigger" | "schema", ..] => true,
        ["lock", ..] => !["share", "row"].iter().any(|word| has(word)) || has("access") && has("exclusive"),
        // Of a table's changes these take less.
        ["alter", "table", ..] => {
            let takes_less = ["validate", "statistics", "attach", "cluster"].iter().any(|word| has(word));
            !(takes_less || has("detach") && has("concurrently"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load;

    #[test]
    fn statements_that_lock_a_table_out_are_known_by_their_words() {
        for sql in [
            "ALTER TABLE users ADD COLUMN x int",
            "alter table users set not null",
            "TRUNCATE users",
            "DROP INDEX i",
            "VACUUM (FULL) users",
            "LOCK TABLE users",
            "LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
            "REINDEX TABLE users",
        ] {
            assert!(locks_out(sql), "{sql}");
        }
        for sql in [
            "ALTER TABLE users VALIDATE CONSTRAINT c",
            "ALTER TABLE p DETACH PARTITION q CONCURRENTLY",
            "CREATE INDEX CONCURRENTLY i ON users (id)",
            "DROP INDEX CONCURRENTLY i",
            "VACUUM users",
            "LOCK TABLE users IN SHARE MODE",
            "UPDATE users SET x = 'drop table'",
        ] {
            assert!(!locks_out(sql), "{sql}");
        }
    }

    #[test]
    fn a_statement_that_waits_long_for_its_lock_is_told() {
        let found = |limits: &str, sql: &str| {
            let text = format!("{limits}\n[[step]]\nname = \"s\"\nstatement = \"{sql}\"\n");
            of_plan(&load::from_text("p.toml", None, &text, &|_| None).expect("a plan"))
        };
        assert_eq!(found("", "ALTER TABLE t ADD x int"), []);
        let long = found("[limits]\nlock_timeout = \"5m\"", "ALTER TABLE t ADD x int");
        assert_eq!(long[0].what, "it takes an ACCESS EXCLUSIVE lock, and waits for it for up to 5m00.0s");
        assert!(found("", "VACUUM FULL t")[0].what.ends_with("without a limit"));
        assert_eq!(found("[limits]\nlock_timeout = \"5m\"", "CREATE INDEX CONCURRENTLY i ON t (x)"), []);
    }
}
