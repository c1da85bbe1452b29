use super::*;
use crate::plan::model::Threshold;
use proptest::prelude::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limited(key: &str, value: Result<f64, String>, slow: f64, stop: Option<f64>) -> Gauge {
    let limit = Some(Threshold { slow, stop });
    Gauge { key: key.into(), value, unit: Unit::Seconds, limit, low_is_bad: false }
}

/// Replay lag with slow 5 s and stop 60 s.
fn lag(seconds: f64) -> Gauge {
    limited("replay lag", Ok(seconds), 5.0, Some(60.0))
}

fn unreadable() -> Gauge {
    limited("replay lag", Err("grant pg_monitor".into()), 5.0, Some(60.0))
}

/// A governor over 8 workers that has seen one reading at `at(0)`.
fn began(gauge: Gauge) -> Governor {
    let mut governor = Governor::new(8, at(0));
    governor.observe(vec![gauge], at(0));
    governor
}

fn reason(held: Option<&Held>) -> &str {
    held.map_or("", |held| held.reason.as_str())
}

#[test]
fn the_first_reading_decides_how_many_workers_begin() {
    for (value, wanted) in [(0.0, 8), (3.4, 8), (3.5, 1), (4.9, 1), (7.0, 1), (99.0, 1)] {
        assert_eq!(began(lag(value)).verdict(at(0)).wanted, wanted, "{value}");
    }
}

#[test]
fn nothing_goes_on_before_the_first_reading() {
    let governor = Governor::new(8, at(0));
    let verdict = governor.verdict(at(1));
    assert_eq!((verdict.wanted, verdict.pause), (1, None));
    assert_eq!(verdict.hold.map(|held| held.key).as_deref(), Some("signals"));
    assert!(governor.views(at(1)).is_empty());
}

#[test]
fn without_a_limit_nothing_holds_and_all_workers_work() {
    let shown = Gauge { limit: None, ..unreadable() };
    for gauges in [vec![], vec![shown]] {
        let mut governor = Governor::new(8, at(0));
        governor.observe(gauges, at(0));
        assert_eq!(governor.verdict(at(999)), Verdict { wanted: 8, hold: None, is_unread: false, pause: None });
    }
}

#[test]
fn workers_follow_the_highest_load() {
    // A reading each second, and the workers after it.
    let table: [(&str, f64, &[u32]); 5] = [
        ("calm", 1.9, &[4, 4, 4, 4, 5, 5, 5, 5, 5, 6]),
        ("near the middle", 2.0, &[4, 4, 4, 4, 4, 4, 4, 4, 4, 4]),
        ("below the limit", 3.5, &[3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]),
        ("at the limit", 5.0, &[3, 3, 3, 3, 3, 2]),
        ("past the limit", 5.1, &[2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]),
    ];
    for (name, value, expected) in table {
        let mut governor = Governor::new(4, at(0));
        governor.observe(vec![lag(0.0)], at(0));
        governor.most = 9;
        let seen: Vec<u32> = (1..=expected.len() as u64)
            .map(|second| {
                governor.observe(vec![lag(0.0), lag(value), lag(0.5)], at(second));
                governor.verdict(at(second)).wanted
            })
            .collect();
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn a_halving_does_not_wait_for_the_cooldown_of_a_shed_worker() {
    let mut governor = began(lag(0.0));
    governor.observe(vec![lag(4.0)], at(1));
    assert_eq!(governor.verdict(at(1)).wanted, 7);
    governor.observe(vec![lag(6.0)], at(2));
    assert_eq!(governor.verdict(at(2)).wanted, 3);
}

#[test]
fn past_slow_batches_wait_until_two_calm_readings_in_a_row() {
    let mut governor = began(lag(0.0));
    let table = [
        (7.2, "replay lag 7.2s (slow 5s)"),
        (4.8, "replay lag 4.8s (slow 5s); goes on after 2 readings of 4.5s or less"),
        (4.5, "replay lag 4.5s (slow 5s); goes on after 2 readings of 4.5s or less"),
        (4.6, "replay lag 4.6s (slow 5s); goes on after 2 readings of 4.5s or less"),
        (1.0, "replay lag 1s (slow 5s); goes on after 2 readings of 4.5s or less"),
        (1.0, ""),
        (4.9, ""),
        (5.1, "replay lag 5.1s (slow 5s)"),
    ];
    for (second, (value, expected)) in (1..).zip(table) {
        governor.observe(vec![lag(value)], at(second));
        let verdict = governor.verdict(at(second));
        assert_eq!(reason(verdict.hold.as_ref()), expected, "{value}");
        assert_eq!(verdict.pause, None);
    }
}

#[test]
fn past_stop_the_run_is_paused_until_it_is_below_slow_again() {
    let mut governor = began(lag(0.0));
    let table = [
        (61.0, "replay lag 1m01s (stop 1m00s)", true),
        (30.0, "replay lag 30s; goes on once it is back at 5s (slow)", true),
        (5.5, "replay lag 5.5s; goes on once it is back at 5s (slow)", true),
        (4.0, "replay lag 4s (slow 5s); goes on after 2 readings of 4.5s or less", false),
        (4.0, "", false),
    ];
    for (second, (value, expected, paused)) in (1..).zip(table) {
        governor.observe(vec![lag(value)], at(second));
        let verdict = governor.verdict(at(second));
        assert_eq!(reason(verdict.hold.as_ref()), expected, "{value}");
        assert_eq!(verdict.pause.is_some(), paused, "{value}");
        assert!(verdict.pause.is_none() || verdict.pause == verdict.hold);
    }
}

#[test]
fn where_low_is_bad_the_words_turn_round() {
    let disk = |percent| Gauge {
        key: "free disk".into(),
        value: Ok(percent),
        unit: Unit::Percent,
        limit: Some(Threshold { slow: 10.0, stop: Some(5.0) }),
        low_is_bad: true,
    };
    let mut governor = began(disk(60.0));
    assert_eq!(governor.verdict(at(0)).wanted, 8);
    let table = [
        (9.5, "free disk 9.5% (slow 10%)"),
        (4.0, "free disk 4% (stop 5%)"),
        (10.5, "free disk 10.5% (slow 10%); goes on after 2 readings of 11.1% or more"),
    ];
    for (second, (value, expected)) in (1..).zip(table) {
        governor.observe(vec![disk(value)], at(second));
        assert_eq!(reason(governor.verdict(at(second)).hold.as_ref()), expected);
    }
}

#[test]
fn what_cannot_be_read_fails_closed_and_changes_no_workers() {
    let mut governor = began(lag(0.0));
    governor.observe(vec![unreadable()], at(60));
    let verdict = governor.verdict(at(60));
    assert_eq!(verdict.wanted, 8);
    assert_eq!(reason(verdict.hold.as_ref()), "replay lag cannot be read: grant pg_monitor");
    assert_eq!(governor.views(at(60))[0].effect, Effect::Unread);
    governor.observe(vec![lag(0.0)], at(61));
    assert_eq!(governor.verdict(at(61)).hold, None, "one good reading is enough: nothing was past its limit");

    assert_eq!(governor.verdict(at(71)).hold, None);
    let stale = governor.verdict(at(72));
    assert_eq!(reason(stale.hold.as_ref()), "replay lag cannot be read: no answer for 11s");
    assert_eq!(governor.views(at(72))[0].effect, Effect::Unread);
}

#[test]
fn a_first_reading_that_is_not_full_decides_nothing() {
    let mut governor = began(unreadable());
    assert_eq!(governor.verdict(at(0)).wanted, 1);
    governor.set_most(9, at(1));
    assert_eq!(governor.verdict(at(1)).wanted, 1);
    governor.observe(vec![lag(0.0)], at(2));
    assert_eq!(governor.verdict(at(2)).wanted, 9);
}

#[test]
fn a_pause_outlives_readings_that_fail() {
    let mut governor = began(lag(99.0));
    governor.observe(vec![unreadable()], at(1));
    let verdict = governor.verdict(at(1));
    let words = "replay lag cannot be read: grant pg_monitor; goes on once it is back at 5s (slow)";
    assert_eq!(reason(verdict.pause.as_ref()), words);
    assert_eq!(governor.views(at(1))[0].effect, Effect::Pauses);
}

#[test]
fn of_several_reasons_the_gravest_is_told() {
    let mut governor = Governor::new(4, at(0));
    let other = |key: &str, value| limited(key, value, 10.0, Some(20.0));
    governor.observe(vec![unreadable(), other("a", Ok(11.0)), other("b", Ok(19.0))], at(0));
    assert_eq!(governor.verdict(at(0)).hold.map(|held| held.key).as_deref(), Some("b"));
    governor.observe(vec![unreadable(), other("a", Ok(21.0)), other("b", Ok(19.0))], at(1));
    assert_eq!(governor.verdict(at(1)).hold.map(|held| held.key).as_deref(), Some("a"));
    assert_eq!(governor.verdict(at(1)).pause.map(|held| held.key).as_deref(), Some("a"));
}

#[test]
fn a_signal_that_is_gone_is_forgotten() {
    let mut governor = began(lag(99.0));
    governor.observe(vec![], at(1));
    assert_eq!(governor.verdict(at(1)), Verdict { wanted: 8, hold: None, is_unread: false, pause: None });
}

#[test]
fn the_operator_is_obeyed_within_what_the_signals_allow() {
    let mut governor = began(lag(0.0));
    governor.set_most(3, at(1));
    assert_eq!(governor.verdict(at(1)).wanted, 3);
    governor.set_most(6, at(1));
    assert_eq!(governor.verdict(at(1)).wanted, 6, "at once");
    governor.observe(vec![lag(2.5)], at(2));
    governor.set_most(7, at(2));
    assert_eq!((governor.verdict(at(2)).wanted, governor.most()), (6, 7));
    governor.observe(vec![lag(0.0)], at(3));
    assert_eq!(governor.verdict(at(3)).wanted, 6, "5 s after the workers that came last");
    governor.observe(vec![lag(0.0)], at(6));
    assert_eq!(governor.verdict(at(6)).wanted, 7);
    governor.set_most(0, at(7));
    assert_eq!((governor.verdict(at(7)).wanted, governor.most()), (1, 1));
}

#[test]
fn the_views_say_what_each_signal_does() {
    use Effect::{Free, Holds, Pauses, Sheds, Shown, Unread, Waits};
    let mut governor = Governor::new(4, at(0));
    let gauges = vec![
        lag(1.0),
        lag(2.0),
        lag(4.0),
        lag(6.0),
        lag(70.0),
        unreadable(),
        Gauge { limit: None, value: Err("the server is not on this host".into()), ..lag(0.0) },
    ];
    governor.observe(gauges, at(5));
    let views = governor.views(at(7));
    let effects: Vec<Effect> = views.iter().map(|view| view.effect).collect();
    assert_eq!(effects, [Free, Holds, Sheds, Waits, Pauses, Unread, Shown]);
    assert_eq!(
        views[3],
        SignalView {
            number: Some(6.0),
            name: "replay lag".into(),
            value: "6s".into(),
            slow: Some("5s".into()),
            stop: Some("1m00s".into()),
            load: Some(1.2),
            age: at(2),
            effect: Waits,
        }
    );
    assert_eq!((views[6].value.as_str(), &views[6].slow), ("the server is not on this host", &None));
}

#[derive(Debug, Clone)]
enum Deed {
    /// Values as shares of `slow`; `None`: it cannot be read.
    Read(Vec<Option<f64>>),
    SetMost(u32),
    Sleep(u64),
}

/// `stop` as a share of `slow`.
const STOP: f64 = 3.0;

fn deed() -> impl Strategy<Value = Deed> {
    let share = prop_oneof![
        6 => (0.0_f64..0.5).prop_map(Some),
        3 => (0.3_f64..1.1).prop_map(Some),
        2 => (0.8_f64..5.0).prop_map(Some),
        1 => Just(None),
    ];
    prop_oneof![
        6 => proptest::collection::vec(share, 2).prop_map(Deed::Read),
        1 => (0_u32..12).prop_map(Deed::SetMost),
        4 => (0_u64..8).prop_map(Deed::Sleep),
    ]
}

/// What the doc of the governor says of one signal, written down a second time.
#[derive(Default, Clone)]
struct Model {
    waits: bool,
    pauses: bool,
    calm: u32,
    last: Option<f64>,
}

impl Model {
    fn read(&mut self, share: Option<f64>) {
        self.last = share;
        let Some(share) = share else {
            self.calm = 0;
            return;
        };
        if share > STOP {
            self.pauses = true;
        } else if share <= 1.0 {
            self.pauses = false;
        }
        self.calm = if share <= 0.9 { self.calm + 1 } else { 0 };
        if share > 1.0 {
            self.waits = true;
        } else if self.calm >= 2 {
            self.waits = false;
        }
    }
}

proptest! {
    #[test]
    fn the_rule_holds_whatever_comes(most in 1_u32..10, deeds in proptest::collection::vec(deed(), 0..120)) {
        let (mut now, mut most) = (at(0), most);
        let mut governor = Governor::new(most, now);
        let mut models = [Model::default(), Model::default()];
        let (mut read_at, mut full_once) = (None, false);
        let mut changes: Vec<(Duration, i64)> = Vec::new();
        for deed in deeds {
            let before = i64::from(governor.verdict(now).wanted);
            let mut operator = false;
            let mut start = false;
            match deed {
                Deed::Read(shares) => {
                    for (model, share) in models.iter_mut().zip(&shares) {
                        model.read(*share);
                    }
                    let gauges = shares.iter().zip(["a", "b"]).map(|(share, key)| {
                        limited(key, share.map(|share| share * 10.0).ok_or_else(|| "no".into()), 10.0, Some(STOP * 10.0))
                    });
                    governor.observe(gauges.collect(), now);
                    read_at = Some(now);
                    start = !full_once && shares.iter().all(Option::is_some);
                    full_once |= start;
                }
                Deed::SetMost(new) => {
                    most = new.max(1);
                    governor.set_most(new, now);
                    operator = true;
                }
                Deed::Sleep(seconds) => now += at(seconds),
            }
            let verdict = governor.verdict(now);
            prop_assert!((1..=most).contains(&verdict.wanted));

            let stale = read_at.is_none_or(|read_at| now.saturating_sub(read_at) > STALE);
            let unread = stale || models.iter().any(|model| model.last.is_none());
            let waits = models.iter().any(|model| model.waits);
            prop_assert_eq!(verdict.hold.is_some(), unread || waits);
            prop_assert_eq!(verdict.pause.is_some(), models.iter().any(|model| model.pauses));

            let change = i64::from(verdict.wanted) - before;
            let highest = models.iter().filter_map(|model| model.last).fold(0.0, f64::max);
            if start {
                let wanted = if highest < 0.7 { most } else { 1 };
                prop_assert_eq!(verdict.wanted, wanted);
            } else if change > 0 {
                prop_assert!(highest < 0.4 && !unread && !waits, "grew at {}", highest);
                prop_assert!(operator || change == 1);
            }
            if change < 0 && !operator {
                prop_assert!(highest >= 0.7 && !unread, "cut at {}", highest);
                prop_assert!(highest > 1.0 || change == -1);
            }
            // Never two steps of the same way within the cooldown, and no growth right after a cut.
            if change != 0 && !operator && !start {
                let lately = changes.iter().filter(|(then, _)| now.saturating_sub(*then) < GROW_EVERY);
                let mut against = lately.filter(|(_, past)| change > 0 || *past < 0);
                prop_assert!(highest > 1.0 || against.next().is_none());
                changes.push((now, change));
            }
            let views = governor.views(now);
            prop_assert_eq!(views.iter().any(|view| view.effect == Effect::Pauses), verdict.pause.is_some());
        }
    }
}
