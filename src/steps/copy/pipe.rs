//! COPY from one server into another, chunk by chunk: memory does not grow with the rows.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sqlx::postgres::PgConnection;

use crate::postgres::deadline::within;
use crate::postgres::error;

/// Bytes that are sent at once; twice as many, and one row, are in memory.
const CHUNK: usize = 256 << 10;

/// Why rows did not come through.
pub(super) struct Torn {
    /// What was said.
    pub(super) error: sqlx::Error,
    /// Whose failure it is.
    pub(super) side: Side,
    /// Whether the source's connection is in the middle of something, and cannot be used again.
    pub(super) source_ruined: bool,
    /// And the target's.
    pub(super) target_ruined: bool,
}

/// One end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Where rows come from.
    Source,
    /// Where they go.
    Target,
}

/// Sends what `out` (a COPY TO STDOUT) says through `into` (a COPY FROM STDIN), inside the transaction that `to` is in.
/// Returns the rows that went in. No round trip takes longer than `limit`.
pub(super) async fn pipe(
    (from, out): (&mut PgConnection, &str),
    (to, into): (&mut PgConnection, &str),
    limit: Duration,
) -> Result<u64, Torn> {
    let torn = |error, side, source_ruined, target_ruined| Torn { error, side, source_ruined, target_ruined };
    let mut rows = match within(limit, from.copy_out_raw(out)).await {
        Ok(rows) => rows,
        // The driver has not read on to where the server is ready again.
        Err(e) => return Err(torn(e, Side::Source, true, false)),
    };
    let mut sink = match within(limit, to.copy_in_raw(into)).await {
        Ok(sink) => sink,
        Err(e) => {
            let lost = error::is_lost(&e);
            return Err(torn(e, Side::Target, true, lost));
        }
    };
    let (mut sending, mut coming) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    let mut is_more = true;
    while is_more || !sending.is_empty() {
        let send = async {
            if sending.is_empty() { Ok(()) } else { within(limit, sink.send(sending.as_slice())).await.map(drop) }
        };
        let (sent, filled) = tokio::join!(send, within(limit, fill(&mut rows, &mut coming, is_more)));
        if let Err(e) = sent {
            // The server may have said why before it went: nobody can read it any more.
            return Err(torn(e, Side::Target, true, true));
        }
        match filled {
            Ok(more) => is_more = more,
            Err(e) => {
                drop(rows);
                let aborted = within(limit, sink.abort("the source has failed")).await;
                return Err(torn(e, Side::Source, true, aborted.is_err()));
            }
        }
        sending.clear();
        std::mem::swap(&mut sending, &mut coming);
    }
    // Read to its end: the source's connection is free again.
    drop(rows);
    match within(limit, sink.finish()).await {
        Ok(rows) => Ok(rows),
        Err(e) => {
            let lost = error::is_lost(&e);
            Err(torn(e, Side::Target, false, lost))
        }
    }
}

/// Reads until there is a chunk. `false`: that was the end.
async fn fill<B: AsRef<[u8]>>(
    rows: &mut BoxStream<'_, Result<B, sqlx::Error>>,
    into: &mut Vec<u8>,
    is_more: bool,
) -> Result<bool, sqlx::Error> {
    if !is_more {
        return Ok(false);
    }
    while into.len() < CHUNK {
        match rows.next().await {
            Some(row) => into.extend_from_slice(row?.as_ref()),
            None => return Ok(false),
        }
    }
    Ok(true)
}
