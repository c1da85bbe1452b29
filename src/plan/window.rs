//! Windows of time in which batches may run: `mon-fri 22:00-06:00 Europe/Berlin`.
//!
//! A window opens on each of its days when the clocks of its zone first show its beginning, and closes when they first
//! show its end, which is on the next day where the end is not later than the beginning. A time that the clocks skip as
//! they are set forward is the first moment after; one that they show twice as they are set back is the first of the
//! two.

use std::ops::Range;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc, Weekday, WeekdaySet};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

/// How far ahead an opening is looked for.
const HORIZON: TimeDelta = TimeDelta::days(8);

/// A window that comes back every day, or on some days of the week, in a time zone of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// As written in the plan.
    pub text: String,
    /// The days that it opens on.
    days: WeekdaySet,
    opens: NaiveTime,
    /// On the next day where it is not later than `opens`.
    closes: NaiveTime,
    zone: Tz,
}

/// Where the time stands to a plan's windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Inside one, or there are none.
    Inside,
    /// Outside all of them.
    Outside {
        /// When the next one opens, within eight days.
        opens: Option<DateTime<Utc>>,
    },
}

/// Where `now` stands to `windows`.
#[must_use]
pub fn place(windows: &[Window], now: DateTime<Utc>) -> Place {
    if windows.is_empty() {
        return Place::Inside;
    }
    let mut next: Option<DateTime<Utc>> = None;
    // A window that is open now began at most two days ago, and no zone's date is more than one from that of UTC.
    for date in (-3..=HORIZON.num_days() + 1).filter_map(|days| days_from(now, days)) {
        for open in windows.iter().filter_map(|window| window.on(date)) {
            if open.contains(&now) {
                return Place::Inside;
            }
            if open.start > now && next.is_none_or(|next| open.start < next) {
                next = Some(open.start);
            }
        }
    }
    Place::Outside { opens: next.filter(|next| *next - now <= HORIZON) }
}

fn days_from(now: DateTime<Utc>, days: i64) -> Option<NaiveDate> {
    now.date_naive().checked_add_signed(TimeDelta::days(days))
}

impl Window {
    /// When it is open, of those times that it opens on `date`, a date in its own zone. `None`: it does not, or it lies
    /// whole in a time that the clocks skip.
    fn on(&self, date: NaiveDate) -> Option<Range<DateTime<Utc>>> {
        if !self.days.contains(date.weekday()) {
            return None;
        }
        let last = if self.closes > self.opens { date } else { date.succ_opt()? };
        let open = moment(self.zone, date.and_time(self.opens))?..moment(self.zone, last.and_time(self.closes))?;
        (!open.is_empty()).then_some(open)
    }
}

/// When the clocks of `zone` first show `local`, or would have to.
fn moment(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    let shown = zone.from_local_datetime(&local).earliest();
    shown.or_else(|| GapInfo::new(&local, &zone)?.end).map(|moment| moment.to_utc())
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flaw}")]
pub struct BadWindow {
    flaw: Flaw,
    /// The part of the text that is meant.
    part: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Flaw {
    #[error("has a window without a time")]
    NoTime,
    #[error("has something else than a day before the time")]
    NoDay,
    #[error("has a time that is not like 22:00-06:00")]
    BadTime,
    #[error("has a window that opens and closes at the same time")]
    NoLength,
    #[error("has a window without a time zone")]
    NoZone,
    #[error("names a time zone that is not known")]
    UnknownZone,
    #[error("goes on after the time zone")]
    More,
}

impl BadWindow {
    /// The part of the text that is meant. It may have come from the environment.
    #[must_use]
    pub fn part(&self) -> &str {
        &self.part
    }

    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self.flaw {
            Flaw::NoTime => "write it like `22:00-06:00 Europe/Berlin`".to_owned(),
            Flaw::NoDay => {
                "write days like `mon-fri` or `sat,sun`, then the time, then the zone: `sat,sun 00:00-24:00 UTC`".to_owned()
            }
            Flaw::BadTime => "write hours and minutes, from 00:00 to 24:00: `22:00-06:00`".to_owned(),
            Flaw::NoLength => "write `00:00-24:00` for a whole day".to_owned(),
            Flaw::NoZone => {
                "add `UTC` or a name such as `Europe/Berlin`: the zones of the server, of this host and yours may differ"
                    .to_owned()
            }
            Flaw::UnknownZone => match nearest_zone(&self.part) {
                Some(zone) => format!("did you mean `{zone}`?"),
                None => "write `UTC`, or a name such as `Europe/Berlin`, which knows about summer time".to_owned(),
            },
            Flaw::More => "write `;` between two windows, or a list of strings".to_owned(),
        }
    }
}

impl FromStr for Window {
    type Err = BadWindow;

    /// Reads `22:00-06:00 Europe/Berlin`, with days before it if they are not all meant: `mon-fri`, `sat,sun`.
    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let text = text.trim();
        let bad = |flaw: Flaw, part: &str| BadWindow { flaw, part: part.to_owned() };
        let tight = without_blanks_around(&[',', '-'], text);
        let mut words = tight.split_whitespace().peekable();
        let days = match words.next_if(|word| !word.starts_with(|c: char| c.is_ascii_digit())) {
            None => WeekdaySet::ALL,
            Some(word) => days(word).ok_or_else(|| bad(Flaw::NoDay, word))?,
        };
        let time = words.next().ok_or_else(|| bad(Flaw::NoTime, text))?;
        let (opens, closes) = times(time).ok_or_else(|| bad(Flaw::BadTime, time))?;
        if time.split_once('-').is_some_and(|(from, to)| from == to) {
            return Err(bad(Flaw::NoLength, time));
        }
        let zone = words.next().ok_or_else(|| bad(Flaw::NoZone, text))?;
        if zone.contains(',') {
            return Err(bad(Flaw::More, zone));
        }
        let zone: Tz = zone.parse().map_err(|_| bad(Flaw::UnknownZone, zone))?;
        match words.next() {
            Some(more) => Err(bad(Flaw::More, more)),
            None => Ok(Self { text: text.to_owned(), days, opens, closes, zone }),
        }
    }
}

fn without_blanks_around(marks: &[char], text: &str) -> String {
    let mut tight = text.to_owned();
    for mark in marks {
        let parts: Vec<&str> = tight.split(*mark).map(str::trim).collect();
        tight = parts.join(&mark.to_string());
    }
    tight
}

/// `mon-fri`, `sat,sun`, `mon,wed-fri`; `fri-mon` goes over the end of the week.
fn days(text: &str) -> Option<WeekdaySet> {
    let mut days = WeekdaySet::EMPTY;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last): (Weekday, Weekday) = (first.parse().ok()?, last.parse().ok()?);
        days.insert(day);
        while day != last {
            day = day.succ();
            days.insert(day);
        }
    }
    Some(days)
}

/// `22:00-06:00`. 24:00 is the midnight at the end of a day, and so the 00:00 of the next.
fn times(text: &str) -> Option<(NaiveTime, NaiveTime)> {
    let (opens, closes) = text.split_once('-')?;
    let closes = if closes == "24:00" { NaiveTime::MIN } else { time(closes)? };
    Some((time(opens)?, closes))
}

fn time(text: &str) -> Option<NaiveTime> {
    let (hour, minute) = text.split_once(':')?;
    let is_plain = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let is_time = matches!(hour.len(), 1 | 2) && minute.len() == 2 && is_plain(hour) && is_plain(minute);
    if is_time { NaiveTime::from_hms_opt(hour.parse().ok()?, minute.parse().ok()?, 0) } else { None }
}

/// The zone whose name, or whose city, is nearly `written`. Abbreviations are too short to be guessed at.
fn nearest_zone(written: &str) -> Option<&'static str> {
    let written = written.to_lowercase();
    let is_place = |name: &str| name.contains('/') && !name.starts_with("Etc/");
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or(&name);
        [&*name, city].map(|one| strsim::damerau_levenshtein(one, &written)).into_iter().min()
    };
    let zones = TZ_VARIANTS.iter().map(|zone| zone.name()).filter(|name| *name == "UTC" || is_place(name));
    let (zone, distance) = zones.map(|name| (name, distance(name))).min_by_key(|(_, distance)| *distance)?;
    distance.filter(|distance| *distance <= written.chars().count() / 5).map(|_| zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(text: &str) -> Window {
        text.parse().unwrap_or_else(|bad: BadWindow| panic!("{text} {bad}"))
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// It opens at `from`, and not a second before; it closes at `to`.
    fn assert_open(text: &str, from: &str, to: &str) {
        let windows = [window(text)];
        let second = TimeDelta::seconds(1);
        let (from, to) = (at(from), at(to));
        assert_eq!(place(&windows, from - second), Place::Outside { opens: Some(from) }, "{text}: before {from}");
        assert_eq!(place(&windows, from), Place::Inside, "{text}: at {from}");
        assert_eq!(place(&windows, to - second), Place::Inside, "{text}: before {to}");
        assert!(matches!(place(&windows, to), Place::Outside { .. }), "{text}: at {to}");
    }

    #[test]
    fn a_window_opens_and_closes_by_the_clocks_of_its_zone() {
        let table = [
            ("22:00-06:00 UTC", "2026-01-15T22:00:00Z", "2026-01-16T06:00:00Z"),
            ("22:00-06:00 Europe/Berlin", "2026-01-15T21:00:00Z", "2026-01-16T05:00:00Z"),
            ("22:00-06:00 Europe/Berlin", "2026-07-15T20:00:00Z", "2026-07-16T04:00:00Z"),
            ("09:30-17:00 America/New_York", "2026-01-15T14:30:00Z", "2026-01-15T22:00:00Z"),
            ("18:00-24:00 Pacific/Auckland", "2026-07-15T06:00:00Z", "2026-07-15T12:00:00Z"),
            // The day that is named is the day that it opens on: from Friday to Saturday, not from Saturday.
            ("fri 22:00-06:00 UTC", "2026-01-16T22:00:00Z", "2026-01-17T06:00:00Z"),
            ("sat,sun 00:00-24:00 UTC", "2026-01-17T00:00:00Z", "2026-01-19T00:00:00Z"),
            ("fri-mon 00:00-24:00 UTC", "2026-01-16T00:00:00Z", "2026-01-20T00:00:00Z"),
            // In Auckland it is Saturday while it is still Friday in Greenwich.
            ("sat 08:00-09:00 Pacific/Auckland", "2026-07-17T20:00:00Z", "2026-07-17T21:00:00Z"),
        ];
        for (text, from, to) in table {
            assert_open(text, from, to);
        }
    }

    #[test]
    fn clocks_that_are_set_forward_skip_to_the_next_time_that_there_is() {
        let table = [
            // Berlin, 29 March 2026: 02:00 is 03:00, at 01:00 UTC.
            ("22:00-06:00 Europe/Berlin", "2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z"),
            ("02:30-05:00 Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T03:00:00Z"),
            ("22:00-02:30 Europe/Berlin", "2026-03-28T21:00:00Z", "2026-03-29T01:00:00Z"),
            // New York, 8 March 2026: 02:00 is 03:00, at 07:00 UTC.
            ("02:30-05:00 America/New_York", "2026-03-08T07:00:00Z", "2026-03-08T09:00:00Z"),
            ("23:00-02:00 America/New_York", "2026-03-08T04:00:00Z", "2026-03-08T07:00:00Z"),
            // Beirut, 29 March 2026: the midnight that the day would begin with is 01:00.
            ("sun 00:00-24:00 Asia/Beirut", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"),
        ];
        for (text, from, to) in table {
            assert_open(text, from, to);
        }
        // All of it is skipped: the next is the day after.
        let opens = Some(at("2026-03-30T00:15:00Z"));
        let skipped = [window("02:15-02:45 Europe/Berlin")];
        assert_eq!(place(&skipped, at("2026-03-28T12:00:00Z")), Place::Outside { opens });
        // And once a week there is none within eight days.
        let skipped = [window("sun 02:15-02:45 Europe/Berlin")];
        assert_eq!(place(&skipped, at("2026-03-24T12:00:00Z")), Place::Outside { opens: None });
    }

    #[test]
    fn of_a_time_that_is_shown_twice_the_first_counts() {
        let table = [
            // Berlin, 25 October 2026: 03:00 is 02:00 again, at 01:00 UTC.
            ("22:00-06:00 Europe/Berlin", "2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z"),
            ("02:15-02:45 Europe/Berlin", "2026-10-25T00:15:00Z", "2026-10-25T00:45:00Z"),
            ("02:30-05:00 Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T04:00:00Z"),
            ("22:00-02:30 Europe/Berlin", "2026-10-24T20:00:00Z", "2026-10-25T00:30:00Z"),
            ("03:00-04:00 Europe/Berlin", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"),
            // New York, 1 November 2026: 02:00 is 01:00 again, at 06:00 UTC.
            ("01:30-05:00 America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T10:00:00Z"),
            ("23:00-01:00 America/New_York", "2026-11-01T03:00:00Z", "2026-11-01T05:00:00Z"),
        ];
        for (text, from, to) in table {
            assert_open(text, from, to);
        }
    }

    #[test]
    fn of_several_windows_any_will_do_and_the_next_is_told() {
        let windows = [window("mon-fri 22:00-06:00 UTC"), window("sat,sun 00:00-24:00 UTC")];
        let table = [
            ("2026-01-16T21:00:00Z", Some("2026-01-16T22:00:00Z")),
            ("2026-01-17T05:00:00Z", None),
            ("2026-01-18T12:00:00Z", None),
            ("2026-01-19T00:00:00Z", Some("2026-01-19T22:00:00Z")),
        ];
        for (now, opens) in table {
            let expected = opens.map_or(Place::Inside, |opens| Place::Outside { opens: Some(at(opens)) });
            assert_eq!(place(&windows, at(now)), expected, "{now}");
        }
        assert_eq!(place(&[], at("2026-01-16T21:00:00Z")), Place::Inside);
    }

    #[test]
    fn the_ends_of_time_are_no_reason_to_panic() {
        let windows = [window("22:00-06:00 Pacific/Kiritimati"), window("fri 01:00-02:00 Etc/GMT+12")];
        for now in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let _ = place(&windows, now);
        }
        // 30 December 2011 was no day in Samoa.
        let skipped = [window("fri 10:00-11:00 Pacific/Apia")];
        let opens = Some(at("2012-01-05T20:00:00Z"));
        assert_eq!(place(&skipped, at("2011-12-30T12:00:00Z")), Place::Outside { opens });
    }

    #[test]
    fn windows_are_written_in_more_than_one_way() {
        let same = window("mon-fri 06:00-07:30 Europe/Berlin");
        for text in [
            " Mon - Fri  6:00 - 07:30  Europe/Berlin ",
            "monday,tue,wed-thursday,FRI 06:00-07:30 Europe/Berlin",
            "mon, tue, wed, thu, fri 06:00-07:30 Europe/Berlin",
        ] {
            let window = Window { text: same.text.clone(), ..window(text) };
            assert_eq!(window, same, "{text}");
        }
        assert_eq!(window(" 22:00-06:00 UTC\n").text, "22:00-06:00 UTC");
    }

    #[test]
    fn what_is_no_window_is_told_with_its_part() {
        let table = [
            ("", Flaw::NoTime, ""),
            ("mon-fri", Flaw::NoTime, "mon-fri"),
            ("mo-fri 22:00-06:00 UTC", Flaw::NoDay, "mo-fri"),
            ("mon- 22:00-06:00 UTC", Flaw::NoDay, "mon-22:00-06:00"),
            ("Europe/Berlin 22:00-06:00", Flaw::NoDay, "Europe/Berlin"),
            ("22-06 UTC", Flaw::BadTime, "22-06"),
            ("22:00 UTC", Flaw::BadTime, "22:00"),
            ("22:00-25:00 UTC", Flaw::BadTime, "22:00-25:00"),
            ("24:00-06:00 UTC", Flaw::BadTime, "24:00-06:00"),
            ("22:0-6:00 UTC", Flaw::BadTime, "22:0-6:00"),
            ("22:00-+6:00 UTC", Flaw::BadTime, "22:00-+6:00"),
            ("22:00-06:00UTC", Flaw::BadTime, "22:00-06:00UTC"),
            ("06:00-06:00 UTC", Flaw::NoLength, "06:00-06:00"),
            ("22:00-06:00", Flaw::NoZone, "22:00-06:00"),
            ("22:00-06:00 +02:00", Flaw::UnknownZone, "+02:00"),
            ("22:00-06:00 UTC, 12:00-13:00 UTC", Flaw::More, "UTC,12:00-13:00"),
            ("22:00-06:00 UTC 12:00-13:00 UTC", Flaw::More, "12:00-13:00"),
        ];
        for (text, flaw, part) in table {
            let part = part.to_owned();
            assert_eq!(text.parse::<Window>(), Err(BadWindow { flaw, part }), "{text}");
        }
    }

    #[test]
    fn a_misspelt_zone_is_recognised_and_an_abbreviation_is_not_guessed_at() {
        let table = [
            ("Europe/Berln", Some("Europe/Berlin")),
            ("europe/berlin", Some("Europe/Berlin")),
            ("New_York", Some("America/New_York")),
            ("London", Some("Europe/London")),
            ("utc", Some("UTC")),
            ("CEST", None),
            ("PST", None),
            ("+02:00", None),
        ];
        for (written, expected) in table {
            assert_eq!(nearest_zone(written), expected, "{written}");
        }
    }

    /// The clocks of a zone, but such as are never set back: in an hour that is shown twice they stand still.
    fn shown(zone: Tz, minutes: impl Iterator<Item = DateTime<Utc>>) -> Vec<(DateTime<Utc>, NaiveDateTime)> {
        let mut latest = NaiveDateTime::MIN;
        let shown = minutes.map(|minute| {
            latest = latest.max(minute.with_timezone(&zone).naive_local());
            (minute, latest)
        });
        shown.collect()
    }

    /// Whether a clock that shows `local` is within the window, told without any moment in time.
    fn includes(window: &Window, local: NaiveDateTime) -> bool {
        let (date, time) = (local.date(), local.time());
        let yesterday = date.weekday().pred();
        if window.closes > window.opens {
            window.days.contains(date.weekday()) && (window.opens..window.closes).contains(&time)
        } else {
            let tonight = window.days.contains(date.weekday()) && time >= window.opens;
            tonight || (window.days.contains(yesterday) && time < window.closes)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_place_agrees_with_looking_at_the_clock_every_minute(
            zone in prop::sample::select(vec![Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Asia__Beirut, Tz::America__Havana]),
            // Around the changes of the clocks in spring and autumn, and at any time of the year.
            day in prop_oneof![60_i64..100, 270_i64..315, 0_i64..365],
            hour in 0_i64..24,
            windows in prop::collection::vec((1_u8..128, 0_u32..24 * 4, 1_u32..=24 * 4), 1..3),
        ) {
            let windows: Vec<Window> = windows.into_iter().map(|(days, from, length)| {
                let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
                let days: Vec<&str> = (0..7).filter(|day| days & (1 << day) != 0).map(|day| names[day]).collect();
                let to = (from + length - 1) % 96 + 1;
                let to = if to == from { 96 } else { to };
                let clock = |quarter: u32| format!("{:02}:{:02}", quarter / 4, quarter % 4 * 15);
                window(&format!("{} {}-{} {zone}", days.join(","), clock(from), clock(to)))
            }).collect();
            let now = at("2026-01-01T00:00:00Z") + TimeDelta::days(day) + TimeDelta::hours(hour);
            // From two days before, so that the clock that is never set back is right from the beginning.
            let minutes = (-2 * 1440..=HORIZON.num_minutes()).map(|minute| now + TimeDelta::minutes(minute));
            let is_inside = |local| windows.iter().any(|window| includes(window, local));
            let ahead: Vec<_> = shown(zone, minutes).into_iter().skip(2 * 1440).collect();
            let expected = match ahead.iter().find(|(_, local)| is_inside(*local)) {
                Some((minute, _)) if *minute == now => Place::Inside,
                first => Place::Outside { opens: first.map(|(minute, _)| *minute) },
            };
            prop_assert_eq!(place(&windows, now), expected, "{:?} at {}", windows, now);
        }

        #[test]
        fn no_text_makes_reading_a_window_panic(text in "(mon|sun|-|,| |22:00|06:00|24:00|UTC|Europe/Berlin|ü|:|;|9){0,9}") {
            if let Err(bad) = text.parse::<Window>() {
                prop_assert!(!bad.hint().is_empty());
            }
        }
    }
}
