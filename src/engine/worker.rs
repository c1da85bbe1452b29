//! Walks one segment, batch by batch.

use std::sync::Arc;

use super::batch_size::BatchSize;
use super::board::Board;
use super::failpoint;
use super::ports::{BatchWorker, Reporter, StepError};
use super::runner::Gate;
use crate::run::{Level, Segment, StepIndex};

/// Walks `segment` to its end. Between two batches it heeds the gate.
///
/// # Errors
/// [`StepError::Stopped`] when the gate closes, else what the batch failed with.
pub async fn walk(
    board: &Arc<Board>,
    gate: &mut Gate,
    step: StepIndex,
    worker: &mut dyn BatchWorker,
    segment: &mut Segment,
    size: &mut BatchSize,
) -> Result<(), StepError> {
    while !segment.done {
        gate.pass().await?;
        if let Some(target) = board.wanted_target()
            && target != size.target()
        {
            size.aim(target);
        }
        let rows = size.rows();
        let from = segment.from().cloned();
        let began = board.elapsed();
        let done = gate.unless_lost(worker.batch(segment, rows)).await?;
        let took = board.elapsed().saturating_sub(began);
        failpoint::hit("batch.committed");
        tracing::debug!(
            step = %step,
            segment = %segment.no,
            after = ?from,
            through = ?segment.cursor,
            asked = rows,
            walked = done.tally.walked,
            changed = done.tally.changed,
            took_ms = took.as_secs_f64() * 1e3,
            "batch committed"
        );
        if done.tally.walked > 0 && size.learn(done.tally.walked, took) {
            board.notice(
                Level::Warning,
                format!(
                    "batches are at the plan's minimum of {} rows and still take longer than their target",
                    size.rows()
                ),
            );
        }
        board.batch(&done, took, size);
    }
    Ok(())
}
