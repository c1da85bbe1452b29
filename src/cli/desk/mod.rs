//! What a console looks up beside the snapshot, while somebody looks at it: sessions, the quarantine, the log, the queue.
//!
//! The console says what it looks at ([`Interest`]); the desk answers ([`Details`]). It has one connection of its own, opened
//! when it is first needed and closed when nobody has looked for a minute, reads only, and ends on a token. A run does not
//! notice it: no connection of the run's pool is used, every round trip has a deadline, and a reading that takes long is taken
//! less often.
//!
//! | file | what |
//! | --- | --- |
//! | `database` | sessions and quarantine, over one connection that comes and goes |
//! | `log` | the end of the run's log file, followed over the change of the day |
//! | `lines` | bytes of a log made into lines |
//! | `queue` | the queue of plans, and what is asked of it |
//! | `redis_queue` | that queue on the Redis that is named |

mod database;
mod lines;
mod log;
pub mod queue;
mod redis_queue;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::environment;
use crate::postgres::dsn::Target;
use crate::run::{Details, Interest, Snapshot};

/// What a desk is set up for.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The database.
    pub target: Target,
    /// The run, as the console sees it: its short id, and the host that drives it. The id may come later.
    pub runs: watch::Receiver<Arc<Snapshot>>,
    /// This host, by the name that drivers give themselves.
    pub host: String,
    /// Where logs lie on this host. `None`: nowhere.
    pub logs: Option<PathBuf>,
    /// How often, and how long.
    pub pace: Pace,
}

impl Desk {
    /// A desk of this host's, at the usual pace.
    #[must_use]
    pub fn on(target: Target, runs: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { target, runs, host: environment::host(), logs: environment::log_directory().ok(), pace: Pace::default() }
    }
}

/// How often a desk looks, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one look at the sessions to the next. Default 2 s.
    pub sessions: Duration,
    /// From one look at the quarantine to the next. Default 5 s.
    pub quarantine: Duration,
    /// From one look at the log to the next. Default 500 ms.
    pub log: Duration,
    /// How long the server may take to answer. Default 5 s.
    pub deadline: Duration,
    /// How long the connection stays open while nobody looks. Default 60 s.
    pub linger: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            sessions: Duration::from_secs(2),
            quarantine: Duration::from_secs(5),
            log: Duration::from_millis(500),
            deadline: Duration::from_secs(5),
            linger: Duration::from_mins(1),
        }
    }
}

/// Looks up what is looked at, until `stop`, or until nobody is left to look.
pub async fn keep(
    desk: Desk,
    interest: watch::Receiver<Interest>,
    details: watch::Sender<Arc<Details>>,
    stop: CancellationToken,
) {
    let database = database::keep(&desk, interest.clone(), &details, &stop);
    let log = log::keep(&desk, interest, &details, &stop);
    tokio::join!(database, log);
}

/// Shows something new to whoever looks, but only where it is new.
fn show(details: &watch::Sender<Arc<Details>>, change: impl FnOnce(&mut Details)) {
    details.send_if_modified(|shown| {
        // Whatever another desk has shown meanwhile stays.
        let mut next = Details::clone(shown);
        change(&mut next);
        let is_new = **shown != next;
        if is_new {
            *shown = Arc::new(next);
        }
        is_new
    });
}
