//! The values of a plan as they are written, each with its place; and, by their doc comments, the text of the JSON
//! Schema.
//!
//! `shape` has looked at keys and types before these are filled, so that here only a mistake of ours could fail.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::raw_value::{RawSignal, RawTexts};

/// A value and its place in the text, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(Self { value: spanned.into_inner(), span })
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A text, with its place.
pub(super) type Text = Located<String>;

/// A howdah plan: a database, limits, alerts, and an ordered list of steps. `${NAME}` and `${NAME:-default}` in any
/// string are filled in from the environment; `$${` stands for `${`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Plan")]
pub(super) struct RawPlan {
    /// Shown, and stored with each run. Default: the file's name without its extension.
    pub(super) name: Option<Text>,
    /// Where, and with how many connections.
    pub(super) database: Option<RawDatabase>,
    /// How large a batch is, how many workers there are, how long anything may take, and what slows a run down.
    pub(super) limits: Option<RawLimits>,
    /// The same as `allowed` in `[limits]`.
    pub(super) allowed: Option<Located<RawTexts>>,
    /// How often a transient error is tried again.
    pub(super) retry: Option<RawRetry>,
    /// When to stop trying for a while.
    pub(super) breaker: Option<RawBreaker>,
    /// Thresholds that raise an alert.
    pub(super) alerts: Option<RawAlerts>,
    /// The steps, in order; at least one.
    #[schemars(required, length(min = 1))]
    pub(super) step: Option<Vec<Located<RawStep>>>,
}

/// Where, and with how many connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawDatabase {
    /// A `postgres://` URL. Default: `--database`, then `DATABASE_URL`, then libpq's own variables.
    pub(super) url: Option<Text>,
    /// A `postgres://` URL that leads to the server itself, where `url` leads through a pooler in transaction mode.
    pub(super) control: Option<Text>,
    /// A statement of a batch that takes longer is logged with its plan, once per shape. Default: "1s".
    pub(super) slow: Option<Text>,
    /// The pool of connections.
    pub(super) pool: Option<RawPool>,
}

/// The pool of connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawPool {
    /// The most connections at once, at least 4: two for each of `limits.workers`, and four beside them. Default: 20.
    pub(super) max: Option<Located<i64>>,
    /// An idle connection is closed after this. Default: "30s".
    pub(super) idle: Option<Text>,
    /// How long a connection may take to open. Default: "2s".
    pub(super) connect: Option<Text>,
}

/// How large a batch is, how many workers there are, how long anything may take, and what slows a run down.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawLimits {
    /// The most workers over a table at once, 1 to 64. Default: the host's cores, at most 8, and no more than the pool has
    /// connections for.
    pub(super) workers: Option<Located<i64>>,
    /// How large a batch is.
    pub(super) batch: Option<RawBatch>,
    /// How long a statement waits for a lock. Default: "2s".
    pub(super) lock_timeout: Option<Text>,
    /// How long a batch's statement may run. Default: ten times `batch.target`.
    pub(super) statement_timeout: Option<Text>,
    /// How long a transaction of howdah may stand idle. Default: "60s".
    pub(super) idle_in_transaction_timeout: Option<Text>,
    /// How long the count of what is left, and a `verify`, may take. Default: "10m".
    pub(super) count_timeout: Option<Text>,
    /// Rows that may be set aside in a run; one more stops it, resumable. Default: 100.
    pub(super) max_quarantined: Option<Located<i64>>,
    /// After each batch a worker rests for this share of the batch's time, 0 to 100. Default: 0.
    pub(super) nice: Option<Located<f64>>,
    /// How long another session may wait for a lock of a batch before the batch gives way; or "off". Default: "200ms".
    pub(super) waiters: Option<Text>,
    /// What is done about dead rows of a step's table: "off", "wait" until autovacuum has cleared them, or "run" VACUUM
    /// between batches. Default: "off".
    pub(super) vacuum: Option<Text>,
    /// When batches may run, such as "22:00-06:00 Europe/Berlin" or "sat,sun 00:00-24:00 UTC": several in a list, or with
    /// `;` between them. Default: always.
    pub(super) allowed: Option<Located<RawTexts>>,
    /// How far the slowest standby is behind. Default: slow "5s", stop "60s".
    pub(super) replay_lag: Option<Located<RawSignal<String>>>,
    /// WAL that replication slots keep. Default: slow "16GiB", stop "64GiB".
    pub(super) wal: Option<Located<RawSignal<String>>>,
    /// WAL files that wait to be archived. Default: slow 256, stop 2048.
    pub(super) archive: Option<Located<RawSignal<i64>>>,
    /// Sessions of others that are active. Default: "off".
    pub(super) sessions: Option<Located<RawSignal<i64>>>,
    /// Age of the oldest snapshot in the database. Default: "off".
    pub(super) snapshot_age: Option<Located<RawSignal<String>>>,
    /// Free space of the data directory's file system, where howdah can read it. Default: slow "10%", stop "5%".
    pub(super) free_disk: Option<Located<RawSignal<String>>>,
    /// CPU of the host, when the server is on it. Default: "off".
    pub(super) host_cpu: Option<Located<RawSignal<String>>>,
    /// Free memory of the host, when the server is on it. Default: "off".
    pub(super) free_memory: Option<Located<RawSignal<String>>>,
    /// Questions of one's own, whose answers slow a run down.
    pub(super) probe: Option<Vec<Located<RawProbe>>>,
}

/// A question of one's own, whose answer slows a run down.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawProbe {
    /// Shown; unique in the plan. Default: "probe 1", by its place.
    pub(super) name: Option<Text>,
    /// A query; the first column of its first row is a number.
    #[schemars(required)]
    pub(super) sql: Option<Text>,
    /// Past this, batches wait.
    #[schemars(required)]
    pub(super) slow: Option<Located<f64>>,
    /// Past this, the run is paused. Default: it never is.
    pub(super) stop: Option<Located<f64>>,
}

/// How large a batch is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawBatch {
    /// Rows in the first batch. Default: 1000.
    pub(super) start: Option<Located<i64>>,
    /// Never fewer rows. Default: 100.
    pub(super) min: Option<Located<i64>>,
    /// Never more rows. Default: 100000.
    pub(super) max: Option<Located<i64>>,
    /// The time that a batch aims at. Default: "500ms".
    pub(super) target: Option<Text>,
}

/// How often a transient error is tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawRetry {
    /// Attempts in all. Default: 3.
    pub(super) attempts: Option<Located<i64>>,
    /// The first delay. Default: "1s".
    pub(super) base: Option<Text>,
    /// The longest delay. Default: "30s".
    pub(super) max: Option<Text>,
}

/// When to stop trying for a while.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawBreaker {
    /// Failures in a row that open it. Default: 5.
    pub(super) failures: Option<Located<i64>>,
    /// How long it stays open. Default: "60s".
    pub(super) reset: Option<Text>,
}

/// Thresholds that raise an alert.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawAlerts {
    /// A run that has worked longer than this. Default: "5m".
    pub(super) duration: Option<Text>,
    /// Resident memory of howdah itself. Default: "1GiB".
    pub(super) memory: Option<Text>,
    /// Free memory of the host below this. Default: "10%".
    pub(super) free_memory: Option<Text>,
    /// Rows set aside of the rows walked, once 1,000 are walked; past it the run stops. Default: "10%".
    pub(super) error_rate: Option<Text>,
}

/// One step. It has exactly one of `statement`, `backfill` and `verify`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawStep {
    /// Unique in the plan.
    #[schemars(required)]
    pub(super) name: Option<Text>,
    /// One SQL statement.
    pub(super) statement: Option<Text>,
    /// With `statement`: what takes it back.
    pub(super) down: Option<Text>,
    /// With `down`: it also runs when the plan has succeeded. Default: false.
    pub(super) cleanup: Option<Located<bool>>,
    /// With `statement`: the longest it may run; by default as long as it takes. With `verify`: by default
    /// `limits.count_timeout`.
    pub(super) timeout: Option<Text>,
    /// A table whose rows are changed batch by batch, written as in SQL.
    pub(super) backfill: Option<Text>,
    /// With `backfill`: columns, written as in SQL, and the expressions that they are set to.
    pub(super) set: Option<Located<BTreeMap<String, Text>>>,
    /// With `backfill`: the rows that are to be changed; the change makes it false. Counted at the end.
    #[serde(rename = "where")]
    pub(super) filter: Option<Text>,
    /// With `backfill`, in the place of `set`: a statement of one's own, with `{batch}` for the keys of a batch.
    pub(super) sql: Option<Text>,
    /// With `sql`: the name of the table in it. Default: the table itself.
    pub(super) alias: Option<Text>,
    /// With `set`: "auto" keeps the old values of its columns, so that the step can be undone.
    pub(super) undo: Option<Text>,
    /// With `sql`: what takes it back, in the same form, with `{batch}`.
    pub(super) undo_sql: Option<Text>,
    /// A query; the first column of its first row is compared with `expect`.
    pub(super) verify: Option<Text>,
    /// With `verify`: a whole number, a text or a truth value.
    pub(super) expect: Option<Located<RawExpected>>,
}

/// A whole number, compared as a number; a text, compared to the answer in its text form; or a truth value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum RawExpected {
    Integer(i64),
    Boolean(bool),
    Text(String),
}
