//! The limits of the governor's signals, and the plan's own probes: `replay_lag = { slow = "5s", stop = "60s" }`,
//! `replay_lag = "5s"` for `slow` alone, `replay_lag = "off"`. Every default is here.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::mistake::Mistake;
use super::model::{Probe, Signals, Sql, Threshold};
use super::raw::{Located, RawLimits, RawProbe};
use super::raw_value::{RawSignal, RawThreshold, Scalar};
use super::values::{LONGEST, Reader};
use crate::run::ByteSize;

/// WAL files and sessions.
const COUNT: RangeInclusive<u64> = 1..=1_000_000_000;

/// In which direction a signal gets worse.
#[derive(Debug, Clone, Copy)]
enum Worse {
    Higher,
    Lower,
}

impl Worse {
    fn is_worse<T: Copy + PartialOrd>(self, one: T, other: T) -> bool {
        match self {
            Self::Higher => one > other,
            Self::Lower => one < other,
        }
    }
}

/// How a signal is read.
struct Rule<T> {
    key: &'static str,
    worse: Worse,
    default: Option<Threshold<T>>,
}

const fn higher<T>(key: &'static str, default: Option<Threshold<T>>) -> Rule<T> {
    Rule { key, worse: Worse::Higher, default }
}

const fn lower<T>(key: &'static str, default: Option<Threshold<T>>) -> Rule<T> {
    Rule { key, worse: Worse::Lower, default }
}

const REPLAY_LAG: Rule<Duration> =
    higher("limits.replay_lag", Some(limit(Duration::from_secs(5), Duration::from_mins(1))));
const WAL: Rule<ByteSize> = higher("limits.wal", Some(limit(ByteSize(16 << 30), ByteSize(64 << 30))));
const ARCHIVE: Rule<u64> = higher("limits.archive", Some(limit(256, 2048)));
const SESSIONS: Rule<u64> = higher("limits.sessions", None);
const SNAPSHOT_AGE: Rule<Duration> = higher("limits.snapshot_age", None);
const FREE_DISK: Rule<f64> = lower("limits.free_disk", Some(limit(10.0, 5.0)));
const HOST_CPU: Rule<f64> = higher("limits.host_cpu", None);
const FREE_MEMORY: Rule<f64> = lower("limits.free_memory", None);

pub(super) fn signals(reader: &mut Reader<'_>, raw: &mut RawLimits) -> Signals {
    let duration = |reader: &mut Reader<'_>, key: &str, text| {
        reader.duration(key, Some(text), LONGEST).map(|duration| duration.value)
    };
    let size = |reader: &mut Reader<'_>, key: &str, text| reader.size(key, Some(text));
    let percentage = |reader: &mut Reader<'_>, key: &str, text| reader.percentage(key, Some(text));
    let count =
        |reader: &mut Reader<'_>, key: &str, number| reader.whole(key, Some(number), &COUNT).map(|number| number.value);
    Signals {
        replay_lag: signal(reader, &REPLAY_LAG, raw.replay_lag.take(), duration),
        wal: signal(reader, &WAL, raw.wal.take(), size),
        archive: signal(reader, &ARCHIVE, raw.archive.take(), count),
        sessions: signal(reader, &SESSIONS, raw.sessions.take(), count),
        snapshot_age: signal(reader, &SNAPSHOT_AGE, raw.snapshot_age.take(), duration),
        free_disk: signal(reader, &FREE_DISK, raw.free_disk.take(), percentage),
        host_cpu: signal(reader, &HOST_CPU, raw.host_cpu.take(), percentage),
        free_memory: signal(reader, &FREE_MEMORY, raw.free_memory.take(), percentage),
        probes: probes(reader, raw.probe.take().unwrap_or_default()),
    }
}

const fn limit<T: Copy>(slow: T, stop: T) -> Threshold<T> {
    Threshold { slow, stop: Some(stop) }
}

/// The limits of one signal; `read` takes a single limit, written as an `R`.
fn signal<R: Scalar, T: Copy + PartialOrd>(
    reader: &mut Reader<'_>,
    rule: &Rule<T>,
    raw: Option<Located<RawSignal<R>>>,
    read: impl Fn(&mut Reader<'_>, &str, Located<R>) -> Option<T>,
) -> Option<Threshold<T>> {
    let Some(Located { value, span }) = raw else {
        return rule.default;
    };
    let alone = match value {
        RawSignal::Text(value) => {
            let text = Located { value, span: span.clone() };
            if reader.is_off(&text) {
                return None;
            }
            R::of_text(text.value)
        }
        RawSignal::Whole(number) => R::of_whole(number),
        RawSignal::Limits(RawThreshold { slow: None, .. }) if rule.default.is_none() => {
            reader.report(span, Mistake::NoSlow { key: rule.key });
            return None;
        }
        RawSignal::Limits(limits) => return in_table(reader, rule, limits, read),
    };
    let Some(value) = alone else {
        reader.report(span, Mistake::NeitherCountNorOff { key: rule.key });
        return None;
    };
    let slow = read(reader, rule.key, Located { value, span });
    completed(rule, slow, None)
}

fn in_table<R, T: Copy + PartialOrd>(
    reader: &mut Reader<'_>,
    rule: &Rule<T>,
    raw: RawThreshold<R>,
    read: impl Fn(&mut Reader<'_>, &str, Located<R>) -> Option<T>,
) -> Option<Threshold<T>> {
    let [slow_key, stop_key] = ["slow", "stop"].map(|limit| format!("{}.{limit}", rule.key));
    let [slow_span, stop_span] = [&raw.slow, &raw.stop].map(|limit| limit.as_ref().map(|limit| limit.span.clone()));
    let slow = raw.slow.and_then(|slow| read(reader, &slow_key, slow));
    let stop = raw.stop.and_then(|stop| read(reader, &stop_key, stop));
    if let (Some(slow), Some(stop)) = (slow, stop)
        && rule.worse.is_worse(slow, stop)
    {
        let (span, lower, upper) = match rule.worse {
            Worse::Higher => (slow_span, slow_key, stop_key),
            Worse::Lower => (stop_span, stop_key, slow_key),
        };
        reader.report(span.unwrap_or_default(), Mistake::contradiction(lower, upper));
    }
    completed(rule, slow, stop)
}

/// What is given stays. A default moves to where it contradicts nothing: `slow` to a `stop` that is better than it; a
/// `stop` that a given `slow` has reached is none.
fn completed<T: Copy + PartialOrd>(rule: &Rule<T>, slow: Option<T>, stop: Option<T>) -> Option<Threshold<T>> {
    match (slow, stop) {
        (Some(slow), Some(stop)) => Some(limit(slow, stop)),
        (Some(slow), None) => {
            let stop = rule.default.and_then(|default| default.stop);
            Some(Threshold { slow, stop: stop.filter(|stop| rule.worse.is_worse(*stop, slow)) })
        }
        (None, Some(stop)) => {
            let slow = rule.default?.slow;
            Some(limit(if rule.worse.is_worse(slow, stop) { stop } else { slow }, stop))
        }
        (None, None) => rule.default,
    }
}

fn probes(reader: &mut Reader<'_>, raw: Vec<Located<RawProbe>>) -> Vec<Probe> {
    let mut names: Vec<Sql> = Vec::new();
    let mut probes = Vec::new();
    for (number, Located { value: raw, span }) in (1..).zip(raw) {
        let name = match raw.name {
            Some(name) => reader.text("limits.probe.name", name),
            None => Some(Sql { text: format!("probe {number}"), span: span.clone() }),
        };
        if let Some(name) = &name {
            match names.iter().find(|earlier| earlier.text == name.text) {
                Some(first) => {
                    let mistake = Mistake::DuplicateProbe(name.text.clone());
                    reader.report_second(name.span.clone(), first.span.clone(), mistake);
                }
                None => names.push(name.clone()),
            }
        }
        if raw.sql.is_none() {
            reader.report(span.clone(), Mistake::NoProbeSql);
        }
        if raw.slow.is_none() {
            reader.report(span, Mistake::NoSlow { key: "limits.probe" });
        }
        let sql = raw.sql.and_then(|sql| reader.text("limits.probe.sql", sql));
        let slow_span = raw.slow.as_ref().map(|slow| slow.span.clone());
        let slow = raw.slow.and_then(|slow| reader.finite("limits.probe.slow", slow));
        let stop = raw.stop.and_then(|stop| reader.finite("limits.probe.stop", stop));
        if let (Some(slow), Some(stop)) = (slow, stop)
            && slow > stop
        {
            let mistake = Mistake::contradiction("limits.probe.slow", "limits.probe.stop");
            reader.report(slow_span.unwrap_or_default(), mistake);
        }
        if let (Some(name), Some(sql), Some(slow)) = (name, sql, slow) {
            probes.push(Probe { name: name.text, sql, limit: Threshold { slow, stop } });
        }
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_default_gives_way_to_the_limit_that_is_written() {
        let lag = higher("lag", Some(limit(5, 60)));
        let disk = lower("disk", Some(limit(10, 5)));
        let none = higher("none", None);
        let table = [
            (&lag, None, None, Some((5, Some(60)))),
            (&lag, Some(7), Some(9), Some((7, Some(9)))),
            (&lag, Some(7), None, Some((7, Some(60)))),
            (&lag, Some(60), None, Some((60, None))),
            (&lag, Some(90), None, Some((90, None))),
            (&lag, None, Some(30), Some((5, Some(30)))),
            (&lag, None, Some(3), Some((3, Some(3)))),
            (&disk, Some(20), None, Some((20, Some(5)))),
            (&disk, Some(5), None, Some((5, None))),
            (&disk, Some(2), None, Some((2, None))),
            (&disk, None, Some(7), Some((10, Some(7)))),
            (&disk, None, Some(15), Some((15, Some(15)))),
            (&none, Some(7), None, Some((7, None))),
            (&none, Some(7), Some(9), Some((7, Some(9)))),
            (&none, None, None, None),
        ];
        for (rule, slow, stop, expected) in table {
            let got = completed(rule, slow, stop).map(|limit| (limit.slow, limit.stop));
            assert_eq!(got, expected, "{}: {slow:?} {stop:?}", rule.key);
        }
    }

    proptest! {
        #[test]
        fn the_run_is_never_paused_before_it_waits(
            is_lower in any::<bool>(),
            default in prop::option::of((0_u32..50, 0_u32..50)),
            slow in prop::option::of(0_u32..50),
            stop in prop::option::of(0_u32..50),
        ) {
            let worse = if is_lower { Worse::Lower } else { Worse::Higher };
            let in_order = |(one, other)| if worse.is_worse(one, other) { limit(other, one) } else { limit(one, other) };
            let rule = Rule { key: "any", worse, default: default.map(in_order) };
            prop_assume!(slow.zip(stop).is_none_or(|(slow, stop)| !worse.is_worse(slow, stop)));
            if let Some(Threshold { slow, stop: Some(stop) }) = completed(&rule, slow, stop) {
                prop_assert!(!worse.is_worse(slow, stop));
            }
        }
    }
}
