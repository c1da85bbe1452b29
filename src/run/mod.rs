//! What a run *is*: pure data and pure functions.
//!
//! Absences that hold here: no I/O, no clock, no environment, no database, nothing of ours imported from outside this
//! folder. Whatever depends on time takes `now` as a value.

pub mod caches;
pub mod cause;
pub mod command;
pub mod details;
pub mod dossier;
pub mod event;
pub mod guarantee;
pub mod history;
pub mod human;
pub mod id;
pub mod member;
pub mod metric;
pub mod notify;
pub mod pace;
pub mod presence;
pub mod progress;
pub mod queue;
pub mod report;
pub mod rule;
pub mod sample;
pub mod segment;
pub mod snapshot;
pub mod state;
pub mod summary;
pub mod text;
pub mod timer;
pub mod trouble;
pub mod vitals;
pub mod why;
pub mod work;

pub use caches::CacheView;
pub use cause::Cause;
pub use command::{Answered, Asker, Command, Request};
pub use details::{Details, Interest};
pub use event::{Event, EventKind, Level};
pub use guarantee::Guarantee;
pub use history::History;
pub use human::ByteSize;
pub use id::{RunId, SegmentNo, ShortId, StepIndex};
pub use pace::{BreakerView, Churn, Effect, Hold, Pace, SignalView, Waited};
pub use presence::Presence;
pub use progress::{Estimate, Eta, Progress};
pub use queue::{JobState, JobView, OrderAnswer, QueueNews, QueueOrder, QueueReading, QueueView};
pub use segment::{Advance, KeyText, Segment, Tally};
pub use snapshot::{Snapshot, StepView};
pub use state::{RunState, Signal, StepState};
pub use trouble::Trouble;
pub use vitals::Vitals;
pub use work::Work;
