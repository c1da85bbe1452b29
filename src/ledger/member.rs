//! A process that has joined a run: its place in the ledger, its heartbeat, its leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection, Row};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::open::Driver;
use super::record::{number, segment};
use super::shares::{COLUMNS, failed};
use crate::engine::ports::{Ledger, Pulse, StepError};
use crate::engine::sharing::{Lead, Leases, NUMBERS, Report, Standing, Wish};
use crate::postgres::deadline::on_pool;
use crate::postgres::error;
use crate::run::member::LEASE;
use crate::run::{
    Answered, Asker, Cause, Command, Event, Level, Request, RunId, RunState, Segment, SegmentNo, Snapshot, StepIndex,
    StepView,
};

/// How often it says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A driver that was not heard for so long may be gone, and nobody steers: members wait.
const SILENT: f64 = 15.0;

/// A process's place in a run that it has joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The run.
    pub run: RunId,
    /// The epoch of the driver under whom it joined.
    pub epoch: i64,
    /// Its number in the ledger.
    pub member: i64,
    /// Its number among all that ever joined the run, from 1.
    pub place: u32,
}

/// Joins a run that is driven.
///
/// # Errors
/// Nobody drives it; it is over.
pub async fn join(connection: &mut PgConnection, run: RunId, here: &Driver, workers: u32) -> Result<Place, Cause> {
    let wrong = |e: sqlx::Error| error::cause("joining the run", &e);
    let driven = super::runs::is_driven(connection, run).await.map_err(wrong)?;
    let (state, epoch): (String, i64) = sqlx::query_as("SELECT state, epoch FROM howdah.run WHERE id = $1")
        .bind(run.0)
        .fetch_one(&mut *connection)
        .await
        .map_err(wrong)?;
    if state == "done" || state == "superseded" {
        return Err(Cause::usage(format!("run {} is {state}: there is nothing to join", run.short())));
    }
    // Whoever takes it over has the lock a moment before it goes on.
    if !driven || state == "stopped" || state == "failed" {
        return Err(Cause::new(format!("nobody drives run {}: it can be joined once somebody does", run.short()))
            .hint(format!("go on with it: howdah resume {}", run.short()))
            .busy());
    }
    let insert = async {
        let mut tx = connection.begin().await?;
        sqlx::query("SELECT FROM howdah.run WHERE id = $1 FOR NO KEY UPDATE").bind(run.0).execute(&mut *tx).await?;
        let (member, place): (i64, i32) = sqlx::query_as(
            "INSERT INTO howdah.member (run, epoch, place, host, pid, workers) \
             SELECT $1, $2, coalesce(max(place), 0) + 1, $3, $4, $5 FROM howdah.member WHERE run = $1 \
             RETURNING member, place",
        )
        .bind(run.0)
        .bind(epoch)
        .bind(&here.host)
        .bind(i32::try_from(here.pid).unwrap_or(0))
        .bind(number(workers))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Place { run, epoch, member, place: u32::try_from(place).unwrap_or(1) })
    };
    insert.await.map_err(wrong)
}

/// A member of a run.
pub struct Membership {
    pool: PgPool,
    place: Place,
    /// Steps that another process can help with.
    joinable: Vec<bool>,
    set_aside: Arc<AtomicU64>,
    /// The number of the next segment that this member cuts off.
    next: AtomicU32,
    standing: watch::Sender<Standing>,
    report: watch::Sender<Report>,
    soon: Notify,
    lost: watch::Sender<Option<Cause>>,
    closing: CancellationToken,
}

impl Membership {
    /// The membership, whose heartbeat is [`Membership::keep`]. `joinable`: by step, whether another process can help with it.
    #[must_use]
    pub fn new(pool: PgPool, place: Place, joinable: Vec<bool>, set_aside: Arc<AtomicU64>) -> Arc<Self> {
        let lead = Lead::Wait("waiting for the driver".to_owned());
        Arc::new(Self {
            pool,
            place,
            joinable,
            set_aside,
            next: AtomicU32::new(place.place.saturating_mul(NUMBERS)),
            standing: watch::Sender::new(Standing { lead, wish: Wish { rests: true, shares: false }, wish_no: 0 }),
            report: watch::Sender::new(Report::default()),
            soon: Notify::new(),
            lost: watch::Sender::new(None),
            closing: CancellationToken::new(),
        })
    }

    /// Whether the run was another driver's, or this member was taken for gone: it may join again.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Says once a second that this process lives, and hears what is to be done. Until the membership is closed.
    pub async fn keep(self: Arc<Self>) {
        let mut heard = tokio::time::Instant::now();
        loop {
            match on_pool(&self.pool, LIMIT, async |connection| self.beat(connection).await).await {
                Ok(Some(standing)) => {
                    heard = tokio::time::Instant::now();
                    self.standing.send_if_modified(|now| {
                        let is_new = *now != standing;
                        if is_new {
                            *now = standing;
                        }
                        is_new
                    });
                }
                Ok(None) => {
                    let cause = Cause::new("the run has another driver now, or this process was taken for gone").busy();
                    self.lost.send_replace(Some(cause));
                    return;
                }
                Err(e) => {
                    tracing::warn!("a heartbeat was not written: {e}");
                    // What it held may be the driver's again: nothing new is begun.
                    if heard.elapsed() > LEASE {
                        let lead = Lead::Wait("the database does not answer".to_owned());
                        let wish = Wish { rests: true, shares: false };
                        self.standing.send_modify(|now| (now.lead, now.wish) = (lead, wish));
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                () = self.soon.notified() => {}
                () = tokio::time::sleep(self.rest()) => {}
            }
        }
    }

    /// Who waits for work asks more often.
    fn rest(&self) -> Duration {
        match self.standing.borrow().lead {
            Lead::Wait(_) => HEARTBEAT / 4,
            Lead::Help { .. } | Lead::Over(_) => HEARTBEAT,
        }
    }

    async fn beat(&self, connection: &mut PgConnection) -> Result<Option<Standing>, sqlx::Error> {
        let report = *self.report.borrow();
        let row = sqlx::query(
            "WITH me AS (UPDATE howdah.member SET heartbeat = clock_timestamp(), is_dry = $2, rested = $3, workers = $4 \
                 WHERE member = $1 AND left_at IS NULL RETURNING run, epoch, rests, shares, wish) \
             SELECT me.rests, me.shares, me.wish, r.epoch = me.epoch AS ours, r.state, s.step, s.sweep, s.name, \
                    extract(epoch FROM clock_timestamp() - r.heartbeat)::float8 AS silent, \
                    (SELECT count(*) FROM howdah.quarantine q WHERE q.run = r.id AND q.resolved_at IS NULL) AS aside \
             FROM me JOIN howdah.run r ON r.id = me.run \
             LEFT JOIN howdah.step s ON s.run = r.id AND s.state = 'running' ORDER BY s.step LIMIT 1",
        )
        .bind(self.place.member)
        .bind(report.is_dry)
        .bind(report.rested)
        .bind(number(report.workers))
        .fetch_optional(connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let state: String = row.try_get("state")?;
        let over = ["done", "stopped", "failed", "superseded"].contains(&state.as_str());
        let wish = Wish { rests: row.try_get("rests")?, shares: row.try_get("shares")? };
        let wish_no: i64 = row.try_get("wish")?;
        if over {
            // Nobody wants anything any more.
            return Ok(Some(Standing { lead: Lead::Over(state), wish: Wish::default(), wish_no }));
        }
        if !row.try_get::<bool, _>("ours")? {
            return Ok(None);
        }
        let aside: i64 = row.try_get("aside")?;
        self.set_aside.fetch_max(aside.max(0).cast_unsigned(), Ordering::Relaxed);
        if row.try_get::<f64, _>("silent")? > SILENT {
            let lead = Lead::Wait("the driver of the run is not heard".to_owned());
            return Ok(Some(Standing { lead, wish: Wish { rests: true, ..wish }, wish_no }));
        }
        if wish_no == 0 && wish.rests {
            let lead = Lead::Wait("the driver has not seen this process yet".to_owned());
            return Ok(Some(Standing { lead, wish, wish_no }));
        }
        Ok(Some(Standing { lead: self.lead(&row)?, wish, wish_no }))
    }

    fn lead(&self, row: &sqlx::postgres::PgRow) -> Result<Lead, sqlx::Error> {
        let step: Option<i32> = row.try_get("step")?;
        let Some(step) = step.and_then(|step| u32::try_from(step).ok()) else {
            return Ok(Lead::Wait("the driver is between two steps".to_owned()));
        };
        let name: String = row.try_get("name")?;
        let sweep = u32::try_from(row.try_get::<i32, _>("sweep")?).unwrap_or(0);
        let joinable = self.joinable.get(step as usize).copied().unwrap_or(false);
        Ok(match (joinable, sweep) {
            (false, _) => Lead::Wait(format!("step `{name}` is its driver's alone")),
            (true, 0) => Lead::Wait(format!("step `{name}` is being planned")),
            (true, sweep) => Lead::Help { step: StepIndex(step), sweep },
        })
    }

    /// Does what the driver wants: pauses and goes on with it, and says when nothing is open here.
    pub async fn heed(self: Arc<Self>, mut snapshots: watch::Receiver<Arc<Snapshot>>, requests: mpsc::Sender<Request>) {
        let mut standing = self.standing.subscribe();
        loop {
            let (rests, no, over) = {
                let now = standing.borrow_and_update();
                let over = matches!(&now.lead, Lead::Over(state) if state != "done");
                (now.wish.rests, now.wish_no, over)
            };
            let (state, workers) = {
                let snapshot = snapshots.borrow_and_update();
                (snapshot.state.clone(), snapshot.pace.wanted)
            };
            // Not seen by the driver yet, it has no segment, and opens no batch.
            let (rests, unseen) = (rests && no != 0, no == 0);
            // The governor's pause ends by itself: it must become the driver's.
            let still = state.is_over() || matches!(state, RunState::Paused { by, .. } if by != Asker::Governor);
            let rested = (unseen || rests && still).then_some(no);
            self.report(&|report| (report.rested, report.workers) = (rested, workers));
            let wanted = match &state {
                // It was stopped, or has failed: at the batch's edge, wherever the workers stand.
                RunState::Running | RunState::Pausing { .. } | RunState::Paused { .. } | RunState::Resuming { .. }
                    if over =>
                {
                    Some(Command::Stop)
                }
                RunState::Running | RunState::Paused { by: Asker::Governor, .. } if rests => Some(Command::Pause),
                RunState::Paused { by: Asker::Driver, .. } if !rests => Some(Command::Continue),
                _ => None,
            };
            if let Some(command) = wanted {
                drop(requests.try_send(Request::new(command, Asker::Driver)));
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                changed = standing.changed() => if changed.is_err() { return },
                changed = snapshots.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[async_trait]
impl Leases for Membership {
    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    fn report(&self, change: &dyn Fn(&mut Report)) {
        let changed = self.report.send_if_modified(|report| {
            let before = *report;
            change(report);
            *report != before
        });
        if changed {
            self.soon.notify_one();
        }
    }

    fn first_number(&self) -> SegmentNo {
        SegmentNo(self.next.load(Ordering::Relaxed))
    }

    fn numbered(&self, next: SegmentNo) {
        self.next.fetch_max(next.0, Ordering::Relaxed);
    }

    async fn lease(&self, step: StepIndex, sweep: u32) -> Result<Option<Segment>, StepError> {
        let work = async |connection: &mut PgConnection| {
            // From the far end, so that the driver and its members do not meet.
            let row = sqlx::query(sqlx::AssertSqlSafe(format!(
                "UPDATE howdah.segment s SET epoch = -$5, updated_at = now() FROM \
                     (SELECT segment FROM howdah.segment WHERE run = $1 AND step = $2 AND sweep = $3 AND epoch = $4 \
                      AND NOT done AND NOT is_taken ORDER BY segment DESC LIMIT 1 FOR UPDATE SKIP LOCKED) free \
                 WHERE s.run = $1 AND s.step = $2 AND s.sweep = $3 AND s.segment = free.segment \
                 AND EXISTS (SELECT FROM howdah.member WHERE member = $5 AND left_at IS NULL AND NOT rests) RETURNING {COLUMNS}"
            )))
            .bind(self.place.run.0)
            .bind(number(step.0))
            .bind(number(sweep))
            .bind(self.place.epoch)
            .bind(self.place.member)
            .fetch_optional(connection)
            .await?;
            row.as_ref().map(segment).transpose()
        };
        on_pool(&self.pool, LIMIT, work).await.map_err(|e| failed(&e))
    }

    async fn release(&self, step: StepIndex, one: &Segment) -> Result<(), StepError> {
        let work = async |connection: &mut PgConnection| {
            sqlx::query(
                "UPDATE howdah.segment SET epoch = $6, is_taken = false \
                 WHERE run = $1 AND step = $2 AND sweep = $3 AND segment = $4 AND epoch = -$5 AND NOT done",
            )
            .bind(self.place.run.0)
            .bind(number(step.0))
            .bind(number(one.sweep))
            .bind(number(one.no.0))
            .bind(self.place.member)
            .bind(self.place.epoch)
            .execute(connection)
            .await
            .map(drop)
        };
        on_pool(&self.pool, LIMIT, work).await.map_err(|e| failed(&e))
    }
}

/// The run's state, its steps and their times are the driver's to write. A member's troubles stand in the run's record as well.
#[async_trait]
impl Ledger for Membership {
    async fn step_started(&self, _: StepIndex) -> Result<(), StepError> {
        Ok(())
    }

    async fn step_ended(&self, _: StepIndex, _: &StepView) -> Result<(), StepError> {
        Ok(())
    }

    async fn step_failed(&self, _: StepIndex, _: &Cause) -> Result<(), StepError> {
        Ok(())
    }

    async fn run_state(&self, _: &RunState, _: Pulse) -> Result<(), StepError> {
        Ok(())
    }

    fn pulse(&self, _: Pulse) {}

    async fn event(&self, event: &Event) -> Result<(), Cause> {
        if event.level < Level::Warning {
            return Ok(());
        }
        on_pool(&self.pool, LIMIT, async |connection| {
            sqlx::query(
                "INSERT INTO howdah.event (run, at, level, kind, text) SELECT run, $2, $3, $4, host || ':' || pid || ': ' || $5 \
                 FROM howdah.member WHERE member = $1",
            )
            .bind(self.place.member)
            .bind(event.at)
            .bind(event.level.word().to_lowercase())
            .bind(event.kind.name())
            .bind(event.text.replace('\0', ""))
            .execute(connection)
            .await
            .map(drop)
        })
        .await
        .map_err(|e| error::cause("writing an event", &e))
    }

    async fn command(&self, _: &Answered) -> Result<(), Cause> {
        Ok(())
    }

    async fn errand(&self, _: &Command) -> Result<String, Cause> {
        Err(Cause::new("ask the console of the run for that"))
    }

    fn lost(&self) -> watch::Receiver<Option<Cause>> {
        self.lost.subscribe()
    }

    async fn close(&self) {
        self.closing.cancel();
        let leave = async |connection: &mut PgConnection| {
            let mut tx = connection.begin().await?;
            sqlx::query(
                "UPDATE howdah.segment SET epoch = $3, is_taken = false WHERE run = $1 AND epoch = -$2 AND NOT done",
            )
            .bind(self.place.run.0)
            .bind(self.place.member)
            .bind(self.place.epoch)
            .execute(&mut *tx)
            .await?;
            sqlx::query("UPDATE howdah.member SET left_at = now() WHERE member = $1 AND left_at IS NULL")
                .bind(self.place.member)
                .execute(&mut *tx)
                .await?;
            tx.commit().await
        };
        if let Err(e) = on_pool(&self.pool, Duration::from_secs(3), leave).await {
            tracing::warn!("leaving the run could not be written down: {e}");
        }
    }
}
