//! `update`: columns of the rows that were read, where nobody has changed them since.

use sqlx::postgres::PgConnection;

use super::reading::Share;
use super::rows::{Answer, Rows, Value};
use super::shape::ToColumn;
use super::stage;
use super::text;
use crate::postgres::ident::quote;
use crate::steps::batch::BatchError;
use std::time::Duration;

/// The statements that update rows of one table, or of one partition.
#[derive(Debug, Clone)]
pub(super) struct UpdateSql {
    stage: String,
    copy: String,
    /// Where every answer names every column.
    whole: String,
    /// Where some do not.
    partial: String,
    clear: String,
}

impl UpdateSql {
    pub(super) fn new(share: &Share, columns: &[ToColumn]) -> Self {
        let bare = format!("howdah_stage_{}", share.stage);
        let name = format!("pg_temp.{bare}");
        let keys: Vec<String> = (1..=share.key.columns.len()).map(|n| format!("k{n}")).collect();
        let values: Vec<String> = (1..=columns.len()).map(|n| format!("v{n}")).collect();
        let made: Vec<String> = share
            .key
            .columns
            .iter()
            .zip(&keys)
            .map(|(column, key)| format!("t.{} AS {key}", quote(&column.name)))
            .chain(["NULL::text AS version".to_owned(), "NULL::text AS named".to_owned()])
            .chain(columns.iter().zip(&values).map(|(c, v)| format!("t.{}::{} AS {v}", quote(&c.name), c.type_name)))
            .collect();
        let part = share.part().quoted();
        let staged: Vec<String> = keys.iter().map(|key| format!("s.{key}")).collect();
        let matches = format!("{} AND t.xmin::text = s.version", share.key.equals("t", &staged));
        let update =
            |set: Vec<String>| format!("UPDATE {part} AS t SET {} FROM {name} AS s WHERE {matches}", set.join(", "));
        let whole = columns.iter().zip(&values).map(|(c, v)| format!("{} = s.{v}", quote(&c.name)));
        let partial = (1..).zip(columns).zip(&values).map(|((n, c), v)| {
            let column = quote(&c.name);
            format!("{column} = CASE WHEN substr(s.named, {n}, 1) = '1' THEN s.{v} ELSE t.{column} END")
        });
        let list: Vec<String> =
            keys.iter().cloned().chain(["version".into(), "named".into()]).chain(values.iter().cloned()).collect();
        Self {
            stage: format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS {bare} ON COMMIT DELETE ROWS AS SELECT {} FROM {part} AS t \
                 WITH NO DATA",
                made.join(", ")
            ),
            copy: format!("COPY {name} ({}) FROM STDIN", list.join(", ")),
            whole: update(whole.collect()),
            partial: update(partial.collect()),
            clear: format!("DELETE FROM {name}"),
        }
    }

    /// Updates the rows `which`. Returns how many were to be, and how many were as they had been read, and are updated.
    pub(super) async fn put(
        &self,
        tx: &mut PgConnection,
        (rows, answers, which): (&Rows, &[Answer], &[usize]),
        limit: Duration,
    ) -> Result<(u64, u64), BatchError> {
        let mut lines = Vec::new();
        let (mut staged, mut all_named) = (0, true);
        for at in which {
            for row in answers[*at].rows() {
                let named: String = row.iter().map(|v| if *v == Value::Absent { '0' } else { '1' }).collect();
                if !named.contains('1') {
                    // Nothing is to be written, and so nothing can be lost.
                    continue;
                }
                all_named &= !named.contains('0');
                lines.extend_from_slice(rows.head(*at));
                lines.push(b'\t');
                lines.extend_from_slice(named.as_bytes());
                for value in row {
                    lines.push(b'\t');
                    text::write(value.text(), &mut lines);
                }
                lines.push(b'\n');
                staged += 1;
            }
        }
        if staged == 0 {
            return Ok((0, 0));
        }
        stage::make(tx, &self.stage, limit).await?;
        stage::copy(tx, &self.copy, &lines, limit).await?;
        let update = if all_named { &self.whole } else { &self.partial };
        let updated = stage::execute(tx, update, limit).await?;
        stage::execute(tx, &self.clear, limit).await?;
        Ok((staged, updated))
    }
}
