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

use super::raw_alarms::{RawNotify, RawRule};
use super::raw_value::{RawReindex, RawSignal, RawTexts};

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
    /// What the loss of the terminal does: "continue", "pause" or "stop". Default: "continue".
    pub(super) on_hangup: Option<Text>,
    /// The same as `allowed` in `[limits]`.
    pub(super) allowed: Option<Located<RawTexts>>,
    /// How often a transient error is tried again.
    pub(super) retry: Option<RawRetry>,
    /// When to stop trying for a while.
    pub(super) breaker: Option<RawBreaker>,
    /// Thresholds that raise an alert.
    pub(super) alerts: Option<RawAlerts>,
    /// Who is told of alerts and of the run's end, off every batch's path.
    pub(super) notify: Option<Vec<Located<RawNotify>>>,
    /// The Redis that keeps cached look-ups, and the ledger where that is wanted. Nothing else of a plan needs it.
    pub(super) redis: Option<RawRedis>,
    /// Where the run is written down.
    pub(super) ledger: Option<RawLedger>,
    /// Whether every change may be made twice without harm: `true` says so, and a ledger on Redis asks for it, because a
    /// crash may make a batch run again. Default: false.
    pub(super) idempotent: Option<bool>,
    /// Look-ups that scripts may ask for by name, `lookup("countries", code)`, and that are kept for a while.
    pub(super) cache: Option<BTreeMap<String, Located<RawCache>>>,
    /// What is looked at before a run.
    pub(super) check: Option<RawCheck>,
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

/// The Redis that keeps cached look-ups, and the ledger where that is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawRedis {
    /// `redis://`, `rediss://`, `redis-sentinel://host,host/service` or `redis-cluster://host,host`. Default: `--redis`,
    /// then `HOWDAH_REDIS`, then `REDIS_URL`.
    pub(super) url: Option<Text>,
    /// A file that holds the password, where the address has none.
    pub(super) password_file: Option<Text>,
    /// A file with the certificates (PEM) of one's own authority, for `rediss://`.
    pub(super) ca: Option<Text>,
    /// What every key begins with. On a cluster it is put in braces, so that all keys lie in one slot. Default: "howdah".
    pub(super) prefix: Option<Text>,
    /// How long an answer may take. Default: "2s".
    pub(super) timeout: Option<Text>,
}

/// Where the run is written down.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawLedger {
    /// "postgres": schema `howdah` of the target database, with each change. "redis": where no schema may be made; then each
    /// change may be made twice after a crash, and `idempotent = true` must say that this does no harm. Default: "postgres".
    pub(super) store: Option<Text>,
}

/// A look-up that is kept for a while.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawCache {
    /// A query with `$1` (and `$2` ...) for what is looked up. Its first row is the answer: one column as a value, several as
    /// a map.
    #[schemars(required)]
    pub(super) sql: Option<Text>,
    /// How long an answer is kept; also that there is none. Default: "1h".
    pub(super) ttl: Option<Text>,
    /// Answers kept in this process, the least used go first; one of more than 256 bytes counts as several. Default: 100000.
    pub(super) most: Option<Located<i64>>,
}

/// What is looked at before a run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawCheck {
    /// Codes of findings that are accepted, as `howdah check` prints them: they neither stop a run nor are told at its start.
    pub(super) allow: Option<Located<RawTexts>>,
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
    /// How a statement, an index, a reindex or an analyze that cannot have a lock within `lock_timeout` is tried again.
    pub(super) lock_retry: Option<RawLockRetry>,
    /// How long a batch's statement may run. Default: ten times `batch.target`, at least twice
    /// `lock_timeout`.
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

/// How what is not a batch is tried again when others hold a lock that it needs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawLockRetry {
    /// Attempts in all. Default: 30.
    pub(super) attempts: Option<Located<i64>>,
    /// The first delay; each is twice the last, and drawn between nothing and that. Default: "1s".
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
    /// How often what is measured of the host, the process and the database is looked at. Default: "30s".
    pub(super) every: Option<Text>,
    /// Rules of one's own over the run's numbers.
    pub(super) rule: Option<Vec<Located<RawRule>>>,
}

/// One step. It has exactly one of `statement`, `backfill`, `import`, `copy`, `transform`, `files`, `index`,
/// `reindex`, `analyze` and `verify`.
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
    /// `limits.count_timeout`. With `command`: how long it may be silent while an answer is awaited; by default "30s". With
    /// `index`, `reindex` and `analyze`: the longest that it may take; by default as long as it takes.
    pub(super) timeout: Option<Text>,
    /// A table whose rows are changed batch by batch, written as in SQL.
    pub(super) backfill: Option<Text>,
    /// With `backfill`: columns, written as in SQL, and the expressions that they are set to. With `transform`: the columns
    /// that go on, and the expressions that make them.
    pub(super) set: Option<Located<BTreeMap<String, Text>>>,
    /// With `backfill`: the rows that are to be changed; the change makes it false. Counted at the end. With `copy` and
    /// `transform`: the rows that are read.
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
    /// A query; the first column of its first row is compared with `expect`. With `copy`: "count" or "checksum", how source
    /// and target are compared at the end.
    pub(super) verify: Option<Text>,
    /// With `verify`: a whole number, a text or a truth value.
    pub(super) expect: Option<Located<RawExpected>>,
    /// Files that are loaded into a table: paths, globs, directories; or "-" for the standard input.
    pub(super) import: Option<Located<RawTexts>>,
    /// With `import` and `transform`: the table that rows go into, written as in SQL.
    pub(super) into: Option<Text>,
    /// With `import`: "csv", "text" (PostgreSQL's own), "jsonl" or "parquet". With `file`: "csv" or "jsonl". Default: by the
    /// file's name.
    pub(super) format: Option<Text>,
    /// With `import` and `file`: "none", "gzip" or "zstd". Default: by the file's name.
    pub(super) compression: Option<Text>,
    /// With `import`: what stands between fields, one byte. Default: "," for CSV, a tab for text.
    pub(super) delimiter: Option<Text>,
    /// With `import` of CSV: what stands around a field, one byte. Default: '"'.
    pub(super) quote: Option<Text>,
    /// With `import` of CSV: what stands before a quote inside a field, one byte. Default: the quote.
    pub(super) escape: Option<Text>,
    /// With `import`: what stands for NULL. Default: nothing, unquoted, for CSV; '\\N' for text.
    pub(super) null: Option<Text>,
    /// With `import`: whether the first record names the fields. Default: true for CSV, false for text.
    pub(super) header: Option<Located<bool>>,
    /// With `import`: the names of the fields, in their order. Default: the header's, else the table's columns.
    pub(super) fields: Option<Located<RawTexts>>,
    /// With `import`: fields that are not loaded.
    pub(super) skip: Option<Located<RawTexts>>,
    /// With `import`: columns, written as in SQL, and expressions over the fields of the file, which are texts there. With
    /// `copy`: columns of the target, and expressions over the source.
    pub(super) columns: Option<Located<BTreeMap<String, Text>>>,
    /// With `import`: the encoding of the files, as PostgreSQL names it. Default: "utf8".
    pub(super) encoding: Option<Text>,
    /// With `into`: what happens to a row whose key is there already: "error" sets it aside, "skip" leaves it out, "update"
    /// gives its values to the row that is there. Default: "error".
    pub(super) on_conflict: Option<Text>,
    /// With `import`: the columns that conflict; by default the primary key. With a `transform` of a query: the columns of its
    /// answer that tell its rows apart.
    pub(super) key: Option<Located<RawTexts>>,
    /// With `import`: bad records are also written to `FILE.rejects`. Default: false.
    pub(super) rejects: Option<Located<bool>>,
    /// With `import`: the most bytes of a file, after decompression, in one batch. Default: "16MiB".
    pub(super) part: Option<Text>,
    /// Tables whose rows are copied, written as in SQL; or globs of them, such as "app.*".
    pub(super) copy: Option<Located<RawTexts>>,
    /// With `copy`: a `postgres://` URL of the database that the tables lie in. Default: the run's own.
    pub(super) from: Option<Text>,
    /// With `copy`: the table that the rows go into, or "schema.*" for several. Default: the same name.
    pub(super) to: Option<Text>,
    /// With `copy`: a `postgres://` URL of the database that the rows go to. Default: the run's own.
    pub(super) database: Option<Text>,
    /// With `verify` of a `copy`: ranges that differ are copied again. Default: false.
    pub(super) repair: Option<Located<bool>>,
    /// With `copy`: all workers read one snapshot. Default: false.
    pub(super) consistent: Option<Located<bool>>,
    /// A table, written as in SQL, or a query, whose rows go through `set`, `rhai` or `command` to `update`, `into` or `file`.
    pub(super) transform: Option<Text>,
    /// With `transform`: the columns that are read. Default: all.
    pub(super) read: Option<Located<RawTexts>>,
    /// With `transform` and `files`: a script in Rhai, or the path of one, ending in ".rhai".
    pub(super) rhai: Option<Text>,
    /// With `transform` and `files`: a program and its arguments.
    pub(super) command: Option<Located<RawTexts>>,
    /// With `transform`: the columns of the rows themselves that are updated.
    pub(super) update: Option<Located<RawTexts>>,
    /// With `transform`: the files that rows go into; `{n}` stands for a file's number.
    pub(super) file: Option<Text>,
    /// With `file`: a file of so many bytes is followed by another. Default: it grows.
    pub(super) rotate: Option<Text>,
    /// With `transform`: rows gather until there are so many. Default: as many as `limits.batch` and its target say.
    pub(super) batch: Option<Located<i64>>,
    /// With `transform`: rows go on once the first of them has waited for so long. Default: never early.
    pub(super) linger: Option<Text>,
    /// With `into` of a `transform`: the columns that conflict. Default: the primary key.
    pub(super) conflict_key: Option<Located<RawTexts>>,
    /// With `rhai`: the most operations for one row, or one file. Default: 1000000.
    pub(super) operations: Option<Located<i64>>,
    /// With `rhai`: the most bytes of one string. Default: "16MiB".
    pub(super) memory: Option<Text>,
    /// Files, each of which is replaced by what `rhai` or `command` makes of it: paths and globs.
    pub(super) files: Option<Located<RawTexts>>,
    /// With `files`: what the program is given at once, the whole "file" or a "line". Default: "file".
    pub(super) by: Option<Text>,
    /// With `files`: files at once, 1 to 64. Default: 4.
    pub(super) concurrency: Option<Located<i64>>,
    /// With `files`: the originals are kept, so that the step can be undone. Default: false.
    pub(super) backup: Option<Located<bool>>,
    /// An index that is built CONCURRENTLY, and taken back by `howdah undo`.
    pub(super) index: Option<Located<RawIndex>>,
    /// An index that is built anew CONCURRENTLY, written as in SQL; or a table with `index` or `table`.
    pub(super) reindex: Option<Located<RawReindex>>,
    /// Tables whose statistics are gathered, written as in SQL: `users`, `users (email, name)`.
    pub(super) analyze: Option<Located<RawTexts>>,
}

/// An index.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawIndex {
    /// The table and what is indexed, as in SQL: `users (email)`, `app.users (lower(email), id DESC)`.
    #[schemars(required)]
    pub(super) on: Option<Text>,
    /// Its name, written as in SQL, without a schema. Default: made of the table and its columns.
    pub(super) name: Option<Text>,
    /// No two rows are equal in it. Default: false.
    pub(super) unique: Option<Located<bool>>,
    /// Its access method, such as "gin". Default: "btree".
    pub(super) method: Option<Text>,
    /// Columns that are kept in it beside its key, written as in SQL.
    pub(super) include: Option<Located<RawTexts>>,
    /// The rows that are indexed. Default: all.
    #[serde(rename = "where")]
    pub(super) filter: Option<Text>,
    /// Storage parameters, such as `fillfactor`.
    pub(super) with: Option<Located<BTreeMap<String, Located<RawExpected>>>>,
    /// Its tablespace. Default: the database's.
    pub(super) tablespace: Option<Text>,
    /// It is dropped once the plan has succeeded. Default: false.
    pub(super) during: Option<Located<bool>>,
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
