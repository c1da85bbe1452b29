//! What can happen to the console, and what can follow: the words that keys, signals, the engine and tests share.

use std::sync::Arc;

use crossterm::event::KeyEvent;

use super::Leave;
use super::ui::{PromptKind, View};
use crate::run::{Command, Details, Interest, QueueOrder, ShortId, Snapshot};

/// Everything that can happen to the console. Keys, the command line, signals, the engine and tests all speak in these.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Pause, or continue after a pause.
    TogglePause,
    /// Ask for something as it stands: a command of the command line.
    Ask(Command),
    /// Ask once more, then stop the run: it can be resumed.
    Stop,
    /// Go on outside of the allowed hours.
    SkipWindow,
    /// Try the rows again that were set aside, once the run is over.
    RetryQuarantine,
    /// Ask once more, then take the run back, once it is over.
    Undo,
    /// Go on with a run that nobody drives.
    Resume,
    /// Take note of the selected alert, or of all.
    Acknowledge,
    /// Silence the selected alert for an hour, or let it call again.
    Silence,
    /// Ask once more, then cancel the statement of the selected session.
    CancelSession,
    /// Ask once more, then end the selected session.
    TerminateSession,
    /// Try the selected job again, which has failed.
    RetryJob,
    /// Take the selected job now, which is delayed.
    PromoteJob,
    /// Ask once more, then forget the selected job.
    RemoveJob,
    /// Give no more jobs out, or give them out again.
    ToggleQueue,
    /// Ask for something of the queue as it stands: a command of the command line. What cannot be taken back is asked once
    /// more.
    Order(QueueOrder),
    /// Look at the run that the selected job is.
    AttachJob,
    /// Look at this run, which a job is.
    Attach(ShortId),
    /// Aim at longer batches.
    LongerBatches,
    /// Aim at shorter batches.
    ShorterBatches,
    /// One more worker.
    MoreWorkers,
    /// One worker less.
    FewerWorkers,
    /// Close the circuit breaker: try again now.
    CloseBreaker,
    /// Open a view.
    Goto(View),
    /// The next view, around.
    NextView,
    /// The view before, around.
    PreviousView,
    /// The next pane of the view.
    NextPane,
    /// The pane before.
    PreviousPane,
    /// Charts in the overview, or its panes again.
    Charts,
    /// The next span of time for charts.
    Zoom,
    /// Sort the list by its next column, or in its own order again.
    Sort,
    /// Sort the other way round.
    ReverseSort,
    /// The next level of what the list shows: all, warnings, critical.
    Level,
    /// Begin to type a command, or a filter.
    Prompt(PromptKind),
    /// A key for the line that is being typed.
    Typed(KeyEvent),
    /// Text that was pasted. Not cleaned.
    Pasted(String),
    /// Complete the word that is being typed; again: by the next one that fits, or by the one before.
    Complete {
        /// By the one before.
        back: bool,
    },
    /// Show or hide the keys.
    Help,
    /// Ask how to leave, or leave if the run is over.
    Quit,
    /// Ask how to leave; the second time: stop the run and leave; the third time: leave at once.
    Interrupt,
    /// Pause, restore the terminal and stop the process.
    Suspend,
    /// Draw everything again.
    Repaint,
    /// A click with the mouse, by column and row.
    Click(u16, u16),
    /// To the next line or choice.
    Next,
    /// To the previous line or choice.
    Previous,
    /// A page on.
    PageDown,
    /// A page back.
    PageUp,
    /// To the first line.
    First,
    /// To the last line.
    Last,
    /// Take the choice; all of the selected row.
    Confirm,
    /// Yes or no to what is asked.
    Answer(bool),
    /// Close the box, drop the filter, or let the selection go.
    Dismiss,
    /// No further key has come in time after [`Effect::AwaitKey`].
    NoKeyCame,
    /// The engine has published a snapshot.
    Snapshot(Arc<Snapshot>),
    /// What is looked up beside the snapshot has changed.
    Details(Arc<Details>),
    /// Nobody will publish snapshots any more.
    FeedClosed,
    /// The engine's queue of commands is full or closed.
    NotTaken,
    /// Whoever carries out what is wanted of the queue is busy or gone.
    OrderNotTaken,
    /// A signal asks for an end: SIGTERM or SIGINT.
    Terminate,
    /// The terminal is gone.
    HangUp,
    /// The process runs again after [`Effect::Suspend`].
    Woken,
    /// The process was to be stopped, and there is no shell that could continue it.
    NoShell,
}

impl Action {
    /// Whether it asks something of the run, of what comes after it, or of the queue: a console that only watches does no such thing.
    #[must_use]
    pub fn steers(&self) -> bool {
        match self {
            Self::TogglePause
            | Self::Ask(_)
            | Self::Stop
            | Self::SkipWindow
            | Self::RetryQuarantine
            | Self::Undo
            | Self::Resume
            | Self::Acknowledge
            | Self::Silence
            | Self::CancelSession
            | Self::TerminateSession
            | Self::LongerBatches
            | Self::ShorterBatches
            | Self::MoreWorkers
            | Self::FewerWorkers
            | Self::CloseBreaker
            | Self::RetryJob
            | Self::PromoteJob
            | Self::RemoveJob
            | Self::ToggleQueue
            | Self::Order(_) => true,
            Self::AttachJob
            | Self::Attach(_)
            | Self::Goto(_)
            | Self::NextView
            | Self::PreviousView
            | Self::NextPane
            | Self::PreviousPane
            | Self::Charts
            | Self::Zoom
            | Self::Sort
            | Self::ReverseSort
            | Self::Level
            | Self::Prompt(_)
            | Self::Typed(_)
            | Self::Pasted(_)
            | Self::Complete { .. }
            | Self::Help
            | Self::Quit
            | Self::Interrupt
            | Self::Suspend
            | Self::Repaint
            | Self::Click(..)
            | Self::Next
            | Self::Previous
            | Self::PageDown
            | Self::PageUp
            | Self::First
            | Self::Last
            | Self::Confirm
            | Self::Answer(_)
            | Self::Dismiss
            | Self::NoKeyCame
            | Self::Snapshot(_)
            | Self::Details(_)
            | Self::FeedClosed
            | Self::NotTaken
            | Self::OrderNotTaken
            | Self::Terminate
            | Self::HangUp
            | Self::Woken
            | Self::NoShell => false,
        }
    }
}

impl Action {
    /// Whether it asks something of the queue, and not of a run.
    #[must_use]
    pub fn is_for_the_queue(&self) -> bool {
        matches!(self, Self::RetryJob | Self::PromoteJob | Self::RemoveJob | Self::ToggleQueue | Self::Order(_))
    }
}

/// What the event loop must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the engine, without waiting.
    Send(Command),
    /// Ask for something of the queue, without waiting.
    Order(QueueOrder),
    /// Tell which details are looked at.
    Look(Interest),
    /// Draw, soon.
    Redraw(Haste),
    /// Say [`Action::NoKeyCame`] after a second: a sequence of keys has begun. The last one counts.
    AwaitKey,
    /// Ring the terminal's bell.
    Bell,
    /// Forget what is on the screen, and draw.
    Repaint,
    /// Restore the terminal, stop the process, and set the terminal up again when it goes on.
    Suspend,
    /// Close the console.
    Leave(Leave),
}

/// How soon a change must be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// Within a second.
    Calm,
    /// Within a tenth of a second.
    Quick,
}
