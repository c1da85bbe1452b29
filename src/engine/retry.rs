//! How long to wait before a batch is tried again: exponential, capped, with full jitter. Pure: the randomness comes
//! from a seed.
//!
//! The exponential is `backon`'s, without its jitter: that one adds up to a whole delay on top, so that two workers that
//! failed together stay apart by less than they could, and the cap is passed. Full jitter draws evenly between nothing
//! and the exponential delay. Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::plan::model::Retry;

type Exponential = <ExponentialBuilder as BackoffBuilder>::Backoff;

/// The delays of one batch, one after the other.
#[derive(Debug)]
pub struct Delays {
    shape: ExponentialBuilder,
    attempts: usize,
    max: Duration,
    errors: Exponential,
    outages: Exponential,
    random: fastrand::Rng,
}

impl Delays {
    /// The delays that `[retry]` asks for. Each worker has a seed of its own, so that workers which failed together do
    /// not come back together.
    #[must_use]
    pub fn new(retry: &Retry, seed: u64) -> Self {
        let shape = ExponentialBuilder::new().with_factor(2.0).with_min_delay(retry.base).with_max_delay(retry.max);
        // The first attempt needs no delay.
        let attempts = usize::try_from(retry.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        Self {
            shape,
            attempts,
            max: retry.max,
            errors: shape.with_max_times(attempts).build(),
            outages: shape.without_max_times().build(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The delay before the next attempt; `None` once all attempts are used.
    pub fn next_delay(&mut self) -> Option<Duration> {
        let most = self.errors.next()?;
        Some(self.drawn(most))
    }

    /// The delay before the next attempt in an outage, which the breaker ends and not a number of attempts.
    pub fn next_outage_delay(&mut self) -> Duration {
        let most = self.outages.next().unwrap_or(self.max);
        self.drawn(most)
    }

    /// Begins anew: the batch went well.
    pub fn reset(&mut self) {
        self.errors = self.shape.with_max_times(self.attempts).build();
        self.outages = self.shape.without_max_times().build();
    }

    /// Drawn evenly between nothing and the exponential delay, to the microsecond. The cap also holds for the first
    /// delay, which backon leaves as it is.
    fn drawn(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.min(self.max).as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.u64(0..=most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RETRY: Retry = Retry { attempts: 3, base: Duration::from_secs(1), max: Duration::from_secs(30) };

    #[test]
    fn three_attempts_have_two_delays_between_them() {
        let mut delays = Delays::new(&RETRY, 7);
        assert!(delays.next_delay().is_some());
        assert!(delays.next_delay().is_some());
        assert_eq!(delays.next_delay(), None);
        assert_eq!(delays.next_delay(), None);
        delays.reset();
        assert!(delays.next_delay().is_some());
    }

    #[test]
    fn one_attempt_is_never_followed_by_another() {
        assert_eq!(Delays::new(&Retry { attempts: 1, ..RETRY }, 7).next_delay(), None);
    }

    #[test]
    fn an_outage_uses_up_no_attempts() {
        let mut delays = Delays::new(&RETRY, 7);
        for _ in 0..1000 {
            assert!(delays.next_outage_delay() <= RETRY.max);
        }
        assert!(delays.next_delay().is_some());
    }

    #[test]
    fn jitter_is_full() {
        // The third exponential delay is 4 s: drawn from all of 0 to 4 s, and evenly.
        let third = |seed| {
            let mut delays = Delays::new(&Retry { attempts: 9, ..RETRY }, seed);
            delays.next_delay();
            delays.next_delay();
            delays.next_delay().expect("a delay").as_secs_f64()
        };
        let drawn: Vec<f64> = (0..1000).map(third).collect();
        for quarter in [0.0, 1.0, 2.0, 3.0] {
            let inside = drawn.iter().filter(|delay| (quarter..quarter + 1.0).contains(*delay)).count();
            assert!((180..320).contains(&inside), "{inside} of 1,000 between {quarter} and {} s", quarter + 1.0);
        }
    }

    #[test]
    fn a_seed_makes_the_same_delays() {
        let all = |seed| {
            let mut delays = Delays::new(&Retry { attempts: 20, ..RETRY }, seed);
            std::iter::from_fn(|| delays.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }

    proptest! {
        #[test]
        fn no_delay_is_longer_than_the_exponential_one_or_the_cap(
            attempts in 1_u32..40, base_ms in 0_u64..100_000, max_ms in 0_u64..10_000_000, seed in any::<u64>()
        ) {
            let (base, max) = (Duration::from_millis(base_ms), Duration::from_millis(max_ms));
            let mut delays = Delays::new(&Retry { attempts, base, max }, seed);
            // backon multiplies in single precision: right to seven digits.
            let bound = |n: i32| (base.as_secs_f64() * 2_f64.powi(n) * (1.0 + 1e-6)).min(max.as_secs_f64());
            for n in 0..attempts - 1 {
                let delay = delays.next_delay().expect("attempts are left");
                prop_assert!(delay.as_secs_f64() <= bound(n.cast_signed()), "{n}: {delay:?}");
            }
            prop_assert_eq!(delays.next_delay(), None);
            for n in 0..60 {
                prop_assert!(delays.next_outage_delay().as_secs_f64() <= bound(n));
            }
        }
    }
}
