//! The governor's signals of the host, which count only where the server is on it.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::engine::gauge::{Gauge, Unit};
use crate::plan::model::{Signals, Threshold};
use crate::postgres::error;
use crate::postgres::whereabouts::{Whereabouts, free_disk_percent};

/// What is known of the host that howdah runs on. Each may be missing, with the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct HostReading {
    /// The whole machine's CPU use, 0 to 100.
    pub cpu_percent: Result<f64, String>,
    /// Free memory in percent of all.
    pub free_memory_percent: Result<f64, String>,
}

/// The newest reading of the host: whoever samples it anyway gives it. Never waits.
pub type HostSource = Arc<dyn Fn() -> HostReading + Send + Sync>;

/// Where the server is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// On this host.
    Here {
        /// `None` where it is hidden from the role.
        data_directory: Option<PathBuf>,
    },
    /// On another, as far as can be told.
    Elsewhere,
    /// Nobody could be asked: why.
    Unknown(String),
}

impl Place {
    /// Looks for the server's process on this host.
    pub(super) async fn find(whereabouts: Whereabouts) -> Self {
        let look = move || {
            if whereabouts.is_here() {
                Self::Here { data_directory: whereabouts.data_directory }
            } else {
                Self::Elsewhere
            }
        };
        spawn_blocking(look).await.unwrap_or(Self::Elsewhere)
    }

    /// What the host says, where it is the server's host.
    fn applied(&self, value: Result<f64, String>) -> Reading {
        match self {
            Self::Here { .. } => Reading::Counts(value),
            Self::Elsewhere => Reading::Void("the server is not on this host".to_owned()),
            Self::Unknown(why) => Reading::Counts(Err(why.clone())),
        }
    }
}

/// A look at the disk that has not ended. A file system may hang, and is not asked a second time meanwhile.
#[derive(Default)]
pub(super) struct Disk(Option<JoinHandle<io::Result<f64>>>);

/// Whether a signal has a say.
enum Reading {
    /// It has; when it cannot be read it fails closed.
    Counts(Result<f64, String>),
    /// It cannot have one here: shown with the reason, and holds nobody. A plan that is right for the server's own host
    /// must also run from elsewhere.
    Void(String),
}

impl Disk {
    async fn free(&mut self, data: PathBuf, limit: Duration) -> Reading {
        let look = self.0.get_or_insert_with(|| spawn_blocking(move || free_disk_percent(&data)));
        let Ok(looked) = timeout(limit, look).await else {
            return Reading::Counts(Err("no answer from the file system".to_owned()));
        };
        self.0 = None;
        match looked {
            Ok(Ok(free)) => Reading::Counts(Ok(free)),
            // The directory's path is closed to howdah's user: that is so from the start, and no failure.
            Ok(Err(why)) if why.kind() == ErrorKind::PermissionDenied => {
                Reading::Void("the data directory is closed to this user".to_owned())
            }
            Ok(Err(why)) => Reading::Counts(Err(error::io_words(&why))),
            Err(why) => Reading::Counts(Err(why.to_string())),
        }
    }
}

/// Whether any of `signals` is the host's.
pub(super) fn any_in(signals: &Signals) -> bool {
    let Signals { free_disk, host_cpu, free_memory, .. } = signals;
    free_disk.is_some() || host_cpu.is_some() || free_memory.is_some()
}

/// Reads those of `signals` that are the host's; the disk within `limit`.
pub(super) async fn read(
    signals: &Signals,
    place: &Place,
    host: HostReading,
    disk: &mut Disk,
    limit: Duration,
) -> Vec<Gauge> {
    let mut gauges = Vec::new();
    if let Some(threshold) = signals.free_disk {
        let reading = match place {
            Place::Here { data_directory: Some(data) } => disk.free(data.clone(), limit).await,
            Place::Here { data_directory: None } => {
                Reading::Void("the data directory's place is hidden from the role; grant it pg_monitor".to_owned())
            }
            Place::Elsewhere | Place::Unknown(_) => place.applied(Ok(0.0)),
        };
        gauges.push(gauge("free disk", reading, threshold, true));
    }
    let (cpu, memory) = (place.applied(host.cpu_percent), place.applied(host.free_memory_percent));
    gauges.extend(signals.host_cpu.map(|threshold| gauge("host CPU", cpu, threshold, false)));
    gauges.extend(signals.free_memory.map(|threshold| gauge("free memory", memory, threshold, true)));
    gauges
}

fn gauge(key: &str, reading: Reading, threshold: Threshold<f64>, low_is_bad: bool) -> Gauge {
    let (value, limit) = match reading {
        Reading::Counts(value) => (value, Some(threshold)),
        Reading::Void(why) => (Err(why), None),
    };
    Gauge { key: key.to_owned(), value, unit: Unit::Percent, limit, low_is_bad }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn signals() -> Signals {
        let limit = Some(Threshold { slow: 10.0, stop: None });
        Signals { free_disk: limit, host_cpu: limit, free_memory: limit, ..Signals::default() }
    }

    fn host() -> HostReading {
        HostReading { cpu_percent: Ok(50.0), free_memory_percent: Err("not measured yet".into()) }
    }

    async fn gauges(place: Place) -> Vec<(String, Result<f64, String>, bool)> {
        let read = read(&signals(), &place, host(), &mut Disk::default(), DEADLINE).await;
        read.into_iter().map(|gauge| (gauge.key, gauge.value, gauge.limit.is_some())).collect()
    }

    #[tokio::test]
    async fn a_server_elsewhere_is_not_judged_by_this_host() {
        let void = |key: &str| (key.to_owned(), Err("the server is not on this host".to_owned()), false);
        assert_eq!(gauges(Place::Elsewhere).await, [void("free disk"), void("host CPU"), void("free memory")]);
    }

    #[tokio::test]
    async fn where_the_place_is_unknown_it_fails_closed() {
        let unread = |key: &str| (key.to_owned(), Err("connection refused".to_owned()), true);
        let read = gauges(Place::Unknown("connection refused".into())).await;
        assert_eq!(read, [unread("free disk"), unread("host CPU"), unread("free memory")]);
    }

    #[tokio::test]
    async fn a_server_on_this_host_is_judged_by_what_can_be_read() {
        let read = gauges(Place::Here { data_directory: Some("/".into()) }).await;
        assert!(read[0].1.as_ref().is_ok_and(|free| (0.0..=100.0).contains(free)) && read[0].2, "{read:?}");
        assert_eq!(read[1], ("host CPU".into(), Ok(50.0), true));
        assert_eq!(read[2], ("free memory".into(), Err("not measured yet".into()), true));

        let read = gauges(Place::Here { data_directory: Some("/no/such/place".into()) }).await;
        assert_eq!(read[0], ("free disk".into(), Err("no such file or directory".into()), true));
        let read = gauges(Place::Here { data_directory: None }).await;
        assert!(read[0].1.is_err() && !read[0].2, "{read:?}");
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_is_asked_once() {
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let mut disk = Disk(Some(spawn_blocking(move || {
            let _ = hang.recv();
            Ok(7.0)
        })));
        let mut free = async |limit| match disk.free("/".into(), limit).await {
            Reading::Counts(value) => value,
            Reading::Void(why) => panic!("{why}"),
        };
        for _ in 0..2 {
            let answer = free(Duration::from_millis(10)).await;
            assert_eq!(answer, Err("no answer from the file system".into()));
        }
        drop(release);
        assert_eq!(free(DEADLINE).await, Ok(7.0));
    }
}
