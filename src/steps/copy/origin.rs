//! Where a copy reads: another database, or the run's own; and the one moment that a consistent copy shows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Executor};

use crate::engine::ports::StepError;
use crate::plan::movers::{Address, Copy};
use crate::postgres::connect::{self, Connector, PoolShape};
use crate::postgres::deadline::within;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::postgres::session::literal;
use crate::run::Cause;
use crate::steps::{Workbench, trouble};

/// A connection that stands in one snapshot does nothing for as long as others copy.
const PATIENT: &str = "SET idle_in_transaction_session_timeout = 0";
/// Connections for questions about whole tables, beside those of the workers.
const QUESTIONS: u32 = 4;

/// The database that is read.
pub(super) struct Origin {
    bench: Workbench,
    /// Opens connections to it.
    connector: Arc<Connector>,
    /// For questions about whole tables.
    pub(super) pool: PgPool,
    /// Whether rows come over a connection of their own. Else the server copies them by itself.
    pub(super) piped: bool,
    /// `database@host:port`.
    pub(super) label: String,
    held: Mutex<Option<Held>>,
}

/// A snapshot, and the connection that must live for it to be taken part in.
struct Held {
    snapshot: String,
    _connection: PgConnection,
}

/// The address of `from`. `None`: the run's own database.
///
/// # Errors
/// It is not an address.
pub(super) fn target(copy: &Copy) -> Result<Option<Target>, Cause> {
    let Some(from) = &copy.from else { return Ok(None) };
    address("`from` of the step", from).map(Some)
}

/// The address of `database`. `None`: the run's own database.
///
/// # Errors
/// It is not an address.
pub(super) fn destination(copy: &Copy) -> Result<Option<Target>, Cause> {
    let Some(database) = &copy.database else { return Ok(None) };
    address("`database` of the step", database).map(Some)
}

/// The manners of libpq, as for the run's own database: a password may come from PGPASSWORD or ~/.pgpass.
fn address(origin: &'static str, address: &Address) -> Result<Target, Cause> {
    Target::of_step(origin, &address.url, &|name| std::env::var(name).ok())
}

/// Whether source and target are reached by addresses of their own.
pub(super) fn is_apart(copy: &Copy) -> bool {
    copy.from.is_some() || copy.database.is_some()
}

/// A small pool for questions about whole tables of the database that `connector` leads to.
pub(super) fn questions(connector: &Connector) -> PgPool {
    let shape = PoolShape {
        max: QUESTIONS,
        idle: Duration::from_secs(30),
        connect: connector.limit,
        session: connector.session.clone(),
    };
    connect::pool(&connector.target, &shape)
}

impl Origin {
    /// The database that `copy` reads; `bench` is that of the run's own.
    ///
    /// # Errors
    /// Its address is wrong.
    pub(super) fn new(bench: &Workbench, copy: &Copy) -> Result<Self, Cause> {
        let piped = is_apart(copy) || copy.consistent;
        let (connector, pool) = match target(copy)? {
            None => (Arc::clone(&bench.connector), bench.pool.clone()),
            Some(target) => {
                let connector = Connector { target, ..(*bench.connector).clone() };
                let pool = questions(&connector);
                (Arc::new(connector), pool)
            }
        };
        let label = connector.target.label();
        Ok(Self { bench: bench.clone(), connector, pool, piped, label, held: Mutex::default() })
    }

    /// How messages name it.
    pub(super) fn what(&self) -> String {
        if self.piped { format!("{}, reading {}", self.bench.what(), self.label) } else { self.bench.what() }
    }

    /// A failure of this database's, as the engine knows it.
    pub(super) fn failed(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&self.what(), e))
    }

    /// A connection that only reads, in the snapshot where there is one.
    ///
    /// # Errors
    /// It cannot be opened; the snapshot is gone.
    pub(super) async fn open(&self) -> Result<PgConnection, StepError> {
        let opened = self.connector.open(&self.bench.application_name()).await;
        let mut connection = opened.map_err(trouble::of_refusal)?;
        self.join(&mut connection).await?;
        Ok(connection)
    }

    /// Lets a connection only read, in the snapshot where there is one.
    ///
    /// # Errors
    /// The snapshot is gone, or the connection is.
    pub(super) async fn join(&self, connection: &mut PgConnection) -> Result<(), StepError> {
        let limit = self.bench.deadline();
        let Some(snapshot) = self.snapshot() else {
            if self.piped {
                let done = within(limit, connection.execute("SET default_transaction_read_only = on")).await;
                done.map_err(|e| self.failed(&e))?;
            }
            return Ok(());
        };
        let take = async {
            connection.execute(PATIENT).await?;
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let sql = format!("SET TRANSACTION SNAPSHOT {}", literal(&snapshot));
            connection.execute(AssertSqlSafe(sql)).await.map(drop)
        };
        within(limit, take).await.map_err(|e| match error::code(&e) {
            Some("22023" | "42704" | "55000") => StepError::Failed(self.moment_gone()),
            _ => self.failed(&e),
        })
    }

    /// Whether there is a snapshot already.
    pub(super) fn has_snapshot(&self) -> bool {
        self.snapshot().is_some()
    }

    fn snapshot(&self) -> Option<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|held| held.snapshot.clone())
    }

    /// Takes the snapshot that everything is read in from now on.
    ///
    /// # Errors
    /// There is no connection to be had.
    pub(super) async fn hold(&self) -> Result<(), StepError> {
        let opened = self.connector.open(&self.bench.application_name()).await;
        let mut connection = opened.map_err(trouble::of_refusal)?;
        let take = async {
            connection.execute(PATIENT).await?;
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut connection).await
        };
        let snapshot: String = within(self.bench.deadline(), take).await.map_err(|e| self.failed(&e))?;
        let held = Held { snapshot, _connection: connection };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(())
    }

    /// Lets the snapshot go: the server may clear away what only it could see.
    pub(super) fn let_go(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Why a consistent copy cannot go on: the moment that it shows was known to a connection that is gone.
    pub(super) fn moment_gone(&self) -> Cause {
        Cause::new(format!(
            "{}: the one moment that `consistent = true` copies is gone: its snapshot ended with the connection that held it",
            self.bench.what()
        ))
        .detail("what is copied already is of that moment, and what is left could only be read of a later one")
        .hint("empty the target tables (TRUNCATE) and begin a new run: howdah run PLAN --new")
        .hint("or take `consistent` out of the step and resume with --accept-changed-plan: rows are then of different moments")
    }
}

/// A worker's connection to the origin: opened when it is first asked for, and anew when it broke.
pub(super) struct Reader {
    origin: Arc<Origin>,
    connection: Option<PgConnection>,
}

impl Reader {
    pub(super) fn new(origin: Arc<Origin>) -> Self {
        Self { origin, connection: None }
    }

    /// The database that it reads.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The connection.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) async fn get(&mut self) -> Result<&mut PgConnection, StepError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.origin.open().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Gives it up: nobody knows what it is in the middle of.
    pub(super) fn abandon(&mut self) {
        self.connection = None;
    }

    /// After a failure: a lost connection is given up, and so is one whose transaction (the snapshot) has failed.
    pub(super) fn after(&mut self, failure: &sqlx::Error) {
        if error::is_lost(failure) || self.origin.has_snapshot() {
            self.abandon();
        }
    }

    /// A connection that answers: one that broke unnoticed is made anew, and a server that is away is told as that.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) async fn look_alive(&mut self, limit: Duration) -> Result<(), StepError> {
        let is_alive = within(limit, self.get().await?.execute("SELECT 1")).await.is_ok();
        if !is_alive {
            self.abandon();
            self.get().await?;
        }
        Ok(())
    }

    /// Says goodbye to the server.
    pub(super) async fn close(self) {
        use sqlx::Connection;
        if let Some(connection) = self.connection {
            drop(tokio::time::timeout(Duration::from_secs(1), connection.close()).await);
        }
    }
}
