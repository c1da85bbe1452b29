//! "Did you mean ...?": names in the catalog that resemble one that is not there.

use sqlx::postgres::PgConnection;

/// Tables whose names resemble the one that was not found, as a hint.
pub(super) async fn near_tables(connection: &mut PgConnection, written: &str) -> String {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT CASE n.nspname WHEN 'public' THEN quote_ident(c.relname) \
                ELSE quote_ident(n.nspname) || '.' || quote_ident(c.relname) END \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'howdah', 'pg_toast') LIMIT 2000",
    )
    .persistent(false)
    .fetch_all(connection)
    .await
    .unwrap_or_default();
    near(written, names.iter().map(String::as_str)).map_or_else(
        || "is the search_path right, and is this the right database? `howdah run` says which one it uses".to_owned(),
        |name| format!("did you mean `{name}`?"),
    )
}

/// The candidate that resembles `written` most, when it does.
#[must_use]
pub fn near<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).to_lowercase();
    candidates
        .map(|candidate| (strsim::jaro_winkler(&bare(written), &bare(candidate)), candidate))
        .filter(|(score, _)| *score > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn a_misspelt_table_is_guessed() {
        let names = ["users", "app.orders", "\"Odd\""];
        assert_eq!(near("user", names.into_iter()), Some("users"));
        assert_eq!(near("orderz", names.into_iter()), Some("app.orders"));
        assert_eq!(near("zebra", names.into_iter()), None);
    }
}
