//! The running sweep from near: its segments, its slowest batches, how long batches take.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Cells of [`Work::map`] at most.
pub const CELLS: usize = 256;
/// Segments that are told of one by one at most.
pub const SEGMENTS: usize = 128;
/// Slow batches that are kept.
pub const SLOWEST: usize = 12;

/// The running sweep from near. Made anew about once a second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Work {
    /// The key space from its first key to its last, in cells of equal shares of the input.
    pub map: Vec<Cell>,
    /// Those that are walked or have failed, then those that wait, then those that are done; at most [`SEGMENTS`], in
    /// the order of their keys.
    pub segments: Vec<SegmentView>,
    /// Segments that were left out.
    pub more: u32,
    /// The slowest batches of the step, the slowest first.
    pub slowest: Vec<SlowBatch>,
    /// How long the step's batches take.
    pub latency: Option<Latency>,
}

/// One cell of the map: what most of it is, failures before everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Nothing is done in it.
    #[default]
    Waiting,
    /// A worker walks in it.
    Running,
    /// Done.
    Done,
    /// A worker walks in it, and its last batch is being tried again.
    Retrying,
    /// A batch in it failed for good.
    Failed,
}

/// A segment as it stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SegmentView {
    /// Its number.
    pub no: u32,
    /// The partition, file or table that it lies in. Not cleaned.
    pub part: Option<String>,
    /// Its keys are larger than this, in words. `None`: from the first. Not cleaned, cut.
    pub lower: Option<String>,
    /// And not larger than this. `None`: to the last.
    pub upper: Option<String>,
    /// Keys up to here are done. `None`: nothing yet.
    pub cursor: Option<String>,
    /// How it stands.
    pub state: Cell,
    /// The worker on it, from 0.
    pub worker: Option<u32>,
    /// The host of the member that walks it. `None`: the driver's own, or nobody. Not cleaned.
    #[serde(default)]
    pub host: Option<String>,
    /// Its share of the input, 0 to 1.
    pub share: f64,
    /// Share of it that is done, 0 to 1, where anything tells.
    pub position: Option<f64>,
    /// Rows walked in it.
    pub walked: u64,
    /// Batches committed in it.
    pub batches: u64,
    /// Rows set aside in it.
    pub quarantined: u64,
    /// Batches of it that were tried again by this driver.
    pub retries: u64,
    /// Rows a second over the last batches of it. `None` until one has committed under this driver.
    pub rate: Option<f64>,
}

/// A batch that took long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowBatch {
    /// When it had committed.
    pub at: DateTime<Utc>,
    /// Its segment.
    pub segment: u32,
    /// Its keys are larger than this, in words. `None`: from the first. Not cleaned, cut.
    pub from: Option<String>,
    /// And not larger than this.
    pub to: Option<String>,
    /// Rows walked.
    pub rows: u64,
    /// From the start of its transaction to its commit.
    pub took: Duration,
    /// The plan of its statement, where it was taken. Not cleaned.
    #[serde(default)]
    pub plan: Option<String>,
}

/// How long batches take: of the last 1,024 of the step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them take no longer.
    pub p50: Duration,
    /// Nine of ten.
    pub p90: Duration,
    /// All but one in a hundred.
    pub p99: Duration,
    /// The longest.
    pub most: Duration,
    /// How many were counted.
    pub count: u32,
    /// How many took up to 2^n milliseconds, from n = 0 on; the last holds the rest.
    pub histogram: Vec<u32>,
}
