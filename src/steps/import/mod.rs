//! `import`: files into a table.

#[cfg(feature = "parquet")]
pub mod parquet;

use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::Workbench;
use super::preflight::{Found, Looking};
use super::unbuilt::Unbuilt;
use crate::engine::ports::StepBody;
use crate::plan::movers::Import;
use crate::run::Cause;

/// The step as the engine drives it.
#[must_use]
pub fn step(bench: &Workbench, import: &Import) -> StepBody {
    let _ = import;
    StepBody::Once(Arc::new(Unbuilt(bench.what())))
}

/// Checks the step against the database, before anything is changed.
///
/// # Errors
/// Why it cannot work, with the place in the plan.
pub async fn check(
    connection: &mut PgConnection,
    looking: &Looking<'_>,
    import: &Import,
    found: &mut Found,
) -> Result<(), Cause> {
    let _ = (connection, looking, import, found);
    Err(Cause::usage(format!("{}: not built yet", looking.what)))
}
