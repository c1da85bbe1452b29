//! What an operator wants of a queue, carried out.

use std::collections::BTreeMap;
use std::path::Path;

use bullmq::{JobState as Stored, RetryOptions};

use super::line::{Line, no_job};
use super::ticket::{self, Env};
use crate::run::{Cause, QueueOrder};

/// Carries an order out, and says what came of it. `by` is who asks, `env` answers for the variables of a plan.
///
/// # Errors
/// The order does not fit the job's state, or there is no such job; the plan is wrong; Redis does not answer or refuses.
pub async fn order(line: &Line, order: &QueueOrder, by: &str, env: Env<'_>) -> Result<String, Cause> {
    match order {
        QueueOrder::Enqueue { path } => {
            let checked = ticket::check(Path::new(path), BTreeMap::new(), false, by.to_owned(), env)?;
            let added = line.add(&checked.ticket).await?;
            let notices: String = checked.notices.iter().map(|notice| format!("; {notice}")).collect();
            let name = checked.ticket.data.name.unwrap_or_default();
            Ok(format!("`{name}` is job {}{notices}", added.id))
        }
        QueueOrder::Retry { id } => retry(line, id).await,
        QueueOrder::Promote { id } => promote(line, id).await,
        QueueOrder::Remove { id } => remove(line, id).await,
        QueueOrder::Pause => {
            line.asked("pausing the queue", line.queue.pause()).await?;
            Ok("the queue is paused: no job is given out; those at work go on".to_owned())
        }
        QueueOrder::Resume => {
            line.asked("resuming the queue", line.queue.resume()).await?;
            Ok("the queue gives jobs out again".to_owned())
        }
        QueueOrder::Drain => {
            let before = waiting(line).await?;
            line.asked("emptying the queue", line.queue.drain(true)).await?;
            let gone = before.saturating_sub(waiting(line).await?);
            Ok(format!("{gone} waiting jobs are forgotten"))
        }
    }
}

async fn waiting(line: &Line) -> Result<u64, Cause> {
    let counts = line.asked("counting jobs", line.queue.get_job_counts()).await?;
    Ok(counts.waiting + counts.paused + counts.prioritized + counts.delayed)
}

/// Where a job stands.
///
/// # Errors
/// There is no such job; Redis does not answer.
async fn state(line: &Line, id: &str) -> Result<Stored, Cause> {
    match line.asked("looking for the job", line.queue.get_job_state(id)).await? {
        Stored::Unknown => Err(no_job(id)),
        state => Ok(state),
    }
}

fn word(state: Stored) -> &'static str {
    match state {
        Stored::Waiting | Stored::Prioritized => "waiting",
        Stored::Active => "at work",
        Stored::Delayed => "delayed",
        Stored::Completed => "completed",
        Stored::Failed => "failed",
        Stored::WaitingChildren => "waiting for other jobs",
        Stored::Unknown => "unknown",
    }
}

async fn retry(line: &Line, id: &str) -> Result<String, Cause> {
    let state = state(line, id).await?;
    if state != Stored::Failed {
        let told = format!("job {id} is {}: only one that has failed can be tried again", word(state));
        return Err(
            Cause::usage(told).hint("a job that waits is taken by itself; to do it once more, enqueue it again")
        );
    }
    let what = "trying the job again";
    let Some(mut job) = line.asked(what, line.queue.get_job(id)).await? else { return Err(no_job(id)) };
    let anew = RetryOptions { reset_attempts_made: true, reset_attempts_started: true };
    line.asked(what, job.retry("failed", Some(anew))).await?;
    Ok(format!("job {id} waits again, with all its attempts; its run goes on from where it stands"))
}

async fn promote(line: &Line, id: &str) -> Result<String, Cause> {
    let state = state(line, id).await?;
    if state != Stored::Delayed {
        return Err(Cause::usage(format!("job {id} is {}: only one that is delayed can be promoted", word(state))));
    }
    let what = "promoting the job";
    let Some(job) = line.asked(what, line.queue.get_job(id)).await? else { return Err(no_job(id)) };
    line.asked(what, job.promote()).await?;
    Ok(format!("job {id} is ready to be taken"))
}

async fn remove(line: &Line, id: &str) -> Result<String, Cause> {
    let at_work = || {
        Cause::usage(format!("job {id} is at work: it cannot be removed"))
            .hint("stop its run first: howdah stop RUN; `howdah queue` shows the run")
    };
    if state(line, id).await? == Stored::Active {
        return Err(at_work());
    }
    // A worker may have taken it since.
    if line.asked("removing the job", line.queue.remove(id)).await? {
        Ok(format!("job {id} is forgotten"))
    } else {
        Err(at_work())
    }
}
