//! The record of changes, kept on Redis: at least once.
//!
//! In a batch's transaction it is only made sure that the run is ours and the segment stands where the batch found it. What is
//! to be written is kept in mind, and goes to Redis once the transaction has committed. Where Redis does not answer then, it is
//! kept in mind further, and written when the worker recovers: only a crash of this process, or of Redis, makes a batch run
//! twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use redis::cmd;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;

use super::fence::{self, Fate, Transaction};
use super::keys::{self, Keys, mark, of_row, of_segment, of_step, pack, unpack};
use super::notes::{Hash, Notes, Writes};
use crate::engine::failpoint;
use crate::postgres::record::{AsideRow, FileRow, RecordError, Recorder, Resolution, SetAside, Sweeps};
use crate::postgres::session;
use crate::run::{Advance, Cause, KeyText, RunId, Segment, SegmentNo, StepIndex, Trouble};

/// What was recorded: a segment of a step, by its sweep and number; or the step itself.
type Place = (StepIndex, Option<(u32, SegmentNo)>);

/// What is to be written once a transaction has committed.
#[derive(Debug, Clone)]
struct Pending {
    transaction: Transaction,
    /// Whether it is known to have committed.
    committed: bool,
    writes: Writes,
}

/// A row that is set aside, as Redis keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptRow {
    /// The row as it was, as JSON.
    pub row: Option<String>,
    /// The error's SQLSTATE.
    pub sqlstate: Option<String>,
    /// The error in words.
    pub message: String,
    /// How often its change was tried.
    pub attempts: u32,
    /// When it failed last.
    pub at: DateTime<Utc>,
}

/// Rows that one transaction is about to set aside, by step and field.
#[derive(Debug)]
struct Aside {
    transaction: Transaction,
    rows: BTreeMap<(StepIndex, String), KeptRow>,
}

/// Writes under one driver's epoch.
pub struct RedisRecorder {
    notes: Notes,
    pending: Mutex<HashMap<Place, Pending>>,
    /// By the backend whose transaction it is.
    aside: Mutex<HashMap<i32, Aside>>,
}

fn place(step: StepIndex, segment: Option<&Segment>) -> Place {
    (step, segment.map(|segment| (segment.sweep, segment.no)))
}

impl RedisRecorder {
    /// Of a run that this process drives.
    #[must_use]
    pub fn new(notes: Notes) -> Self {
        Self { notes, pending: Mutex::default(), aside: Mutex::default() }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<Place, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aside(&self) -> MutexGuard<'_, HashMap<i32, Aside>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is pending for `place`, which has committed. It stays pending while Redis is away.
    async fn settle(&self, place: Place) -> Result<(), RecordError> {
        let Some(writes) = self.pending().get(&place).map(|pending| pending.writes.clone()) else { return Ok(()) };
        failpoint::hit("cursor.moving");
        let written = self.notes.write(place.0, &writes).await;
        if !matches!(written, Err(RecordError::Store(Some(_), _))) {
            self.pending().remove(&place);
        }
        written?;
        failpoint::hit("cursor.moved");
        Ok(())
    }

    /// After a failure: writes what is pending for `place` where its transaction has committed, forgets it where not.
    async fn find_out(&self, connection: &mut PgConnection, place: Place) -> Result<(), RecordError> {
        let Some(pending) = self.pending().get(&place).cloned() else { return Ok(()) };
        if !pending.committed {
            match fence::fate(connection, pending.transaction.number).await? {
                Fate::Committed => {}
                Fate::Lost => {
                    self.pending().remove(&place);
                    return Ok(());
                }
                Fate::Open => {
                    let cause = Cause::new("the batch whose answer was lost has not come to its end yet");
                    return Err(RecordError::Store(Some(Trouble::Transient), cause));
                }
            }
        }
        match self.settle(place).await {
            // Its own answer was lost; or Redis has lost more than that, and the batch runs again.
            Err(RecordError::Already) => Ok(()),
            other => other,
        }
    }

    /// Takes the fence, makes sure that what `checks` says holds, and keeps `writes` in mind.
    async fn prepare(
        &self,
        tx: &mut PgConnection,
        place: Place,
        checks: Writes,
        writes: impl FnOnce(Writes, Option<Aside>) -> Writes,
    ) -> Result<(), RecordError> {
        let transaction = fence::share(tx, self.notes.run).await?;
        self.notes.write(place.0, &checks).await?;
        let aside = self.aside().remove(&transaction.backend).filter(|aside| aside.transaction == transaction);
        let pending = Pending { transaction, committed: false, writes: writes(checks, aside) };
        self.pending().insert(place, pending);
        Ok(())
    }

    async fn segments(&self, keys: &Keys, step: StepIndex) -> Result<Vec<Segment>, RecordError> {
        let kept: Vec<String> = self.notes.ask(cmd("HVALS").arg(keys.segments(step))).await?;
        segments(&kept).map_err(|cause| RecordError::Store(None, cause))
    }

    async fn rows(&self, step: StepIndex) -> Result<HashMap<String, String>, RecordError> {
        self.notes.ask(cmd("HGETALL").arg(self.notes.keys.aside(step))).await
    }

    fn cannot(what: &str) -> RecordError {
        RecordError::Store(None, Cause::usage(format!("{what} needs a ledger in the target database")))
    }
}

/// The order of keys, as schema `howdah` has it: shorter ones first, so that whole numbers come by their size.
pub(super) fn order(key: &KeyText) -> (usize, KeyText) {
    (key.first().map_or(0, |first| first.chars().count()), key.clone())
}

/// The segments of a step, in order, from what is kept of them.
///
/// # Errors
/// Another version has written them in a way that this one does not know.
pub fn segments(kept: &[String]) -> Result<Vec<Segment>, Cause> {
    let unknown = || {
        Cause::new("a segment lies on Redis in a form that this howdah does not know")
            .hint("use the howdah that began the run, or a newer one")
    };
    let mut segments: Vec<Segment> =
        kept.iter().map(|value| unpack(value)).collect::<Option<_>>().ok_or_else(unknown)?;
    segments.sort_by_key(|segment| (segment.sweep, segment.no.0));
    Ok(segments)
}

#[async_trait]
impl Recorder for RedisRecorder {
    fn epoch(&self) -> i64 {
        self.notes.epoch
    }

    /// The cursor must not be ahead of the rows after a crash of the server.
    fn begin(&self) -> &'static str {
        session::DURABLE
    }

    async fn committed(&self, step: StepIndex, segment: Option<&Segment>) -> Result<(), RecordError> {
        let place = place(step, segment);
        if let Some(pending) = self.pending().get_mut(&place) {
            pending.committed = true;
        }
        match self.settle(place).await {
            // Written before, and its answer was lost: nobody else writes a step down.
            Err(RecordError::Already) if segment.is_none() => Ok(()),
            other => other,
        }
    }

    async fn keys_set_aside(&self, step: StepIndex, part: &str) -> Result<Option<Vec<KeyText>>, RecordError> {
        let fields: Vec<String> = self.notes.ask(cmd("HKEYS").arg(self.notes.keys.aside(step))).await?;
        let rows = fields.iter().filter_map(|field| keys::row_of(field));
        let mut keys: Vec<KeyText> = rows.filter(|(of, _)| of == part).map(|(_, key)| key).collect();
        keys.sort();
        Ok(Some(keys))
    }

    async fn advance(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
        advance: &Advance,
    ) -> Result<(), RecordError> {
        let (field, mut after) = (of_segment(segment), segment.clone());
        after.apply(advance);
        let checks = Writes::default().only_if_at(&field, mark(segment));
        let writes = move |checks: Writes, aside: Option<Aside>| {
            let mut writes = checks.set(Hash::Segments, field, pack(&after));
            for ((_, field), row) in aside.map(|aside| aside.rows).unwrap_or_default() {
                writes = writes.set(Hash::Aside, field, json(&row));
            }
            writes
        };
        self.prepare(tx, place(step, Some(segment)), checks, writes).await
    }

    async fn sweeps(&self, _connection: &mut PgConnection, step: StepIndex) -> Result<Sweeps, RecordError> {
        let segments = self.segments(&self.notes.keys, step).await?;
        let fields = [of_step(step, "foretold"), of_step(step, "walk")];
        let (foretold, walk): (Option<u64>, Option<String>) =
            self.notes.ask(cmd("HMGET").arg(self.notes.keys.steps()).arg(&fields)).await?;
        Ok(Sweeps { segments, foretold, walk })
    }

    /// Nothing of it is in the transaction, so it is written at once.
    async fn add_sweep(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segments: &[Segment],
        foretold: Option<u64>,
        walk: &str,
    ) -> Result<(), RecordError> {
        fence::share(tx, self.notes.run).await?;
        let mut writes = Writes::default();
        for segment in segments {
            writes = writes.only_if_new(Hash::Segments, of_segment(segment));
        }
        let field = |name| of_step(step, name);
        writes = match foretold {
            Some(rows) => writes.set(Hash::Steps, field("foretold"), rows.to_string()),
            None => writes.drop(Hash::Steps, field("foretold")),
        };
        writes = writes.set(Hash::Steps, field("walk"), walk);
        for segment in segments {
            writes = writes.set(Hash::Segments, of_segment(segment), pack(segment));
        }
        match self.notes.write(step, &writes).await {
            // Its answer was lost: it is planned already, the same or a little otherwise.
            Err(RecordError::Already) => Ok(()),
            other => other,
        }
    }

    async fn is_ours(&self, _connection: &mut PgConnection) -> Result<bool, RecordError> {
        match self.notes.write(StepIndex(0), &Writes::default()).await {
            Ok(()) => Ok(true),
            Err(RecordError::Fenced) => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn segment(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
    ) -> Result<Option<Segment>, RecordError> {
        self.find_out(connection, place(step, Some(segment))).await?;
        if !self.is_ours(connection).await? {
            return Ok(None);
        }
        let keys = &self.notes.keys;
        let kept: Option<String> =
            self.notes.ask(cmd("HGET").arg(keys.segments(step)).arg(of_segment(segment))).await?;
        let found = segments(kept.as_slice()).map_err(|cause| RecordError::Store(None, cause))?;
        Ok(found.into_iter().next())
    }

    async fn walked_by(
        &self,
        _connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
    ) -> Result<Vec<Segment>, RecordError> {
        self.segments(&Keys::new(self.notes.link.address(), run), step).await
    }

    /// Nothing of it is in the transaction, so it is written at once.
    async fn split(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
        rest: &Segment,
    ) -> Result<(), RecordError> {
        fence::share(tx, self.notes.run).await?;
        let kept = Segment { upper: rest.lower.clone(), ..segment.clone() };
        let writes = Writes::default()
            .only_if_at(of_segment(segment), mark(segment))
            .only_if_new(Hash::Segments, of_segment(rest))
            .set(Hash::Segments, of_segment(segment), pack(&kept))
            .set(Hash::Segments, of_segment(rest), pack(rest));
        self.notes.write(step, &writes).await
    }

    async fn set_aside(&self, tx: &mut PgConnection, step: StepIndex, row: &SetAside) -> Result<bool, RecordError> {
        let transaction = fence::transaction(tx).await?;
        let field = of_row(row.part.as_deref(), &row.key);
        let kept: Option<String> = self.notes.ask(cmd("HGET").arg(self.notes.keys.aside(step)).arg(&field)).await?;
        let before: Option<KeptRow> = kept.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let now = KeptRow {
            row: row.row.clone().or_else(|| before.as_ref().and_then(|before| before.row.clone())),
            sqlstate: row.sqlstate.clone(),
            message: row.message.replace('\0', ""),
            attempts: before.map_or(1, |before| before.attempts.saturating_add(1)),
            at: Utc::now(),
        };
        let mut all = self.aside();
        let aside = all.entry(transaction.backend).or_insert_with(|| Aside { transaction, rows: BTreeMap::new() });
        if aside.transaction != transaction {
            // That of a former transaction of this backend, which was rolled back.
            *aside = Aside { transaction, rows: BTreeMap::new() };
        }
        let again = aside.rows.insert((step, field), now).is_some();
        Ok(kept.is_none() && !again)
    }

    async fn hold(&self, tx: &mut PgConnection) -> Result<(), RecordError> {
        fence::share(tx, self.notes.run).await?;
        self.notes.write(StepIndex(0), &Writes::default()).await
    }

    async fn claim(&self, _tx: &mut PgConnection, _row: &AsideRow) -> Result<bool, RecordError> {
        Err(Self::cannot("trying rows again that are set aside"))
    }

    async fn kept(&self, _tx: &mut PgConnection, row: &AsideRow) -> Result<Option<String>, RecordError> {
        let field = of_row(row.part.as_deref(), &row.key);
        let kept: Option<String> = self.notes.ask(cmd("HGET").arg(self.notes.keys.aside(row.step)).arg(field)).await?;
        let kept: Option<KeptRow> = kept.and_then(|text| serde_json::from_str(&text).ok());
        Ok(kept.and_then(|kept| kept.row))
    }

    async fn resolve(&self, _tx: &mut PgConnection, _row: &AsideRow, _how: &Resolution) -> Result<(), RecordError> {
        Err(Self::cannot("trying rows again that are set aside"))
    }

    async fn aside_page(
        &self,
        _connection: &mut PgConnection,
        step: StepIndex,
        part: &str,
        after: Option<&KeyText>,
        most: u32,
    ) -> Result<Vec<(KeyText, Option<String>)>, RecordError> {
        let after = after.map(order);
        let mut page: Vec<(KeyText, Option<String>)> = Vec::new();
        for (field, value) in self.rows(step).await? {
            let Some((of, key)) = keys::row_of(&field) else { continue };
            if of == part && after.as_ref().is_none_or(|after| order(&key) > *after) {
                let kept: Option<KeptRow> = serde_json::from_str(&value).ok();
                page.push((key, kept.and_then(|kept| kept.row)));
            }
        }
        page.sort_by_key(|(key, _)| order(key));
        page.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(page)
    }

    async fn set_aside_of(&self, _connection: &mut PgConnection, step: StepIndex) -> Result<u64, RecordError> {
        self.notes.ask(cmd("HLEN").arg(self.notes.keys.aside(step))).await
    }

    async fn set_aside_in_all(&self, connection: &mut PgConnection) -> Result<u64, RecordError> {
        let steps: u32 = self
            .notes
            .ask::<Option<u32>>(cmd("HGET").arg(self.notes.keys.run()).arg("steps"))
            .await?
            .unwrap_or_default();
        let mut rows = 0;
        for step in 0..steps {
            rows += self.set_aside_of(connection, StepIndex(step)).await?;
        }
        Ok(rows)
    }

    async fn files(
        &self,
        _connection: &mut PgConnection,
        _run: RunId,
        _step: StepIndex,
        _paths: &[String],
    ) -> Result<Vec<FileRow>, RecordError> {
        Err(Self::cannot("a transform of files"))
    }

    async fn replaced_by(
        &self,
        _connection: &mut PgConnection,
        _run: RunId,
        _step: StepIndex,
    ) -> Result<Vec<String>, RecordError> {
        Err(Self::cannot("a transform of files"))
    }

    async fn write_files(
        &self,
        _tx: &mut PgConnection,
        _step: StepIndex,
        _rows: &[FileRow],
    ) -> Result<(), RecordError> {
        Err(Self::cannot("a transform of files"))
    }

    async fn step_done(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        outcome: Option<&str>,
    ) -> Result<(), RecordError> {
        let field = |name| of_step(step, name);
        let checks = Writes::default().only_if_not(Hash::Steps, field("state"), "done");
        let writes = |checks: Writes, _| {
            let writes = checks.set(Hash::Steps, field("state"), "done").now(Hash::Steps, field("finished_at"));
            match outcome {
                Some(outcome) => writes.set(Hash::Steps, field("outcome"), outcome),
                None => writes.drop(Hash::Steps, field("outcome")),
            }
        };
        self.prepare(tx, (step, None), checks, writes).await
    }

    async fn is_done(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
    ) -> Result<Option<Option<String>>, RecordError> {
        self.find_out(connection, (step, None)).await?;
        let fields = [of_step(step, "state"), of_step(step, "outcome")];
        let (state, outcome): (Option<String>, Option<String>) =
            self.notes.ask(cmd("HMGET").arg(self.notes.keys.steps()).arg(&fields)).await?;
        Ok((state.as_deref() == Some("done")).then_some(outcome))
    }

    async fn step_cleaned(&self, tx: &mut PgConnection, step: StepIndex) -> Result<(), RecordError> {
        let field = of_step(step, "cleaned_at");
        let checks = Writes::default().only_if_new(Hash::Steps, &field);
        self.prepare(tx, (step, None), checks, |checks, _| checks.now(Hash::Steps, field)).await
    }
}

fn json(row: &KeptRow) -> String {
    serde_json::to_string(row).unwrap_or_default()
}
