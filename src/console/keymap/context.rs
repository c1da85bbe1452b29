//! Where keys work: layers, from the view that is open down to everywhere.

use super::super::ui::View;

/// Where a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// Everywhere.
    Global,
    /// In every view.
    View,
    /// In the overview.
    Overview,
    /// In every view that is a list.
    List,
    /// In the view of the tables.
    Tables,
    /// In the view of the sessions.
    Sessions,
    /// In the view of the segments.
    Segments,
    /// In the view of alerts and events.
    Events,
    /// In the view of the log.
    Log,
    /// In the view of the queue.
    Queue,
    /// In a box that lies over the view.
    Dialogue,
    /// While a line is typed.
    Prompt,
}

impl Context {
    /// All of them, in the order of the file.
    pub const ALL: [Self; 12] = [
        Self::Global,
        Self::View,
        Self::Overview,
        Self::List,
        Self::Tables,
        Self::Sessions,
        Self::Segments,
        Self::Events,
        Self::Log,
        Self::Queue,
        Self::Dialogue,
        Self::Prompt,
    ];

    /// The name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::View => "view",
            Self::Overview => "overview",
            Self::List => "list",
            Self::Tables => "tables",
            Self::Sessions => "sessions",
            Self::Segments => "segments",
            Self::Events => "events",
            Self::Log => "log",
            Self::Queue => "queue",
            Self::Dialogue => "dialogue",
            Self::Prompt => "prompt",
        }
    }

    /// The heading in the help.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Global => "Everywhere",
            Self::View => "In every view",
            Self::Overview => "In the overview",
            Self::List => "In every list",
            Self::Tables => "In the tables",
            Self::Sessions => "In the sessions",
            Self::Segments => "In the segments",
            Self::Events => "In alerts and events",
            Self::Log => "In the log",
            Self::Queue => "In the queue",
            Self::Dialogue => "In a box like this one",
            Self::Prompt => "While a line is typed",
        }
    }

    /// The layers that a key is looked for in while `view` is open and nothing lies over it, the nearest first.
    #[must_use]
    pub fn layers(view: View) -> &'static [Self] {
        match view {
            View::Overview => &[Self::Overview, Self::View, Self::Global],
            View::Tables => &[Self::Tables, Self::List, Self::View, Self::Global],
            View::Sessions => &[Self::Sessions, Self::List, Self::View, Self::Global],
            View::Segments => &[Self::Segments, Self::List, Self::View, Self::Global],
            View::Events => &[Self::Events, Self::List, Self::View, Self::Global],
            View::Log => &[Self::Log, Self::List, Self::View, Self::Global],
            View::Queue => &[Self::Queue, Self::List, Self::View, Self::Global],
        }
    }

    /// Whether a key here hides what it means in `other`: what is asked of jobs comes before what is asked of a run.
    fn hides(self, other: Self) -> bool {
        (self, other) == (Self::Queue, Self::View)
    }

    /// Whether one key press could mean something of both.
    pub(super) fn meets(self, other: Self) -> bool {
        if self.hides(other) || other.hides(self) {
            return false;
        }
        let both = |layers: &[Self]| layers.contains(&self) && layers.contains(&other);
        self == other
            || [self, other].contains(&Self::Global)
            || View::ALL.into_iter().any(|view| both(Self::layers(view)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_meet_where_one_press_can_reach_both() {
        let table = [
            (Context::Global, Context::Prompt, true),
            (Context::View, Context::Log, true),
            (Context::List, Context::Sessions, true),
            (Context::List, Context::Overview, false),
            (Context::Tables, Context::Log, false),
            (Context::View, Context::Dialogue, false),
            (Context::Queue, Context::List, true),
            (Context::Queue, Context::View, false),
            (Context::Dialogue, Context::Prompt, false),
        ];
        for (a, b, meets) in table {
            assert_eq!((a.meets(b), b.meets(a)), (meets, meets), "{} and {}", a.name(), b.name());
        }
    }
}
