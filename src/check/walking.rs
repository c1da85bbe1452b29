//! How a backfill finds its rows: by a key, and by an index for its `where`. The planner is asked, and nothing is run.

use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::case::{Case, mended};
use super::facts::{ANSWER, Index};
use super::finding::{Code, Finding, Severity};
use super::proposal::{Proof, Proposal};
use crate::plan::model::{Backfill, PlanSource};
use crate::postgres::catalog::{Part, Table};
use crate::postgres::deadline::within;
use crate::postgres::key::End;
use crate::postgres::walk::Walk;
use crate::run::human;
use crate::steps::change;
use crate::steps::keyspace::Keyspace;

/// The table has no key, and is walked block by block.
pub const NO_KEY: Code = Code("no-key");
/// No index finds the rows of `where`.
pub const NO_INDEX: Code = Code("no-index-for-where");
/// A batch reads a whole table.
pub const SEQUENTIAL: Code = Code("sequential-scan-in-batch");

/// Codes of this file.
pub const CODES: [Code; 3] = [NO_KEY, NO_INDEX, SEQUENTIAL];

/// Rows of the batch that is planned.
const BATCH: u64 = 1000;
/// A table of fewer rows is read whole, and nobody notices.
const SMALL: u64 = 10_000;

/// What the planner says of a backfill.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Walked {
    /// The table is walked by its blocks.
    pub by_blocks: bool,
    /// Rows of `where`, as the planner guesses, and whether an index finds them. `None`: there is no `where`.
    pub matching: Option<Matching>,
    /// Tables that a batch reads whole although it would rather not: `schema.table`, and their rows.
    pub whole: Vec<(String, u64)>,
}

/// The rows of `where`.
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// How many, as the planner guesses.
    pub rows: u64,
    /// Whether an index finds them.
    pub by_index: bool,
    /// The index that would.
    pub proposal: Option<Proposal>,
}

/// What there is to say of a backfill's walk.
#[must_use]
pub fn of_backfill(case: &Case<'_>, walked: &Walked) -> Vec<Finding> {
    let mut found = Vec::new();
    if walked.by_blocks {
        let what = "it has no primary key, and no unique index over columns that are NOT NULL".to_owned();
        let why = "it is walked block by block: a batch may be large or small, and a row is known by `where` alone";
        let mend = vec![
            "-- rewrites the table under a lock: on a large one build a unique index CONCURRENTLY first".to_owned(),
            format!(
                "ALTER TABLE {} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
                case.table.quoted()
            ),
        ];
        found.push(mended(case.finds(NO_KEY, Severity::Warning, what, why), mend));
    }
    found.extend(walked.matching.as_ref().and_then(|matching| unindexed(case, matching)));
    for (table, rows) in walked.whole.iter().filter(|(_, rows)| *rows >= SMALL) {
        let severity = if *rows >= super::case::LARGE { Severity::Warning } else { Severity::Note };
        let what = format!("a batch reads all {} of `{table}`", human::rows(*rows));
        let why =
            "each batch reads them anew: its time does not fall with its size, and the governor cannot make it shorter";
        let mend = vec!["-- an index over the columns by which that table is joined to the batch".to_owned()];
        found.push(mended(case.finds(SEQUENTIAL, severity, what, why), mend));
    }
    found
}

fn unindexed(case: &Case<'_>, matching: &Matching) -> Option<Finding> {
    if matching.by_index {
        return None;
    }
    let of = case.table.rows.unwrap_or(matching.rows).max(1);
    let is_sparse = matching.rows.saturating_mul(10) < of;
    // Where most rows match, all of them are read anyway.
    let severity = if is_sparse { case.by_size() } else { Severity::Note };
    // The two guesses are of different origin: a share is never more than the whole.
    let guess = format!("about {} of {}", human::count(matching.rows.min(of)), human::rows(of));
    let what = match matching.proposal.as_ref().map(|proposal| &proposal.proof) {
        Some(Proof::Proved { before, after }) => format!(
            "no index finds the rows of `where` ({guess}); hypopg proves that this one does: cost {} instead of {}",
            human::count(*after),
            human::count(*before)
        ),
        Some(Proof::Unused) => format!(
            "no index finds the rows of `where` ({guess}); by hypopg the planner would not use this one for now"
        ),
        Some(Proof::Refused(words)) => {
            format!("no index finds the rows of `where` ({guess}), and none can be built for it: {words}")
        }
        Some(Proof::Untried) | None => {
            format!(
                "no index finds the rows of `where` ({guess}); that this one would is not proved, for want of hypopg"
            )
        }
    };
    let why = "a resumed or second sweep, and the count of what is left, read the whole table";
    let mend = matching.proposal.as_ref().map(Proposal::lines).unwrap_or_default();
    Some(mended(case.finds(NO_INDEX, severity, what, why), mend))
}

/// What is asked about.
pub(super) struct Ask<'a> {
    pub(super) step: &'a str,
    pub(super) backfill: &'a Backfill,
    pub(super) table: &'a Table,
    pub(super) part: &'a Part,
    pub(super) source: &'a PlanSource,
    pub(super) indexes: &'a [Index],
    pub(super) has_hypopg: bool,
}

/// Asks the planner, in a transaction that can write nothing and is rolled back.
///
/// # Errors
/// The driver's error: also where the role may not read what it plans.
pub(super) async fn ask(connection: &mut PgConnection, ask: &Ask<'_>) -> Result<Walked, sqlx::Error> {
    let Ok(sql) = change::batch_sql(ask.step, ask.backfill, ask.table, ask.part, None, ask.source) else {
        // What is wrong with it is told by the step's own check.
        return Ok(Walked::default());
    };
    let mut walked = Walked { by_blocks: matches!(ask.part.walk, Walk::Blocks(_)), ..Walked::default() };
    let mut tx = within(ANSWER, connection.begin_with("BEGIN READ ONLY")).await?;
    within(ANSWER, sqlx::raw_sql("SET LOCAL enable_seqscan = off").execute(&mut *tx)).await?;
    if let Some(left) = &sql.left {
        let plan = within(ANSWER, explain(&mut tx, left.as_str(), &[])).await?;
        let by_index = finds(&plan, ask);
        walked.matching = Some(Matching { rows: guess(&plan), by_index, proposal: None });
    }
    let keys = Keyspace::new(ask.part.clone());
    if let Some(first) = within(ANSWER, keys.end(&mut tx, End::First)).await?
        && let Some(end) = within(ANSWER, keys.boundary(&mut tx, Some(&first), None, BATCH)).await?
    {
        let change = &sql.of(Some(&first), &end.key).change;
        let plan = within(ANSWER, explain(&mut tx, change.as_str(), &[&first, &end.key])).await?;
        let mut whole = Vec::new();
        each(&plan, &mut |node| {
            if node["Node Type"] == "Seq Scan" {
                whole.push((text(node, "Schema"), text(node, "Relation Name")));
            }
        });
        whole.sort_unstable();
        whole.dedup();
        for (schema, name) in whole {
            let rows = within(ANSWER, rows_of(&mut tx, &schema, &name)).await?;
            let label = if schema == "public" { name } else { format!("{schema}.{name}") };
            walked.whole.push((label, rows));
        }
    }
    within(ANSWER, tx.rollback()).await?;
    if let (Some(matching), Some(left)) = (&mut walked.matching, &sql.left)
        && !matching.by_index
        && let Some(mut proposal) = Proposal::of(ask)
    {
        if ask.has_hypopg {
            proposal.proof = super::proposal::prove(connection, &proposal, left.as_str()).await?;
        }
        matching.proposal = Some(proposal);
    }
    Ok(walked)
}

/// Whether the rows of `where` are found by an index: by its columns, or because it holds only them.
fn finds(plan: &Value, ask: &Ask<'_>) -> bool {
    let mut found = false;
    each(plan, &mut |node| {
        if node["Relation Name"] != ask.part.name.as_str() && node["Index Name"].is_null() {
            return;
        }
        let is_partial =
            |name: &str| ask.indexes.iter().any(|index| index.name == name && index.definition.contains(" WHERE "));
        let by_columns = !node["Index Cond"].is_null() || !node["TID Cond"].is_null();
        found |= by_columns || node["Index Name"].as_str().is_some_and(is_partial);
    });
    found
}

/// Rows that go into the count.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a guess, clamped to what fits")]
fn guess(plan: &Value) -> u64 {
    let mut rows = 0.0_f64;
    each(plan, &mut |node| {
        if !node["Relation Name"].is_null() {
            // What workers share, each of them is told a part of.
            rows = rows.max(node["Plan Rows"].as_f64().unwrap_or(0.0));
        }
    });
    rows.clamp(0.0, 1e18) as u64
}

fn each(node: &Value, see: &mut impl FnMut(&Value)) {
    see(node);
    for child in node["Plans"].as_array().into_iter().flatten() {
        each(child, see);
    }
}

fn text(node: &Value, key: &str) -> String {
    node[key].as_str().unwrap_or_default().to_owned()
}

/// The topmost node of a statement's plan.
pub(super) async fn explain(
    connection: &mut PgConnection,
    sql: &str,
    keys: &[&crate::run::KeyText],
) -> Result<Value, sqlx::Error> {
    let sql = format!("EXPLAIN (FORMAT JSON, VERBOSE) {sql}");
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for key in keys {
        query = query.bind((*key).clone());
    }
    let row = query.fetch_one(connection).await?;
    let mut plan: Value = row.try_get(0)?;
    Ok(plan.pointer_mut("/0/Plan").map(Value::take).unwrap_or_default())
}

async fn rows_of(connection: &mut PgConnection, schema: &str, name: &str) -> Result<u64, sqlx::Error> {
    let rows: Option<i64> = sqlx::query_scalar(
        "SELECT greatest(c.reltuples::int8, s.n_live_tup, 0) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid \
         WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(schema)
    .bind(name)
    .persistent(false)
    .fetch_optional(connection)
    .await?;
    Ok(rows.unwrap_or(0).max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::samples::{case, codes, database, table, update};

    fn matching(rows: u64, by_index: bool, proof: Option<Proof>) -> Walked {
        let proposal = proof.map(|proof| Proposal {
            step: "emails".to_owned(),
            on: "users (\"id\")".to_owned(),
            filter: "seen IS NULL".to_owned(),
            proof,
        });
        Walked { matching: Some(Matching { rows, by_index, proposal }), ..Walked::default() }
    }

    #[test]
    fn a_sparse_condition_without_an_index_is_a_warning_and_a_dense_one_a_note() {
        let (work, facts, database) = (update(&["n"]), table(), database());
        let told = |walked: &Walked| of_backfill(&case(&work, &facts, &database), walked);
        let sparse = told(&matching(5000, false, Some(Proof::Proved { before: 20_000, after: 400 })));
        assert_eq!(codes(&sparse), ["no-index-for-where"]);
        assert_eq!(sparse[0].severity, Severity::Warning);
        assert!(sparse[0].what.contains("cost 400 instead of 20,000"), "{}", sparse[0].what);
        let dense = told(&matching(900_000, false, Some(Proof::Untried)));
        assert_eq!(dense[0].severity, Severity::Note);
        assert!(dense[0].what.contains("not proved"), "{}", dense[0].what);
        assert!(
            dense[0]
                .mend
                .iter()
                .any(|line| line == "index = { on = 'users (\"id\")', where = 'seen IS NULL', during = true }")
        );
        assert_eq!(told(&matching(5000, true, None)), []);
        assert_eq!(told(&Walked::default()), []);
    }

    #[test]
    fn a_batch_that_reads_a_whole_table_is_told_by_its_size() {
        let (work, facts, database) = (update(&["n"]), table(), database());
        let walked = Walked {
            by_blocks: true,
            whole: vec![("a".to_owned(), 9_999), ("b".to_owned(), 10_000), ("c".to_owned(), 100_000)],
            ..Walked::default()
        };
        let told = of_backfill(&case(&work, &facts, &database), &walked);
        let told: Vec<(&str, Severity)> = told.iter().map(|found| (found.code.0, found.severity)).collect();
        assert_eq!(
            told,
            [
                ("no-key", Severity::Warning),
                ("sequential-scan-in-batch", Severity::Note),
                ("sequential-scan-in-batch", Severity::Warning)
            ]
        );
    }
}
