//! Waits for signals, keys and snapshots, in this order, and carries out what follows from them.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::action::{Action, Effect, Haste};
use super::app::App;
use super::canvas::Seen;
use super::input::{Input, Press};
use super::pace::Pace;
use super::signals::{Signals, has_shell, stop_job};
use super::terminal::{self, Tty};
use super::ui::{Mode, Ui};
use super::{ConsoleError, Leave, Link, Options, Theme, view};
use crate::run::text::clean;
use crate::run::{Asker, Interest, Request, Snapshot};

/// How long a sequence of keys waits for its next one.
const NEXT_KEY: Duration = Duration::from_secs(1);

/// Shows a run on the real terminal until the operator leaves, the run is over and seen, or the terminal is gone.
///
/// Run it on the thread of the runtime's `block_on`, with time and I/O enabled: it draws before it waits for anything, and
/// a write to a slow line blocks its thread. The terminal is restored however it ends.
///
/// # Errors
/// [`ConsoleError`] when there is no terminal to draw on or to read from, signals cannot be listened to, or the console
/// itself panicked: the run is untouched by that.
pub async fn run(link: Link, options: Options) -> Result<Leave, ConsoleError> {
    // Nothing of what a panic leaves behind is used again: the terminal is restored where it is dropped.
    let watched = AssertUnwindSafe(watch(link, options)).catch_unwind().await;
    watched.unwrap_or_else(|payload| Err(ConsoleError::Panicked(panic_words(payload.as_ref()))))
}

fn panic_words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    clean(text.unwrap_or("without a word")).into_owned()
}

async fn watch(link: Link, options: Options) -> Result<Leave, ConsoleError> {
    let Link { mut snapshots, mut details, interest, requests, orders } = link;
    let Options { keymap, theme, mode, who, farewell, view: first_view, notice, mouse, failpoint } = options;
    let by = match mode {
        Mode::Driver => Asker::Console,
        Mode::Attached | Mode::ReadOnly => Asker::Attached,
    };
    let first = snapshots.borrow_and_update().clone();
    let ui = Ui { view: first_view, ..Ui::new(keymap, mode, farewell) };
    let mut app = match begun(first, ui, notice, &interest) {
        Ok(app) => app,
        Err(leave) => return Ok(leave),
    };
    // Before the terminal changes: from here on a signal leaves by the door.
    let mut signals = Signals::listen().map_err(ConsoleError::Signals)?;
    let mut tty = Tty::open(mouse).map_err(ConsoleError::Terminal)?;
    draw(&mut tty, &mut app, &theme).map_err(ConsoleError::Terminal)?;
    let mut input = Input::open().map_err(ConsoleError::Keys)?;
    let mut pace = Pace::begin();
    let mut next_key: Option<Pin<Box<Sleep>>> = None;
    let mut feed_open = true;

    loop {
        let follows = tokio::select! {
            biased;
            action = signals.next() => app.update(action),
            press = input.next() => {
                if matches!(press, Some(Press::Key(_))) {
                    failpoint("console.key");
                }
                pressed(&mut app, press, mouse)
            }
            () = terminal::given_back() => vec![Effect::Redraw(Haste::Quick)],
            () = elapsed(&mut next_key) => {
                next_key = None;
                app.update(Action::NoKeyCame)
            }
            changed = snapshots.changed(), if feed_open => match changed {
                Ok(()) => {
                    let newest = snapshots.borrow_and_update().clone();
                    app.update(Action::Snapshot(newest))
                }
                Err(_closed) => {
                    feed_open = false;
                    app.update(Action::FeedClosed)
                }
            },
            Ok(()) = details.changed() => {
                let newest = details.borrow_and_update().clone();
                app.update(Action::Details(newest))
            }
            () = pace.due() => {
                failpoint("console.frame");
                if let Err(error) = draw(&mut tty, &mut app, &theme) {
                    tracing::warn!(%error, "the terminal does not take what is written");
                    app.update(Action::HangUp)
                } else {
                    pace.drawn();
                    Vec::new()
                }
            }
        };
        let mut effects = VecDeque::from(follows);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Redraw(haste) => pace.want(haste),
                Effect::Bell => tty.bell(),
                Effect::AwaitKey => next_key = Some(Box::pin(sleep(NEXT_KEY))),
                Effect::Repaint => {
                    if tty.repaint().is_err() {
                        effects.extend(app.update(Action::HangUp));
                    } else {
                        pace.want(Haste::Quick);
                    }
                }
                Effect::Send(command) => {
                    let request = Request { who: who.clone(), ..Request::new(command, by) };
                    if let Err(error) = requests.try_send(request) {
                        tracing::warn!(%error, "the engine did not take a command");
                        effects.extend(app.update(Action::NotTaken));
                    }
                }
                Effect::Order(order) => {
                    if let Err(error) = orders.try_send(order) {
                        tracing::warn!(%error, "what is wanted of the queue was not taken");
                        effects.extend(app.update(Action::OrderNotTaken));
                    }
                }
                Effect::Look(wanted) => drop(interest.send_replace(wanted)),
                Effect::Suspend if !has_shell() => effects.extend(app.update(Action::NoShell)),
                Effect::Suspend => {
                    let back = to_the_shell_and_back(&mut tty).await;
                    // Also when the terminal is gone: a pause that was only for the shell must not outlive it.
                    effects.extend(app.update(Action::Woken));
                    if back.is_err() {
                        effects.push_back(Effect::Leave(Leave::HungUp));
                    }
                }
                Effect::Leave(leave) => return Ok(leave),
            }
        }
    }
}

/// The console's state before its first frame, or why there will be none.
fn begun(
    first: Arc<Snapshot>,
    ui: Ui,
    notice: Option<String>,
    interest: &watch::Sender<Interest>,
) -> Result<App, Leave> {
    let mut app = App::new(Arc::clone(&first), ui);
    for effect in app.update(Action::Snapshot(first)) {
        match effect {
            Effect::Leave(leave) => return Err(leave),
            Effect::Look(wanted) => drop(interest.send_replace(wanted)),
            // The first frame is drawn in any case, and nothing has been asked yet.
            Effect::Send(_)
            | Effect::Order(_)
            | Effect::Redraw(_)
            | Effect::AwaitKey
            | Effect::Bell
            | Effect::Repaint
            | Effect::Suspend => {}
        }
    }
    if let Some(notice) = notice {
        app.begin_with(notice);
    }
    Ok(app)
}

/// What a press means. `None`: the terminal is gone.
fn pressed(app: &mut App, press: Option<Press>, mouse: bool) -> Vec<Effect> {
    match press {
        Some(Press::Key(key)) => app.press(key),
        Some(Press::Paste(text)) => app.update(Action::Pasted(text)),
        // Reports that nobody has asked for: a program before has left them switched on.
        Some(Press::Click { .. } | Press::Wheel { .. }) if !mouse => Vec::new(),
        Some(Press::Click { x, y }) => app.update(Action::Click(x, y)),
        Some(Press::Wheel { down: true }) => app.update(Action::Next),
        Some(Press::Wheel { down: false }) => app.update(Action::Previous),
        None => app.update(Action::HangUp),
    }
}

/// Gives the terminal back and stops the process, until somebody continues it.
async fn to_the_shell_and_back(tty: &mut Tty) -> io::Result<()> {
    Tty::leave();
    if let Err(error) = stop_job().await {
        tracing::warn!(%error, "the process cannot be stopped");
    }
    tty.enter()
}

/// Draws a frame, and lets the console's state know what can be seen.
fn draw(tty: &mut Tty, app: &mut App, theme: &Theme) -> io::Result<()> {
    let mut seen = Seen::default();
    tty.draw(|frame| seen = view::draw(&app.scene(), theme, frame))?;
    app.drawn(seen);
    Ok(())
}

/// Returns when the time is over; never while there is none.
async fn elapsed(time: &mut Option<Pin<Box<Sleep>>>) {
    match time {
        Some(time) => time.as_mut().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_panic_said_is_an_error_without_control_characters() {
        let panics = async { panic!("at \u{1b}[2J {}", 7) };
        let payload = AssertUnwindSafe(panics).catch_unwind().await.map(|()| unreachable!()).unwrap_err();
        assert_eq!(panic_words(payload.as_ref()), "at \u{fffd}[2J 7");
        assert_eq!(panic_words(&"plain"), "plain");
        assert_eq!(panic_words(&7), "without a word");
    }
}
