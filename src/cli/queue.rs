//! `howdah queue`: what waits on Redis for workers, and what an operator wants of it.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::environment::{self, of_plan};
use super::queue_table::table;
use super::{Exit, Global, enqueue, say};
use crate::queue::line::{Line, NAME};
use crate::queue::{order, view};
use crate::run::{Cause, JobState, QueueOrder, text};

/// `howdah queue`.
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// The queue
    #[arg(long, value_name = "NAME", default_value = NAME, global = true)]
    pub queue: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Only jobs that stand like this
    #[arg(long, value_name = "STATE", value_parser = states())]
    pub state: Option<JobState>,
    /// At most so many jobs of each state
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// What to do with it; without, it is shown.
    #[command(subcommand)]
    pub command: Option<QueueCommand>,
}

fn states() -> impl TypedValueParser<Value = JobState> {
    PossibleValuesParser::new(JobState::ALL.map(JobState::word)).try_map(|word| {
        let named = JobState::ALL.into_iter().find(|state| state.word() == word);
        named.ok_or("that is no state of a job")
    })
}

/// What can be done with a queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Try failed jobs again, with all their attempts; their runs go on from where they stand
    Retry(RetryArgs),
    /// Have a delayed job taken now
    Promote {
        /// The job
        id: String,
    },
    /// Forget jobs that are not at work
    Remove {
        /// The jobs
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Give no more jobs out; those at work go on
    Pause,
    /// Give jobs out again
    Resume,
    /// Forget every job that waits
    Drain {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Print what a job's runs have said
    Logs {
        /// The job
        id: String,
    },
}

/// `howdah queue retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The jobs
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// All that have failed
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}

/// Shows a queue, or does what is wanted of it.
///
/// # Errors
/// The order does not fit; Redis does not answer or refuses.
pub async fn run(global: &Global, args: QueueArgs) -> Result<Exit, Cause> {
    let line = enqueue::open(global, None, &args.queue).await?;
    let Some(command) = args.command else {
        let shown = view::read(&line, usize::from(args.limit), args.state).await?;
        if args.json {
            let told = serde_json::to_string_pretty(&shown).map_err(|e| Cause::bug(e.to_string()))?;
            say::out(&told);
        } else {
            say::out(&table(&shown));
        }
        return Ok(Exit::Done);
    };
    let orders = match command {
        QueueCommand::Retry(RetryArgs { all: true, .. }) => {
            // The view tells at most this many at once; what is left is found by the next.
            let failed = view::read(&line, 10_000, Some(JobState::Failed)).await?;
            if failed.jobs.is_empty() {
                say::out("no job has failed");
            }
            failed.jobs.into_iter().map(|job| QueueOrder::Retry { id: job.id }).collect()
        }
        QueueCommand::Retry(RetryArgs { ids, .. }) => ids.into_iter().map(|id| QueueOrder::Retry { id }).collect(),
        QueueCommand::Promote { id } => vec![QueueOrder::Promote { id }],
        QueueCommand::Remove { ids } => ids.into_iter().map(|id| QueueOrder::Remove { id }).collect(),
        QueueCommand::Pause => vec![QueueOrder::Pause],
        QueueCommand::Resume => vec![QueueOrder::Resume],
        QueueCommand::Drain { yes } => {
            let counts = view::read(&line, 1, None).await?.counts;
            let waiting = counts.waiting + counts.delayed + counts.blocked;
            let question = format!("forget {waiting} jobs that wait in queue {}", text::clean(line.name()));
            if !say::confirmed(&question, yes, "this forgets every job that waits")? {
                say::err("nothing was changed");
                return Ok(Exit::Failed);
            }
            vec![QueueOrder::Drain]
        }
        QueueCommand::Logs { id } => {
            for said in line.logs(&id).await? {
                say::out(&text::clean(&said));
            }
            return Ok(Exit::Done);
        }
    };
    carry_out(global, &line, orders).await
}

/// Carries out all that can be, and tells of each; the exit code is the last refusal's.
async fn carry_out(global: &Global, line: &Line, orders: Vec<QueueOrder>) -> Result<Exit, Cause> {
    let (who, env) = (environment::who(), of_plan(global.database.as_deref()));
    let mut exit = Exit::Done;
    for wanted in orders {
        match order::order(line, &wanted, &who, &env).await {
            Ok(told) => say::out(&text::clean(&told)),
            Err(cause) => exit = say::failure(&cause),
        }
    }
    Ok(exit)
}
