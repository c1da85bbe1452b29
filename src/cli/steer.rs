//! `howdah pause`, `continue`, `stop` and `set`: a run is steered from a command line, by its driver, and answered.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep};

use super::attach::{Place, newest_fit, place};
use super::{Exit, Global, SetArgs, SteerArgs, books, environment, opening, say};
use crate::ledger::commands::{self, Standing};
use crate::ledger::{read, runs};
use crate::postgres::deadline::within;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::run::id::RunRef;
use crate::run::{Asker, Cause, Command, Request, RunId, RunState, text};

/// How long a round trip may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the driver may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for the answer: short at first, for the eye, then longer, for the server.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Asks for a pause, for going on, or for a stop.
///
/// # Errors
/// There is no such run, nobody drives it, or the driver refuses.
pub async fn run(global: &Global, args: &SteerArgs, command: Command) -> Result<Exit, Cause> {
    let Place { target, flags, .. } = place(global, args.plan.as_ref())?;
    let mut connection = opening::look(&target).await?;
    let id = fit(global, &target, &mut connection, args.run.as_ref()).await?;
    let outcome = ask(&mut connection, &flags, id, command.clone()).await?;
    if !args.wait {
        say::out(&outcome);
        return Ok(Exit::Done);
    }
    let state = settled(&mut connection, &flags, id, &command).await?;
    let by = match &state {
        RunState::Paused { by, .. } => format!(" by {}", by.name()),
        _ => String::new(),
    };
    say::out(&format!("run {} is {}{by}", id.short(), state.word()));
    Ok(match (&command, state) {
        (Command::Pause, RunState::Paused { .. })
        | (Command::Continue, RunState::Running)
        | (Command::Stop, RunState::Stopped { .. })
        | (_, RunState::Done { .. }) => Exit::Done,
        (_, RunState::Failed { .. }) => Exit::Failed,
        _ => Exit::Resumable,
    })
}

/// Asks for other settings, one after the other.
///
/// # Errors
/// As [`run`]; the settings before the one that was refused hold.
pub async fn set(global: &Global, args: &SetArgs) -> Result<Exit, Cause> {
    let (named, settings) = split(&args.words)?;
    let Place { target, flags, .. } = place(global, args.plan.as_ref())?;
    let mut connection = opening::look(&target).await?;
    let id = fit(global, &target, &mut connection, named.as_ref()).await?;
    for command in settings {
        say::out(&ask(&mut connection, &flags, id, command).await?);
    }
    Ok(Exit::Done)
}

/// Asks for one thing, and waits for the answer.
///
/// # Errors
/// As [`run`].
pub(super) async fn ask_of(
    global: &Global,
    plan: Option<&std::path::PathBuf>,
    named: Option<&RunRef>,
    command: Command,
) -> Result<String, Cause> {
    let Place { target, flags, .. } = place(global, plan)?;
    let mut connection = opening::look(&target).await?;
    let id = fit(global, &target, &mut connection, named).await?;
    ask(&mut connection, &flags, id, command).await
}

/// The run that is meant.
pub(super) async fn fit(
    global: &Global,
    target: &Target,
    connection: &mut PgConnection,
    named: Option<&RunRef>,
) -> Result<RunId, Cause> {
    match newest_fit(connection, named).await {
        Ok(run) => Ok(run),
        Err(cause) => {
            let what = (cause, "a run is steered from elsewhere");
            Err(books::not_found(global.redis.as_deref(), target, named, what).await)
        }
    }
}

/// RUN, where the first word is one, and what is to be set.
fn split(words: &[String]) -> Result<(Option<RunRef>, Vec<Command>), Cause> {
    let (named, settings) = match words.split_first() {
        Some((first, rest)) if !first.contains('=') => {
            (Some(first.parse::<RunRef>().map_err(|e| Cause::usage(e.to_string()))?), rest)
        }
        _ => (None, words),
    };
    if settings.is_empty() {
        return Err(Cause::usage("there is nothing to set").hint("howdah set [RUN] workers=2 target=250ms"));
    }
    let settings = settings.iter().map(|word| setting(word)).collect::<Result<_, _>>()?;
    Ok((named, settings))
}

/// `workers=2`, `target=250ms`.
fn setting(word: &str) -> Result<Command, Cause> {
    let wrong = |what: &str| Cause::usage(format!("`{word}`: {what}")).hint("howdah set [RUN] workers=2 target=250ms");
    match word.split_once('=') {
        Some(("workers", value)) => {
            value.parse().map(Command::SetWorkers).map_err(|_| wrong("the number of workers is a whole number"))
        }
        Some(("target", value)) => humantime::parse_duration(value)
            .map(Command::SetTarget)
            .map_err(|e| wrong(&format!("the target time of a batch is a time: {e}"))),
        Some((key, _)) => Err(wrong(&format!("there is no setting `{key}`; `workers` and `target` can be set"))),
        None => Err(wrong("a setting is written as key=value")),
    }
}

/// Asks the driver, and waits for its answer.
async fn ask(connection: &mut PgConnection, flags: &str, run: RunId, command: Command) -> Result<String, Cause> {
    let failed = |e: sqlx::Error| error::cause("asking the driver", &e);
    if !within(LIMIT, runs::is_driven(connection, run)).await.map_err(failed)? {
        return Err(undriven(connection, run, flags).await);
    }
    let words = command.words();
    let request = Request { who: environment::who(), ..Request::new(command, Asker::Script) };
    let id = within(LIMIT, commands::ask(connection, run, &request)).await.map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    let mut pause = LOOKS.0;
    loop {
        let standing = within(LIMIT, commands::look(connection, id)).await.map_err(failed)?;
        let look = format!("look how the driver is: howdah status {}{flags}", run.short());
        match standing {
            Standing::Answered(true, outcome) => return Ok(format!("{words}: {}", text::clean(&outcome))),
            Standing::Answered(false, why) => return Err(Cause::new(format!("{words}: {}", text::clean(&why)))),
            Standing::Asked | Standing::Heard if Instant::now() < until => {}
            Standing::Asked => {
                let why = "no answer from its driver in time";
                if within(LIMIT, commands::withdraw(connection, id, why)).await.map_err(failed)? {
                    return Err(Cause::new(format!("{words}: {why}; the command is withdrawn")).hint(look));
                }
            }
            Standing::Heard => {
                let why = "its driver has heard it, and has not answered in time: it may come about yet";
                return Err(Cause::new(format!("{words}: {why}")).hint(look));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn undriven(connection: &mut PgConnection, run: RunId, flags: &str) -> Cause {
    let cause = Cause::new(format!("nobody drives run {}", run.short()));
    match read::one(connection, run).await {
        Ok(record) if record.snapshot.state.is_over() || record.word == "superseded" => {
            Cause::new(format!("run {} is {} already", run.short(), record.word))
        }
        Ok(_) => cause.hint(format!("its driver is gone; go on with: howdah resume {}{flags}", run.short())),
        Err(_) => cause,
    }
}

/// Waits until what was asked for has come about, however long it takes.
async fn settled(connection: &mut PgConnection, flags: &str, run: RunId, command: &Command) -> Result<RunState, Cause> {
    loop {
        let record = read::one(connection, run).await?;
        let state = record.snapshot.state;
        let settled = match command {
            Command::Pause => matches!(state, RunState::Paused { .. }),
            // The governor may hold it again at once.
            Command::Continue => matches!(state, RunState::Running | RunState::Paused { by: Asker::Governor, .. }),
            _ => false,
        };
        // The ledger of a run that has just been taken over still says how it had ended before.
        if settled || state.is_over() && !record.driven {
            return Ok(state);
        }
        if !record.driven {
            // Its driver may have ended between the two looks.
            let last = read::one(connection, run).await?.snapshot.state;
            return if last.is_over() { Ok(last) } else { Err(undriven(connection, run, flags).await) };
        }
        sleep(LOOKS.1).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_be_named_before_what_is_to_be_set() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let both = vec![Command::SetWorkers(2), Command::SetTarget(Duration::from_millis(250))];
        assert_eq!(split(&words("workers=2 target=250ms")), Ok((None, both.clone())));
        assert_eq!(split(&words("7f3a09c2 workers=2 target=250ms")), Ok((Some("7f3a09c2".parse().unwrap()), both)));
        for (text, says) in [
            ("7f3a09c2", "nothing to set"),
            ("workers=two", "whole number"),
            ("target=fast", "is a time"),
            ("size=3", "no setting `size`"),
            ("zz workers=2", "is not a run"),
        ] {
            let cause = split(&words(text)).unwrap_err();
            assert!(cause.message.contains(says), "{text}: {}", cause.message);
        }
    }
}
