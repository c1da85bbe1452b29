//! Where runs are made, found and taken over: schema `howdah` of their database, or Redis.

use sqlx::postgres::PgConnection;

use super::open::{self, Draft, Driver, StoredPlan, Taken};
use super::read::{self, RunRecord};
use super::redis::book::RedisBook;
use super::{migrate, runs};
use crate::postgres::error;
use crate::run::id::RunRef;
use crate::run::{Cause, RunId};

/// A place where runs are written down. `connection` always leads to the runs' database.
#[derive(Debug, Clone)]
pub enum Book {
    /// Schema `howdah`.
    Postgres,
    /// Redis.
    Redis(RedisBook),
}

impl Book {
    /// Makes what has to be there before a run is made or taken over: nothing, where that is Redis.
    ///
    /// # Errors
    /// The role may not.
    pub async fn prepare(&self, connection: &mut PgConnection) -> Result<(), Cause> {
        match self {
            Self::Postgres => migrate::migrate(connection).await,
            Self::Redis(_) => Ok(()),
        }
    }

    /// What the operator should know of the ledger before a run begins.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn advice(&self) -> Result<Vec<String>, Cause> {
        match self {
            Self::Postgres => Ok(Vec::new()),
            Self::Redis(book) => book.advice().await,
        }
    }

    /// The run that a person means; without a name the newest, or the newest that is `unfinished`.
    ///
    /// # Errors
    /// None, or several, of that name.
    pub async fn find(
        &self,
        connection: &mut PgConnection,
        named: Option<&RunRef>,
        unfinished: bool,
    ) -> Result<RunId, Cause> {
        match self {
            Self::Postgres => runs::find(connection, named, unfinished).await,
            Self::Redis(book) => book.find(connection, named, unfinished).await,
        }
    }

    /// Makes a run, and locks it by the session of `connection`.
    ///
    /// # Errors
    /// A run of the same plan is being driven, or stands unfinished and `anew` is not set.
    pub async fn create(
        &self,
        connection: &mut PgConnection,
        draft: &Draft<'_>,
        driver: &Driver,
        anew: bool,
    ) -> Result<Taken, Cause> {
        match self {
            Self::Postgres => open::create(connection, draft, driver, anew).await,
            Self::Redis(book) => book.create(connection, draft, driver, anew).await,
        }
    }

    /// Takes over a run that nobody drives, and raises its epoch.
    ///
    /// # Errors
    /// Somebody drives it, or it has ended.
    pub async fn resume(&self, connection: &mut PgConnection, run: RunId, driver: &Driver) -> Result<Taken, Cause> {
        match self {
            Self::Postgres => open::resume(connection, run, driver).await,
            Self::Redis(book) => book.resume(connection, run, driver).await,
        }
    }

    /// The plan that a run was made from.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn stored_plan(&self, connection: &mut PgConnection, run: RunId) -> Result<StoredPlan, Cause> {
        match self {
            Self::Postgres => open::stored_plan(connection, run).await,
            Self::Redis(book) => book.stored_plan(run).await,
        }
    }

    /// What a run takes back: another run, and the one step of it where not all are meant. Never one on Redis.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn undoes(
        &self,
        connection: &mut PgConnection,
        run: RunId,
    ) -> Result<Option<(RunId, Option<String>)>, Cause> {
        match self {
            Self::Postgres => runs::undoes(connection, run).await.map_err(|e| error::cause("reading the run", &e)),
            Self::Redis(_) => Ok(None),
        }
    }

    /// A run, as it is shown.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn one(&self, connection: &mut PgConnection, run: RunId) -> Result<RunRecord, Cause> {
        match self {
            Self::Postgres => read::one(connection, run).await,
            Self::Redis(book) => book.one(connection, run).await,
        }
    }

    /// The newest runs, newest first.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn newest(&self, connection: &mut PgConnection, most: u16) -> Result<Vec<RunRecord>, Cause> {
        match self {
            Self::Postgres => read::newest(connection, most.into()).await,
            Self::Redis(book) => book.newest(connection, most).await,
        }
    }
}
