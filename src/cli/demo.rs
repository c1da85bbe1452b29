//! `howdah demo`: a real migration on a private, throwaway PostgreSQL.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::desk;
use super::drive::{self, Job};
use super::environment::{self, variable};
use super::exporting::Exporting;
use super::log::Log;
use super::next::{self, Subject};
use super::opening::{self, Slots};
use super::{DemoArgs, Exit, Global, Scenario, keys, say};
use crate::console::Mode;
use crate::plan::{PlanError, load};
use crate::postgres::connect::{self, PoolShape};
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::postgres::session::Session;
use crate::run::{Cause, human};
use crate::sandbox::{Options, Server, Stage, users};

/// The variable in the plan of an import that says where its files lie.
const FILES: &str = "USERS_DIR";
/// Files of an import.
const PARTS: u32 = 4;
const DATABASE: &str = "postgres";

/// A plan that a demo runs, and its name.
fn plan_of(scenario: Scenario) -> (&'static str, &'static str) {
    macro_rules! plan {
        ($name:literal) => {
            (concat!("assets/plans/", $name), include_str!(concat!("../../assets/plans/", $name)))
        };
    }
    match scenario {
        Scenario::Backfill => plan!("normalise-emails.toml"),
        Scenario::Import => plan!("import-users.toml"),
        Scenario::Copy => plan!("copy-table.toml"),
        Scenario::Transform => plan!("transform-rhai.toml"),
    }
}

/// Runs the demo.
///
/// # Errors
/// There is no PostgreSQL to be had, or it does not start. What goes wrong later is in the exit code.
pub async fn run(global: &Global, args: &DemoArgs) -> Result<Exit, Cause> {
    if global.database.is_some() {
        return Err(Cause::usage("the demo runs on a server of its own: --database does not go with it")
            .hint("for your own database: howdah run PLAN --database URL"));
    }
    if environment::style(&args.show).is_none() {
        // What is wrong with keys or colours is better said before the server is made.
        keys::console_options(args.show.theme.as_deref(), args.show.mouse, Mode::Driver, Vec::new())?;
    }
    // So is an address that is taken.
    Exporting::begin(&args.show.metrics).await?.end().await;
    let run = environment::new_run();
    let log = Log::begin(global.log_level.as_deref())?;
    log.of_run(run)?;
    // Whatever interrupts the preparation, the server goes with it: it is owned by this future, and dropped.
    let files = tempfile::Builder::new().prefix("howdah-demo-").tempdir();
    let files = files.map_err(|e| Cause::new(format!("no directory for the demo's files can be made: {e}")))?;
    let (mut server, url) = tokio::select! {
        biased;
        () = interrupted() => return Ok(Exit::Resumable),
        prepared = prepare(args, files.path()) => prepared?,
    };
    let (label, text) = plan_of(args.scenario);
    let directory = files.path().display().to_string();
    let env = |name: &str| if name == FILES { Some(directory.clone()) } else { variable(name) };
    let plan = load::from_text(label, None, text, &env).map_err(PlanError::into_cause)?;
    let target = Target::resolve(Some(&url), None, &variable)?;
    let slots = Slots::default();
    let resume_flags = args.keep.then(|| format!(" --database '{url}'"));
    let opening = slots.opening(target.clone(), resume_flags);
    let job = Job {
        start: drive::starting(run.short(), plan.name.clone()),
        farewell: farewell(label),
        opener: Box::pin(opening::begin(opening, plan, run, false)),
        slots,
        target,
        queue: desk::queue::named(global, None, None),
    };
    let driven = drive::drive(job, &args.show).await;
    if args.keep {
        server.keep();
        if args.scenario == Scenario::Import {
            let files = files.keep();
            say::err(&format!("so do the files; to resume:  export {FILES}='{}'", files.display()));
        }
        say::err(&format!("the server stays. look at it:  psql '{url}'\nstop it:  {}", server.stop_command()));
    } else {
        let stopped = server.stop().await;
        if let Err(e) = stopped {
            say::err(&format!("the demo's server could not be put away: {e}"));
        }
    }
    let driven = driven?;
    // Only where the server stays is there anything to go on with. An import also wants to be told where its files are.
    if args.keep && args.scenario != Scenario::Import {
        let global = Global { database: Some(url), ..global.clone() };
        let subject = Subject { run, plan: None, accept_changed_plan: false, show: args.show.clone() };
        return Ok(next::after(&global, driven, subject).await);
    }
    if environment::style(&args.show).is_some() && !args.show.json {
        say::err(&farewell(label).join("\n"));
    }
    Ok(driven.exit)
}

fn farewell(label: &str) -> Vec<String> {
    vec![
        "Now on your own database:".to_owned(),
        "  howdah check plan.toml --database postgres://user@host/name".to_owned(),
        "  howdah run plan.toml --database postgres://user@host/name".to_owned(),
        format!("The plan of this demo to start from: {label}"),
    ]
}

async fn interrupted() {
    let streams = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = streams else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Starts the server and fills it.
async fn prepare(args: &DemoArgs, files: &Path) -> Result<(Server, String), Cause> {
    let bar = bar(args);
    let tell = |stage: Stage| {
        bar.set_message(match stage {
            Stage::Finding => "looking for a PostgreSQL server".to_owned(),
            Stage::Downloading { version, from } => format!("downloading PostgreSQL {version} from {from}"),
            Stage::Initialising { version } => format!("making a private PostgreSQL {version}"),
            Stage::Starting => "starting it".to_owned(),
        });
    };
    let options = Options { keep: false, ..Options::default() };
    let server = Server::start(options, &tell).await.map_err(|e| e.cause())?;
    let url = server.url(DATABASE);
    let target = Target::resolve(Some(&url), None, &variable)?;
    let shape = PoolShape {
        max: 2,
        idle: Duration::from_secs(30),
        connect: Duration::from_secs(10),
        session: Session {
            application_name: "howdah/demo/fill".to_owned(),
            lock_timeout: Duration::ZERO,
            statement_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::ZERO,
        },
    };
    let pool = connect::pool(&target, &shape);
    bar.set_length(args.rows);
    let all = human::count(args.rows);
    let filled = users::fill(&pool, args.rows, |rows| {
        bar.set_position(rows);
        let what = if rows < args.rows { "making users" } else { "making indexes, ANALYZE" };
        bar.set_message(format!("{what}: {} of {all}", human::count(rows)));
    });
    filled.await.map_err(|e| error::cause("filling the demo's table", &e))?;
    if args.scenario == Scenario::Import {
        bar.set_message("writing the files");
        users::into_files(&pool, files, PARTS).await.map_err(|e| error::cause("writing the demo's files", &e))?;
    }
    pool.close().await;
    bar.finish_and_clear();
    Ok((server, url))
}

fn bar(args: &DemoArgs) -> ProgressBar {
    if args.show.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(args.rows), ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
