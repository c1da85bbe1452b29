//! The server's processes that work for a step's batches, and which of them were asked to give way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which backends there are, by process id. Shared by the workers and whoever watches what waits for them.
#[derive(Debug, Default)]
pub struct Backends(Mutex<BTreeMap<i32, Backend>>);

#[derive(Debug, Clone, Copy, Default)]
struct Backend {
    busy: bool,
    gives_way: bool,
}

impl Backends {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Backend>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backend begins a batch.
    pub fn begin(&self, pid: i32) {
        self.lock().insert(pid, Backend { busy: true, gives_way: false });
    }

    /// Its batch has ended. Returns whether it was asked to give way.
    pub fn end(&self, pid: i32) -> bool {
        self.lock().insert(pid, Backend::default()).is_some_and(|backend| backend.gives_way)
    }

    /// The backend is gone.
    pub fn leave(&self, pid: i32) {
        self.lock().remove(&pid);
    }

    /// Those that are in a batch now.
    #[must_use]
    pub fn busy(&self) -> Vec<i32> {
        self.lock().iter().filter(|(_, backend)| backend.busy).map(|(pid, _)| *pid).collect()
    }

    /// Notes that a backend is about to be cancelled. `false`: its batch is over.
    pub fn give_way(&self, pid: i32) -> bool {
        match self.lock().get_mut(&pid) {
            Some(backend) if backend.busy && !backend.gives_way => {
                backend.gives_way = true;
                true
            }
            Some(_) | None => false,
        }
    }
}
