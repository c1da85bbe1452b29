//! howdah runs large PostgreSQL data migrations on a background task and shows them in a terminal console.
//!
//! Three words decide every choice: **exact** (a row's change and its record commit together), **gentle** (it slows down
//! before anyone notices), **honest** (never a wrong "done", never a wrong ETA).
//!
//! # The map
//!
//! | folder | what is in it |
//! | --- | --- |
//! | [`run`] | what a run *is*: ids, states, commands, events, snapshots, progress, timers, the report. Pure |
//! | [`plan`] | the plan file: read, checked, with the place of every mistake |
//! | [`engine`] | runs a plan: steps in order, workers over segments, states, governor, breaker, retries. Knows no database; defines the traits ([`engine::ports`]) |
//! | [`steps`] | what each kind of step does: `statement`, `index`, `reindex`, `analyze`, `backfill`, `import`, `copy`, `transform`, `files`, `verify`; keyspace, undo, quarantine, the governor's gauges |
//! | [`postgres`] | connecting, quoting, keys and walks, error classes, catalog, statistics, signals |
//! | [`check`] | what would happen, what stands against it, what it would cost: before a run |
//! | [`ledger`] | schema `howdah` of the target database: what is done, by whom, how far |
//! | [`monitor`] | samples the host, the process and the database; alerts, and who is told of them; metrics for Prometheus |
//! | [`redis`] | where Redis is, and how it is reached |
//! | [`queue`] | plans waiting on Redis for worker hosts |
//! | [`cache`] | cached look-ups of scripts: in process, and on Redis |
//! | [`report`] | what a run did, to be looked at: charts, one HTML file, two runs side by side |
//! | [`console`] | the terminal UI: draws snapshots, turns keys into commands |
//! | [`sandbox`] | a private throwaway PostgreSQL for the demo and the tests |
//! | [`cli`] | the command line; wires everything |
//!
//! # The way of a batch
//!
//! ```text
//!  keys, signals --> console --Command--> engine::handle --> engine::runner --> steps::backfill --> PostgreSQL
//!                       ^                      |
//!                       +--- Snapshot (watch) -+--> Event (broadcast): log, headless output, ledger
//! ```
//!
//! [`engine::pool`] runs as many workers as are wanted over the segments in the [`engine::yard`]. A worker passes the
//! [`engine::turnstile`] (run's state, governor, breaker, number of workers), asks [`engine::batch_size`] for a number of rows
//! and the step for a batch of them. The step opens a transaction, finds the boundary's key, changes the rows up to it, moves
//! the segment's cursor in [`ledger::record`], and commits. What a crash leaves is all of that or none of it.
//!
//! A batch that fails is classed by its SQLSTATE in one table ([`postgres::sqlstate`]). What passes goes back through the
//! turnstile after a rest, and the worker first *recovers*: a connection that works, the backend that was left behind ended,
//! the segment as the ledger has it (a commit whose answer was lost may have come about). Wrong rows are halved down to and set
//! aside in the batch's own transaction. A segment is split only by the worker that walks it, between two batches.
//!
//! What an operator asks for is a [`run::Request`]: from the console of the process that drives the run by a channel, from
//! elsewhere by a row of `howdah.command` ([`ledger::commands`]), which the driver hears once ([`ledger::relay`]). Each is answered
//! ([`engine::orders`]) on the screen and in the record. The relay also writes the newest snapshot for consoles elsewhere, which
//! read it back ([`ledger::viewing`], [`cli::attach`]). What a console looks up beside it comes from its own desk ([`cli::desk`]).
//!
//! A run may have members: processes that have joined it ([`engine::sharing`], [`engine::following`]) and lease segments of the
//! sweep under way. Whose a segment is stands in the ledger as a mark, and whoever moves its cursor names its own mark in the
//! change's transaction ([`ledger::shares`], [`ledger::member`]). A member that is not heard of loses its marks; what it commits
//! later is refused.
//!
//! A job of the [`queue`] is a run whose id follows from the job, so that whoever takes the job again resumes the run.
//!
//! Before it begins, the cheap part of the [`check`] looks at rights and tables beside the step's own preflight. While it goes on, the
//! relay also keeps the run's diary ([`ledger::diary`]): at most 2,000 samples ([`run::sample`]) and what outlives a driver
//! ([`run::summary`]); reports read it ([`run::dossier`]). Every number that a snapshot holds has one name ([`run::metric`]), by which
//! alert rules and Prometheus know it.
//!
//! A run that takes another back ([`cli::undoing`]) is a run like any other: its steps walk undo logs, newest first.
//!
//! # Invariants, as absences
//!
//! - [`run`] does no I/O and asks no clock.
//! - [`engine`] and [`console`] know no SQL; [`console`] knows no engine, no clock, no environment.
//! - Nothing but `console::terminal` writes to the terminal while a console is open.
//! - No change of a backfill commits without its cursor, and no cursor without its epoch: a driver that was replaced is
//!   refused by the `WHERE` of its own record.
//! - No future that is inside a transaction is dropped and its connection used again. A run stops by message, at a batch's
//!   edge; a long statement is cancelled by asking the server. Only a deadline on a round trip gives a connection up, with all
//!   that is on it.
//! - No command of another process is carried out twice, by a driver that was replaced, or half a minute after it was asked for.
//! - No two runs that are driven change one table, and none is begun to find out: `ledger::runs::in_the_way`.
//! - The check changes nothing; what it asks before a run is asked beside it, has a deadline, and is left out when that passes. A
//!   rehearsal commits nothing; WAL, dead rows, sequences and effects outside the transaction are not taken back, and it says so first.
//! - No index is dropped as the run's own that does not carry its mark or its working name.
//! - Nobody who is told of an alert, no scrape and no sample is on the way of a batch; no error, log line or ledger row holds a
//!   recipient's address, key or headers.
//! - No report asks anything of a network.
//! - Nothing but the queue needs Redis; what Redis says protects no row.
//! - Nothing that consoles elsewhere need is on the way of a batch: the relay has connections of its own, and what fails there is
//!   tried again.
//! - No batch opens before the governor has read its signals once, and none while one with a limit cannot be read.
//! - No identifier is quoted but by [`postgres::ident::quote`]; no text from outside is shown but through
//!   [`run::text::clean`]; no password is printed: addresses are shown by [`postgres::dsn::Target::label`].
//!
//! `tests/it/architecture.rs` holds the arrows between the folders in place.
//!
//! # Where the code departs from the blueprint
//!
//! - The traits that steps and ledger implement live in [`engine::ports`]; what must be written in the change's own
//!   transaction is a trait of its own, [`postgres::record::Recorder`].
//! - The console reads keys by a thread of its own and not by crossterm's `EventStream`, which spins on a terminal that hung up.
//! - A batch's boundary is looked for while the batch before it is being changed, on a second connection. It is still an
//!   ordered, explicit key, and the change is still by range in one transaction with its cursor.
//! - A lock that another session holds (55P03), a lack of resources (53xxx) and a lost connection do not use up a batch's
//!   attempts: they are waited out. A step that is one thing asks for its locks as often as `limits.lock_retry` says. A trigger's own refusal (P0001) counts as wrong data.
//! - The breaker is a pure state machine of our own, so that it can be tested by values and closed by hand.
//! - What is not a batch (a statement, the plan of a sweep, the count at the end) is waited out without the breaker: it is
//!   one thing, tried again with its own delays.
//! - Dead rows hold a run back only where `vacuum` says what is to be done about them; a signal without limits is not read.
//! - An undo goes segment by segment where a log holds a row more than once.
//! - SIGTERM ends with exit code 3, as everything that can be resumed.
//! - `control` is used in the place of `url`: howdah needs sessions of its own everywhere.
//! - An undo log compares rows byte by byte, and is indexed only when it is walked back.
//! - The driver writes its snapshot once a second only while somebody watches, else every five seconds.
//! - A pause of the governor's that somebody asks for as well becomes theirs, and no longer ends by itself.
//! - A batch's `statement_timeout` is at least twice `lock_timeout`, so that a wait for a lock ends as one.
//! - The retries of a job are delayed by us, with a cap and full jitter, and stored as BullMQ's own `exponential`.
//! - `howdah run` refuses a plan whose table another run changes; in the queue a job waits in line for it.
//! - With a ledger on Redis a batch's commit waits for the disk: its cursor lies elsewhere, and must never be ahead of its rows.
//! - Redirects of webhooks are not followed. A pause by an alert is an ordinary request, and does not end by itself.
//! - Metrics are told in Prometheus's text format, which the node exporter's textfile collector reads; OpenMetrics to who asks for it.
//! - `{batch}` of a raw statement also carries the step's `where`, so that a second sweep changes no row twice.

pub mod cache;
pub mod check;
pub mod cli;
pub mod console;
pub mod engine;
pub mod ledger;
pub mod monitor;
pub mod plan;
pub mod postgres;
pub mod queue;
pub mod redis;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod steps;
