use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::run::vitals::DatabaseVitals;
use crate::run::{ByteSize, RunState};

const PACE: Pace = Pace {
    every: Duration::from_millis(10),
    at_rest: Duration::from_millis(50),
    deadline: Duration::from_millis(60),
    grace: Duration::from_millis(10),
};

const LIMITS: AlertLimits = AlertLimits {
    duration: Duration::from_mins(5),
    memory: ByteSize(1 << 50),
    free_memory_percent: 0.0,
    error_rate_percent: 10.0,
};

struct Clocks(Instant);

impl Now for Clocks {
    fn utc(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What the fake database does at each sample, until it is told otherwise.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Answer,
    Fail(&'static str),
    Hang(Duration),
}

struct Fake(Arc<Mutex<Deed>>);

#[async_trait]
impl DatabaseSource for Fake {
    async fn sample(&self) -> Result<DatabaseSample, String> {
        let deed = *self.0.lock().unwrap();
        match deed {
            Deed::Answer => {}
            Deed::Fail(why) => return Err(why.to_owned()),
            Deed::Hang(time) => sleep(time).await,
        }
        Ok(DatabaseSample { size: ByteSize(42), ..DatabaseSample::default() })
    }
}

/// A monitor at work, with the ends that a test holds.
struct Bench {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    source: watch::Sender<Option<Arc<dyn DatabaseSource>>>,
    deed: Arc<Mutex<Deed>>,
    run: watch::Sender<Arc<Snapshot>>,
    vitals: watch::Receiver<Arc<Vitals>>,
}

impl Bench {
    fn start() -> Self {
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        let now = Arc::new(Clocks(Instant::now()));
        let mut snapshot = Snapshot::starting(now.utc(), "r".into(), "p".into(), "h".into());
        snapshot.state = RunState::Running;
        let (run, runs) = watch::channel(Arc::new(snapshot));
        let (source, sources) = watch::channel(None);
        let rules = watch::channel(Some(Arc::new(AlertRules::new(&LIMITS, Vec::new(), alerts::EVERY)))).1;
        let alarms = Alarms { rules, troubles: watch::channel(Troubles::new()).1 };
        let vitals = start_at(PACE, &mut tasks, stop.clone(), sources, alarms, now, runs);
        Self { tasks, stop, source, deed: Arc::new(Mutex::new(Deed::Answer)), run, vitals }
    }

    fn connect(&self) {
        self.source.send_replace(Some(Arc::new(Fake(Arc::clone(&self.deed)))));
    }

    fn tell(&self, deed: Deed) {
        *self.deed.lock().unwrap() = deed;
    }

    async fn wait_for(&mut self, what: impl Fn(&Vitals) -> bool) -> Arc<Vitals> {
        let seen = self.vitals.wait_for(|vitals| what(vitals));
        let seen = timeout(Duration::from_secs(10), seen).await.unwrap().unwrap();
        Arc::clone(&seen)
    }

    async fn end(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        timeout(Duration::from_secs(10), all).await.unwrap();
    }
}

fn answered(vitals: &Vitals) -> bool {
    vitals.database.value().is_some_and(|database: &DatabaseVitals| database.size == ByteSize(42))
}

fn unavailable(vitals: &Vitals, why: &str) -> bool {
    vitals.database == Reading::Unavailable(why.to_owned())
}

#[tokio::test]
async fn a_source_that_fails_shows_why_and_comes_back() {
    let mut bench = Bench::start();
    bench.connect();
    bench.wait_for(answered).await;
    bench.tell(Deed::Fail("permission denied"));
    bench.wait_for(|vitals| unavailable(vitals, "permission denied")).await;
    bench.tell(Deed::Answer);
    bench.wait_for(answered).await;
    bench.end().await;
}

#[tokio::test]
async fn a_source_that_hangs_shows_unavailable_and_its_late_answer_is_taken() {
    let mut bench = Bench::start();
    bench.tell(Deed::Hang(Duration::from_millis(300)));
    bench.connect();
    bench.wait_for(|vitals| unavailable(vitals, "no answer within 60ms")).await;
    bench.wait_for(answered).await;
    bench.end().await;
}

#[tokio::test]
async fn a_source_that_hangs_for_ever_holds_up_neither_the_others_nor_the_end() {
    let mut bench = Bench::start();
    bench.tell(Deed::Hang(Duration::from_hours(1)));
    bench.connect();
    bench.wait_for(|vitals| unavailable(vitals, "no answer within 60ms")).await;
    let host = bench.wait_for(|vitals| vitals.host.value().is_some()).await.host.clone();
    bench.wait_for(|vitals| vitals.host != host).await;
    bench.wait_for(|vitals| vitals.process.value().is_some()).await;
    bench.end().await;
}

#[tokio::test]
async fn the_database_is_pending_until_there_is_a_connection() {
    let mut bench = Bench::start();
    let vitals = bench.wait_for(|vitals| vitals.process.value().is_some()).await;
    assert_eq!(vitals.database, Reading::Pending);
    bench.connect();
    bench.wait_for(answered).await;
    bench.end().await;
}

#[tokio::test]
async fn a_run_that_works_too_long_raises_an_alert() {
    let mut bench = Bench::start();
    bench.run.send_modify(|run| Arc::make_mut(run).spent.worked = Duration::from_secs(301));
    let vitals = bench.wait_for(|vitals| !vitals.alerts.is_empty()).await;
    assert_eq!((vitals.alerts[0].key.as_str(), vitals.alerts[0].count), ("duration", 1));
    bench.end().await;
}
