//! The states of a run and of a step, and the one function that says which change is legal.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Asker, Cause};

/// Where a run stands. Every state carries what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RunState {
    /// Connecting, checking, taking the lock: nothing is changed yet.
    Starting,
    /// At work.
    Running,
    /// A pause was asked for; the open batch is being finished.
    Pausing {
        /// When it was asked for.
        since: DateTime<Utc>,
        /// Who asked.
        by: Asker,
    },
    /// Holding still; nothing is open.
    Paused {
        /// When the last open batch had committed.
        since: DateTime<Utc>,
        /// Who asked.
        by: Asker,
    },
    /// Going on was asked for; the first batch is not open yet.
    Resuming {
        /// When it was asked for.
        since: DateTime<Utc>,
    },
    /// An end was asked for; the open batch is being finished.
    Stopping {
        /// When it was asked for.
        since: DateTime<Utc>,
        /// Who asked.
        by: Asker,
    },
    /// Ended before the end, on request. `howdah resume` goes on.
    Stopped {
        /// When the last batch had committed.
        at: DateTime<Utc>,
        /// Who asked.
        by: Asker,
    },
    /// Ended by an error.
    Failed {
        /// When.
        at: DateTime<Utc>,
        /// Why.
        cause: Cause,
        /// Whether `howdah resume` can go on.
        resumable: bool,
    },
    /// Every step is done and checked.
    Done {
        /// When.
        at: DateTime<Utc>,
    },
}

/// What makes a run change its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Connected, checked and locked: the work begins.
    Begin,
    /// Somebody wants a pause.
    AskPause {
        /// Who.
        by: Asker,
    },
    /// The open batch has committed.
    AtEdge,
    /// Somebody wants to go on.
    AskContinue,
    /// Somebody wants an end.
    AskStop {
        /// Who.
        by: Asker,
    },
    /// An error that ends the run.
    Fail {
        /// Why.
        cause: Cause,
        /// Whether `howdah resume` can go on.
        resumable: bool,
    },
    /// The last step is done and checked.
    Finish,
}

/// A change that the state machine does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from} cannot take `{signal}`")]
pub struct IllegalTransition {
    /// The state's word.
    pub from: &'static str,
    /// The signal's word.
    pub signal: &'static str,
}

impl RunState {
    /// The next state after `signal` at the time `now`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where the blueprint knows no such change. The state is unchanged then.
    pub fn after(&self, signal: &Signal, now: DateTime<Utc>) -> Result<Self, IllegalTransition> {
        use RunState as S;
        let illegal = || IllegalTransition { from: self.word(), signal: signal.word() };
        match signal {
            Signal::Begin => match self {
                S::Starting => Ok(S::Running),
                S::Running
                | S::Pausing { .. }
                | S::Paused { .. }
                | S::Resuming { .. }
                | S::Stopping { .. }
                | S::Stopped { .. }
                | S::Failed { .. }
                | S::Done { .. } => Err(illegal()),
            },
            Signal::AskPause { by } => match self {
                S::Running | S::Resuming { .. } => Ok(S::Pausing { since: now, by: *by }),
                // The governor's pause becomes somebody's own: it no longer ends by itself.
                S::Pausing { since, by: Asker::Governor } if *by != Asker::Governor => {
                    Ok(S::Pausing { since: *since, by: *by })
                }
                S::Paused { since, by: Asker::Governor } if *by != Asker::Governor => {
                    Ok(S::Paused { since: *since, by: *by })
                }
                S::Starting
                | S::Pausing { .. }
                | S::Paused { .. }
                | S::Stopping { .. }
                | S::Stopped { .. }
                | S::Failed { .. }
                | S::Done { .. } => Err(illegal()),
            },
            Signal::AtEdge => match self {
                S::Pausing { by, .. } => Ok(S::Paused { since: now, by: *by }),
                S::Resuming { .. } => Ok(S::Running),
                S::Stopping { by, .. } => Ok(S::Stopped { at: now, by: *by }),
                S::Starting | S::Running | S::Paused { .. } | S::Stopped { .. } | S::Failed { .. } | S::Done { .. } => {
                    Err(illegal())
                }
            },
            Signal::AskContinue => match self {
                S::Pausing { .. } | S::Paused { .. } => Ok(S::Resuming { since: now }),
                S::Starting
                | S::Running
                | S::Resuming { .. }
                | S::Stopping { .. }
                | S::Stopped { .. }
                | S::Failed { .. }
                | S::Done { .. } => Err(illegal()),
            },
            Signal::AskStop { by } => match self {
                S::Starting | S::Running | S::Pausing { .. } | S::Paused { .. } | S::Resuming { .. } => {
                    Ok(S::Stopping { since: now, by: *by })
                }
                S::Stopping { .. } | S::Stopped { .. } | S::Failed { .. } | S::Done { .. } => Err(illegal()),
            },
            Signal::Fail { cause, resumable } => match self {
                S::Starting
                | S::Running
                | S::Pausing { .. }
                | S::Paused { .. }
                | S::Resuming { .. }
                | S::Stopping { .. } => Ok(S::Failed { at: now, cause: cause.clone(), resumable: *resumable }),
                S::Stopped { .. } | S::Failed { .. } | S::Done { .. } => Err(illegal()),
            },
            Signal::Finish => match self {
                S::Running | S::Pausing { .. } | S::Resuming { .. } | S::Stopping { .. } => Ok(S::Done { at: now }),
                S::Starting | S::Paused { .. } | S::Stopped { .. } | S::Failed { .. } | S::Done { .. } => {
                    Err(illegal())
                }
            },
        }
    }

    /// The state in one lower-case word; the ledger stores it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Pausing { .. } => "pausing",
            Self::Paused { .. } => "paused",
            Self::Resuming { .. } => "resuming",
            Self::Stopping { .. } => "stopping",
            Self::Stopped { .. } => "stopped",
            Self::Failed { .. } => "failed",
            Self::Done { .. } => "done",
        }
    }

    /// Whether nothing more will happen in this process.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Stopped { .. } | Self::Failed { .. } | Self::Done { .. } => true,
            Self::Starting
            | Self::Running
            | Self::Pausing { .. }
            | Self::Paused { .. }
            | Self::Resuming { .. }
            | Self::Stopping { .. } => false,
        }
    }

    /// Whether time in this state counts as work; the rest is pause.
    #[must_use]
    pub fn is_working(&self) -> bool {
        match self {
            Self::Running | Self::Pausing { .. } | Self::Resuming { .. } | Self::Stopping { .. } => true,
            Self::Starting | Self::Paused { .. } | Self::Stopped { .. } | Self::Failed { .. } | Self::Done { .. } => {
                false
            }
        }
    }
}

impl Signal {
    fn word(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::AskPause { .. } => "pause",
            Self::AtEdge => "at edge",
            Self::AskContinue => "continue",
            Self::AskStop { .. } => "stop",
            Self::Fail { .. } => "fail",
            Self::Finish => "finish",
        }
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// Begun, not ended.
    Running,
    /// Ended and checked.
    Done,
    /// Ended by an error; a resumed run begins it again where it stood.
    Failed,
}

impl StepState {
    /// The word in the ledger.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Reads the ledger's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Waiting, Self::Running, Self::Done, Self::Failed].into_iter().find(|state| state.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap_or_default()
    }

    fn states() -> Vec<RunState> {
        let by = Asker::Console;
        vec![
            RunState::Starting,
            RunState::Running,
            RunState::Pausing { since: at(1), by },
            RunState::Paused { since: at(2), by },
            RunState::Resuming { since: at(3) },
            RunState::Stopping { since: at(4), by },
            RunState::Stopped { at: at(5), by },
            RunState::Failed { at: at(6), cause: Cause::new("x"), resumable: true },
            RunState::Done { at: at(7) },
        ]
    }

    fn signals() -> Vec<Signal> {
        let by = Asker::Signal;
        vec![
            Signal::Begin,
            Signal::AskPause { by },
            Signal::AtEdge,
            Signal::AskContinue,
            Signal::AskStop { by },
            Signal::Fail { cause: Cause::new("y"), resumable: false },
            Signal::Finish,
        ]
    }

    /// Every pair: rows are states, columns are signals, `-` is illegal.
    const TABLE: [(&str, [&str; 7]); 9] = [
        //             begin      pause      at edge    continue    stop        fail      finish
        ("starting", ["running", "-", "-", "-", "stopping", "failed", "-"]),
        ("running", ["-", "pausing", "-", "-", "stopping", "failed", "done"]),
        ("pausing", ["-", "-", "paused", "resuming", "stopping", "failed", "done"]),
        ("paused", ["-", "-", "-", "resuming", "stopping", "failed", "-"]),
        ("resuming", ["-", "pausing", "running", "-", "stopping", "failed", "done"]),
        ("stopping", ["-", "-", "stopped", "-", "-", "failed", "done"]),
        ("stopped", ["-", "-", "-", "-", "-", "-", "-"]),
        ("failed", ["-", "-", "-", "-", "-", "-", "-"]),
        ("done", ["-", "-", "-", "-", "-", "-", "-"]),
    ];

    #[test]
    fn every_pair_of_state_and_signal_does_what_the_table_says() {
        for (state, (word, row)) in states().iter().zip(TABLE) {
            assert_eq!(state.word(), word);
            for (signal, expected) in signals().iter().zip(row) {
                let next = state.after(signal, at(9));
                let got = next.as_ref().map_or("-", RunState::word);
                assert_eq!(got, expected, "{word} + {signal:?}");
            }
        }
    }

    #[test]
    fn a_pause_remembers_who_asked_and_since_when_nothing_is_open() {
        let pausing = RunState::Running.after(&Signal::AskPause { by: Asker::Signal }, at(1));
        let paused = pausing.and_then(|state| state.after(&Signal::AtEdge, at(4)));
        assert_eq!(paused, Ok(RunState::Paused { since: at(4), by: Asker::Signal }));
    }

    #[test]
    fn a_state_survives_the_way_through_json() {
        for state in states() {
            let json = serde_json::to_string(&state).unwrap_or_default();
            assert_eq!(serde_json::from_str::<RunState>(&json).ok(), Some(state));
        }
    }

    #[test]
    fn the_words_of_a_step_are_read_back() {
        for state in [StepState::Waiting, StepState::Running, StepState::Done, StepState::Failed] {
            assert_eq!(StepState::from_word(state.word()), Some(state));
        }
        assert_eq!(StepState::from_word("odd"), None);
    }
}
