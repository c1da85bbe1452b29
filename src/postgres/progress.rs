//! How far the server is with an index or with statistics, in its own phases.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query};

/// How far one statement is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The phase in the server's words, and which of how many it is: `building index: scanning table (3 of 8)`.
    pub phase: String,
    /// The index that is being built at this moment, bare, where the server tells.
    pub index: Option<String>,
    /// Share of the phase that is done, 0 to 1, where the phase counts anything. Never 1: what has been counted is not the end.
    pub fraction: Option<f64>,
}

/// Nothing is done before the server says so.
const NEARLY: f64 = 0.999;

/// The phases of a build, in their order. Source: PostgreSQL documentation, section 28.4, CREATE INDEX Progress Reporting.
const PHASES: [&str; 10] = [
    "initializing",
    "waiting for writers before build",
    "building index",
    "waiting for writers before validation",
    "index validation: scanning index",
    "index validation: sorting tuples",
    "index validation: scanning table",
    "waiting for old snapshots",
    "waiting for readers before marking dead",
    "waiting for readers before dropping",
];

/// Those of an ANALYZE.
const ANALYZE: [&str; 6] = [
    "initializing",
    "acquiring sample rows",
    "acquiring inherited sample rows",
    "computing statistics",
    "computing extended statistics",
    "finalizing analyze",
];

/// The progress of the index that backend `pid` builds, if it builds one.
///
/// # Errors
/// The driver's error.
pub async fn index(connection: &mut PgConnection, pid: i32) -> Result<Option<Progress>, sqlx::Error> {
    let row = query(
        "SELECT p.command, p.phase, c.relname::text AS index, p.lockers_total, p.lockers_done, \
                p.partitions_total, p.partitions_done, \
                CASE WHEN p.blocks_total > 0 THEN p.blocks_done::float8 / p.blocks_total \
                     WHEN p.tuples_total > 0 THEN p.tuples_done::float8 / p.tuples_total END AS fraction \
         FROM pg_stat_progress_create_index p LEFT JOIN pg_class c ON c.oid = p.index_relid WHERE p.pid = $1",
    )
    .bind(pid)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read_index).transpose()
}

fn read_index(row: &PgRow) -> Result<Progress, sqlx::Error> {
    let number = |name: &str| row.try_get::<Option<i64>, _>(name).map(Option::unwrap_or_default);
    let command: String = row.try_get("command")?;
    let phase: String = row.try_get("phase")?;
    Ok(Progress {
        phase: words(&command, &phase, (number("lockers_done")?, number("lockers_total")?)),
        index: row.try_get("index")?,
        fraction: fraction(row)?,
    })
}

/// A phase, its place among those that this command passes, and how many of those it waits for are gone.
fn words(command: &str, phase: &str, (gone, all): (i64, i64)) -> String {
    let phases = match command {
        "REINDEX CONCURRENTLY" => PHASES.as_slice(),
        "CREATE INDEX CONCURRENTLY" => &PHASES[..8],
        _ => return phase.to_owned(),
    };
    let Some(at) = phases.iter().position(|one| phase.starts_with(one)) else { return phase.to_owned() };
    let waited = if all > 1 { format!(", {gone} of {all} gone") } else { String::new() };
    format!("{phase} ({} of {}{waited})", at + 1, phases.len())
}

/// The progress of the ANALYZE that backend `pid` runs, if it runs one.
///
/// # Errors
/// The driver's error.
pub async fn analyze(connection: &mut PgConnection, pid: i32) -> Result<Option<Progress>, sqlx::Error> {
    let row = query(
        "SELECT phase, CASE WHEN sample_blks_total > 0 AND phase LIKE 'acquiring%' \
                            THEN sample_blks_scanned::float8 / sample_blks_total END AS fraction \
         FROM pg_stat_progress_analyze WHERE pid = $1",
    )
    .bind(pid)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let phase: String = row.try_get("phase")?;
    let at = ANALYZE.iter().position(|one| *one == phase);
    let phase = at.map_or_else(|| phase.clone(), |at| format!("{phase} ({} of {})", at + 1, ANALYZE.len()));
    Ok(Some(Progress { phase, index: None, fraction: fraction(&row)? }))
}

fn fraction(row: &PgRow) -> Result<Option<f64>, sqlx::Error> {
    let share: Option<f64> = row.try_get("fraction")?;
    Ok(share.filter(|share| share.is_finite()).map(|share| share.clamp(0.0, NEARLY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_has_its_place_among_those_of_its_command() {
        let (create, reindex) = ("CREATE INDEX CONCURRENTLY", "REINDEX CONCURRENTLY");
        let table = [
            (create, "initializing", (0, 0), "initializing (1 of 8)"),
            (create, "waiting for writers before build", (0, 1), "waiting for writers before build (2 of 8)"),
            (create, "building index: scanning table", (0, 0), "building index: scanning table (3 of 8)"),
            (create, "waiting for old snapshots", (1, 3), "waiting for old snapshots (8 of 8, 1 of 3 gone)"),
            (reindex, "building index", (0, 0), "building index (3 of 10)"),
            (reindex, "waiting for readers before dropping", (0, 0), "waiting for readers before dropping (10 of 10)"),
            ("CREATE INDEX", "building index: scanning table", (0, 0), "building index: scanning table"),
            (create, "something new", (0, 0), "something new"),
        ];
        for (command, phase, lockers, expected) in table {
            assert_eq!(words(command, phase, lockers), expected);
        }
    }
}
