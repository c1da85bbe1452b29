//! The queue of plans: read while it is looked at, and told what an operator wants of it.
//!
//! Without a Redis nothing is read and nothing is sent. One that falls silent is told with since when, and tried again: the
//! rest of the console does not notice it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::redis_queue::RedisQueue;
use super::show;
use crate::cli::Global;
use crate::cli::environment::variable;
use crate::engine::clock::{Clock, SystemClock};
use crate::plan::model::Plan;
use crate::redis::Address;
use crate::run::queue::ANSWERS;
use crate::run::{Cause, Details, Interest, OrderAnswer, QueueOrder, QueueReading, QueueView};

/// A queue that can be read, and asked for something.
pub trait QueueDesk: Send + Sync {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read now.
    fn read(&self) -> BoxFuture<'_, Result<QueueView, Cause>>;

    /// Carries out what is wanted, and says what came of it.
    ///
    /// # Errors
    /// It cannot be reached, or what is wanted cannot be done.
    fn order(&self, order: QueueOrder) -> BoxFuture<'_, Result<String, Cause>>;
}

/// How often a queue is looked at, and how long it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one look to the next. Default 1 s.
    pub every: Duration,
    /// From one look that failed to the next. Default 2 s.
    pub again: Duration,
    /// How long an answer may take in all. Default 15 s.
    pub deadline: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), again: Duration::from_secs(2), deadline: Duration::from_secs(15) }
    }
}

/// A look that took long is followed by a pause of so many times that long.
const REST: u32 = 4;

/// Reads the queue while it is looked at and carries out `orders`, until `stop`, or until nobody is left to look.
pub async fn keep(
    queue: Option<Arc<dyn QueueDesk>>,
    pace: Pace,
    interest: watch::Receiver<Interest>,
    orders: mpsc::Receiver<QueueOrder>,
    details: watch::Sender<Arc<Details>>,
    stop: CancellationToken,
) {
    let keeper = Keeper { queue, pace, clock: SystemClock::start(), details, answered: 0 };
    keeper.keep(interest, orders, stop).await;
}

struct Keeper {
    queue: Option<Arc<dyn QueueDesk>>,
    pace: Pace,
    clock: SystemClock,
    details: watch::Sender<Arc<Details>>,
    /// Orders that have been answered.
    answered: u64,
}

impl Keeper {
    async fn keep(
        mut self,
        mut interest: watch::Receiver<Interest>,
        mut orders: mpsc::Receiver<QueueOrder>,
        stop: CancellationToken,
    ) {
        let mut due = None;
        loop {
            let wanted = self.queue.is_some() && interest.borrow_and_update().queue;
            // What somebody begins to look at is read at once.
            due = wanted.then(|| due.unwrap_or_else(Instant::now));
            let moment = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                order = orders.recv() => match order {
                    Some(order) => {
                        // Not dropped halfway: it is carried out or it is not, and that is told.
                        self.carry_out(order).await;
                        due = due.map(|_| Instant::now());
                    }
                    None => return,
                },
                changed = interest.changed() => if changed.is_err() { break },
                () = moment => {
                    let began = Instant::now();
                    let read = tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        read = self.read() => read,
                    };
                    let every = if read { self.pace.every } else { self.pace.again };
                    let now = Instant::now();
                    due = Some((began + every).max(now + (now - began) * REST));
                }
            }
        }
        // What was asked for before the console was closed still counts.
        orders.close();
        while let Some(order) = orders.recv().await {
            self.carry_out(order).await;
        }
    }

    /// Reads the queue, and shows it or why it cannot be read. Whether it could.
    async fn read(&self) -> bool {
        let Some(queue) = &self.queue else { return false };
        show(&self.details, |details| {
            if details.queue.reading == QueueReading::Unnamed {
                details.queue.reading = QueueReading::Pending;
            }
        });
        let read = timeout(self.pace.deadline, queue.read()).await.unwrap_or_else(|_| Err(silent()));
        let is_read = read.is_ok();
        show(&self.details, |details| {
            let reading = &mut details.queue.reading;
            *reading = match read {
                Ok(view) => QueueReading::Read(Arc::new(view)),
                Err(cause) => reading.failed(in_a_line(&cause), self.clock.utc()),
            };
        });
        is_read
    }

    async fn carry_out(&mut self, order: QueueOrder) {
        let outcome = match &self.queue {
            Some(queue) => timeout(self.pace.deadline, queue.order(order.clone())).await,
            None => Ok(Err(Cause::new("no Redis is named").hint("--redis, HOWDAH_REDIS or REDIS_URL names one"))),
        };
        let outcome = outcome.unwrap_or_else(|_| Err(silent())).map_err(|cause| in_a_line(&cause));
        tracing::info!(order = order.words(), ?outcome, "asked of the queue");
        self.answered += 1;
        let answer = OrderAnswer { no: self.answered, order, outcome };
        show(&self.details, |details| {
            details.queue.answers.push_back(answer);
            while details.queue.answers.len() > ANSWERS {
                details.queue.answers.pop_front();
            }
        });
    }
}

fn silent() -> Cause {
    Cause::new("no answer in time")
}

/// What there is no room for is left out: a hint is worth more than details.
fn in_a_line(cause: &Cause) -> String {
    match cause.hints.first() {
        Some(hint) => format!("{} ({hint})", cause.message),
        None => cause.message.clone(),
    }
}

/// The queue on the Redis that is named: by the flag, by the plan, by the environment. `queue` is its name, where it is not
/// the usual one. `None`: nobody names a Redis.
#[must_use]
pub fn named(global: &Global, plan: Option<&Plan>, queue: Option<&str>) -> Option<Arc<dyn QueueDesk>> {
    match Address::resolve(global.redis.as_deref(), plan.map(|plan| &plan.redis), &variable) {
        Ok(None) => None,
        Ok(Some(address)) => Some(Arc::new(RedisQueue::new(address, queue, global.database.clone()))),
        Err(cause) => Some(Arc::new(Misnamed(cause))),
    }
}

/// A queue whose address is wrong: it is said where it is looked at, and nowhere else.
struct Misnamed(Cause);

impl QueueDesk for Misnamed {
    fn read(&self) -> BoxFuture<'_, Result<QueueView, Cause>> {
        let cause = self.0.clone();
        Box::pin(async { Err(cause) })
    }

    fn order(&self, _order: QueueOrder) -> BoxFuture<'_, Result<String, Cause>> {
        let cause = self.0.clone();
        Box::pin(async { Err(cause) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::JoinSet;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(5);

    /// Answers what it is told to.
    #[derive(Default)]
    struct Fake {
        down: Mutex<bool>,
        reads: Mutex<u32>,
    }

    impl QueueDesk for Fake {
        fn read(&self) -> BoxFuture<'_, Result<QueueView, Cause>> {
            *self.reads.lock().unwrap() += 1;
            let down = *self.down.lock().unwrap();
            let view = QueueView { name: "howdah".to_owned(), ..QueueView::default() };
            Box::pin(async move { if down { Err(Cause::new("refused").hint("start it")) } else { Ok(view) } })
        }

        fn order(&self, order: QueueOrder) -> BoxFuture<'_, Result<String, Cause>> {
            Box::pin(
                async move { if order == QueueOrder::Pause { Ok("done".to_owned()) } else { Err(Cause::new("no")) } },
            )
        }
    }

    struct Bench {
        interest: watch::Sender<Interest>,
        orders: mpsc::Sender<QueueOrder>,
        details: watch::Receiver<Arc<Details>>,
        stop: CancellationToken,
        tasks: JoinSet<()>,
    }

    fn bench(queue: Option<Arc<dyn QueueDesk>>) -> Bench {
        let (interest, looked_at) = watch::channel(Interest::default());
        let (orders, asked) = mpsc::channel(4);
        let (shown, details) = watch::channel(Arc::default());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let pace = Pace { every: MOMENT, again: MOMENT, ..Pace::default() };
        tasks.spawn(keep(queue, pace, looked_at, asked, shown, stop.clone()));
        Bench { interest, orders, details, stop, tasks }
    }

    impl Bench {
        fn look(&self, queue: bool) {
            self.interest.send_replace(Interest { queue, ..Interest::default() });
        }

        async fn until(&mut self, fits: impl Fn(&Details) -> bool) -> Arc<Details> {
            let shown = timeout(Duration::from_mins(1), self.details.wait_for(|details| fits(details))).await;
            Arc::clone(&shown.expect("in time").expect("the desk is there"))
        }
    }

    #[tokio::test]
    async fn a_queue_is_read_only_while_it_is_looked_at() {
        let fake = Arc::new(Fake::default());
        let mut bench = bench(Some(fake.clone()));
        tokio::time::sleep(MOMENT * 20).await;
        let reads = || *fake.reads.lock().unwrap();
        assert_eq!(reads(), 0);
        bench.look(true);
        bench.until(|details| details.queue.reading.view().is_some()).await;
        let again = async {
            while reads() < 5 {
                tokio::time::sleep(MOMENT).await;
            }
        };
        timeout(Duration::from_mins(1), again).await.expect("it is read again and again");
        bench.look(false);
        tokio::time::sleep(MOMENT * 4).await;
        let last = reads();
        tokio::time::sleep(MOMENT * 20).await;
        assert_eq!(reads(), last);
    }

    #[tokio::test]
    async fn a_queue_that_falls_silent_says_since_when_and_comes_back_by_itself() {
        let fake = Arc::new(Fake::default());
        let mut bench = bench(Some(fake.clone()));
        bench.look(true);
        bench.until(|details| details.queue.reading.view().is_some()).await;
        *fake.down.lock().unwrap() = true;
        let silent = bench.until(|details| matches!(details.queue.reading, QueueReading::Silent { .. })).await;
        let QueueReading::Silent { why, last, .. } = &silent.queue.reading else { panic!("not silent") };
        assert_eq!((why.as_str(), last.is_some()), ("refused (start it)", true));
        *fake.down.lock().unwrap() = false;
        bench.until(|details| matches!(details.queue.reading, QueueReading::Read(_))).await;
    }

    #[tokio::test]
    async fn what_is_asked_is_answered_also_when_the_console_is_closed_at_once() {
        let mut bench = bench(Some(Arc::new(Fake::default())));
        bench.orders.send(QueueOrder::Pause).await.unwrap();
        let answered = bench.until(|details| !details.queue.answers.is_empty()).await;
        assert_eq!(answered.queue.answers[0].outcome, Ok("done".to_owned()));
        bench.orders.send(QueueOrder::Drain).await.unwrap();
        bench.stop.cancel();
        while bench.tasks.join_next().await.is_some() {}
        let answers = bench.details.borrow().queue.answers.clone();
        assert_eq!(answers.back().map(|answer| (answer.no, answer.outcome.clone())), Some((2, Err("no".to_owned()))));
    }

    #[tokio::test]
    async fn without_a_redis_nothing_is_read_and_orders_are_refused() {
        let mut bench = bench(None);
        bench.look(true);
        tokio::time::sleep(MOMENT * 20).await;
        assert_eq!(bench.details.borrow().queue.reading, QueueReading::Unnamed);
        bench.orders.send(QueueOrder::Pause).await.unwrap();
        let answered = bench.until(|details| !details.queue.answers.is_empty()).await;
        let why = answered.queue.answers[0].outcome.clone().unwrap_err();
        assert!(why.contains("no Redis is named"), "{why}");
    }
}
