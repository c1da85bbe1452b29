//! `--detach`: a driver in a session of its own, which no terminal can take with it.
//!
//! The driver is this very program, started anew without a console. What it would say stands in a file beside its log; the
//! address of the database reaches it by its environment, not by its arguments: others could read those.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::{AttachArgs, Exit, Global, attach, environment, opening, say};
use crate::ledger::{migrate, runs};
use crate::postgres::deadline::within;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::run::id::RunRef;
use crate::run::text::clean_lines;
use crate::run::{Cause, RunId};

/// Set for a driver that was started this way: it makes a session of its own.
const DETACHED: &str = "HOWDAH_DETACHED";
/// The id of the run that it is to make.
const RUN: &str = "HOWDAH_RUN_ID";
/// Where every command finds the database that no flag names.
pub const DATABASE: &str = "HOWDAH_DATABASE";
/// Where every command finds the Redis that no flag names.
pub const REDIS: &str = "HOWDAH_REDIS";

/// How long the driver may take until its run stands in the ledger: checks of the plan may take their time.
const BEGIN: Duration = Duration::from_mins(2);
/// How long an answer of the server may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// No more is repeated of what a driver said that did not begin.
const SAID: u64 = 64 * 1024;

/// Leaves the session of whoever started this process, where it was started to do so.
pub fn settle() {
    if environment::variable(DETACHED).is_some()
        && let Err(error) = nix::unistd::setsid()
    {
        say::err(&format!("no session of its own: {error}"));
    }
}

/// The id that the run of this process is to have, where it was started with one.
#[must_use]
pub fn run_id() -> Option<RunId> {
    environment::variable(DETACHED)?;
    environment::variable(RUN)?.parse().ok().map(RunId)
}

/// What a detached driver is started for.
pub struct Detached<'a> {
    /// The database.
    pub target: &'a Target,
    /// What finds that again, behind a command on a run of it.
    pub flags: String,
    /// The run that it makes, or takes over.
    pub run: RunId,
    /// Its arguments, from the command on.
    pub arguments: Vec<OsString>,
    /// Under which epoch the run stands now. `None`: it is new.
    pub before: Option<i64>,
    /// The plan file that was given.
    pub plan: Option<PathBuf>,
    /// The console's colours.
    pub theme: Option<String>,
    /// Whether it hears the mouse.
    pub mouse: bool,
}

/// Starts a driver, waits until it has the run, and attaches to it where there is a terminal.
///
/// # Errors
/// The driver cannot be started, or has ended before it had the run: with what it said.
pub async fn run(global: &Global, detached: Detached<'_>) -> Result<Exit, Cause> {
    let Detached { target, flags, run, arguments, before, plan, theme, mouse } = detached;
    let said = environment::log_directory()?.join(format!("howdah-{}.out", run.short()));
    let mut child = start(global, run, &arguments, &said)?;
    let name = run.short();
    let pid = child.id().map_or_else(String::new, |pid| format!(", process {pid}"));
    match begun(&mut child, target, run, before).await? {
        Begun::Ended(status) => return Ok(ended(status, &said)),
        Begun::Driven => {}
        Begun::Unknown(why) => {
            say::err(&format!(
                "the driver of run {name}{pid}, is still on its way to it ({why}); what it says: {}",
                said.display()
            ));
            say::out(&format!("watch it, once it is there:  howdah attach {name}{flags}"));
            return Ok(Exit::Resumable);
        }
    }
    say::err(&format!("run {name} is driven in the background on {}{pid}", environment::host()));
    let style = environment::style(&super::ShowArgs::default());
    if style.is_some() || !std::io::stdout().is_terminal() {
        say::out(&format!("watch it:  howdah attach {name}{flags}\nstop it:   howdah stop {name}{flags}"));
        return Ok(Exit::Done);
    }
    let args = AttachArgs { run: Some(RunRef::Full(run)), read_only: false, plan, theme, mouse };
    Box::pin(attach::run(global, args)).await
}

fn start(global: &Global, run: RunId, arguments: &[OsString], said: &Path) -> Result<Child, Cause> {
    let failed = |what: &str, e: &std::io::Error| {
        Cause::new(format!("the driver cannot be started: {what}: {}", error::io_words(e)))
            .hint("without --detach, this process drives the run itself")
    };
    let program = std::env::current_exe().map_err(|e| failed("where this program lies is not known", &e))?;
    if let Some(directory) = said.parent() {
        std::fs::create_dir_all(directory).map_err(|e| failed(&directory.display().to_string(), &e))?;
    }
    // Not truncated: another driver of the run may live, and write to it.
    let out =
        File::options().create(true).append(true).open(said).map_err(|e| failed(&said.display().to_string(), &e))?;
    let err = out.try_clone().map_err(|e| failed(&said.display().to_string(), &e))?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--headless");
    if let Some(level) = &global.log_level {
        command.args(["--log-level", level]);
    }
    if let Some(address) = &global.database {
        command.env(DATABASE, address);
    }
    if let Some(address) = &global.redis {
        command.env(REDIS, address);
    }
    command.env(DETACHED, "1").env(RUN, run.to_string());
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    command.spawn().map_err(|e| failed("it does not start", &e))
}

enum Begun {
    /// A driver holds the run, and has put it together.
    Driven,
    /// Nobody can tell yet: why.
    Unknown(String),
    /// It has ended before that.
    Ended(ExitStatus),
}

/// Waits until the driver has its run, has ended, or takes too long.
async fn begun(child: &mut Child, target: &Target, run: RunId, before: Option<i64>) -> Result<Begun, Cause> {
    let until = Instant::now() + BEGIN;
    let mut connection: Option<PgConnection> = None;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| Cause::new(format!("the driver is lost: {e}")))? {
            return Ok(Begun::Ended(status));
        }
        let looked = async {
            let mut look = match connection.take() {
                Some(look) => look,
                None => opening::look(target).await.map_err(|cause| cause.headline())?,
            };
            let taken = within(LIMIT, is_taken(&mut look, run, before)).await.map_err(|e| e.to_string())?;
            connection = Some(look);
            Ok::<_, String>(taken)
        };
        // What does not answer now may in a moment; the driver itself says why it cannot begin.
        let why = match looked.await {
            Ok(true) => return Ok(Begun::Driven),
            Ok(false) => "it is not in the ledger yet".to_owned(),
            Err(why) => why,
        };
        if Instant::now() > until {
            return Ok(Begun::Unknown(why));
        }
        sleep(LOOK).await;
    }
}

/// Whether a driver has the run that had not before, and has checked the plan: it then writes its first snapshot. One that lacks
/// the right to do that is taken at its lock, once it has beaten for a while.
async fn is_taken(connection: &mut PgConnection, run: RunId, before: Option<i64>) -> Result<bool, sqlx::Error> {
    if !migrate::exists(connection).await? {
        return Ok(false);
    }
    let standing: Option<(i64, bool, bool)> = sqlx::query_as(
        "SELECT r.epoch, EXISTS (SELECT FROM howdah.snapshot s WHERE s.run = r.id AND s.epoch = r.epoch), \
                clock_timestamp() - r.heartbeat < interval '5 s' AND r.state IN ('running', 'paused') \
         FROM howdah.run r WHERE r.id = $1",
    )
    .bind(run.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((epoch, shown, beats)) = standing else { return Ok(false) };
    let is_new = before.is_none_or(|before| epoch > before);
    Ok(is_new && (shown || beats) && runs::is_driven(connection, run).await?)
}

/// Repeats what a driver said that has ended at once.
fn ended(status: ExitStatus, said: &Path) -> Exit {
    let mut words = String::new();
    if let Ok(file) = File::open(said) {
        // Whatever can be read of it is better than nothing.
        drop(file.take(SAID).read_to_string(&mut words));
    }
    say::err(clean_lines(&words).trim_end());
    match status.code() {
        Some(0) => Exit::Done,
        Some(2) => Exit::Usage,
        Some(3) => Exit::Resumable,
        Some(4) => Exit::Quarantined,
        _ => Exit::Failed,
    }
}
