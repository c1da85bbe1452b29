//! Records that were set aside, loaded again.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgTransaction;
use sqlx::postgres::PgConnection;

use super::batch::{self, Stage};
use super::look::{self, Looked};
use super::set_aside;
use crate::plan::model::PlanSource;
use crate::plan::movers::Import;
use crate::postgres::record::AsideRow;
use crate::run::{Cause, Tally};
use crate::steps::batch::BatchError;
use crate::steps::mending::{Applied, Mending};

/// Loads records of an import again.
struct Mender {
    looked: Looked,
    limit: Duration,
}

/// What tries the records of an import again. The files must be there still: they tell what the fields are.
///
/// # Errors
/// The table or a file is not there any more.
pub async fn mending(
    connection: &mut PgConnection,
    step: &str,
    import: &Import,
    source: &PlanSource,
    limit: Duration,
) -> Result<Box<dyn Mending>, Cause> {
    let looked = look::look(connection, step, import, source).await?;
    Ok(Box::new(Mender { looked, limit }))
}

#[async_trait]
impl Mending for Mender {
    async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        row: &AsideRow,
        kept: Option<&str>,
    ) -> Result<Applied, BatchError> {
        let path = row.part.as_deref().unwrap_or_default();
        let Some(file) = self.looked.file(Some(path)) else {
            return Err(BatchError::Plan(
                Cause::usage(format!("file {path} is not among the step's files any more"))
                    .hint("what its fields are stands in it: give it back"),
            ));
        };
        let Some(mut record) = kept.and_then(set_aside::kept) else {
            let words = "the record is too long to be kept whole: load it from the file itself";
            return Err(BatchError::Wrong(None, words.to_owned()));
        };
        // Such a record would go into the table as something else than it is.
        if let Err(bad) = set_aside::at_sight(&record, file, false) {
            return Err(BatchError::Wrong(bad.sqlstate, bad.message));
        }
        record.push(file.framing.end());
        batch::stage(tx, &file.sql, self.limit).await?;
        let changed = batch::load(tx, &file.sql, &[record.into()], Stage::Emptied, self.limit).await?;
        Ok(if changed > 0 {
            Applied::Changed(Tally { changed, ..Tally::default() })
        } else {
            Applied::Untouched { matches: Some(false) }
        })
    }

    async fn look(&self, _tx: &mut PgTransaction<'_>, _row: &AsideRow) -> Result<Option<String>, BatchError> {
        Ok(None)
    }

    fn key_name(&self, row: &AsideRow) -> String {
        format!("{}, line", row.part.as_deref().unwrap_or_default())
    }
}
