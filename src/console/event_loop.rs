//! Waits for signals, keys and snapshots, in this order, and carries out what follows from them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::action::{Action, Effect, Haste};
use super::app::App;
use super::input::Input;
use super::signals::{Signals, has_shell, stop_job};
use super::terminal::Tty;
use super::ui::{Mode, Ui};
use super::{ConsoleError, Leave, Link, Options, view};
use crate::run::{Asker, Request};

/// Between two frames while nothing but numbers change.
const CALM: Duration = Duration::from_secs(1);
/// Between two frames while keys are pressed or the state changes.
const QUICK: Duration = Duration::from_millis(100);

/// Shows a run on the real terminal until the operator leaves, the run is over and seen, or the terminal is gone.
///
/// Run it on the thread of the runtime's `block_on`, with time and I/O enabled: it draws before it waits for anything, and
/// a write to a slow line blocks its thread. The terminal is restored however it ends.
///
/// # Errors
/// [`ConsoleError`] when there is no terminal to draw on or to read from, or signals cannot be listened to.
pub async fn run(link: Link, options: Options) -> Result<Leave, ConsoleError> {
    let Link { mut snapshots, mut details, interest, requests } = link;
    let Options { keymap, theme, mode, who, farewell } = options;
    let by = if mode == Mode::Driver { Asker::Console } else { Asker::Attached };
    let first = snapshots.borrow_and_update().clone();
    let mut app = App::new(first.clone(), Ui::new(keymap, mode, farewell));
    if let Some(Effect::Leave(leave)) = app.update(Action::Snapshot(first)).first() {
        return Ok(*leave);
    }
    // Before the terminal changes: from here on a signal leaves by the door.
    let mut signals = Signals::listen().map_err(ConsoleError::Signals)?;
    let mut tty = Tty::open().map_err(ConsoleError::Terminal)?;
    tty.draw(|frame| view::render(&app.scene(), &theme, frame)).map_err(ConsoleError::Terminal)?;
    let mut input = Input::open().map_err(ConsoleError::Keys)?;
    let mut pace = Pace::begin();
    let mut feed_open = true;

    loop {
        let action = tokio::select! {
            biased;
            action = signals.next() => Some(action),
            key = input.next() => match key {
                Some(key) => app.on_key(key.into()),
                None => Some(Action::HangUp),
            },
            changed = snapshots.changed(), if feed_open => match changed {
                Ok(()) => Some(Action::Snapshot(snapshots.borrow_and_update().clone())),
                Err(_closed) => {
                    feed_open = false;
                    Some(Action::FeedClosed)
                }
            },
            Ok(()) = details.changed() => Some(Action::Details(details.borrow_and_update().clone())),
            () = pace.due() => {
                if let Err(error) = tty.draw(|frame| view::render(&app.scene(), &theme, frame)) {
                    tracing::warn!(%error, "the terminal does not take what is written");
                    return Ok(Leave::HungUp);
                }
                pace.drawn();
                None
            }
        };
        let Some(action) = action else { continue };
        let mut effects = VecDeque::from(app.update(action));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Redraw(haste) => pace.want(haste),
                Effect::Repaint => {
                    if tty.repaint().is_err() {
                        return Ok(Leave::HungUp);
                    }
                    pace.want(Haste::Quick);
                }
                Effect::Send(_) | Effect::SendFor(..) => {
                    let request = match effect {
                        Effect::SendFor(by, command) => Request::new(command, by),
                        Effect::Send(command) => Request { who: who.clone(), ..Request::new(command, by) },
                        _ => continue,
                    };
                    if let Err(error) = requests.try_send(request) {
                        tracing::warn!(%error, "the engine did not take a command");
                        effects.extend(app.update(Action::NotTaken));
                    }
                }
                Effect::Look(wanted) => drop(interest.send_replace(wanted)),
                Effect::Suspend if !has_shell() => effects.extend(app.update(Action::NoShell)),
                Effect::Suspend => {
                    Tty::leave();
                    if let Err(error) = stop_job().await {
                        tracing::warn!(%error, "the process cannot be stopped");
                    }
                    let back = tty.enter();
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

/// When to draw: what is wanted is drawn at once, unless the last frame is too young for its haste.
struct Pace {
    wanted: Option<Haste>,
    calm: Pin<Box<Sleep>>,
    quick: Pin<Box<Sleep>>,
}

impl Pace {
    /// A frame has just been drawn.
    fn begin() -> Self {
        Self { wanted: None, calm: Box::pin(sleep(CALM)), quick: Box::pin(sleep(QUICK)) }
    }

    fn want(&mut self, haste: Haste) {
        self.wanted = self.wanted.max(Some(haste));
    }

    /// Returns when it is time to draw what is wanted; never while nothing is.
    async fn due(&mut self) {
        match self.wanted {
            None => std::future::pending().await,
            Some(Haste::Calm) => self.calm.as_mut().await,
            Some(Haste::Quick) => self.quick.as_mut().await,
        }
    }

    fn drawn(&mut self) {
        self.wanted = None;
        self.calm.set(sleep(CALM));
        self.quick.set(sleep(QUICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);

    async fn is_due(pace: &mut Pace, within: Duration) -> bool {
        timeout(within, pace.due()).await.is_ok()
    }

    #[tokio::test]
    async fn nothing_is_drawn_that_nobody_wants() {
        assert!(!is_due(&mut Pace::begin(), 2 * QUICK).await);
    }

    #[tokio::test]
    async fn a_key_is_seen_within_a_tenth_of_a_second_and_numbers_within_a_second() {
        let mut pace = Pace::begin();
        pace.want(Haste::Quick);
        pace.want(Haste::Calm);
        assert!(!is_due(&mut pace, SOON).await, "the last frame is too young");
        assert!(is_due(&mut pace, 2 * QUICK).await);
        pace.drawn();
        pace.want(Haste::Calm);
        assert!(!is_due(&mut pace, 2 * QUICK).await);
        assert!(is_due(&mut pace, CALM).await);
        assert!(is_due(&mut pace, SOON).await, "it stays due until it is drawn");
    }
}
