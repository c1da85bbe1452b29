//! Whom a session waits for.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use crate::run::human;
use crate::run::text::clean;

/// A session that holds a lock, or stands before us in the queue for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holder {
    /// Its backend; 0 for a prepared transaction, which has none.
    pub pid: i32,
    /// Its `application_name`, else its role, where we may see them.
    pub who: Option<String>,
    /// What it does: `active`, `idle in transaction`.
    pub state: Option<String>,
    /// For how long its transaction has been open.
    pub since: Option<Duration>,
}

/// Whom backend `pid` waits for at this moment, the oldest transaction first. Empty where it waits for no lock.
///
/// # Errors
/// The driver's error.
pub async fn of(connection: &mut PgConnection, pid: i32) -> Result<Vec<Holder>, sqlx::Error> {
    // `pg_blocking_pids` stops the lock manager for a moment: it is asked only while the session does wait.
    let rows = sqlx::query(
        "SELECT DISTINCT b.pid, coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type) AS who, a.state, \
                extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8 AS since \
         FROM pg_stat_activity w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b(pid) \
         LEFT JOIN pg_stat_activity a ON a.pid = b.pid \
         WHERE w.pid = $1 AND w.wait_event_type = 'Lock' ORDER BY since DESC NULLS LAST LIMIT 100",
    )
    .bind(pid)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Holder, sqlx::Error> {
    let since: Option<f64> = row.try_get("since")?;
    Ok(Holder {
        pid: row.try_get("pid")?,
        who: row.try_get("who")?,
        state: row.try_get("state")?,
        since: since.and_then(|since| Duration::try_from_secs_f64(since.max(0.0)).ok()),
    })
}

/// In a few words: `pid 4711 (psql, idle in transaction 12m) and 2 others`. `None` where there is nobody.
#[must_use]
pub fn words(holders: &[Holder]) -> Option<String> {
    let (first, others) = holders.split_first()?;
    let first = one(first);
    Some(match others.len() {
        0 => first,
        1 => format!("{first} and 1 other"),
        n => format!("{first} and {n} others"),
    })
}

fn one(holder: &Holder) -> String {
    if holder.pid == 0 {
        return "a prepared transaction".to_owned();
    }
    let since = holder.since.map(human::rough_duration);
    let state = match (&holder.state, since) {
        (Some(state), Some(since)) => Some(format!("{} {since}", clean(state))),
        (Some(state), None) => Some(clean(state).into_owned()),
        (None, since) => since,
    };
    let known: Vec<String> =
        holder.who.as_deref().map(|who| clean(who).into_owned()).into_iter().chain(state).collect();
    if known.is_empty() { format!("pid {}", holder.pid) } else { format!("pid {} ({})", holder.pid, known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_told_in_a_few_words() {
        let psql = Holder {
            pid: 4711,
            who: Some("ps\u{1b}ql".into()),
            state: Some("idle in transaction".into()),
            since: Some(Duration::from_mins(12)),
        };
        let hidden = Holder { pid: 7, ..Holder::default() };
        assert_eq!(words(&[]), None);
        let told = words(std::slice::from_ref(&psql)).expect("words");
        assert!(told.starts_with("pid 4711 (ps") && told.ends_with("ql, idle in transaction 12m00s)"), "{told}");
        assert!(!told.contains('\u{1b}'), "{told:?}");
        assert_eq!(words(&[hidden.clone(), psql.clone()]).as_deref(), Some("pid 7 and 1 other"));
        assert_eq!(words(&[hidden.clone(), psql.clone(), psql]).as_deref(), Some("pid 7 and 2 others"));
        assert_eq!(words(&[Holder::default()]).as_deref(), Some("a prepared transaction"));
    }
}
