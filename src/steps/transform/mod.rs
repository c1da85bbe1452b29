//! `transform`: rows through a program.

use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::Workbench;
use super::preflight::{Found, Looking};
use super::unbuilt::Unbuilt;
use crate::engine::ports::StepBody;
use crate::plan::movers::Transform;
use crate::run::Cause;

/// The step as the engine drives it.
#[must_use]
pub fn step(bench: &Workbench, transform: &Transform) -> StepBody {
    let _ = transform;
    StepBody::Once(Arc::new(Unbuilt(bench.what())))
}

/// Checks the step against the database, before anything is changed.
///
/// # Errors
/// Why it cannot work, with the place in the plan.
pub async fn check(
    connection: &mut PgConnection,
    looking: &Looking<'_>,
    transform: &Transform,
    found: &mut Found,
) -> Result<(), Cause> {
    let _ = (connection, looking, transform, found);
    Err(Cause::usage(format!("{}: not built yet", looking.what)))
}
