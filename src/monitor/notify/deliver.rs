//! One recipient's task: takes messages from its line, one after the other, and tries each until it has arrived or is given
//! up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::Troubles;
use super::again::{Delays, Verdict};
use super::line::Line;
use super::message::Message;
use super::{program, web};
use crate::run::notify::{Destination, Recipient, Web, trouble_key};
use crate::run::text::clean;

/// After so many attempts in a row that failed a recipient counts as down.
const DOWN: u32 = 2;
/// Once the run is over a messenger does not wait for longer than this.
const HURRY: Duration = Duration::from_millis(500);

/// How long messengers wait between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The first delay at most. Default 1 s.
    pub base: Duration,
    /// The longest delay. Default 1 min.
    pub most: Duration,
    /// How old a message may become before it is given up: from then on it has only its first attempts. Default 10 min.
    pub limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), most: Duration::from_mins(1), limit: Duration::from_mins(10) }
    }
}

/// What became of a message.
enum End {
    Told,
    /// What it says holds no more, and the message that says so waits behind it.
    Stale,
    GivenUp(String),
}

/// The way to one recipient.
enum Way<'a> {
    Web(&'a Web, reqwest::Client),
    Program(&'a [String]),
    Closed(String),
}

impl<'a> Way<'a> {
    fn to(recipient: &'a Recipient) -> Self {
        match &recipient.to {
            Destination::Program(argv) => Self::Program(argv),
            Destination::Web(web) => match web::client(web, recipient.timeout) {
                Ok(client) => Self::Web(web, client),
                Err(why) => Self::Closed(why),
            },
        }
    }

    async fn attempt(&self, recipient: &Recipient, message: &Message) -> Verdict {
        match self {
            Self::Web(web, client) => {
                let post = web::post(client, web, message);
                let late = || Verdict::Later("no answer in time".to_owned(), None);
                tokio::time::timeout(recipient.timeout, post).await.unwrap_or_else(|_| late())
            }
            Self::Program(argv) => program::run(argv, recipient.timeout, message).await,
            Self::Closed(why) => Verdict::Never(why.clone()),
        }
    }
}

/// Tells a recipient once, and returns what came of it.
pub async fn attempt(recipient: &Recipient, message: &Message) -> Verdict {
    Way::to(recipient).attempt(recipient, message).await
}

/// Goes on until the line is closed and empty. From `closing` on it hurries.
pub(super) async fn keep(
    recipient: Recipient,
    line: Arc<Line>,
    troubles: watch::Sender<Troubles>,
    patience: Patience,
    closing: CancellationToken,
) {
    let way = Way::to(&recipient);
    let (key, name) = (trouble_key(&recipient.name), clean(&recipient.name).into_owned());
    let mut failed = 0_u32;
    while let Some(message) = line.next().await {
        // That it is not told of others raises nothing: two that fail would tell each other of it for ever.
        let is_quiet = message.is_about_recipient();
        let mut delays = Delays::new(patience.base, patience.most, recipient.attempts, fastrand::u64(..));
        let mut attempts = 0_u32;
        let end = loop {
            attempts += 1;
            let (why, wait) = match way.attempt(&recipient, &message).await {
                Verdict::Delivered(_) => break End::Told,
                Verdict::Later(why, asked) => {
                    let again = recipient.attempts > 1 && !closing.is_cancelled() && line.age() < patience.limit;
                    let wait =
                        delays.next(asked).or_else(|| again.then(|| patience.most.max(asked.unwrap_or_default())));
                    (why, wait)
                }
                Verdict::Never(why) => (why, None),
            };
            failed = failed.saturating_add(u32::from(!is_quiet));
            line.failed(&why);
            tracing::debug!(recipient = %name, attempts, "a message did not arrive: {why}");
            if !is_quiet && (failed >= DOWN || wait.is_none()) {
                tell(&troubles, &key, Some(format!("{name} is not reached: {why}")));
            }
            let Some(wait) = wait else { break End::GivenUp(why) };
            rest(wait, &closing).await;
            if line.is_stale(&message) {
                break End::Stale;
            }
        };
        match end {
            End::Stale => line.put_by(),
            End::Told => {
                line.done(None);
                failed = 0;
                tracing::info!(recipient = %name, event = message.occasion.word(), "told");
                // Only where something was said before: nobody needs to hear that all is as ever.
                if troubles.borrow().get(&key).is_some_and(Option::is_some) {
                    tell(&troubles, &key, None);
                }
            }
            End::GivenUp(why) => {
                line.done(Some(&why));
                let event = message.occasion.word();
                tracing::warn!(recipient = %name, event, attempts, "a message is given up: {why}");
            }
        }
    }
}

/// Waits, and no longer than a moment once the run is over.
async fn rest(wait: Duration, closing: &CancellationToken) {
    let hurried = async {
        closing.cancelled().await;
        sleep(HURRY).await;
    };
    tokio::select! {
        () = sleep(wait) => {}
        () = hurried => {}
    }
}

fn tell(troubles: &watch::Sender<Troubles>, key: &str, trouble: Option<String>) {
    troubles.send_modify(|known| {
        known.insert(key.to_owned(), trouble);
    });
}
