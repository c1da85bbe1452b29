//! The command line: what is asked for, and which parts of the house answer. Wires everything; computes nothing.

pub mod alarming;
pub mod alerts;
pub mod assembly;
pub mod attach;
mod beforehand;
pub mod books;
pub mod cache;
mod caches;
pub mod check;
pub mod console;
pub mod demo;
pub mod desk;
pub mod detach;
pub mod drive;
mod dry_run;
pub mod enqueue;
pub mod environment;
pub mod exporting;
pub mod headless;
#[cfg(test)]
mod headless_samples;
pub mod join;
pub mod keys;
pub mod log;
pub mod next;
pub mod opening;
pub mod probe;
mod progress_json;
mod progress_line;
pub mod quarantine;
pub mod queue;
mod queue_table;
pub mod rehearse;
pub mod report;
pub mod resume;
pub mod run;
pub mod say;
pub mod seat;
pub mod status;
pub mod steer;
pub mod theme;
pub mod undo;
pub mod undoing;
pub mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::run::Command as Asked;
use crate::run::id::RunRef;

/// Exact, gentle, honest PostgreSQL data migrations, driven from a terminal console.
#[derive(Debug, Parser)]
#[command(name = "howdah", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "RUN is a run's id, its last digits, or nothing for the newest that fits.\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage or plan, 3 paused or stopped and resumable,\n    \
    4 done but rows are quarantined.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The database: postgres://user@host/name, or libpq's key=value words [env: HOWDAH_DATABASE].
    /// Else the plan's, DATABASE_URL, PG*
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
    /// The Redis of queues and caches: redis://user@host:6379/0 [env: HOWDAH_REDIS]. Else the plan's, REDIS_URL
    #[arg(long, global = true, value_name = "URL")]
    pub redis: Option<String>,
    /// How much goes to the log file: error, warn, info, debug, trace, or a tracing filter [env: HOWDAH_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a real migration on a private, throwaway PostgreSQL
    Demo(DemoArgs),
    /// Check a plan against its database, tell what stands against it, and change nothing
    Check(CheckArgs),
    /// Run a plan
    Run(RunArgs),
    /// Go on with a run that was stopped, has failed, or was killed
    Resume(ResumeArgs),
    /// Watch and steer a run that another process drives, on this host or another
    Attach(AttachArgs),
    /// Open the console on the queue of plans, without a run
    Console(ConsoleArgs),
    /// Pause a run at its batch's edge
    Pause(SteerArgs),
    /// Go on with a run that is paused
    Continue(SteerArgs),
    /// Stop a run at its batch's edge: it can be resumed
    Stop(SteerArgs),
    /// Change a run that is under way: howdah set [RUN] workers=2 target=250ms
    Set(SetArgs),
    /// List the alerts of a run, take note of one, or silence it
    Alerts(alerts::AlertsArgs),
    /// Send a test message to those who hear of a plan's alerts
    Notify(alerts::NotifyArgs),
    /// Take a run back: old values from its undo log, statements by their `down`
    Undo(UndoArgs),
    /// Show the runs in a database, or one of them
    Status(StatusArgs),
    /// Tell what a run did
    Report(ReportArgs),
    /// Look at the rows that a run has set aside because their data is wrong, and try them again
    Quarantine(quarantine::QuarantineArgs),
    /// Put a plan into the line of a queue on Redis, for a worker to run
    Enqueue(enqueue::EnqueueArgs),
    /// Show a queue, or try jobs again, promote, remove, pause, resume, drain
    Queue(queue::QueueArgs),
    /// Take plans from a queue and run them
    Worker(worker::WorkerArgs),
    /// Forget look-ups that are kept on Redis, or count them
    Cache(cache::CacheArgs),
    /// Print the keys in force, as a file that can be edited
    Keymap(KeymapArgs),
    /// Show a theme: each role's colours, what it is for, how well it stands out
    Theme(theme::ThemeArgs),
    /// Print the JSON Schema of the plan format
    Schema,
}

/// What `keymap` is given.
#[derive(Debug, Clone, Args)]
pub struct KeymapArgs {
    /// Report every mistake of this file instead: exit code 2 where there is one
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

/// How a run is shown.
#[derive(Debug, Clone, Default, Args)]
pub struct ShowArgs {
    /// No console: a progress bar on a terminal, else plain lines
    #[arg(long)]
    pub headless: bool,
    /// No console: lines of JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// The console's colours: dark, light, mono, or a file
    #[arg(long, value_name = "NAME|FILE")]
    pub theme: Option<String>,
    /// The console hears the mouse: the wheel scrolls, a click selects. Text is then selected with Shift
    #[arg(long)]
    pub mouse: bool,
    /// Where its numbers are told.
    #[command(flatten)]
    pub metrics: exporting::MetricsArgs,
}

/// What a demo shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Normalises the e-mail addresses of a table
    Backfill,
    /// Loads a table from four CSV files
    Import,
    /// Copies a table, and compares the two
    Copy,
    /// Changes rows by a Rhai script
    Transform,
}

/// `howdah demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many users to make
    #[arg(long, default_value_t = 2_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rows: u64,
    /// What to show
    #[arg(long, value_enum, default_value_t = Scenario::Backfill)]
    pub scenario: Scenario,
    /// Leave the server running, and print its address and how to stop it
    #[arg(long)]
    pub keep: bool,
    /// How it is shown.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// `howdah check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The plan file
    pub plan: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// A rehearsal.
    #[command(flatten)]
    pub rehearse: rehearse::RehearseArgs,
}

/// `howdah run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The plan file
    pub plan: PathBuf,
    /// Begin a new run although an earlier one of this plan is unfinished
    #[arg(long)]
    pub new: bool,
    /// Drive it in the background, in a session that no terminal takes with it, and attach to it
    #[arg(long, conflicts_with_all = ["headless", "json"])]
    pub detach: bool,
    /// Make no run: check the plan, show what would become of the first files of a step with `files`, change nothing
    #[arg(long, conflicts_with_all = ["new", "detach", "headless", "json", "theme"])]
    pub dry_run: bool,
    /// How it is shown.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// `howdah resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run; without it, the newest that is unfinished
    pub run: Option<RunRef>,
    /// The plan file, where it has moved or holds the database's address
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// Go on although the plan's steps are not what they were when the run began
    #[arg(long)]
    pub accept_changed_plan: bool,
    /// Drive it in the background, in a session that no terminal takes with it, and attach to it
    #[arg(long, conflicts_with_all = ["headless", "json"])]
    pub detach: bool,
    /// How it is shown.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// `howdah attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The run; without it, the newest that is unfinished, else the newest
    pub run: Option<RunRef>,
    /// Only watch: nothing can be asked for, and the session can write nothing
    #[arg(long)]
    pub read_only: bool,
    /// The plan file, where it holds the database's address
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// The console's colours: dark, light, mono, or a file
    #[arg(long, value_name = "NAME|FILE")]
    pub theme: Option<String>,
    /// The console hears the mouse: the wheel scrolls, a click selects. Text is then selected with Shift
    #[arg(long)]
    pub mouse: bool,
}

/// `howdah console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// The queue; without it, the usual one
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Only watch: nothing can be asked for
    #[arg(long)]
    pub read_only: bool,
    /// The console's colours: dark, light, mono, or a file
    #[arg(long, value_name = "NAME|FILE")]
    pub theme: Option<String>,
    /// The console hears the mouse: the wheel scrolls, a click selects. Text is then selected with Shift
    #[arg(long)]
    pub mouse: bool,
}

/// `howdah pause`, `continue`, `stop`.
#[derive(Debug, Args)]
pub struct SteerArgs {
    /// The run; without it, the newest that is unfinished
    pub run: Option<RunRef>,
    /// Wait until it has come about, and not only for the driver's answer
    #[arg(long)]
    pub wait: bool,
    /// The plan file, where it holds the database's address
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
}

/// `howdah set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The run, where it is not the newest that is unfinished; then what is to be set: workers=N, target=TIME
    #[arg(required = true, value_name = "[RUN] KEY=VALUE")]
    pub words: Vec<String>,
    /// The plan file, where it holds the database's address
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
}

/// `howdah undo`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The run; without it, the newest
    pub run: Option<RunRef>,
    /// Only this step of it
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Take nothing back: drop the undo log, which then nobody can
    #[arg(long)]
    pub drop_log: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// The plan file, where it has moved or holds the database's address
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// How it is shown.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// `howdah status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The run; without it, the newest ten
    pub run: Option<RunRef>,
    /// The plan file, where it holds the database's address, or says that its ledger lies on Redis
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Every run, and not only the newest ten: how it ended, how long it took, who drove it
    #[arg(long, conflicts_with = "run")]
    pub all: bool,
    /// Only runs of this name
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    pub name: Option<String>,
    /// Only runs that began no longer ago, such as 7d
    #[arg(long, value_name = "TIME", conflicts_with = "run", value_parser = humantime::parse_duration)]
    pub since: Option<std::time::Duration>,
    /// How many at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 200, requires = "all", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub limit: u16,
}

/// `howdah report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run; without it, the newest
    pub run: Option<RunRef>,
    /// Another run: the two side by side
    pub other: Option<RunRef>,
    /// The plan file, where it holds the database's address, or says that its ledger lies on Redis
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// As what
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// Into this file, and not to standard output. One that is there already is left alone
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Put it in the place of a file that is there already
    #[arg(long, requires = "out")]
    pub force: bool,
}

/// Forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
    /// One page with charts, which needs nothing from a network.
    Html,
    /// The charts alone.
    Svg,
}

/// How a command ended, as the shell learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Done,
    /// 1.
    Failed,
    /// 2.
    Usage,
    /// 3: paused or stopped, and resumable.
    Resumable,
    /// 4: done, but rows are set aside.
    Quarantined,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::from(0),
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::Resumable => Self::from(3),
            Exit::Quarantined => Self::from(4),
        }
    }
}

/// Does what was asked for.
pub async fn run(mut cli: Cli) -> Exit {
    detach::settle();
    if cli.global.database.is_none() && !matches!(cli.command, Command::Demo(_)) {
        cli.global.database = environment::variable(detach::DATABASE);
    }
    if cli.global.redis.is_none() && !matches!(cli.command, Command::Demo(_)) {
        cli.global.redis = environment::variable(detach::REDIS).filter(|address| !address.is_empty());
    }
    let ended = match cli.command {
        Command::Demo(args) => demo::run(&cli.global, &args).await,
        Command::Check(args) => check::run(&cli.global, &args).await,
        Command::Run(args) => run::run(&cli.global, args).await,
        Command::Resume(args) => resume::run(&cli.global, args).await,
        Command::Attach(args) => attach::run(&cli.global, args).await,
        Command::Console(args) => console::run(&cli.global, args).await,
        Command::Pause(args) => steer::run(&cli.global, &args, Asked::Pause).await,
        Command::Continue(args) => steer::run(&cli.global, &args, Asked::Continue).await,
        Command::Stop(args) => steer::run(&cli.global, &args, Asked::Stop).await,
        Command::Set(args) => steer::set(&cli.global, &args).await,
        Command::Alerts(args) => alerts::run(&cli.global, args).await,
        Command::Notify(args) => alerts::notify(&cli.global, args).await,
        Command::Undo(args) => undo::run(&cli.global, args).await,
        Command::Status(args) => status::run(&cli.global, &args).await,
        Command::Report(args) => report::run(&cli.global, &args).await,
        Command::Quarantine(args) => quarantine::run(&cli.global, args).await,
        Command::Enqueue(args) => enqueue::run(&cli.global, args).await,
        Command::Queue(args) => queue::run(&cli.global, args).await,
        Command::Worker(args) => worker::run(&cli.global, args).await,
        Command::Cache(args) => cache::run(&cli.global, args).await,
        Command::Keymap(args) => keys::run(&args),
        Command::Theme(args) => theme::run(&args),
        Command::Schema => {
            say::out(crate::plan::schema::json().trim_end());
            Ok(Exit::Done)
        }
    };
    ended.unwrap_or_else(|cause| say::failure(&cause))
}
