//! The index that a `where` lacks: what it would be, how a plan writes it down, and whether the planner would use it.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::facts::ANSWER;
use super::walking::{Ask, explain};
use crate::plan::model::Change;
use crate::postgres::deadline::within;
use crate::postgres::walk::Walk;
use crate::postgres::{error, ident};

/// A partial index over the walk's key, of the rows that are still to be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The step that it is for.
    pub step: String,
    /// The table as the plan writes it, and the key: `users ("id")`.
    pub on: String,
    /// The condition, as the plan writes it.
    pub filter: String,
    /// Whether the planner would use it.
    pub proof: Proof,
}

/// Whether the planner would use an index that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It was not asked.
    Untried,
    /// It would: the cost of the count without it, and with it.
    Proved {
        /// Without.
        before: u64,
        /// With.
        after: u64,
    },
    /// It would not, with the statistics as they are.
    Unused,
    /// The server builds no such index: its words.
    Refused(String),
}

impl Proposal {
    /// For a backfill that is walked by a key.
    pub(super) fn of(ask: &Ask<'_>) -> Option<Self> {
        let (Change::Set { filter, .. } | Change::Raw { filter, .. }) = &ask.backfill.change;
        let (Some(filter), Walk::Key(key)) = (filter, &ask.part.walk) else { return None };
        let columns: Vec<String> = key.columns.iter().map(|column| ident::quote(&column.name)).collect();
        let on = format!("{} ({})", ask.backfill.table.text.trim(), columns.join(", "));
        Some(Self { step: ask.step.to_owned(), on, filter: filter.text.trim().to_owned(), proof: Proof::Untried })
    }

    /// As a step of the plan. Its condition may end in a comment.
    pub(super) fn lines(&self) -> Vec<String> {
        if matches!(self.proof, Proof::Refused(_)) {
            return Vec::new();
        }
        vec![
            format!(
                "# in the plan, before step {}: it is built before, and dropped once the plan has succeeded",
                toml(&self.step)
            ),
            "[[step]]".to_owned(),
            format!("name = {}", toml(&format!("index for {}", self.step))),
            format!("index = {{ on = {}, where = {}, during = true }}", toml(&self.on), toml(&self.filter)),
        ]
    }

    /// As SQL.
    fn sql(&self) -> String {
        format!("CREATE INDEX ON {} WHERE (\n{}\n)", self.on, self.filter)
    }
}

/// A text as TOML writes it: as it stands where it can, for SQL is full of double quotes.
fn toml(text: &str) -> String {
    if !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    // A string of JSON is one of TOML.
    serde_json::Value::from(text).to_string()
}

/// Asks the planner about an index that exists for this session only, by hypopg.
pub(super) async fn prove(
    connection: &mut PgConnection,
    proposal: &Proposal,
    count: &str,
) -> Result<Proof, sqlx::Error> {
    let before = within(ANSWER, explain(connection, count, &[])).await?;
    let made: Result<String, sqlx::Error> = within(
        ANSWER,
        sqlx::query_scalar("SELECT indexname::text FROM hypopg_create_index($1)")
            .bind(proposal.sql())
            .persistent(false)
            .fetch_one(&mut *connection),
    )
    .await;
    let name = match made {
        Ok(name) => name,
        Err(e) => {
            let Some(words) = error::database(&e).map(|db| db.message().to_owned()) else { return Err(e) };
            // The extension lies where the search path does not lead, or is not for this role.
            let is_away = matches!(error::code(&e), Some("42883" | "42501" | "3F000"));
            return Ok(if is_away { Proof::Untried } else { Proof::Refused(words) });
        }
    };
    let after = within(ANSWER, explain(connection, count, &[])).await;
    let forget = sqlx::query(AssertSqlSafe("SELECT hypopg_reset()".to_owned())).persistent(false);
    within(ANSWER, forget.execute(connection)).await?;
    let after = after?;
    if !after.to_string().contains(&name) {
        return Ok(Proof::Unused);
    }
    let cost = |plan: &serde_json::Value| plan["Total Cost"].as_f64().unwrap_or(0.0);
    Ok(Proof::Proved { before: whole(cost(&before)), after: whole(cost(&after)) })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cost, clamped to what fits")]
fn whole(cost: f64) -> u64 {
    cost.clamp(0.0, 1e18).round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_stands_in_toml_as_it_is_where_it_can() {
        assert_eq!(toml("users (\"id\")"), "'users (\"id\")'");
        assert_eq!(toml("name <> 'x'"), "\"name <> 'x'\"");
        assert_eq!(toml("a\nb"), "\"a\\nb\"");
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text in "[^\u{0}\u{7f}]{0,40}") {
            let document = format!("k = {}", toml(&text));
            let read: toml::Table = document.parse().expect("TOML");
            prop_assert_eq!(read["k"].as_str(), Some(text.as_str()));
        }
    }
}
