//! `howdah quarantine`: the rows that a run has set aside because their data is wrong.

mod export;
mod list;
mod retry;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use sqlx::postgres::PgConnection;

use super::run::resume_flags;
use super::{Exit, Global, books, opening};
use crate::ledger::book::Book;
use crate::ledger::quarantine::{self, Counts, Entry, Wanted};
use crate::postgres::catalog;
use crate::postgres::error;
use crate::run::id::RunRef;
use crate::run::{Cause, RunId, StepIndex};

/// `howdah quarantine`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct QuarantineArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

/// What can be done with rows that are set aside.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Show them, with what is wrong with each
    List(ListArgs),
    /// Try each again, once its data or the plan is mended: it is changed, or stays set aside
    ///
    /// Exit codes: 0 none is left, 4 some are left, 1 something else failed.
    Retry(RetryArgs),
    /// Write them out whole, as CSV or as lines of JSON
    Export(ExportArgs),
}

/// Whose rows are meant.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The run; without it, the newest
    pub run: Option<RunRef>,
    /// Only the rows of this step
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// The plan file, where it has moved, holds the database's address, or says that its ledger lies on Redis
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
}

/// `howdah quarantine list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Whose rows.
    #[command(flatten)]
    pub which: Which,
    /// Also those that were resolved since
    #[arg(long)]
    pub all: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `howdah quarantine retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Whose rows.
    #[command(flatten)]
    pub which: Which,
    /// Go on although the plan's steps are not what they were when the run began
    #[arg(long)]
    pub accept_changed_plan: bool,
}

impl RetryArgs {
    /// All rows of a run.
    #[must_use]
    pub fn of(run: RunId, plan: Option<PathBuf>) -> Self {
        Self { which: Which { run: Some(RunRef::Full(run)), step: None, plan }, accept_changed_plan: false }
    }
}

/// `howdah quarantine export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Whose rows.
    #[command(flatten)]
    pub which: Which,
    /// As what
    #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
    pub format: ExportFormat,
    /// Where to; without it, to standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Comma-separated values, with a header.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// Does what was asked for.
///
/// # Errors
/// There is no such run or step; the database cannot be asked.
pub async fn run(global: &Global, args: QuarantineArgs) -> Result<Exit, Cause> {
    match args.command {
        QuarantineCommand::List(args) => list::run(global, &args).await,
        QuarantineCommand::Retry(args) => retry::run(global, args).await,
        QuarantineCommand::Export(args) => export::run(global, &args).await,
    }
}

/// A run whose quarantine is being read.
struct Reading {
    connection: PgConnection,
    book: Book,
    run: RunId,
    step: Option<StepIndex>,
    /// Whether the ledger has a quarantine at all.
    exists: bool,
    /// What stands behind `howdah quarantine ... RUN` to find the database again.
    flags: String,
}

impl Reading {
    async fn begin(global: &Global, which: &Which) -> Result<Self, Cause> {
        let (target, plan) = books::target(global, which.plan.as_deref())?;
        let mut connection = opening::look(&target).await?;
        let ledgers = books::all(global.redis.as_deref(), plan.as_ref()).await?;
        let (book, run) = books::find(ledgers, &mut connection, which.run.as_ref(), false).await?;
        let (step, exists) = match &book {
            Book::Postgres => {
                (step(&mut connection, run, which.step.as_deref()).await?, quarantine::exists(&mut connection).await?)
            }
            Book::Redis(book) => (named(run, which.step.as_deref(), &book.step_names(run).await?)?, true),
        };
        Ok(Self { connection, book, run, step, exists, flags: resume_flags(global, plan.as_ref()) })
    }

    async fn counts(&mut self) -> Result<Counts, Cause> {
        match &self.book {
            Book::Postgres => quarantine::count(&mut self.connection, self.run, self.step).await,
            Book::Redis(book) => {
                let open = book.set_aside(self.run, self.step).await?.len();
                Ok(Counts { open: u64::try_from(open).unwrap_or(u64::MAX), resolved: 0 })
            }
        }
    }

    async fn entries(&mut self, wanted: Wanted) -> Result<BoxStream<'_, Result<Entry, Cause>>, Cause> {
        match &self.book {
            Book::Postgres => {
                take_time(&mut self.connection).await?;
                Ok(quarantine::entries(&mut self.connection, wanted))
            }
            Book::Redis(book) => {
                let entries = book.set_aside(wanted.run, wanted.step).await?;
                Ok(stream::iter(entries.into_iter().map(Ok)).boxed())
            }
        }
    }

    fn command(&self, verb: &str) -> String {
        format!("howdah quarantine {verb} {}{}", self.run.short(), self.flags)
    }
}

/// The step of that name.
async fn step(connection: &mut PgConnection, run: RunId, name: Option<&str>) -> Result<Option<StepIndex>, Cause> {
    if name.is_none() {
        return Ok(None);
    }
    named(run, name, &quarantine::steps(connection, run).await?)
}

/// The step of that name among `names`.
fn named(run: RunId, name: Option<&str>, names: &[String]) -> Result<Option<StepIndex>, Cause> {
    let Some(name) = name else { return Ok(None) };
    if let Some(index) = names.iter().position(|of| of == name) {
        return Ok(u32::try_from(index).ok().map(StepIndex));
    }
    let cause = Cause::usage(format!("run {} has no step `{name}`", run.short()));
    Err(match catalog::near(name, names.iter().map(String::as_str)) {
        Some(near) => cause.hint(format!("did you mean `{near}`?")),
        None => cause.hint(format!("its steps are: {}", names.join(", "))),
    })
}

/// Lets the next statement take as long as it takes: whoever reads its rows from a pipe may be slow.
async fn take_time(connection: &mut PgConnection) -> Result<(), Cause> {
    let set = sqlx::query("SET statement_timeout = 0").execute(connection).await;
    set.map(drop).map_err(|e| error::cause("reading the quarantine", &e))
}
