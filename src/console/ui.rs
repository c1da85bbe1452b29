//! What the operator has opened and chosen.

use super::keymap::Keymap;
use crate::run::history::Zoom;

/// What the operator has opened and chosen; with a snapshot and its details, all that the view depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ui {
    /// The view that is open.
    pub view: View,
    /// Whether the overview shows charts in the place of its lower panes.
    pub charts: bool,
    /// How much time the charts show.
    pub zoom: Zoom,
    /// The pane of the segments view that keys go to.
    pub pane: SegmentsPane,
    /// What is selected, sorted and filtered in each list.
    pub lists: Lists,
    /// The box that lies over the view.
    pub overlay: Overlay,
    /// The line that is being typed, in the last row.
    pub prompt: Option<Prompt>,
    /// The keys of a sequence that has begun, as they are shown.
    pub pending: String,
    /// Which key does what: for the hints and the help.
    pub keymap: Keymap,
    /// What this console may do.
    pub mode: Mode,
    /// Lines below the outcome.
    pub farewell: Vec<String>,
    /// A passing remark in the last row. Not cleaned.
    pub notice: Option<String>,
}

impl Ui {
    /// Nothing opened.
    #[must_use]
    pub fn new(keymap: Keymap, mode: Mode, farewell: Vec<String>) -> Self {
        Self {
            view: View::Overview,
            charts: false,
            zoom: Zoom::default(),
            pane: SegmentsPane::Segments,
            lists: Lists::default(),
            overlay: Overlay::None,
            prompt: None,
            pending: String::new(),
            keymap,
            mode,
            farewell,
            notice: None,
        }
    }

    /// The list that keys go to in the open view. `None`: it has none.
    #[must_use]
    pub fn list(&self) -> Option<ListId> {
        match self.view {
            View::Overview => None,
            View::Tables => Some(ListId::Tables),
            View::Sessions => Some(ListId::Sessions),
            View::Segments => Some(match self.pane {
                SegmentsPane::Segments => ListId::Segments,
                SegmentsPane::Slowest => ListId::Slowest,
                SegmentsPane::Quarantine => ListId::Quarantine,
            }),
            View::Events => Some(ListId::Events),
            View::Log => Some(ListId::Log),
            View::Queue => Some(ListId::Queue),
        }
    }
}

/// What this console may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It belongs to the process that drives the run.
    #[default]
    Driver,
    /// It watches and steers a run that another process drives.
    Attached,
    /// It only watches.
    ReadOnly,
}

/// The views, by the keys 1 to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum View {
    /// Progress, checkpoints, tables, resources, alerts.
    #[default]
    Overview,
    /// The plan's tables and the busiest others.
    Tables,
    /// Who is connected, and who waits for whom.
    Sessions,
    /// The key space, slow batches, rows set aside.
    Segments,
    /// Alerts, commands and events.
    Events,
    /// The log.
    Log,
    /// Plans that wait for worker hosts.
    Queue,
}

impl View {
    /// All of them, in the order of their keys.
    pub const ALL: [Self; 7] =
        [Self::Overview, Self::Tables, Self::Sessions, Self::Segments, Self::Events, Self::Log, Self::Queue];

    /// Its name, on the screen and in `:goto`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Tables => "tables",
            Self::Sessions => "sessions",
            Self::Segments => "segments",
            Self::Events => "events",
            Self::Log => "log",
            Self::Queue => "queue",
        }
    }

    /// The view so many further on, around.
    #[must_use]
    pub(super) fn step(self, by: isize) -> Self {
        super::app::stepped(&Self::ALL, self, by)
    }
}

/// The panes of the segments view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SegmentsPane {
    /// The segments.
    #[default]
    Segments,
    /// The slowest batches.
    Slowest,
    /// Rows set aside.
    Quarantine,
}

impl SegmentsPane {
    /// All of them, from the left.
    pub const ALL: [Self; 3] = [Self::Segments, Self::Slowest, Self::Quarantine];
}

/// The lists that can be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListId {
    /// Tables.
    Tables,
    /// Sessions.
    Sessions,
    /// Segments.
    Segments,
    /// The slowest batches.
    Slowest,
    /// Rows set aside.
    Quarantine,
    /// Alerts, commands and events.
    Events,
    /// Lines of the log.
    Log,
    /// Jobs of the queue.
    Queue,
}

/// The state of each list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lists {
    /// Tables.
    pub tables: List,
    /// Sessions.
    pub sessions: List,
    /// Segments.
    pub segments: List,
    /// The slowest batches.
    pub slowest: List,
    /// Rows set aside.
    pub quarantine: List,
    /// Alerts, commands and events.
    pub events: List,
    /// Lines of the log.
    pub log: List,
    /// Jobs of the queue.
    pub queue: List,
}

impl Lists {
    /// One of them.
    #[must_use]
    pub fn get(&self, id: ListId) -> &List {
        match id {
            ListId::Tables => &self.tables,
            ListId::Sessions => &self.sessions,
            ListId::Segments => &self.segments,
            ListId::Slowest => &self.slowest,
            ListId::Quarantine => &self.quarantine,
            ListId::Events => &self.events,
            ListId::Log => &self.log,
            ListId::Queue => &self.queue,
        }
    }

    /// One of them, to change it.
    pub fn get_mut(&mut self, id: ListId) -> &mut List {
        match id {
            ListId::Tables => &mut self.tables,
            ListId::Sessions => &mut self.sessions,
            ListId::Segments => &mut self.segments,
            ListId::Slowest => &mut self.slowest,
            ListId::Quarantine => &mut self.quarantine,
            ListId::Events => &mut self.events,
            ListId::Log => &mut self.log,
            ListId::Queue => &mut self.queue,
        }
    }
}

/// What is selected, sorted and filtered in a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// The key of the selected row, by which it is found again after an update. `None`: the list shows its first rows,
    /// and a log its last ones.
    pub selected: Option<String>,
    /// The column that it is sorted by, and whether from the largest. `None`: in its own order.
    pub sort: Option<(usize, bool)>,
    /// Only rows that hold this are shown, in any case of letters.
    pub filter: String,
    /// The least level that is shown, where rows have one: 0 all, 1 warnings, 2 what is critical.
    pub level: u8,
}

/// A line that is being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What it is for.
    pub kind: PromptKind,
    /// The text so far.
    pub text: String,
    /// The place of the cursor in `text`, in characters.
    pub cursor: usize,
    /// What could stand there, the first one marked; of a command line.
    pub completions: Vec<String>,
    /// What is wrong with what was entered.
    pub error: Option<String>,
}

/// What a line is typed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// `:`, a command.
    Command,
    /// `/`, a filter of the list.
    Filter,
}

/// The box that lies over the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// None. When the run is over, its outcome, on the overview.
    None,
    /// The keys.
    Help {
        /// Lines scrolled away.
        scroll: usize,
        /// Only keys and words that hold this.
        filter: String,
        /// Whether the filter is being typed.
        typing: bool,
    },
    /// How to leave.
    Quit {
        /// The marked choice.
        selected: Choice,
    },
    /// Something that cannot be taken back is asked once more.
    Confirm(Question),
    /// All of the selected row.
    Detail {
        /// Lines scrolled away.
        scroll: usize,
    },
}

/// Something that is asked once more before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The question, such as `terminate session 4711 of ann (psql)?`. Not cleaned.
    pub text: String,
    /// What then becomes of it. Not cleaned.
    pub consequence: String,
    /// What is done on yes.
    pub then: Box<super::action::Effect>,
    /// Whether yes is marked.
    pub yes: bool,
}

/// How to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The run goes on without a console.
    KeepRunning,
    /// The run stops at the batch's edge, resumable.
    PauseAndQuit,
    /// Go on watching.
    Stay,
}

impl Choice {
    /// All of them, as they are listed.
    pub const ALL: [Self; 3] = [Self::KeepRunning, Self::PauseAndQuit, Self::Stay];

    /// The choice so many lines further on; the list has ends.
    pub(super) fn step(self, by: isize) -> Self {
        let at = Self::ALL.iter().position(|choice| *choice == self).unwrap_or(0);
        let at = at.saturating_add_signed(by).min(Self::ALL.len() - 1);
        Self::ALL[at]
    }
}
