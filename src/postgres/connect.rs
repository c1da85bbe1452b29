//! Opening connections, with the cause when it fails: "refused" is not "timed out", and neither is "wrong password".

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};

use super::deadline::within;
use super::dsn::Target;
use super::error;
use super::session::Session;
use super::sqlstate::{self, Class};
use crate::run::Cause;

/// How a pool is to behave.
#[derive(Debug, Clone)]
pub struct PoolShape {
    /// The most connections at once.
    pub max: u32,
    /// An idle connection is closed after this.
    pub idle: Duration,
    /// How long a connection may take to open.
    pub connect: Duration,
    /// What each session sets.
    pub session: Session,
}

/// Why no connection could be opened.
#[derive(Debug)]
pub struct Refused {
    /// The reason, with what to do.
    pub cause: Cause,
    /// Whether it may be possible a moment later: nobody answers, or the server is starting. Not so a wrong password.
    pub may_pass: bool,
}

/// Opens connections of one kind, each for one owner.
#[derive(Clone)]
pub struct Connector {
    /// The database.
    pub target: Target,
    /// How long one may take to open.
    pub limit: Duration,
    /// What each session sets.
    pub session: Session,
}

impl Connector {
    /// A connection whose session is called `name`.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub async fn open(&self, name: &str) -> Result<PgConnection, Refused> {
        let session = Session { application_name: name.to_owned(), ..self.session.clone() };
        try_one(&self.target, self.limit, &session).await
    }
}

/// Opens one connection and sets its session up.
///
/// # Errors
/// Why it cannot be opened, with what to do.
pub async fn one(target: &Target, limit: Duration, session: &Session) -> Result<PgConnection, Cause> {
    try_one(target, limit, session).await.map_err(|refused| refused.cause)
}

/// As [`one`], and tells whether trying again may help.
///
/// # Errors
/// Why it cannot be opened.
pub async fn try_one(target: &Target, limit: Duration, session: &Session) -> Result<PgConnection, Refused> {
    let limit = target.connect_timeout.unwrap_or(limit);
    let options = target.options().clone().disable_statement_logging();
    // A future that only connects may be dropped: the socket closes, and nothing has been asked yet.
    let connected = tokio::time::timeout(limit, options.connect()).await;
    let mut connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(e)) => return Err(Refused { cause: explain(target, &e), may_pass: may_pass(&e) }),
        Err(_) => {
            let cause = Cause::new(format!(
                "no answer from {} within {}",
                target.server(),
                crate::run::human::duration(limit)
            ))
            .hint("is the host right, and does a firewall drop packets? `database.pool.connect` sets the time limit");
            return Err(Refused { cause, may_pass: true });
        }
    };
    match within(limit.max(Duration::from_secs(5)), session.apply(&mut connection)).await {
        Ok(()) => Ok(connection),
        Err(e) => {
            let may_pass = may_pass(&e);
            let cause = error::cause(&format!("could not set up the session on {}", target.label()), &e);
            drop(connection);
            Err(Refused { cause, may_pass })
        }
    }
}

fn may_pass(failure: &sqlx::Error) -> bool {
    let code = error::code(failure).map(sqlstate::class);
    error::is_lost(failure) || matches!(code, Some(Class::Connection | Class::Resource | Class::Transient))
}

/// Makes a pool; connections open when they are asked for. Each sets its session up as `shape` says.
#[must_use]
pub fn pool(target: &Target, shape: &PoolShape) -> PgPool {
    let session = shape.session.clone();
    PgPoolOptions::new()
        .max_connections(shape.max)
        .min_connections(0)
        .idle_timeout(shape.idle)
        .acquire_timeout(target.connect_timeout.unwrap_or(shape.connect).max(Duration::from_secs(1)))
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move { session.apply(connection).await })
        })
        .connect_lazy_with(target.options().clone().disable_statement_logging())
}

/// Why a connection could not be opened.
fn explain(target: &Target, failure: &sqlx::Error) -> Cause {
    let server = target.server();
    match failure {
        sqlx::Error::Io(io) => {
            let words = error::io_words(io);
            let cause = Cause::new(format!("could not connect to {server}: {words}"));
            match io.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => cause
                    .hint(format!(
                        "is a server running there? try: pg_isready -h {} -p {}",
                        host(target),
                        target.options().get_port()
                    ))
                    .hint(format!("the address came from {}", target.origin)),
                _ => cause.hint(format!("the address came from {}", target.origin)),
            }
        }
        sqlx::Error::Tls(tls) => Cause::new(format!("could not set up TLS with {server}: {tls}"))
            .hint("`sslmode` in the address says how strict to be; `sslrootcert` names the authority"),
        other => {
            let user = target.options().get_username();
            let cause = error::cause(&format!("could not connect to {}", target.label()), other);
            match error::code(other) {
                Some("28P01") => cause
                    .hint(format!("the password of role `{user}` was not accepted; it is taken from the address, PGPASSWORD or ~/.pgpass"))
                    .hint(format!("the address came from {}", target.origin)),
                Some("28000") => cause.hint(format!("role `{user}` may not log in from here: see pg_hba.conf")),
                Some("3D000") => cause.hint("create the database, or name another after the last `/` of the address"),
                _ => cause,
            }
        }
    }
}

fn host(target: &Target) -> String {
    match target.options().get_socket() {
        Some(path) => path.display().to_string(),
        None => target.options().get_host().to_owned(),
    }
}
