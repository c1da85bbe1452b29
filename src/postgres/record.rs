//! What is written in the same transaction as a change: the seam between the steps and the ledger.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;

use super::session;
use crate::run::{Advance, Cause, KeyText, RunId, Segment, StepIndex, Tally, Trouble};

/// Why a record was not written. The transaction must be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another driver has taken the run over.
    #[error("another driver has taken this run over")]
    Fenced,
    /// It stands in the ledger already: a commit whose answer was lost had come about. Whatever else the transaction did must
    /// not be done twice.
    #[error("it is written down already")]
    Already,
    /// The ledger lies elsewhere than in the database, and has not written it down, or has lost the run. Without a trouble it
    /// will not pass.
    #[error("{}", .1.message)]
    Store(Option<Trouble>, Cause),
    /// The database's or the driver's error.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl RecordError {
    /// Describes the failure: `what` was being done, such as `step "emails"`.
    #[must_use]
    pub fn cause(&self, what: &str) -> Cause {
        match self {
            Self::Fenced => Cause::new(format!("{what}: another driver has taken this run over"))
                .hint("look who drives it now: howdah status")
                .busy(),
            Self::Already => Cause::new(format!("{what}: it is written down already"))
                .hint("a commit whose answer was lost had come about; resume the run"),
            Self::Store(_, cause) => Cause { message: format!("{what}: {}", cause.message), ..cause.clone() },
            Self::Sql(error) => super::error::cause(&format!("{what}: writing the ledger"), error),
        }
    }

    /// Whether the connection on which the record was to be written is gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Sql(error) => super::error::is_lost(error),
            Self::Fenced | Self::Already | Self::Store(..) => false,
        }
    }
}

/// The sweep that a step is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweeps {
    /// All segments of all sweeps, in order.
    pub segments: Vec<Segment>,
    /// Rows foretold for the newest sweep.
    pub foretold: Option<u64>,
    /// What its cursors mean: the identities of the walks, one a line.
    pub walk: Option<String>,
}

/// A row whose data is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct SetAside {
    /// The partition that it lies in, quoted. `None`: the step's table itself.
    pub part: Option<String>,
    /// Its key.
    pub key: KeyText,
    /// The row as it was, as JSON, where it could be read: in the server's own text, so that no digit is lost.
    pub row: Option<String>,
    /// The error's SQLSTATE.
    pub sqlstate: Option<String>,
    /// The error in the server's words.
    pub message: String,
}

/// Which row of the quarantine is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideRow {
    /// The step that set it aside.
    pub step: StepIndex,
    /// The partition that it lies in, quoted. `None`: the step's table itself.
    pub part: Option<String>,
    /// Its key.
    pub key: KeyText,
}

/// How a row leaves the quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// What its change did, in counts: none where there was nothing to change any more.
    pub tally: Tally,
    /// What is to be said of it, where it was not changed: `the row is gone`.
    pub word: Option<&'static str>,
}

/// Keeps a run's record in another database than its own as well, for a step whose rows go there: what such a step does and
/// its cursors commit together there.
#[async_trait]
pub trait Mirror: Send + Sync {
    /// Brings `there` in line with the run as its own database, `here`, has it: the ledger, the run, its steps, and this
    /// driver's epoch, so that a driver that was replaced is refused there from now on.
    ///
    /// # Errors
    /// The role may not make the ledger there; another driver has taken the run over; the driver's error, described.
    async fn align(&self, here: &mut PgConnection, there: &mut PgConnection) -> Result<(), Cause>;
}

/// What has become of a file that a step replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It is about to be replaced, or was just now.
    Intended,
    /// It was replaced.
    Replaced,
    /// What another run had put there was taken back.
    Restored,
    /// It stays as it is: somebody else has changed it.
    Kept,
}

/// A file that a step replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Its absolute path.
    pub path: String,
    /// What has become of it.
    pub state: FileState,
    /// SHA-256 of what was there, in hex.
    pub before: String,
    /// And of what takes its place.
    pub after: String,
    /// The absolute path under which the original is kept.
    pub backup: Option<String>,
}

/// Writes the record of a change, on the connection and in the transaction of that change.
///
/// A ledger in the same database is written there and then. One that lies elsewhere only makes sure, in the transaction, that
/// it may be written, keeps in mind what is to be, and writes it once it hears of the commit, by [`Recorder::committed`]:
/// whatever comes between the two makes a batch run twice, and never not at all.
///
/// Every write names the epoch under which this driver took the run; a driver that was replaced is refused.
#[async_trait]
pub trait Recorder: Send + Sync {
    /// The epoch under which this driver took the run: higher than that of every driver before it.
    fn epoch(&self) -> i64;

    /// How the transaction of a batch begins. Its commit need not wait for the disk where its record is lost or kept with it.
    fn begin(&self) -> &'static str {
        session::BATCH
    }

    /// The transaction in which the step's `segment` was advanced has committed; or, without a segment, the one in which the
    /// step was written down as done, or as cleaned. When this fails the record may be behind what is done.
    async fn committed(&self, _step: StepIndex, _segment: Option<&Segment>) -> Result<(), RecordError> {
        Ok(())
    }

    /// The keys of a part's rows that are set aside now, where the ledger does not lie in the database. `None`: it does, and
    /// SQL finds them in `howdah.quarantine`.
    async fn keys_set_aside(&self, _step: StepIndex, _part: &str) -> Result<Option<Vec<KeyText>>, RecordError> {
        Ok(None)
    }

    /// Moves a segment's cursor.
    async fn advance(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
        advance: &Advance,
    ) -> Result<(), RecordError>;

    /// What a step has walked so far.
    async fn sweeps(&self, connection: &mut PgConnection, step: StepIndex) -> Result<Sweeps, RecordError>;

    /// Adds the segments of a new sweep, the rows foretold for it, and what its cursors mean.
    async fn add_sweep(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segments: &[Segment],
        foretold: Option<u64>,
        walk: &str,
    ) -> Result<(), RecordError>;

    /// Whether the run is still this driver's.
    async fn is_ours(&self, connection: &mut PgConnection) -> Result<bool, RecordError>;

    /// One segment as it stands, under this driver's epoch; waits for a transaction that is about to change it. `None`:
    /// another driver has taken the run over, or there is no such segment.
    async fn segment(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
    ) -> Result<Option<Segment>, RecordError>;

    /// The segments of another run's step.
    async fn walked_by(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
    ) -> Result<Vec<Segment>, RecordError>;

    /// Cuts a segment: it ends at `rest.lower` from now on, and `rest` is a segment of its own.
    async fn split(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
        rest: &Segment,
    ) -> Result<(), RecordError>;

    /// Sets a row aside, or once more where it is set aside already. `true`: it was not.
    async fn set_aside(&self, tx: &mut PgConnection, step: StepIndex, row: &SetAside) -> Result<bool, RecordError>;

    /// Takes hold of the run until the transaction ends: no other driver can take it over meanwhile.
    async fn hold(&self, tx: &mut PgConnection) -> Result<(), RecordError>;

    /// Takes hold of a row that is set aside, until the transaction ends, and of the run, which no other driver can take
    /// over meanwhile. `false`: it is not set aside any more.
    async fn claim(&self, tx: &mut PgConnection, row: &AsideRow) -> Result<bool, RecordError>;

    /// A claimed row as the quarantine keeps it, as JSON.
    async fn kept(&self, tx: &mut PgConnection, row: &AsideRow) -> Result<Option<String>, RecordError>;

    /// Writes down that a claimed row is not set aside any more.
    async fn resolve(&self, tx: &mut PgConnection, row: &AsideRow, resolution: &Resolution) -> Result<(), RecordError>;

    /// Rows of one part of a step that are set aside now, behind `after`, in the order of their keys: key and row.
    async fn aside_page(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
        part: &str,
        after: Option<&KeyText>,
        most: u32,
    ) -> Result<Vec<(KeyText, Option<String>)>, RecordError>;

    /// Rows of one step that are set aside now.
    async fn set_aside_of(&self, connection: &mut PgConnection, step: StepIndex) -> Result<u64, RecordError>;

    /// Rows of the whole run that are set aside now.
    async fn set_aside_in_all(&self, connection: &mut PgConnection) -> Result<u64, RecordError>;

    /// What a run's step has written down of these files, by their absolute paths.
    async fn files(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
        paths: &[String],
    ) -> Result<Vec<FileRow>, RecordError>;

    /// The absolute paths of the files that a run's step has replaced, or may have, in the order of their bytes.
    async fn replaced_by(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
    ) -> Result<Vec<String>, RecordError>;

    /// Writes down what becomes of files. Whoever calls it has made sure of the epoch in the same transaction.
    async fn write_files(&self, tx: &mut PgConnection, step: StepIndex, files: &[FileRow]) -> Result<(), RecordError>;

    /// Writes a step down as done, with what it has to say.
    async fn step_done(&self, tx: &mut PgConnection, step: StepIndex, outcome: Option<&str>)
    -> Result<(), RecordError>;

    /// Whether a step is written down as done: `Some` with what it said.
    async fn is_done(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
    ) -> Result<Option<Option<String>>, RecordError>;

    /// Writes down that a step's clean-up has run.
    async fn step_cleaned(&self, tx: &mut PgConnection, step: StepIndex) -> Result<(), RecordError>;
}
