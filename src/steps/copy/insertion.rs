//! What a copy within one database sends for a batch, for whoever asks before a run.

use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::check::final_cause;
use super::look::{Look, Sides};
use super::origin;
use super::pair::Share;
use crate::plan::model::PlanSource;
use crate::plan::movers::Copy;
use crate::postgres::catalog::Table;
use crate::postgres::sql::SqlText;
use crate::run::{Cause, KeyText};
use crate::steps::keyspace::Keyspace;

/// One table of a copy, or one partition of it, as it is walked.
#[derive(Clone)]
pub struct Insertion {
    share: Arc<Share>,
}

impl Insertion {
    /// The keys of its source.
    #[must_use]
    pub fn keys(&self) -> &Keyspace {
        &self.share.keys
    }

    /// Where the rows go.
    #[must_use]
    pub fn target(&self) -> &Table {
        &self.share.pair.target
    }

    /// `INSERT INTO target SELECT ...` of the rows in `(from, through]`, which are `$1` and `$2`.
    #[must_use]
    pub fn sql(&self, from: Option<&KeyText>, through: &KeyText) -> SqlText {
        self.share.insert(from, through)
    }
}

/// The statements of a copy within one database. `None`: its rows come from, or go to, another one, or are read over a
/// connection of their own.
///
/// # Errors
/// Why it cannot be copied, with the place in the plan.
pub async fn insertions(
    connection: &mut PgConnection,
    step: &str,
    copy: &Copy,
    source: &PlanSource,
) -> Result<Option<Vec<Insertion>>, Cause> {
    if origin::is_apart(copy) || copy.consistent {
        return Ok(None);
    }
    let what = format!("step \"{step}\"");
    let look = Look { step, what: &what, origin: "this database", copy, plan: source };
    let ready = look.ready(&mut Sides { target: connection, source: None }).await.map_err(final_cause)?;
    Ok(Some(ready.shares.into_iter().map(|share| Insertion { share }).collect()))
}
