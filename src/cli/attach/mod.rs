//! `howdah attach`: the console of a run that another process drives, from any host that reaches the database.

mod commander;
mod feed;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::books;
use super::desk::queue::QueueDesk;
use super::desk::{self, Desk};
use super::drive::Driven;
use super::environment::{self, of_plan, variable};
use super::log::Log;
use super::next::{self, Next, Subject};
use super::run::resume_flags;
use super::{AttachArgs, Exit, Global, ShowArgs, drive, keys, opening, say};
use crate::console::{self, Leave, Link, Mode};
use crate::ledger::{migrate, runs};
use crate::plan::model::Store;
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
use crate::run::id::RunRef;
use crate::run::{Cause, Interest, RunId, Snapshot};
use feed::Feed;

/// Shows a run that another process drives.
///
/// # Errors
/// There is no such run, no terminal, or the database cannot be reached.
pub async fn run(global: &Global, args: AttachArgs) -> Result<Exit, Cause> {
    if environment::style(&ShowArgs::default()).is_some() {
        return Err(Cause::usage("there is no terminal here that can show a console")
            .hint("`howdah status` shows the run; `howdah pause`, `continue`, `stop` and `set` steer it"));
    }
    let place = place(global, args.plan.as_ref())?;
    let mut connection = opening::look(&place.target).await?;
    let run = match newest_fit(&mut connection, args.run.as_ref()).await {
        Ok(run) => run,
        Err(cause) => {
            let what = (cause, "a run is watched from elsewhere");
            return Err(books::not_found(global.redis.as_deref(), &place.target, args.run.as_ref(), what).await);
        }
    };
    drop(connection);
    // Into memory: whoever resumes the run from here names the file.
    let _log = Log::begin(global.log_level.as_deref())?;
    attach(global, &args, &place, run).await.map(|(exit, _)| exit)
}

/// A database, and what finds it again.
pub(super) struct Place {
    /// The database.
    pub(super) target: Target,
    /// What stands behind a command on a run of it: ` --database URL`, ` --plan FILE`, or nothing.
    pub(super) flags: String,
    /// The queue of plans that goes with it. `None`: no Redis is named.
    pub(super) queue: Option<Arc<dyn QueueDesk>>,
}

/// The database, by the flag, the plan, or the environment.
pub(super) fn place(global: &Global, plan: Option<&std::path::PathBuf>) -> Result<Place, Cause> {
    let plan = match plan {
        Some(path) => Some(load::from_file(path, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?),
        None => None,
    };
    if plan.as_ref().is_some_and(|plan| plan.store == Store::Redis) {
        return Err(books::only_in_the_database("a run is watched and steered from elsewhere"));
    }
    let address = plan.as_ref().and_then(|plan| plan.database.control.as_ref().or(plan.database.url.as_ref()));
    let target = Target::resolve(global.database.as_deref(), address, &variable)?;
    let queue = desk::queue::named(global, plan.as_ref(), None);
    Ok(Place { target, flags: resume_flags(global, plan.as_ref()), queue })
}

/// The run that was named; without a name, the newest that is unfinished, else the newest.
pub(super) async fn newest_fit(
    connection: &mut sqlx::postgres::PgConnection,
    named: Option<&RunRef>,
) -> Result<RunId, Cause> {
    migrate::ready_for_consoles(connection).await?;
    match runs::find(connection, named, named.is_none()).await {
        Err(_) if named.is_none() => runs::find(connection, None, false).await,
        found => found,
    }
}

/// Attaches, and does what the operator leaves the console for. Returns why it was left as well.
pub(super) async fn attach(
    global: &Global,
    args: &AttachArgs,
    place: &Place,
    mut run: RunId,
) -> Result<(Exit, Leave), Cause> {
    let mode = if args.read_only { Mode::ReadOnly } else { Mode::Attached };
    let mut notice = None;
    let (leave, last) = loop {
        let (leave, last) = watched(args, place, run, mode, notice.take()).await?;
        let Leave::Attach(other) = leave else { break (leave, last) };
        match find(&place.target, &other.into()).await {
            Ok(found) => run = found,
            Err(cause) => notice = Some(cause.message),
        }
    };
    if let Some(next) = Next::of(leave) {
        let show = ShowArgs { theme: args.theme.clone(), mouse: args.mouse, ..ShowArgs::default() };
        let subject = Subject { run, plan: args.plan.clone(), accept_changed_plan: false, show };
        let driven = Driven { last, exit: Exit::Done, next: Some(next) };
        return Ok((next::after(global, driven, subject).await, leave));
    }
    if last.state.is_over() {
        return Ok((drive::conclude(last, true).exit, leave));
    }
    let (name, word) = (&last.run, last.state.word());
    say::err(&format!("left run {name}, which is {word}; back with: howdah attach {name}{}", place.flags));
    Ok((Exit::Done, leave))
}

/// The run of this name.
pub(super) async fn find(target: &Target, named: &RunRef) -> Result<RunId, Cause> {
    let mut connection = opening::look(target).await?;
    newest_fit(&mut connection, Some(named)).await
}

/// Shows the run until the operator leaves. Returns why, and what was seen last.
async fn watched(
    args: &AttachArgs,
    place: &Place,
    run: RunId,
    mode: Mode,
    notice: Option<String>,
) -> Result<(Leave, Arc<Snapshot>), Cause> {
    let Place { target, flags, queue } = place;
    let options = keys::console_options(args.theme.as_deref(), args.mouse, mode, Vec::new())?;
    let options = console::Options { notice, ..options };
    let feed = Feed { target: target.clone(), run, read_only: mode == Mode::ReadOnly, resume_flags: flags.clone() };
    // The first snapshot is read before the terminal changes: an error is an error of the command line.
    let first = Arc::new(feed.first().await?);
    let (snapshots_in, snapshots) = watch::channel(first);
    let (details_in, details) = watch::channel(Arc::default());
    let (interest, looked_at) = watch::channel(Interest::default());
    let (requests, asked) = mpsc::channel(64);
    let (answers_in, answers) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    if mode == Mode::Attached {
        let commander = commander::Commander::new(target.clone(), run, snapshots.clone(), answers_in);
        tasks.spawn(commander.keep(asked, stop.clone()));
    }
    tasks.spawn(feed.keep(snapshots_in, answers, stop.clone()));
    let desk = Desk::on(target.clone(), snapshots.clone());
    let (orders, ordered) = mpsc::channel(16);
    let (pace, looked) = (desk::queue::Pace::default(), looked_at.clone());
    tasks.spawn(desk::queue::keep(queue.clone(), pace, looked, ordered, details_in.clone(), stop.clone()));
    tasks.spawn(desk::keep(desk, looked_at, details_in, stop.clone()));
    let link = Link { snapshots: snapshots.clone(), details, interest, requests, orders };
    let left = console::run(link, options).await;
    stop.cancel();
    drop(
        tokio::time::timeout(std::time::Duration::from_secs(2), async { while tasks.join_next().await.is_some() {} })
            .await,
    );
    tasks.shutdown().await;
    let last = Arc::clone(&snapshots.borrow());
    let leave =
        left.map_err(|e| Cause::usage(e.to_string()).hint("`howdah status` shows the run without a console"))?;
    Ok((leave, last))
}
