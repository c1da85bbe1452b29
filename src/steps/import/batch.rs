//! What happens inside the transaction of one batch: records into the table, whole or piece by piece, and the place in the
//! file.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor, PgTransaction};

use super::feed::{Block, Place};
use super::loading::LoadSql;
use super::look::Planned;
use super::set_aside::{self, BadRecord};
use crate::engine::failpoint;
use crate::postgres::deadline::within;
use crate::postgres::error;
use crate::run::{Advance, Segment, Tally};
use crate::steps::Workbench;
use crate::steps::batch::{BatchError, Places, recorded};

/// How a batch is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In one piece.
    Whole,
    /// Piece by piece, around records that are wrong: those are set aside.
    Careful,
}

/// A batch that is written and not committed yet.
pub(super) struct Written {
    pub(super) advance: Advance,
    /// The places of the records that it sets aside; given back unless the batch commits.
    pub(super) aside: Places,
}

/// One batch.
pub(super) struct Batch<'a> {
    pub(super) bench: &'a Workbench,
    pub(super) file: &'a Planned,
    pub(super) segment: &'a Segment,
    pub(super) blocks: &'a [Block],
    /// Where the batch began and what it is to say of itself, but for what was loaded.
    pub(super) advance: Advance,
    /// How long any round trip may take.
    pub(super) limit: Duration,
}

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    block: usize,
    bytes: Range<usize>,
    line: u64,
}

impl Batch<'_> {
    /// Loads the records and moves the segment's place.
    pub(super) async fn write(&self, tx: &mut PgTransaction<'_>, way: Way) -> Result<Written, BatchError> {
        let mut aside = Places::new(Arc::clone(&self.bench.set_aside));
        let mut tally = self.advance.tally;
        if tally.walked > 0 {
            stage(tx, &self.file.sql, self.limit).await?;
            let (changed, quarantined) = match way {
                Way::Whole => {
                    let pieces: Vec<Cow<'_, [u8]>> = self.blocks.iter().map(|block| (&*block.data).into()).collect();
                    (load(tx, &self.file.sql, &pieces, Stage::Forgotten, self.limit).await?, 0)
                }
                Way::Careful => self.carefully(tx, &mut aside).await?,
            };
            tally = Tally { changed, quarantined, ..tally };
        }
        failpoint::hit("batch.changed");
        let advance = Advance { tally, ..self.advance.clone() };
        let moved = self.bench.recorder.advance(&mut *tx, self.bench.index, self.segment, &advance);
        recorded(tokio::time::timeout(self.limit, moved).await)?;
        failpoint::hit("batch.recorded");
        Ok(Written { advance, aside })
    }

    fn record(&self, record: &Record) -> &[u8] {
        &self.blocks[record.block].data[record.bytes.clone()]
    }

    /// A record without its end.
    fn bare(&self, record: &Record) -> &[u8] {
        self.file.framing.bare(self.record(record))
    }

    /// What ends a record, as it stands there. `None`: it is not to be sent as it stands there.
    fn end(&self, record: &Record) -> Option<&[u8]> {
        self.record(record).strip_prefix(self.bare(record))
    }

    /// Every record of the batch.
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (block, of) in self.blocks.iter().enumerate() {
            let (mut at, mut line) = (0, of.from.line);
            while at < of.data.len() {
                let cut = self.file.framing.cut(&of.data[at..], 1, true);
                records.push(Record { block, bytes: at..at + cut.bytes, line });
                at += cut.bytes;
                line += cut.lines;
            }
        }
        records
    }

    /// Loads what can be loaded, and sets the rest aside. Returns rows loaded and records set aside.
    async fn carefully(&self, tx: &mut PgTransaction<'_>, aside: &mut Places) -> Result<(u64, u64), BatchError> {
        within(self.limit, tx.execute("SET CONSTRAINTS ALL IMMEDIATE")).await?;
        let (mut loaded, mut quarantined) = (0, 0);
        let all = self.records();
        let mut good = Vec::with_capacity(all.len());
        // Behind this one there are empty lines only, up to the end of the file.
        let last = all.iter().rposition(|record| !self.bare(record).is_empty());
        let last = last.filter(|_| self.blocks.last().is_some_and(|block| block.is_last));
        for (at, record) in all.iter().enumerate() {
            match set_aside::at_sight(self.bare(record), self.file, last == Some(at)) {
                Ok(true) => good.push(record.clone()),
                Ok(false) => {}
                Err(bad) => quarantined += u64::from(self.put(tx, record, &bad, aside).await?),
            }
        }
        let mut pieces = vec![good.as_slice()];
        while let Some(piece) = pieces.pop() {
            if piece.is_empty() {
                continue;
            }
            within(self.limit, tx.execute("SAVEPOINT howdah_piece")).await?;
            let failure = match load(tx, &self.file.sql, &self.joined(piece), Stage::Emptied, self.limit).await {
                Ok(rows) => {
                    within(self.limit, tx.execute("RELEASE SAVEPOINT howdah_piece")).await?;
                    loaded += rows;
                    continue;
                }
                Err(failure) if failure.is_data() => failure,
                Err(other) => return Err(other),
            };
            within(self.limit, tx.execute("ROLLBACK TO SAVEPOINT howdah_piece")).await?;
            if let [record] = piece {
                let (sqlstate, message) = failure.told();
                quarantined += u64::from(self.put(tx, record, &BadRecord { sqlstate, message }, aside).await?);
                continue;
            }
            // Where COPY tells the record that it has come to, those before it are good, as far as it could see. It is set aside
            // only once it has failed alone, so that no miscounted line sets a good one aside.
            if let Some(at) = line_of(&failure).and_then(|line| self.at_line(piece, line)) {
                pieces.extend([&piece[at + 1..], &piece[at..=at], &piece[..at]]);
            } else {
                let (first, second) = piece.split_at(piece.len() / 2);
                pieces.extend([second, first]);
            }
        }
        Ok((loaded, quarantined))
    }

    /// The bytes of records, those that stand side by side as one. COPY takes one kind of end only: where they have several,
    /// all get the same.
    fn joined<'b>(&'b self, piece: &[Record]) -> Vec<Cow<'b, [u8]>> {
        if !self.is_uniform(piece) {
            let mut joined = Vec::new();
            for record in piece {
                joined.extend_from_slice(self.bare(record));
                joined.push(self.file.framing.end());
            }
            return vec![Cow::Owned(joined)];
        }
        let mut parts: Vec<(usize, Range<usize>)> = Vec::new();
        for record in piece {
            match parts.last_mut() {
                Some((block, range)) if *block == record.block && range.end == record.bytes.start => {
                    range.end = record.bytes.end;
                }
                _ => parts.push((record.block, record.bytes.clone())),
            }
        }
        parts.into_iter().map(|(block, range)| self.blocks[block].data[range].into()).collect()
    }

    /// Whether all records end in the same way; the last one of a file may do without.
    fn is_uniform(&self, piece: &[Record]) -> bool {
        let Some((last, others)) = piece.split_last() else { return true };
        let first = others.first().map(|record| self.end(record));
        let is_same =
            first.is_none_or(|first| first.is_some() && others.iter().all(|record| self.end(record) == first));
        is_same
            && match (self.end(last), first.flatten()) {
                (None, _) => false,
                (Some(b""), _) | (Some(_), None) => true,
                (Some(end), Some(first)) => end == first,
            }
    }

    /// The record that a line of what was sent belongs to, as COPY counts lines.
    fn at_line(&self, piece: &[Record], line: u64) -> Option<usize> {
        let is_crlf = self.is_uniform(piece) && self.end(piece.first()?) == Some(b"\r\n");
        let newline = if is_crlf { b'\r' } else { self.file.framing.end() };
        let mut before = 0;
        piece.iter().enumerate().position(|(at, record)| {
            before += self.file.framing.copy_lines(self.bare(record), (at > 0).then_some(newline));
            line <= before
        })
    }

    async fn put(
        &self,
        tx: &mut PgTransaction<'_>,
        record: &Record,
        bad: &BadRecord,
        aside: &mut Places,
    ) -> Result<bool, BatchError> {
        let bare = self.bare(record);
        let before = u64::from(self.end(record).is_none());
        let offset = self.blocks[record.block].from.offset + record.bytes.start as u64 + before;
        let row = set_aside::row(&self.file.input.path, Place { offset, line: record.line }, bare, bad);
        aside.put(tx, self.bench, &row, "line", self.limit).await
    }
}

/// Makes the stage, where there is to be one.
pub(super) async fn stage(tx: &mut PgTransaction<'_>, sql: &LoadSql, limit: Duration) -> Result<(), BatchError> {
    if let Some(stage) = &sql.stage {
        within(limit, sqlx::raw_sql(AssertSqlSafe(stage.as_str())).execute(&mut **tx)).await?;
    }
    Ok(())
}

/// What becomes of the stage behind a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing: no piece follows in this transaction, and the commit empties it.
    Forgotten,
    /// It is emptied, or the next piece would bring these rows again.
    Emptied,
}

/// Takes bytes into the table. Returns the rows.
pub(super) async fn load(
    tx: &mut PgTransaction<'_>,
    sql: &LoadSql,
    pieces: &[Cow<'_, [u8]>],
    after: Stage,
    limit: Duration,
) -> Result<u64, BatchError> {
    let mut copy = within(limit, tx.copy_in_raw(&sql.copy)).await?;
    for piece in pieces {
        for chunk in piece.chunks(CHUNK) {
            // When this fails the connection is dropped: nobody knows how much of it has arrived.
            within(limit, copy.send(chunk)).await.map_err(lost)?;
        }
    }
    let copied = within(limit, copy.finish()).await?;
    let Some(insert) = &sql.insert else { return Ok(copied) };
    let failed = |e: sqlx::Error| BatchError::Change(e, insert.clone());
    let query = sqlx::query(AssertSqlSafe(insert.as_str())).persistent(false);
    let done = within(limit, query.execute(&mut **tx)).await.map_err(failed)?;
    if after == Stage::Emptied {
        let stage = sql.copy.trim_start_matches("COPY ").split(" (").next().unwrap_or_default();
        within(limit, tx.execute(AssertSqlSafe(format!("DELETE FROM {stage}")))).await?;
    }
    Ok(done.rows_affected())
}

/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;

fn lost(e: sqlx::Error) -> sqlx::Error {
    if error::is_lost(&e) { e } else { sqlx::Error::Io(std::io::Error::other(e.to_string())) }
}

/// The line of what was sent that COPY has come to, from 1, where it tells: `COPY people, line 17, column id: "x"`.
fn line_of(failure: &BatchError) -> Option<u64> {
    let BatchError::Sql(e) = failure else { return None };
    line_in(error::database(e)?.r#where()?)
}

fn line_in(context: &str) -> Option<u64> {
    let line = context.lines().find(|line| line.starts_with("COPY "))?;
    let (_, rest) =
        line.rsplit_once(", line ").map_or_else(|| line.split_once(", line "), |_| line.split_once(", line "))?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copys_words_tell_the_line() {
        let table = [
            ("COPY t, line 17, column id: \"x\"", Some(17)),
            ("COPY t, line 3: \"a,b\"", Some(3)),
            ("SQL statement \"SELECT 1\"\nCOPY t, line 9", Some(9)),
            ("PL/pgSQL function f() line 3 at RAISE", None),
            ("COPY howdah_stage_0, line 2, column d: \", line 7\"", Some(2)),
        ];
        for (context, line) in table {
            assert_eq!(line_in(context), line, "{context}");
        }
    }
}
