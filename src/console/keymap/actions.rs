//! Every action that keys can be bound to, and where.

use super::super::action::Action;
use super::super::ui::{PromptKind, View};
use super::context::Context::{
    self, Dialogue, Events, Global, List, Log, Overview, Prompt, Queue, Segments, Sessions, Tables, View as InView,
};

/// An action that keys can be bound to.
#[derive(Debug, PartialEq)]
pub struct Bindable {
    /// The name in the file.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// What it does, in words for the help.
    pub about: &'static str,
    /// Where it makes sense.
    pub contexts: &'static [Context],
}

/// While a line is typed, only keys that are no text reach what works everywhere.
const EVERYWHERE: &[Context] = &Context::ALL;
const UNTYPED: &[Context] = &[Global, InView, Overview, List, Tables, Sessions, Segments, Events, Log, Queue, Dialogue];
const LISTS: &[Context] = &[Global, InView, List, Tables, Sessions, Segments, Events, Log, Queue];
const SEARCHED: &[Context] = &[Global, InView, List, Tables, Sessions, Segments, Events, Log, Queue, Dialogue];
const OF_SESSIONS: &[Context] = &[Global, InView, List, Sessions];
const OF_PANES: &[Context] = &[Global, InView, List, Segments];
const OF_LEVELS: &[Context] = &[Global, InView, List, Events, Log];
const OF_ALERTS: &[Context] = &[Global, InView, List, Events];
const OF_JOBS: &[Context] = &[Global, InView, List, Queue];
const OF_BOXES: &[Context] = &[Dialogue];
const OF_LINES: &[Context] = &[Prompt];

const fn at(name: &'static str, action: Action, contexts: &'static [Context], about: &'static str) -> Bindable {
    Bindable { name, action, about, contexts }
}

/// Every action that keys can be bound to, in the order of the help.
pub static BINDABLE: [Bindable; 55] = [
    at("help", Action::Help, EVERYWHERE, "show or hide these keys"),
    at("interrupt", Action::Interrupt, EVERYWHERE, "ask how to leave; again: stop the run and quit"),
    at("suspend", Action::Suspend, EVERYWHERE, "pause, and back to the shell until fg"),
    at("repaint", Action::Repaint, EVERYWHERE, "draw the whole screen again"),
    at("overview", Action::Goto(View::Overview), EVERYWHERE, "the overview"),
    at("tables", Action::Goto(View::Tables), EVERYWHERE, "the plan's tables and the busiest others"),
    at("sessions", Action::Goto(View::Sessions), EVERYWHERE, "who is connected, and who waits for whom"),
    at("segments", Action::Goto(View::Segments), EVERYWHERE, "the key space, slow batches, rows set aside"),
    at("events", Action::Goto(View::Events), EVERYWHERE, "alerts, commands and events"),
    at("log", Action::Goto(View::Log), EVERYWHERE, "the log"),
    at("queue", Action::Goto(View::Queue), EVERYWHERE, "plans that wait for worker hosts"),
    at("next-view", Action::NextView, EVERYWHERE, "the next view"),
    at("previous-view", Action::PreviousView, EVERYWHERE, "the view before"),
    at("command", Action::Prompt(PromptKind::Command), EVERYWHERE, "type a command"),
    at("pause", Action::TogglePause, EVERYWHERE, "pause at the batch's edge, or continue"),
    at("longer-batches", Action::LongerBatches, EVERYWHERE, "longer batches: faster, longer locks"),
    at("shorter-batches", Action::ShorterBatches, EVERYWHERE, "shorter batches: gentler"),
    at("more-workers", Action::MoreWorkers, EVERYWHERE, "one more worker: faster, more load"),
    at("fewer-workers", Action::FewerWorkers, EVERYWHERE, "one worker less, at its batch's edge"),
    at("close-breaker", Action::CloseBreaker, EVERYWHERE, "close the open circuit breaker: try again now"),
    at("skip-window", Action::SkipWindow, EVERYWHERE, "go on outside of the allowed hours"),
    at("acknowledge", Action::Acknowledge, EVERYWHERE, "take note of the selected alert, or of all"),
    at("silence", Action::Silence, OF_ALERTS, "silence the selected alert, or no more"),
    at("stop", Action::Stop, EVERYWHERE, "stop the run, resumable"),
    at("resume", Action::Resume, EVERYWHERE, "go on with a run that nobody drives"),
    at("retry-quarantine", Action::RetryQuarantine, EVERYWHERE, "try the rows again that were set aside"),
    at("undo", Action::Undo, EVERYWHERE, "take the run back, once it is over"),
    at("charts", Action::Charts, EVERYWHERE, "charts over time, or the panes again"),
    at("zoom", Action::Zoom, EVERYWHERE, "charts of 1 min, 10 min, all"),
    at("next", Action::Next, EVERYWHERE, "next line or choice; a newer command"),
    at("previous", Action::Previous, EVERYWHERE, "previous line or choice; an older command"),
    at("page-down", Action::PageDown, UNTYPED, "ten lines on"),
    at("page-up", Action::PageUp, UNTYPED, "ten lines back"),
    at("first", Action::First, UNTYPED, "the first line"),
    at("last", Action::Last, UNTYPED, "the last line; of a log: follow it"),
    at("filter", Action::Prompt(PromptKind::Filter), SEARCHED, "show only lines that hold a text"),
    at("sort", Action::Sort, LISTS, "sort by the next column, or in its own order"),
    at("reverse-sort", Action::ReverseSort, LISTS, "sort the other way round"),
    at("level", Action::Level, OF_LEVELS, "all, warnings and worse, errors"),
    at("next-pane", Action::NextPane, OF_PANES, "the pane to the right"),
    at("previous-pane", Action::PreviousPane, OF_PANES, "the pane to the left"),
    at("cancel-session", Action::CancelSession, OF_SESSIONS, "cancel the selected session's statement"),
    at("terminate-session", Action::TerminateSession, OF_SESSIONS, "end the selected session"),
    at("retry-job", Action::RetryJob, OF_JOBS, "try the selected job again, which has failed"),
    at("promote-job", Action::PromoteJob, OF_JOBS, "take the selected job now, which is delayed"),
    at("remove-job", Action::RemoveJob, OF_JOBS, "forget the selected job"),
    at("attach", Action::AttachJob, OF_JOBS, "the console of the run that the selected job is"),
    at("pause-queue", Action::ToggleQueue, OF_JOBS, "give no more jobs out, or give them out again"),
    at("confirm", Action::Confirm, EVERYWHERE, "take it; all of the selected line"),
    at("dismiss", Action::Dismiss, EVERYWHERE, "close, drop the filter, or let go"),
    at("yes", Action::Answer(true), OF_BOXES, "yes to what is asked"),
    at("no", Action::Answer(false), OF_BOXES, "no to what is asked"),
    at("quit", Action::Quit, EVERYWHERE, "leave, or ask how to"),
    at("complete", Action::Complete { back: false }, OF_LINES, "complete the word; the next one that fits"),
    at("complete-back", Action::Complete { back: true }, OF_LINES, "the word before that fits"),
];

/// The keys of a file from before there were views, layers and sequences. What has been added to the defaults since then
/// gives way to the keys of a user's file, so that such a file goes on working.
pub(super) const FIRST: [(Context, &str); 17] = [
    (Global, "help"),
    (Global, "interrupt"),
    (Global, "suspend"),
    (Global, "repaint"),
    (InView, "pause"),
    (InView, "longer-batches"),
    (InView, "shorter-batches"),
    (InView, "more-workers"),
    (InView, "fewer-workers"),
    (InView, "close-breaker"),
    (InView, "quit"),
    (Dialogue, "next"),
    (Dialogue, "previous"),
    (Dialogue, "page-down"),
    (Dialogue, "page-up"),
    (Dialogue, "confirm"),
    (Dialogue, "dismiss"),
];
