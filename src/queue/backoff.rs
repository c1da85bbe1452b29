//! How long a job rests before it is tried again. Pure.

use std::time::Duration;

use bullmq::types::BackoffStrategy;

/// No rest is longer.
pub const LONGEST: Duration = Duration::from_mins(5);
/// The rest where a job names none, and its growth where the name of its strategy is not known here.
pub const USUAL: Backoff = Backoff::Exponential(Duration::from_secs(1));

/// How the rests of a job grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Always the same.
    Fixed(Duration),
    /// Twice as long after each attempt, from this one on, up to [`LONGEST`]; drawn anew between nothing and that, so that
    /// jobs which failed together do not come back together ("full jitter", as in AWS's "Exponential Backoff And Jitter").
    Exponential(Duration),
}

impl Backoff {
    /// Reads `exponential:1s`, `fixed:5s`.
    ///
    /// # Errors
    /// What is wrong with it, for a command line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, time) = text.split_once(':').unwrap_or((text, "1s"));
        let time =
            humantime::parse_duration(time).map_err(|e| format!("{e}; write it like exponential:1s or fixed:5s"))?;
        match kind {
            "exponential" => Ok(Self::Exponential(time)),
            "fixed" => Ok(Self::Fixed(time)),
            other => Err(format!("`{other}` is no way to wait; write exponential:1s or fixed:5s")),
        }
    }

    /// As a job carries it. A strategy of somebody else's own counts as [`USUAL`].
    #[must_use]
    pub fn of(strategy: Option<&BackoffStrategy>) -> Self {
        match strategy {
            Some(BackoffStrategy::Fixed(ms)) => Self::Fixed(Duration::from_millis(*ms)),
            Some(BackoffStrategy::Exponential(ms)) => Self::Exponential(Duration::from_millis(*ms)),
            Some(BackoffStrategy::Custom(_)) | None => USUAL,
        }
    }

    /// As BullMQ stores it: its dashboards show it, and its own workers would keep it.
    #[must_use]
    pub fn stored(self) -> BackoffStrategy {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Fixed(time) => BackoffStrategy::Fixed(ms(time)),
            Self::Exponential(time) => BackoffStrategy::Exponential(ms(time)),
        }
    }

    /// The rest after the `attempts`th attempt, which has failed. `draw` is a number from 0 to 1.
    #[must_use]
    pub fn rest(self, attempts: u32, draw: f64) -> Duration {
        match self {
            Self::Fixed(time) => time.min(LONGEST),
            Self::Exponential(first) => {
                let doubled = 2_u32.checked_pow(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
                first.saturating_mul(doubled).min(LONGEST).mul_f64(draw.clamp(0.0, 1.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rest_is_read_as_it_is_written_on_the_command_line() {
        let second = Duration::from_secs(1);
        assert_eq!(Backoff::parse("exponential:1s"), Ok(Backoff::Exponential(second)));
        assert_eq!(Backoff::parse("exponential"), Ok(Backoff::Exponential(second)));
        assert_eq!(Backoff::parse("fixed:5s"), Ok(Backoff::Fixed(second * 5)));
        for wrong in ["", "linear:1s", "fixed:", "fixed:five", "exponential:-1s"] {
            assert!(Backoff::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_exponential_rest_doubles_up_to_five_minutes() {
        let backoff = Backoff::Exponential(Duration::from_secs(1));
        let rests: Vec<u64> = [1, 2, 3, 8, 9, 10, 64, u32::MAX].map(|n| backoff.rest(n, 1.0).as_secs()).into();
        assert_eq!(rests, [1, 2, 4, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.rest(3, 0.5), Duration::from_secs(2));
        assert_eq!(Backoff::Fixed(Duration::from_secs(5)).rest(7, 0.1), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn no_rest_is_longer_than_the_longest(ms in 0..u64::MAX, attempts in 0..u32::MAX, draw in -1.0..2.0_f64) {
            let exponential = Backoff::of(Some(&BackoffStrategy::Exponential(ms)));
            prop_assert!(exponential.rest(attempts, draw) <= LONGEST);
            prop_assert!(Backoff::of(Some(&BackoffStrategy::Fixed(ms))).rest(attempts, draw) <= LONGEST);
        }
    }
}
