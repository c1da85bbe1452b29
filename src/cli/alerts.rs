//! `howdah alerts`: the alerts and rules of a run that another process drives, listed, noted and silenced; and `howdah notify`:
//! whether a plan's recipients can be reached.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::attach::{Place, place};
use super::environment::{self, of_plan};
use super::{Exit, Global, opening, say, steer};
use crate::engine::clock::{Clock, SystemClock};
use crate::ledger::viewing::Viewer;
use crate::monitor::notify::{Message, Verdict, attempt};
use crate::plan::{PlanError, load};
use crate::postgres::deadline::within;
use crate::postgres::error;
use crate::run::id::RunRef;
use crate::run::notify::{Destination, Form, Occasion};
use crate::run::text::clean;
use crate::run::vitals::Alert;
use crate::run::{Cause, Command as Asked, Presence, Snapshot};

/// How long a round trip may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the driver may take to write what is newest.
const FRESH: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// `howdah alerts`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AlertsArgs {
    /// What to do, where it is not a list.
    #[command(subcommand)]
    pub command: Option<AlertsCommand>,
    /// Which run.
    #[command(flatten)]
    pub of: OfRun,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// A run, and where it is.
#[derive(Debug, Clone, Args)]
pub struct OfRun {
    /// The run; without it, the newest that is unfinished
    pub run: Option<RunRef>,
    /// The plan file, where it holds the database's address
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
}

/// What can be done with an alert.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Take note of an alert: it stays, and no longer calls
    Ack {
        /// The alert's key
        key: String,
        /// Which run.
        #[command(flatten)]
        of: OfRun,
    },
    /// Keep an alert quiet for a time: no bell, and nobody is told
    Silence {
        /// The alert's key: one that holds, or a rule's name
        key: String,
        /// Which run.
        #[command(flatten)]
        of: OfRun,
        /// For how long, such as 30m
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
        time: Duration,
    },
    /// Let a silenced alert call again
    Unsilence {
        /// The alert's key
        key: String,
        /// Which run.
        #[command(flatten)]
        of: OfRun,
    },
}

/// `howdah notify`.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: NotifyCommand,
}

/// What can be done with recipients.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test message to the recipients of a plan, and say what came of it
    Test {
        /// The plan file
        plan: PathBuf,
        /// Only this recipient
        name: Option<String>,
    },
}

/// Lists the alerts of a run, or does something about one.
///
/// # Errors
/// There is no such run, nobody drives it, or the driver refuses.
pub async fn run(global: &Global, args: AlertsArgs) -> Result<Exit, Cause> {
    match args.command {
        None => list(global, &args.of, args.json).await,
        Some(AlertsCommand::Ack { key, of }) => ask(global, &of, Asked::Acknowledge(key)).await,
        Some(AlertsCommand::Silence { key, of, time }) => ask(global, &of, Asked::Silence(key, time)).await,
        Some(AlertsCommand::Unsilence { key, of }) => ask(global, &of, Asked::Unsilence(key)).await,
    }
}

async fn ask(global: &Global, of: &OfRun, command: Asked) -> Result<Exit, Cause> {
    say::out(&steer::ask_of(global, of.plan.as_ref(), of.run.as_ref(), command).await?);
    Ok(Exit::Done)
}

async fn list(global: &Global, of: &OfRun, as_json: bool) -> Result<Exit, Cause> {
    let Place { target, .. } = place(global, of.plan.as_ref())?;
    let mut connection = opening::look(&target).await?;
    let id = steer::fit(global, &target, &mut connection, of.run.as_ref()).await?;
    let failed = |e: sqlx::Error| error::cause("reading the run's alerts", &e);
    let mut viewer = Viewer::default();
    let mut snapshot = within(LIMIT, viewer.read(&mut connection, id, true)).await.map_err(failed)?;
    if matches!(snapshot.presence, Presence::Elsewhere { .. }) && !snapshot.state.is_over() {
        // A run that nobody watches writes every five seconds only; whoever comes first wants to see what is newest.
        let (before, until) = (snapshot.now, Instant::now() + FRESH);
        within(LIMIT, Viewer::greet(&mut connection, id)).await.map_err(failed)?;
        while snapshot.now == before && Instant::now() < until {
            sleep(LOOK).await;
            snapshot = within(LIMIT, viewer.read(&mut connection, id, false)).await.map_err(failed)?;
        }
    }
    say::out(&if as_json { format!("{:#}", in_json(&snapshot)) } else { in_words(&snapshot) });
    Ok(Exit::Done)
}

fn in_words(snapshot: &Snapshot) -> String {
    let at = snapshot.now.format("%H:%M:%S UTC");
    let mut lines =
        vec![format!("run {} ({}), {} at {at}", snapshot.run, clean(&snapshot.plan), snapshot.state.word())];
    if !matches!(snapshot.presence, Presence::Elsewhere { .. }) || snapshot.state.is_over() {
        lines.push("nobody watches it now; this is what was last known".to_owned());
    }
    let alerts = &snapshot.vitals.alerts;
    let (held, over): (Vec<&Alert>, Vec<&Alert>) = alerts.iter().partition(|alert| alert.is_active());
    if held.is_empty() {
        lines.push("no alert holds".to_owned());
    }
    lines.extend(held.into_iter().map(|alert| in_a_line(alert, snapshot)));
    lines.extend(over.into_iter().map(|alert| in_a_line(alert, snapshot)));
    let rules = &snapshot.vitals.rules;
    let name = rules.iter().map(|rule| rule.name.chars().count()).max().unwrap_or_default().clamp(4, 30);
    if !rules.is_empty() {
        lines.push(format!("\n{:<name$}  {:<8}  {:<5}  {:<24}  CONDITION", "RULE", "STANDING", "LEVEL", "VALUE"));
    }
    lines.extend(rules.iter().map(|rule| {
        let value = rule.value.as_deref().unwrap_or("-");
        let (standing, level) = (rule.standing.words(), rule.level.word());
        let silent = if snapshot.silence(&rule.name).is_some() { "  (silenced)" } else { "" };
        let line = format!("{:<name$}  {standing:<8}  {level:<5}  {value:<24}  {}{silent}", rule.name, rule.condition);
        clean(&line).into_owned()
    }));
    lines.join("\n")
}

fn in_a_line(alert: &Alert, snapshot: &Snapshot) -> String {
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%H:%M:%S").to_string();
    let standing = match alert.cleared_at {
        None => format!("since {}", time(alert.raised_at)),
        Some(at) => format!("cleared {}", time(at)),
    };
    let often = if alert.count > 1 { format!(", {} times", alert.count) } else { String::new() };
    let noted = snapshot.acknowledged.iter().find(|noted| noted.key == alert.key && noted.count == alert.count);
    let noted = noted.map_or_else(String::new, |noted| format!("; acknowledged by {}", noted.who));
    let silent = snapshot.silence(&alert.key).map_or_else(String::new, |silence| {
        format!("; silenced by {} until {}", silence.who, silence.until.format("%Y-%m-%d %H:%M UTC"))
    });
    // A rule of the plan's own begins its text with its name, which is the key.
    let text = alert.text.strip_prefix(&format!("{}: ", alert.key)).unwrap_or(&alert.text);
    let line = format!("{:<4} {}: {text} ({standing}{often}{noted}{silent})", alert.level.word(), alert.key);
    clean(&line).into_owned()
}

fn in_json(snapshot: &Snapshot) -> Value {
    let silenced: Vec<_> = snapshot.silenced.iter().filter(|silence| silence.until > snapshot.now).collect();
    json!({
        "run": snapshot.run,
        "plan": snapshot.plan,
        "state": snapshot.state.word(),
        "at": snapshot.now.to_rfc3339(),
        "watched": matches!(snapshot.presence, Presence::Elsewhere { .. }) && !snapshot.state.is_over(),
        "alerts": snapshot.vitals.alerts,
        "rules": snapshot.vitals.rules,
        "acknowledged": snapshot.acknowledged,
        "silenced": silenced,
    })
}

/// Sends a test message.
///
/// # Errors
/// The plan is wrong, or has no such recipient.
pub async fn notify(global: &Global, args: NotifyArgs) -> Result<Exit, Cause> {
    let NotifyCommand::Test { plan, name } = args.command;
    let plan = load::from_file(&plan, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?;
    let recipients = &plan.alarms.notify;
    if recipients.is_empty() {
        return Err(Cause::usage("the plan tells nobody").hint("add a `[[notify]]` with a `name` and a `url`"));
    }
    let is_meant = |known: &str| name.as_deref().is_none_or(|name| name == known);
    if !recipients.iter().any(|recipient| is_meant(&recipient.name)) {
        let known: Vec<&str> = recipients.iter().map(|recipient| recipient.name.as_str()).collect();
        let name = name.unwrap_or_default();
        return Err(Cause::usage(format!("the plan has no recipient `{name}`"))
            .hint(format!("its recipients are {}", known.join(", "))));
    }
    let message = Message::test(&plan.name, &environment::host(), SystemClock::start().utc());
    let mut exit = Exit::Done;
    for recipient in recipients.iter().filter(|recipient| is_meant(&recipient.name)) {
        let verdict = attempt(recipient, &message).await;
        let is_incident = matches!(&recipient.to, Destination::Web(web) if web.form == Form::PagerDuty);
        if is_incident && matches!(verdict, Verdict::Delivered(_)) {
            // What a test has triggered is nobody's to resolve.
            drop(attempt(recipient, &Message { occasion: Occasion::TestOver, ..message.clone() }).await);
        }
        let (words, ok) = match verdict {
            Verdict::Delivered(said) => (format!("delivered ({said})"), true),
            Verdict::Later(why, _) => (format!("not delivered: {why}; in a run it would be tried again"), false),
            Verdict::Never(why) => (format!("not delivered: {why}; in a run it would not be tried again"), false),
        };
        say::out(&format!("{}: {words}", clean(&recipient.name)));
        if !ok {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}
