//! When a frame is drawn: what is wanted at once, unless the last frames were too many for its haste.

use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Sleep, sleep};

use super::action::Haste;

/// Between two frames while nothing but numbers change.
const CALM: Duration = Duration::from_secs(1);
/// Between two frames on average while a key is held down.
const QUICK: Duration = Duration::from_millis(100);
/// Between two frames at least.
const YOUNG: Duration = Duration::from_millis(15);
/// Quick frames that may follow each other without [`QUICK`] between them: single keys are seen at once.
const BURST: u32 = 3;

/// When to draw.
///
/// A bucket of [`BURST`] frames: a frame takes one, a rest of [`QUICK`] before it puts one back, and a rest of [`BURST`]
/// times that fills it. Without a clock: the sleeps begin with the last frame, and tell how old it is.
#[derive(Debug)]
pub(super) struct Pace {
    wanted: Option<Haste>,
    left: u32,
    young: Pin<Box<Sleep>>,
    quick: Pin<Box<Sleep>>,
    full: Pin<Box<Sleep>>,
    calm: Pin<Box<Sleep>>,
}

impl Pace {
    /// A frame has just been drawn, the first one.
    pub(super) fn begin() -> Self {
        Self {
            wanted: None,
            left: BURST,
            young: Box::pin(sleep(YOUNG)),
            quick: Box::pin(sleep(QUICK)),
            full: Box::pin(sleep(QUICK * BURST)),
            calm: Box::pin(sleep(CALM)),
        }
    }

    pub(super) fn want(&mut self, haste: Haste) {
        self.wanted = self.wanted.max(Some(haste));
    }

    /// Returns when it is time to draw what is wanted; never while nothing is.
    pub(super) async fn due(&mut self) {
        match self.wanted {
            None => std::future::pending().await,
            Some(Haste::Calm) => self.calm.as_mut().await,
            Some(Haste::Quick) if self.left > 0 => self.young.as_mut().await,
            Some(Haste::Quick) => self.quick.as_mut().await,
        }
    }

    /// A frame has just been drawn.
    pub(super) fn drawn(&mut self) {
        self.wanted = None;
        if self.full.as_mut().now_or_never().is_some() {
            self.left = BURST;
        } else if self.quick.as_mut().now_or_never().is_some() {
            self.left = (self.left + 1).min(BURST);
        }
        self.left = self.left.saturating_sub(1);
        self.young.set(sleep(YOUNG));
        self.quick.set(sleep(QUICK));
        self.full.set(sleep(QUICK * BURST));
        self.calm.set(sleep(CALM));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    /// A sleep of no time at all begins now.
    fn now() -> Instant {
        sleep(Duration::ZERO).deadline()
    }

    async fn is_due(pace: &mut Pace, within: Duration) -> bool {
        timeout(within, pace.due()).await.is_ok()
    }

    #[tokio::test]
    async fn nothing_is_drawn_that_nobody_wants() {
        assert!(!is_due(&mut Pace::begin(), 2 * QUICK).await);
    }

    #[tokio::test]
    async fn a_key_is_seen_at_once_and_numbers_within_a_second() {
        let mut pace = Pace::begin();
        pace.want(Haste::Quick);
        pace.want(Haste::Calm);
        assert!(is_due(&mut pace, 2 * YOUNG).await);
        pace.drawn();
        pace.want(Haste::Calm);
        assert!(!is_due(&mut pace, 2 * QUICK).await);
        assert!(is_due(&mut pace, CALM).await);
        assert!(is_due(&mut pace, 2 * YOUNG).await, "it stays due until it is drawn");
    }

    /// The milliseconds between frames of a key that comes every `every` milliseconds, for `keys` times.
    async fn frames(every: u64, keys: u32) -> Vec<Duration> {
        let mut pace = Pace::begin();
        sleep(CALM).await;
        let (mut drawn, mut last) = (Vec::new(), now());
        for _ in 0..keys {
            pace.want(Haste::Quick);
            let next = sleep(Duration::from_millis(every));
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = pace.due() => {
                        pace.drawn();
                        drawn.push(now() - last);
                        last = now();
                    }
                    () = &mut next => break,
                }
            }
        }
        drawn
    }

    #[tokio::test]
    async fn a_key_that_is_held_down_costs_ten_frames_a_second_after_the_first_ones() {
        let drawn = frames(30, 60).await;
        assert!((14..=23).contains(&drawn.len()), "{drawn:?}");
        assert!(drawn[5..].iter().all(|gap| *gap + Duration::from_millis(2) >= QUICK), "{drawn:?}");
    }

    #[tokio::test]
    async fn keys_that_are_pressed_one_by_one_are_all_seen_at_once() {
        assert_eq!(frames(110, 10).await.len(), 10);
    }
}
