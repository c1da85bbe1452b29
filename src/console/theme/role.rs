//! What a piece of text is for: themes give each role a style.

use crate::run::{Effect, JobState, Level, RunState, StepState};

/// What a piece of text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything that has no other role.
    Text,
    /// What may be overlooked.
    Dim,
    /// Headings of panes and columns.
    Title,
    /// Names: the plan, the running step, the tables of the plan.
    Accent,
    /// Frames of panes.
    Border,
    /// What goes well.
    Ok,
    /// What is in transition.
    Busy,
    /// Look when you can.
    Warning,
    /// Look now.
    Critical,
    /// The full part of a bar.
    Gauge,
    /// The empty part of a bar.
    GaugeEmpty,
    /// A sparkline.
    Spark,
    /// A key to press.
    Key,
    /// The marked choice.
    Selected,
}

impl Role {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::Text,
        Self::Dim,
        Self::Title,
        Self::Accent,
        Self::Border,
        Self::Ok,
        Self::Busy,
        Self::Warning,
        Self::Critical,
        Self::Gauge,
        Self::GaugeEmpty,
        Self::Spark,
        Self::Key,
        Self::Selected,
    ];

    /// The name in a theme file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Dim => "dim",
            Self::Title => "title",
            Self::Accent => "accent",
            Self::Border => "border",
            Self::Ok => "ok",
            Self::Busy => "busy",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Gauge => "gauge",
            Self::GaugeEmpty => "gauge-empty",
            Self::Spark => "spark",
            Self::Key => "key",
            Self::Selected => "selected",
        }
    }

    /// What it is for, in a few words.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Text => "everything that has no other role",
            Self::Dim => "what may be overlooked",
            Self::Title => "headings of panes and columns",
            Self::Accent => "names: the plan, the running step, the plan's tables",
            Self::Border => "frames of panes",
            Self::Ok => "what goes well",
            Self::Busy => "what is in transition",
            Self::Warning => "look when you can",
            Self::Critical => "look now",
            Self::Gauge => "the full part of a bar",
            Self::GaugeEmpty => "the empty part of a bar",
            Self::Spark => "sparklines and charts",
            Self::Key => "a key to press",
            Self::Selected => "the marked choice",
        }
    }

    /// Whether it draws lines and areas, and carries no words: those need less contrast.
    #[must_use]
    pub fn is_drawn(self) -> bool {
        match self {
            Self::Border | Self::Gauge | Self::GaugeEmpty | Self::Spark => true,
            Self::Text
            | Self::Dim
            | Self::Title
            | Self::Accent
            | Self::Ok
            | Self::Busy
            | Self::Warning
            | Self::Critical
            | Self::Key
            | Self::Selected => false,
        }
    }

    /// The role of a run's state.
    #[must_use]
    pub fn of_state(state: &RunState) -> Self {
        match state {
            RunState::Running | RunState::Done { .. } => Self::Ok,
            RunState::Starting | RunState::Pausing { .. } | RunState::Resuming { .. } | RunState::Stopping { .. } => {
                Self::Busy
            }
            RunState::Paused { .. } | RunState::Stopped { .. } => Self::Warning,
            RunState::Failed { .. } => Self::Critical,
        }
    }

    /// The role of a step's state.
    #[must_use]
    pub fn of_step(state: StepState) -> Self {
        match state {
            StepState::Waiting => Self::Dim,
            StepState::Running => Self::Accent,
            StepState::Done => Self::Ok,
            StepState::Failed => Self::Critical,
        }
    }

    /// The role of where a job stands.
    #[must_use]
    pub fn of_job(state: JobState) -> Self {
        match state {
            JobState::Active => Self::Accent,
            JobState::Waiting => Self::Text,
            JobState::Delayed => Self::Busy,
            JobState::Blocked => Self::Dim,
            JobState::Failed => Self::Critical,
            JobState::Completed => Self::Ok,
        }
    }

    /// The role of what one of the governor's signals does.
    #[must_use]
    pub fn of_effect(effect: Effect) -> Self {
        match effect {
            Effect::Shown => Self::Dim,
            Effect::Free | Effect::Holds => Self::Text,
            Effect::Sheds | Effect::Waits | Effect::Unread => Self::Warning,
            Effect::Pauses => Self::Critical,
        }
    }

    /// The role of an event or an alert.
    #[must_use]
    pub fn of_level(level: Level) -> Self {
        match level {
            Level::Info => Self::Text,
            Level::Warning => Self::Warning,
            Level::Critical => Self::Critical,
        }
    }
}
