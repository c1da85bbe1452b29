//! What operators ask of the board: the pace, the breaker, the hours, alerts; and the record of it.

use std::time::Duration;

use super::{Board, Page};
use crate::engine::orders::Outcome;
use crate::run::snapshot::{Acknowledged, COMMANDS, Silenced};
use crate::run::text::clean;
use crate::run::vitals::Alert;
use crate::run::{Answered, EventKind, Level, Request, human};

impl Board {
    /// Tells what came of a request: screen, log, ledger.
    pub fn answered(&self, request: Request, outcome: Outcome) {
        let (taken, outcome) = match outcome {
            Ok(words) => (true, words),
            Err(why) => (false, why),
        };
        let Request { id, command, by, who } = request;
        let answered = Answered { id, at: self.clock.utc(), command, by, who, taken, outcome };
        let (words, asker) = (answered.command.words(), answered.asker());
        let text = format!("{words}, asked for by {}: {}", clean(&asker), answered.outcome);
        let mut inner = self.lock();
        inner.snapshot.commands.push_back(answered.clone());
        while inner.snapshot.commands.len() > COMMANDS {
            inner.snapshot.commands.pop_front();
        }
        drop(inner);
        self.record(Page::Command(answered));
        self.event(if taken { Level::Info } else { Level::Warning }, EventKind::Commanded, text);
        self.publish();
    }

    /// Moves the time that batches aim at by one notch, within four times the plan's own target.
    ///
    /// # Errors
    /// It cannot be moved further that way.
    pub fn aim(&self, longer: bool) -> Outcome {
        let mut inner = self.lock();
        let Some(walk) = &mut inner.walk else { return Err("no batches are walked now".to_owned()) };
        let target = walk.aim(longer).ok_or_else(|| "batches cannot aim further that way".to_owned())?;
        inner.target = Some(target);
        Ok(format!("batches aim at {} now", human::duration(target)))
    }

    /// Sets the time that batches aim at.
    ///
    /// # Errors
    /// It is not within 25 ms and four times the plan's own target.
    pub fn set_target(&self, target: Duration) -> Outcome {
        let mut inner = self.lock();
        let Some(walk) = &mut inner.walk else { return Err("no batches are walked now".to_owned()) };
        walk.set_target(target)?;
        inner.target = Some(target);
        Ok(format!("batches aim at {} now", human::duration(target)))
    }

    /// One worker more, or less.
    ///
    /// # Errors
    /// As [`Board::set_workers`].
    pub fn step_workers(&self, more: bool) -> Outcome {
        let most = self.lock().most_workers.0;
        self.set_workers(if more { most + 1 } else { most.saturating_sub(1) })
    }

    /// At most so many workers, as the operator wants.
    ///
    /// # Errors
    /// There are not so many connections, or it is none.
    pub fn set_workers(&self, next: u32) -> Outcome {
        let mut inner = self.lock();
        let (most, limit) = inner.most_workers;
        if next == 0 {
            return Err("one worker is the least; pause to hold still".to_owned());
        }
        if next > limit {
            return Err(format!("no more than {limit} workers: `database.pool.max` allows no more connections"));
        }
        inner.most_workers.0 = next;
        let (wanted, _) = inner.turnstile.workers();
        let held = inner.turnstile.held().cloned();
        // What the governor has taken away stays away; else the change is seen at once.
        let wanted = if next > most && wanted == most { next } else { wanted.min(next) };
        inner.turnstile.govern(wanted, next, held);
        Ok(format!("at most {next} workers now"))
    }

    /// Closes the breaker by hand.
    ///
    /// # Errors
    /// It is closed already.
    pub fn close_breaker(&self) -> Outcome {
        let change = self.lock().turnstile.force_close();
        self.breaker_changed(change.as_ref());
        if change.is_none() { Err("the breaker is closed already".to_owned()) } else { Ok("closed".to_owned()) }
    }

    /// Goes on outside of the allowed hours, until they begin anew.
    ///
    /// # Errors
    /// The allowed hours hold nothing back.
    pub fn skip_window(&self) -> Outcome {
        let mut inner = self.lock();
        let held = inner.turnstile.held().filter(|held| held.key == HOURS);
        let Some(held) = held else { return Err("the allowed hours hold nothing back now".to_owned()) };
        // Hours that never begin are skipped for as long as anybody can count.
        let until = held.until.unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC);
        inner.skipping = Some(until);
        Ok("going on although it is outside of the allowed hours, until they begin anew".to_owned())
    }

    /// Whether an operator wants the allowed hours to be passed over now.
    #[must_use]
    pub fn skips_window(&self) -> bool {
        let now = self.clock.utc();
        self.lock().skipping.is_some_and(|until| now < until)
    }

    /// Takes note of an alert.
    ///
    /// # Errors
    /// No such alert holds.
    pub fn acknowledge(&self, key: &str, request: &Request) -> Outcome {
        let at = self.clock.utc();
        let mut inner = self.lock();
        let alert = inner.snapshot.vitals.alerts.iter().find(|alert| alert.key == key && alert.is_active());
        let Some(Alert { key, count, text, .. }) = alert.cloned() else {
            return Err("there is no such alert now".to_owned());
        };
        let who = if request.who.is_empty() { request.by.name().to_owned() } else { request.who.clone() };
        inner.snapshot.acknowledged.retain(|noted| noted.key != key);
        inner.snapshot.acknowledged.push(Acknowledged { key, count, who, at });
        Ok(text)
    }

    /// Keeps an alert quiet for a time, from now: one that holds, or that may be raised.
    ///
    /// # Errors
    /// There is no such alert and no such rule, or the time is none or too long.
    pub fn silence(&self, key: &str, time: Duration, request: &Request) -> Outcome {
        let now = self.clock.utc();
        let mut inner = self.lock();
        let vitals = &inner.snapshot.vitals;
        let known =
            vitals.alerts.iter().any(|alert| alert.key == key) || vitals.rules.iter().any(|rule| rule.name == key);
        if !known {
            return Err("there is no such alert, and no rule of that name".to_owned());
        }
        if time.is_zero() || time > LONGEST_SILENCE {
            return Err(format!("an alert is silenced for {} at most", human::rough_duration(LONGEST_SILENCE)));
        }
        let until = now + time;
        let who = if request.who.is_empty() { request.by.name().to_owned() } else { request.who.clone() };
        // Of each key one at most, and of keys only those that are known: this stays short.
        inner.snapshot.silenced.retain(|silenced| silenced.key != key && silenced.until > now);
        inner.snapshot.silenced.push(Silenced { key: key.to_owned(), until, who });
        Ok(format!("silent until {}", until.format("%Y-%m-%d %H:%M UTC")))
    }

    /// Ends the quiet of an alert.
    ///
    /// # Errors
    /// It is not silenced.
    pub fn unsilence(&self, key: &str) -> Outcome {
        let now = self.clock.utc();
        let mut inner = self.lock();
        let silenced = &mut inner.snapshot.silenced;
        silenced.retain(|silenced| silenced.until > now);
        let before = silenced.len();
        silenced.retain(|silenced| silenced.key != key);
        if silenced.len() == before { Err("it is not silenced".to_owned()) } else { Ok("it calls again".to_owned()) }
    }
}

/// An alert that nobody wants to hear of for longer has the wrong limit.
const LONGEST_SILENCE: Duration = Duration::from_hours(24 * 30);

/// The key of what the allowed hours hold back.
pub const HOURS: &str = "hours";
