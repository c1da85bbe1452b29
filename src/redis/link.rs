//! A connection to Redis that comes back by itself, and whose answers have a deadline.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Script};
use tokio::sync::OnceCell;

use super::address::Address;
use super::error::LinkError;
use super::gate::Gate;
use super::wire::Wire;

/// Keys that one step of a walk looks at.
const STRIDE: usize = 500;

/// A connection. Cheap to clone; clones share it.
///
/// Nothing is sent twice: whoever asked is told that there is no answer, and the next call connects anew, to the master that
/// the sentinels then name, where there are sentinels. While Redis is away calls are told so at once, and one in a while
/// tries it: after 1 s, then 2 s, up to 10 s.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    address: Address,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Set once somebody has connected. Another one takes its place when that is lost.
    wire: Arc<OnceCell<Wire>>,
    gate: Gate,
    last: Option<LinkError>,
}

impl Link {
    /// Connects, and asks for a first answer.
    ///
    /// # Errors
    /// It cannot be reached within the address's timeout, or refuses.
    pub async fn open(address: &Address) -> Result<Self, LinkError> {
        let link = Self::lazy(address);
        link.query::<()>(&redis::cmd("PING")).await?;
        Ok(link)
    }

    /// Connects when it is first asked for something.
    #[must_use]
    pub fn lazy(address: &Address) -> Self {
        Self { shared: Arc::new(Shared { address: address.clone(), state: Mutex::default() }) }
    }

    /// Where it leads.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Sends a command.
    ///
    /// # Errors
    /// Redis does not answer within the address's timeout, or refuses.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LinkError> {
        self.through(async |mut wire| command.query_async(&mut wire).await).await
    }

    /// Sends several commands at once.
    ///
    /// # Errors
    /// As [`Link::query`].
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, LinkError> {
        self.through(async |mut wire| commands.query_async(&mut wire).await).await
    }

    /// Runs a script, by its hash where Redis knows it already.
    ///
    /// # Errors
    /// As [`Link::query`].
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<T, LinkError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(*key);
        }
        for argument in arguments {
            call.arg(*argument);
        }
        self.through(async |mut wire| call.invoke_async(&mut wire).await).await
    }

    /// One step of a walk over the keys that match `pattern`, which begins with the address's prefix: the next cursor (0: the
    /// walk is done) and some keys. A key may come twice.
    ///
    /// # Errors
    /// As [`Link::query`].
    pub async fn scan(&self, cursor: u64, pattern: &str) -> Result<(u64, Vec<String>), LinkError> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STRIDE);
        self.through(async |wire| wire.home(&self.shared.address, command).await).await
    }

    async fn through<T, F>(&self, work: impl FnOnce(Wire) -> F) -> Result<T, LinkError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Shared { address, .. } = &*self.shared;
        let began = Instant::now();
        let cell = self.admitted(began)?;
        let asked = async {
            let wire = cell.get_or_try_init(|| self.connect(began)).await.map_err(|e| (e, Lost::Way))?;
            work(wire.clone()).await.map_err(|e| {
                // What was there a moment ago is tried again at once; what cannot be reached is not.
                (LinkError::told(address, &e), Lost::Answer)
            })
        };
        let answer = match tokio::time::timeout(address.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err((LinkError::away(address, "no answer in time"), Lost::Way)),
        };
        let mut state = self.state();
        match answer {
            Ok(answer) => {
                state.gate.succeeded();
                Ok(answer)
            }
            Err((e, lost)) => {
                if e.is_away() && Arc::ptr_eq(&state.wire, &cell) {
                    state.wire = Arc::default();
                }
                match lost {
                    Lost::Way => {
                        state.gate.failed(began, Instant::now());
                        state.last = Some(e.clone());
                    }
                    Lost::Answer => state.gate.succeeded(),
                }
                Err(e)
            }
        }
    }

    /// What to ask by; refused while Redis rests.
    fn admitted(&self, now: Instant) -> Result<Arc<OnceCell<Wire>>, LinkError> {
        let mut state = self.state();
        if state.gate.admits(now, self.shared.address.timeout) {
            return Ok(Arc::clone(&state.wire));
        }
        Err(self.last(&state))
    }

    async fn connect(&self, began: Instant) -> Result<Wire, LinkError> {
        {
            let state = self.state();
            if state.gate.has_failed_since(began) {
                return Err(self.last(&state));
            }
        }
        Wire::open(&self.shared.address).await
    }

    fn last(&self, state: &State) -> LinkError {
        state.last.clone().unwrap_or_else(|| LinkError::away(&self.shared.address, "no answer in time"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is missing.
enum Lost {
    /// A connection, or any sign of life.
    Way,
    /// The answer to one command.
    Answer,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.shared.address.label()).finish()
    }
}
