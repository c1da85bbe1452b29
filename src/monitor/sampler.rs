//! One probe at its own pace: never two samples at once, a deadline that drops nothing, and rest while the run rests.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::run::vitals::Reading;
use crate::run::{RunState, Snapshot, human};

/// When samplers sample, and how long they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one sample to the next while the run is at work. Default 1 s.
    pub every: Duration,
    /// The same while the run is paused or over. Default 5 s.
    pub at_rest: Duration,
    /// A sample that takes longer shows as unavailable until it answers. Default 5 s.
    pub deadline: Duration,
    /// How long an open sample may still take when the process ends. Default 1 s.
    pub grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            at_rest: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            grace: Duration::from_secs(1),
        }
    }
}

/// What a sampler needs besides its probe.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    /// The probe's name in the log.
    pub name: &'static str,
    pub pace: Pace,
    /// The time from the first sample to the second, where it is not `pace.every`.
    pub warm_up: Option<Duration>,
    pub stop: CancellationToken,
    pub run: watch::Receiver<Arc<Snapshot>>,
}

impl Sampler {
    /// Probes and publishes until the token says stop. A failure is published like a value, and the next probe comes
    /// at its usual time.
    pub(super) async fn keep<T, F>(
        self,
        mut probe: impl FnMut() -> F + Send,
        mut publish: impl FnMut(Reading<T>) + Send,
    ) where
        F: Future<Output = Result<T, String>> + Send,
    {
        let mut ticks = interval(self.pace.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last: Option<Instant> = None;
        let mut well = true;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if last.is_some_and(|last| self.is_to_rest(last)) {
                continue;
            }
            let first = last.is_none();
            last = Some(Instant::now());
            let mut open = pin!(probe());
            let mut deadline = pin!(sleep(self.pace.deadline));
            let mut late = false;
            let answer = loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => {
                        // Nobody waits for the answer, but a query that is dropped half-way ruins its connection.
                        let _answer = timeout(self.pace.grace, open).await;
                        return;
                    }
                    answer = &mut open => break answer,
                    () = &mut deadline, if !late => {
                        late = true;
                        publish(Reading::Unavailable(format!("no answer within {}", brief(self.pace.deadline))));
                    }
                }
            };
            well = self.log(well, answer.as_ref().err().map(String::as_str));
            publish(answer.map_or_else(Reading::Unavailable, Reading::Value));
            if first && let Some(warm_up) = self.warm_up {
                ticks.reset_after(warm_up);
            }
        }
    }

    /// Whether the run rests, and a sample at its slower pace is not due yet.
    fn is_to_rest(&self, last: Instant) -> bool {
        let slack = self.pace.every / 2;
        is_at_rest(&self.run.borrow().state) && last.elapsed() + slack < self.pace.at_rest
    }

    /// Writes a line where a probe begins to fail, and where it is well again.
    fn log(&self, was_well: bool, failure: Option<&str>) -> bool {
        match failure {
            Some(why) if was_well => tracing::warn!(probe = self.name, why, "probe unavailable"),
            None if !was_well => tracing::info!(probe = self.name, "probe available again"),
            Some(_) | None => {}
        }
        failure.is_none()
    }
}

/// Samples on a thread for blocking work, so that a file system that hangs holds up nobody. A panic is a failure.
pub(super) async fn blocking<P: Send + 'static, T: Send + 'static>(
    probe: Arc<Mutex<P>>,
    sample: fn(&mut P) -> Result<T, String>,
) -> Result<T, String> {
    let sample = move || sample(&mut probe.lock().unwrap_or_else(PoisonError::into_inner));
    tokio::task::spawn_blocking(sample).await.unwrap_or_else(|error| Err(error.to_string()))
}

fn is_at_rest(state: &RunState) -> bool {
    match state {
        RunState::Paused { .. } | RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => true,
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => false,
    }
}

fn brief(d: Duration) -> String {
    if d.subsec_nanos() == 0 { format!("{} s", d.as_secs()) } else { human::duration(d) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Asker;
    use chrono::DateTime;
    use std::sync::atomic::{AtomicU32, Ordering};

    const PACE: Pace = Pace {
        every: Duration::from_millis(10),
        at_rest: Duration::from_hours(1),
        deadline: Duration::from_millis(40),
        grace: Duration::from_millis(40),
    };

    fn snapshot(state: RunState) -> Arc<Snapshot> {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut snapshot = Snapshot::starting(now, "r".into(), "p".into(), "h".into());
        snapshot.state = state;
        Arc::new(snapshot)
    }

    fn sampler(stop: &CancellationToken, run: &watch::Sender<Arc<Snapshot>>) -> Sampler {
        Sampler { name: "test", pace: PACE, warm_up: None, stop: stop.clone(), run: run.subscribe() }
    }

    #[tokio::test]
    async fn a_paused_run_is_sampled_at_the_slow_pace() {
        let by = Asker::Console;
        let since = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (run, _) = watch::channel(snapshot(RunState::Paused { since, by }));
        let stop = CancellationToken::new();
        let count = AtomicU32::new(0);
        let probe = || {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        };
        let keeping = sampler(&stop, &run).keep(probe, |_reading: Reading<()>| {});
        let operator = async {
            sleep(Duration::from_millis(200)).await;
            let paused = count.load(Ordering::Relaxed);
            run.send_replace(snapshot(RunState::Running));
            while count.load(Ordering::Relaxed) < 5 {
                sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
            paused
        };
        let (paused, ()) = tokio::join!(operator, keeping);
        assert_eq!(paused, 1);
    }

    #[tokio::test]
    async fn an_open_sample_gets_its_grace_when_the_process_ends_and_no_more() {
        let (run, _) = watch::channel(snapshot(RunState::Running));
        let stop = CancellationToken::new();
        let cancel = async {
            sleep(Duration::from_millis(20)).await;
            stop.cancel();
        };
        let hanging = sampler(&stop, &run).keep(std::future::pending, |_reading: Reading<()>| {});
        let both = timeout(Duration::from_secs(10), async { tokio::join!(hanging, cancel) });
        assert!(both.await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_in_a_blocking_probe_is_a_failure_and_the_next_sample_comes() {
        let probe = Arc::new(Mutex::new(0));
        let panics = blocking(Arc::clone(&probe), |_: &mut i32| -> Result<i32, String> { panic!("odd") }).await;
        assert!(panics.is_err());
        assert_eq!(blocking(probe, |_| Ok(7)).await, Ok(7));
    }

    #[test]
    fn a_deadline_is_told_in_a_few_letters() {
        assert_eq!(brief(Duration::from_secs(5)), "5 s");
        assert_eq!(brief(Duration::from_millis(40)), "40ms");
    }
}
