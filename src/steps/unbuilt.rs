//! A kind of step that plans know already, and that is not built yet. It is refused before a run begins.

use async_trait::async_trait;

use crate::engine::ports::{Once, StepContext, StepError};
use crate::run::Cause;

/// Fails.
pub struct Unbuilt(pub String);

#[async_trait]
impl Once for Unbuilt {
    async fn execute(&self, _context: &StepContext) -> Result<Option<String>, StepError> {
        Err(StepError::Failed(Cause::usage(format!("{}: not built yet", self.0))))
    }

    async fn clean_up(&self, _context: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
