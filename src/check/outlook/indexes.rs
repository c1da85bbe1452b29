//! What steps that look after indexes and statistics will do, in sentences.

use std::time::Duration;

use crate::plan::indexing::{Analyze, Index, Reindex};
use crate::run::human;

pub(super) fn of_index(index: &Index) -> Vec<String> {
    let unique = if index.unique { "a unique index" } else { "an index" };
    let name = index.name.as_ref().map(|name| format!(" {}", name.text.trim())).unwrap_or_default();
    let filter = index.filter.as_ref().map(|filter| format!(" WHERE {}", filter.text.trim())).unwrap_or_default();
    vec![
        format!(
            "builds {unique}{name} ON {}{filter}, CONCURRENTLY: reads the table twice, and makes nobody wait",
            index.on.written.text.trim()
        ),
        if index.during {
            "drops it CONCURRENTLY when the plan has succeeded, or is undone, where this run has made it".to_owned()
        } else {
            "keeps it; an undo drops it CONCURRENTLY, where this run has made it".to_owned()
        },
        ends(index.timeout),
    ]
}

pub(super) fn of_reindex(reindex: &Reindex) -> Vec<String> {
    let (word, name) = (reindex.what.word(), reindex.what.name().text.trim());
    vec![
        format!("builds {word} {name} anew, CONCURRENTLY: it takes as much room again until it is done"),
        "there is nothing in it to undo".to_owned(),
        ends(reindex.timeout),
    ]
}

pub(super) fn of_analyze(analyze: &Analyze) -> Vec<String> {
    let tables: Vec<&str> = analyze.tables.iter().map(|table| table.written.text.trim()).collect();
    vec![format!("gathers statistics: ANALYZE {}", tables.join(", ")), ends(analyze.timeout)]
}

/// How long it may take.
pub(super) fn ends(timeout: Option<Duration>) -> String {
    match timeout {
        Some(limit) => format!("ends after {} at the latest", human::duration(limit)),
        None => "takes as long as it takes".to_owned(),
    }
}
