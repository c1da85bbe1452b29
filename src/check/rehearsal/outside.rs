//! What a rollback does not take back: sequences, and whatever triggers and functions do outside of the transaction.

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::plan::model::{Change, Plan, StepKind};

/// Something in a plan, or behind it, that may reach out of its transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// The step.
    pub step: String,
    /// What: `trigger audit on "public"."users"`, `function nextval`.
    pub what: String,
    /// Why it is told.
    pub why: String,
}

/// Triggers of these tables that are written in a language which may do anything, or whose source names what reaches out.
const TRIGGERS: &str = "SELECT format('trigger %s on %s', t.tgname, t.tgrelid::regclass) AS what, l.lanname::text AS language, \
    NOT l.lanpltrusted AND l.lanname <> 'internal' AS may_do_anything, \
    (SELECT string_agg(DISTINCT lower(m[1]), ', ') FROM regexp_matches(p.prosrc, \
        '\\y(nextval|setval|dblink\\w*|http_\\w+|net\\.http_\\w+|lo_export|pg_write_\\w+|program)\\y', 'gi') AS m) AS names \
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang \
    WHERE t.tgrelid = ANY ($1::int8[]::oid[]) AND NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1";

/// Of these functions, by their bare names, those that are volatile, and neither a clock nor a random number.
const VOLATILE: &str = "SELECT DISTINCT p.proname::text AS name FROM pg_proc p \
    WHERE p.proname = ANY ($1) AND p.provolatile = 'v' AND p.proname <> ALL (ARRAY['random', 'clock_timestamp', \
        'gen_random_uuid', 'uuidv4', 'uuidv7', 'uuid_generate_v4', 'setseed', 'timeofday', 'pg_sleep', 'pg_notify', 'random_normal']) ORDER BY 1";

/// Looks at one step: the SQL of the plan, and the triggers of the tables that it writes.
///
/// # Errors
/// The driver's error.
pub(super) async fn look(
    connection: &mut PgConnection,
    plan: &Plan,
    step: usize,
    written: &[i64],
) -> Result<Vec<Outside>, sqlx::Error> {
    let Some(step) = plan.steps.get(step) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let called: Vec<String> = texts(&step.kind).iter().flat_map(|sql| calls(sql)).collect();
    let volatile: Vec<String> =
        sqlx::query_scalar(VOLATILE).bind(&called).persistent(false).fetch_all(&mut *connection).await?;
    for name in volatile {
        let why = if matches!(name.as_str(), "nextval" | "setval") {
            "a sequence does not go back: its numbers are used up"
        } else {
            "it is VOLATILE: what it does outside of the transaction is not taken back"
        };
        found.push(Outside { step: step.name.clone(), what: format!("function {name}"), why: why.to_owned() });
    }
    for row in sqlx::query(TRIGGERS).bind(written).persistent(false).fetch_all(connection).await? {
        let (what, language): (String, String) = (row.try_get("what")?, row.try_get("language")?);
        let (anything, names): (bool, Option<String>) = (row.try_get("may_do_anything")?, row.try_get("names")?);
        let why = match (anything, names) {
            (true, _) => format!("it is written in {language}, which may do anything"),
            (false, Some(names)) => format!("its source names {names}"),
            (false, None) => continue,
        };
        found.push(Outside { step: step.name.clone(), what, why });
    }
    Ok(found)
}

/// The plan's own SQL that a batch runs.
fn texts(kind: &StepKind) -> Vec<&str> {
    match kind {
        StepKind::Backfill(backfill) => match &backfill.change {
            Change::Set { set, filter } => {
                set.iter().map(|(_, sql)| sql).chain(filter).map(|sql| sql.text.as_str()).collect()
            }
            Change::Raw { sql, filter, .. } => {
                [Some(sql), filter.as_ref()].into_iter().flatten().map(|sql| sql.text.as_str()).collect()
            }
        },
        StepKind::Copy(copy) => {
            copy.columns.iter().map(|(_, sql)| sql).chain(&copy.filter).map(|sql| sql.text.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

/// The bare names, in small letters, of what is called: words before a parenthesis. What stands in quotes and comments is
/// among them, which tells a little too much.
fn calls(sql: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in sql.match_indices('(') {
        let before = sql[..at].trim_end().trim_end_matches('"');
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let name = before[start..].to_lowercase();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_are_called_are_found_in_any_form() {
        assert_eq!(calls("lower(Email) || public.\"tag\" (x, nextval('s'))"), ["lower", "tag", "nextval"]);
        assert_eq!(calls("a + (b * 2)"), Vec::<String>::new());
        assert_eq!(calls("é(1) || (SELECT größe(2))"), ["é", "größe"]);
    }
}
