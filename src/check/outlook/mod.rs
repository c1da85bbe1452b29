//! What will happen, step by step: tables, keys, rows, segments, and the SQL of a batch with the plan that the server has
//! for it.

mod batch;
mod indexes;
mod movers;
mod text;

use serde::Serialize;
use sqlx::postgres::PgConnection;

use crate::plan::model::{Backfill, Plan, Step, StepKind, Undo};
use crate::plan::movers::{Comparison, Copy};
use crate::postgres::catalog;
use crate::postgres::error;
use crate::postgres::explain;
use crate::postgres::key::End;
use crate::run::{Cause, human};
use crate::steps::keyspace::Keyspace;
use crate::steps::{change, copy, segments};
pub use batch::BatchOutlook;

/// Segments of a large table, as `backfill` and `copy` cut it.
const SEGMENTS: u32 = 64;
/// Partitions whose segments are counted one by one; of more, the number is what they are cut into at most.
const CUT_PARTS: usize = 16;

/// What a plan will do.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Outlook {
    /// The steps, in the plan's order.
    pub steps: Vec<StepOutlook>,
}

/// What a step will do.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct StepOutlook {
    /// The step's name. Not cleaned.
    pub name: String,
    /// The kind's word: `backfill`.
    pub kind: &'static str,
    /// Why it cannot be told yet, or at all. Not cleaned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    /// What it does, in sentences. Not cleaned.
    pub does: Vec<String>,
    /// The tables and partitions that it walks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub walks: Vec<WalkOutlook>,
}

/// A table or a partition that is walked.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct WalkOutlook {
    /// With its schema, quoted.
    pub table: String,
    /// Where its rows go, where that is another table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The key as a person names it: `id`, `(tenant, id)`, `block`.
    pub key: String,
    /// Rows by the server's statistics. `None`: nobody knows.
    pub rows: Option<u64>,
    /// Rows that match the step's `where`, by the planner. `None`: it has none, or nobody knows.
    pub matching: Option<u64>,
    /// Segments that it is cut into.
    pub segments: usize,
    /// A batch of it. Only of the largest one that a step walks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchOutlook>,
}

/// Looks at every step. Nothing is changed; what cannot be told is said so and fails nobody.
pub async fn outlook(connection: &mut PgConnection, plan: &Plan) -> Outlook {
    let mut outlook = Outlook::default();
    let mut statement_pending = false;
    for step in &plan.steps {
        let mut told = StepOutlook { name: step.name.clone(), kind: step.kind.word(), ..StepOutlook::default() };
        if let Err(cause) = one(connection, plan, step, &mut told).await {
            told.untold = Some(if statement_pending {
                format!("can be told only once an earlier statement has run: {}", cause.headline())
            } else {
                cause.headline()
            });
        }
        statement_pending |= matches!(step.kind, StepKind::Statement(_));
        outlook.steps.push(told);
    }
    outlook
}

async fn one(connection: &mut PgConnection, plan: &Plan, step: &Step, told: &mut StepOutlook) -> Result<(), Cause> {
    match &step.kind {
        StepKind::Statement(statement) => {
            told.does.push(format!("runs once: {}", statement.sql.text.trim()));
            match (&statement.down, statement.cleanup) {
                (Some(down), true) => {
                    told.does.push(format!("when the plan has succeeded, or is undone: {}", down.text.trim()));
                }
                (Some(down), false) => told.does.push(format!("to undo it: {}", down.text.trim())),
                (None, _) => told.does.push("howdah cannot undo it: it has no `down`".to_owned()),
            }
            told.does.push(indexes::ends(statement.timeout));
            Ok(())
        }
        StepKind::Index(index) => {
            told.does = indexes::of_index(index);
            Ok(())
        }
        StepKind::Reindex(reindex) => {
            told.does = indexes::of_reindex(reindex);
            Ok(())
        }
        StepKind::Analyze(analyze) => {
            told.does = indexes::of_analyze(analyze);
            Ok(())
        }
        StepKind::Verify(verify) => {
            let limit = verify.timeout.unwrap_or(plan.limits.count_timeout);
            told.does.push(format!("asks: {}", verify.sql.text.trim()));
            told.does.push(format!("ends after {} at the latest", human::duration(limit)));
            Ok(())
        }
        StepKind::Backfill(backfill) => of_backfill(connection, plan, &step.name, backfill, told).await,
        StepKind::Copy(copy) => of_copy(connection, plan, &step.name, copy, told).await,
        StepKind::Import(import) => movers::of_import(&step.name, import, &plan.source, told).await,
        StepKind::Transform(transform) => movers::of_transform(connection, plan, &step.name, transform, told).await,
        StepKind::Files(files) => movers::of_files(&step.name, files, &plan.source, told).await,
    }
}

async fn of_backfill(
    connection: &mut PgConnection,
    plan: &Plan,
    name: &str,
    backfill: &Backfill,
    told: &mut StepOutlook,
) -> Result<(), Cause> {
    let table = catalog::table(connection, name, &backfill.table, &plan.source).await?;
    told.does.push(format!("changes rows of {}, walked by {}", table.quoted(), table.describe_walk()));
    told.does.push(match &backfill.undo {
        Undo::None => "howdah cannot undo it: it has neither `undo` nor `undo_sql`".to_owned(),
        Undo::Auto => "keeps the old values of what it sets, in an undo log that is written with each batch".to_owned(),
        Undo::Sql(_) => "is undone by its `undo_sql`".to_owned(),
    });
    let mut batches = Vec::new();
    for part in &table.parts {
        let sql = change::batch_sql(name, backfill, &table, part, None, &plan.source)?;
        let from = sql.filter.as_ref().map(|filter| format!("{} WHERE {}", sql.named.from, filter.as_str()));
        batches.push((Keyspace::new(part.clone()), from, sql));
    }
    let sources: Vec<(&Keyspace, Option<&str>)> =
        batches.iter().map(|(keys, from, _)| (keys, from.as_deref())).collect();
    told.walks = walks(connection, plan, name, &sources).await?;
    if let Some(at) = largest(&told.walks) {
        let (keys, _, sql) = &batches[at];
        let made =
            batch::look(connection, plan, name, keys, |from, through| sql.of(from, through).change.clone()).await;
        told.walks[at].batch = made?;
    }
    Ok(())
}

async fn of_copy(
    connection: &mut PgConnection,
    plan: &Plan,
    name: &str,
    copied: &Copy,
    told: &mut StepOutlook,
) -> Result<(), Cause> {
    let Some(insertions) = copy::insertions(connection, name, copied, &plan.source).await? else {
        let tables: Vec<&str> = copied.tables.iter().map(|table| table.text.as_str()).collect();
        told.does.push(format!("copies rows of {} over a connection of their own, by COPY", tables.join(", ")));
        return Ok(());
    };
    told.does.push(format!("copies rows of {} within this database", many(insertions.len(), "table")));
    if let Some(comparison) = copied.verify {
        told.does.push(match comparison {
            Comparison::Count => "compares the rows of both sides at its end".to_owned(),
            Comparison::Checksum => "compares rows and checksums of both sides at its end".to_owned(),
        });
    }
    let sources: Vec<(&Keyspace, Option<&str>)> = insertions.iter().map(|one| (one.keys(), None)).collect();
    told.walks = walks(connection, plan, name, &sources).await?;
    for (walk, one) in told.walks.iter_mut().zip(&insertions) {
        walk.target = Some(one.target().quoted());
    }
    if let Some(at) = largest(&told.walks) {
        let one = &insertions[at];
        let made = batch::look(connection, plan, name, one.keys(), |from, through| one.sql(from, through)).await;
        told.walks[at].batch = made?;
    }
    Ok(())
}

/// A count with its noun: `1 file`, `37 files`.
fn many(n: usize, noun: &str) -> String {
    let n = u64::try_from(n).unwrap_or(u64::MAX);
    format!("{} {noun}{}", human::count(n), if n == 1 { "" } else { "s" })
}

/// Which of them has the most rows.
fn largest(walks: &[WalkOutlook]) -> Option<usize> {
    (0..walks.len()).max_by_key(|at| (walks[*at].rows.unwrap_or(0), std::cmp::Reverse(*at)))
}

/// How parts are walked, cut into segments as the step itself cuts them. `from`: what the rows that match are counted in.
async fn walks(
    connection: &mut PgConnection,
    plan: &Plan,
    name: &str,
    sources: &[(&Keyspace, Option<&str>)],
) -> Result<Vec<WalkOutlook>, Cause> {
    let failed = |e: sqlx::Error| error::cause(&format!("step \"{name}\""), &e);
    let mut rows = Vec::new();
    for (keys, _) in sources {
        rows.push(keys.rows(connection).await.map_err(failed)?);
    }
    let shares = segments::shares(&rows, plan.limits.batch.start, SEGMENTS);
    let mut walks = Vec::new();
    for (((keys, from), rows), share) in sources.iter().zip(rows).zip(shares) {
        let part = keys.part();
        let matching = match from {
            Some(from) => matching(connection, &part.quoted(), from, rows).await.map_err(failed)?,
            None => None,
        };
        let mut cut = usize::try_from(share).unwrap_or(usize::MAX);
        if sources.len() <= CUT_PARTS {
            let last = keys.end(connection, End::Last).await.map_err(failed)?;
            cut = match &last {
                Some(last) => keys.cuts(connection, None, last, share).await.map_err(failed)?.len() + 1,
                None => 0,
            };
        }
        let (table, key) = (part.quoted(), part.walk.describe());
        walks.push(WalkOutlook { table, target: None, key, rows, matching, segments: cut, batch: None });
    }
    Ok(walks)
}

/// Rows that match, by the planner's share of the rows that the statistics know.
async fn matching(
    connection: &mut PgConnection,
    table: &str,
    from: &str,
    rows: Option<u64>,
) -> Result<Option<u64>, sqlx::Error> {
    let all = explain::planned(connection, table).await?;
    let some = explain::planned(connection, from).await?;
    Ok(match (all, some, rows) {
        (Some(all), Some(some), Some(rows)) => {
            let scaled = u128::from(some) * u128::from(rows) / u128::from(all.max(1));
            Some(u64::try_from(scaled).unwrap_or(u64::MAX).min(rows))
        }
        (_, some, _) => some,
    })
}
