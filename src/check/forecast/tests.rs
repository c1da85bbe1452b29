use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::check::finding::{Code, Severity};
use crate::check::rehearsal::{
    Archive, Autovacuum, Explained, IndexFacts, Look, Slot, Standby, Surroundings, TableFacts, Trial, Trigger, Wal,
    Where, Written,
};
use crate::plan::load;
use crate::plan::model::Limits;

const MIB: u64 = 1 << 20;

fn limits(more: &str) -> Limits {
    let text = format!("name = \"p\"\n[limits]\n{more}\n[[step]]\nname = \"s\"\nverify = \"SELECT 1\"\nexpect = 1\n");
    load::from_text("p.toml", None, &text, &|_| None).expect("a plan").limits
}

/// A batch whose rows take 10 µs each, after 1 ms of its own; 200 bytes of WAL a row, and an image for each 50.
fn trial(at: Where, look: Look, walked: u64) -> Trial {
    let took = Duration::from_micros(1_000 + 10 * walked);
    let explained = Explained {
        execution: took,
        wal: Wal { bytes: 200 * walked + 8_000 * (walked / 50), records: walked, full_pages: walked / 50 },
        ..Explained::default()
    };
    Trial {
        at,
        part: "t".to_owned(),
        own: 1,
        look,
        is_repeated: false,
        walked,
        changed: walked,
        took,
        around: Duration::from_millis(1),
        bounding: Duration::ZERO,
        held: took,
        explained: (look != Look::Plain).then_some(explained),
        wal_passed: 250 * walked,
        written: vec![Written {
            oid: 1,
            table: "t".to_owned(),
            updated: walked,
            hot: walked / 4,
            ..Written::default()
        }],
        locks: Vec::new(),
    }
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for at in [Where::Beginning, Where::Middle, Where::End] {
        trials.extend([trial(at, Look::Close, 100), trial(at, Look::Close, 1_000)]);
        let mut again = trial(at, Look::Close, 1_000);
        again.is_repeated = true;
        again.explained =
            again.explained.map(|e| Explained { wal: Wal { bytes: 200_000, full_pages: 0, ..e.wal }, ..e });
        trials.extend([again, trial(at, Look::Counted, 20_000), trial(at, Look::Plain, 40_000)]);
    }
    trials
}

fn table() -> TableFacts {
    TableFacts {
        rows: 2_000_000,
        written_rows: 2_000_000,
        bytes: 40_000 * 8_192,
        row_bytes: 164.0,
        pages: 40_000,
        indexes: vec![IndexFacts { name: "t_pkey".to_owned(), bytes: 40 * MIB, pages: 5_120, entries: 2_000_000 }],
        dead: 0,
        dead_that_wake: 400_050,
        is_looked_after: true,
    }
}

fn around() -> Surroundings {
    Surroundings {
        full_page_writes: true,
        max_wal_size: 8 << 30,
        checkpoint_timeout: Duration::from_mins(5),
        autovacuum: Autovacuum { naptime: Duration::from_mins(1), pages_per_second: Some(4_500.0) },
        ..Surroundings::default()
    }
}

#[test]
fn a_run_is_foretold_from_what_its_batches_took() {
    let (limits, trials, table, around) = (limits("workers = 1"), trials(), table(), around());
    let told =
        forecast(&Given { limits: &limits, trials: &trials, table: &table, around: &around }).expect("a forecast");
    // 2,000,000 rows of 10 µs are 20 s, and what is not seen in a second is 15 % more.
    let likely = told.duration.likely.as_secs_f64();
    assert!((22.0..25.5).contains(&likely), "{likely}");
    assert!(told.duration.least < told.duration.likely && told.duration.likely < told.duration.most);
    // 200 bytes a row; and 40,000 images of 8,000 bytes, of at most 45,120.
    let likely = told.wal.likely;
    assert!((715_000_000..=730_000_000).contains(&likely), "{likely}");
    assert_eq!(told.wal_of_full_pages, 40_000 * 8_000);
    assert_eq!((told.hot, told.dead, told.changed.likely), (Some(0.25), 2_000_000, 2_000_000));
    // Three quarters move to another page.
    assert_eq!(told.table_growth.likely, 1_500_000 * 40_000 * 8_192 / 2_000_000);
    assert!(told.dead_at_once <= told.dead);
}

#[test]
fn full_page_images_are_never_more_than_there_are_pages() {
    let (limits, trials, around) = (limits("workers = 1"), trials(), around());
    let small = TableFacts { pages: 1_000, indexes: Vec::new(), ..table() };
    let told =
        forecast(&Given { limits: &limits, trials: &trials, table: &small, around: &around }).expect("a forecast");
    assert_eq!(told.wal_of_full_pages, 1_000 * 8_000);
}

#[test]
fn more_workers_are_not_believed_to_help_in_full() {
    let (trials, table, around) = (trials(), table(), around());
    let told = |workers: &str| {
        let limits = limits(workers);
        forecast(&Given { limits: &limits, trials: &trials, table: &table, around: &around }).expect("a forecast")
    };
    let (one, four) = (told("workers = 1"), told("workers = 4"));
    assert_eq!(one.duration.most, four.duration.most, "they may not help at all");
    assert!(four.duration.likely < one.duration.likely);
    assert!(four.duration.likely > one.duration.likely / 4, "four are not four times as fast");
    assert!(told("workers = 1\nnice = 1.0").duration.likely > one.duration.likely * 19 / 10, "rests count");
}

#[test]
fn what_triggers_write_is_taken_from_the_servers_wal() {
    let (limits, table, around) =
        (limits("workers = 1"), table(), Surroundings { full_page_writes: false, ..around() });
    let mut trials = trials();
    for trial in &mut trials {
        trial.wal_passed = 900 * trial.walked;
        if let Some(explained) = &mut trial.explained {
            explained.wal.full_pages = 0;
            let took = Some(trial.took / 2);
            explained.triggers.push(Trigger {
                name: "audit".to_owned(),
                relation: "t".to_owned(),
                calls: trial.walked,
                took,
            });
        }
    }
    let given = Given { limits: &limits, trials: &trials, table: &table, around: &around };
    let told = forecast(&given).expect("a forecast");
    assert!((1_800_000_000..1_810_000_000).contains(&told.wal.likely), "{}", told.wal.likely);
    assert!((told.triggers[0].share - 0.5).abs() < 0.01 && (told.triggers[0].calls_per_row - 1.0).abs() < 0.01);
    assert_eq!(codes(&given), ["trigger-heavy"]);
}

fn codes(given: &Given<'_>) -> Vec<&'static str> {
    let told = forecast(given).expect("a forecast");
    findings("s", "t", given, &told)
        .into_iter()
        .map(|finding| finding.code.0)
        .filter(|code| *code != "autovacuum-behind")
        .collect()
}

#[test]
fn what_the_server_cannot_take_is_found_and_nothing_else() {
    let (limits, trials, table) = (limits("workers = 1"), trials(), table());
    let slot = |is_active, keeps| Slot { name: "s".to_owned(), is_active, keeps };
    let standby = |behind| Standby { name: "b".to_owned(), behind, is_synchronous: false };
    let with_slot = |most, slot| Surroundings { max_slot_wal_keep_size: most, slots: vec![slot], ..around() };
    let archive = |waiting, is_failing| Surroundings {
        archive: Some(Archive { waiting: Some(waiting), is_failing, file: 16 * MIB }),
        ..around()
    };
    let rows: [(&str, Surroundings, &[&str]); 10] = [
        ("nothing", around(), &[]),
        ("a large disk", Surroundings { free_disk: Some(1 << 40), ..around() }, &[]),
        ("a small disk", Surroundings { free_disk: Some(MIB), ..around() }, &["disk-too-small"]),
        ("a slot that is read from", with_slot(Some(100 * MIB), slot(true, MIB)), &[]),
        ("a slot that nobody reads from", with_slot(Some(100 * MIB), slot(false, MIB)), &["slot-would-be-lost"]),
        ("a slot without a bound", with_slot(None, slot(false, MIB)), &[]),
        ("an archive that keeps up", archive(1, false), &[]),
        ("an archive that fails", archive(0, true), &["archive-too-slow"]),
        ("an archive that is behind", archive(40, false), &["archive-too-slow"]),
        (
            "a standby that is behind",
            Surroundings { standbys: vec![standby(MIB), standby(1 << 30)], ..around() },
            &["standby-behind"],
        ),
    ];
    for (name, around, expected) in rows {
        let given = Given { limits: &limits, trials: &trials, table: &table, around: &around };
        assert_eq!(codes(&given), expected, "{name}");
    }
}

#[test]
fn a_slot_that_would_surely_be_lost_is_an_error_and_one_that_may_be_a_warning() {
    let (limits, trials, table) = (limits("workers = 1"), trials(), table());
    for (most, expected) in [(100 * MIB, Severity::Error), (750 * MIB, Severity::Warning)] {
        let slots = vec![Slot { name: "s".to_owned(), is_active: false, keeps: MIB }];
        let around = Surroundings { max_slot_wal_keep_size: Some(most), slots, ..around() };
        let given = Given { limits: &limits, trials: &trials, table: &table, around: &around };
        let told = forecast(&given).expect("a forecast");
        let found = findings("s", "t", &given, &told);
        let slot = found.iter().find(|one| one.code == Code("slot-would-be-lost")).expect("a finding");
        assert_eq!(slot.severity, expected, "{}", slot.what);
    }
}

#[test]
fn dead_rows_gather_where_autovacuum_is_off() {
    let (limits, trials, around) = (limits("workers = 1"), trials(), around());
    let found = |table: &TableFacts| {
        let given = Given { limits: &limits, trials: &trials, table, around: &around };
        let told = forecast(&given).expect("a forecast");
        findings("s", "t", &given, &told).iter().any(|one| one.code == Code("autovacuum-behind"))
    };
    assert!(found(&TableFacts { is_looked_after: false, ..table() }));
    let few: Vec<Trial> = trials
        .iter()
        .cloned()
        .map(|mut one| {
            one.written.iter_mut().for_each(|written| written.updated /= 100);
            one.changed /= 100;
            one
        })
        .collect();
    let (table, limits) = (table(), self::limits("workers = 1"));
    let given = Given { limits: &limits, trials: &few, table: &table, around: &around };
    let told = forecast(&given).expect("a forecast");
    assert!(findings("s", "t", &given, &told).iter().all(|one| one.code != Code("autovacuum-behind")));
}

#[test]
fn a_batch_that_is_too_slow_at_its_smallest_is_found() {
    let limits = limits("workers = 1\nbatch = { start = 1000, min = 1000, max = 1000, target = \"5ms\" }");
    let (trials, table, around) = (trials(), table(), around());
    let given = Given { limits: &limits, trials: &trials, table: &table, around: &around };
    assert_eq!(codes(&given), ["batch-over-target"]);
}

#[test]
fn nothing_tried_is_nothing_foretold() {
    let (limits, table, around) = (limits("workers = 1"), table(), around());
    assert_eq!(forecast(&Given { limits: &limits, trials: &[], table: &table, around: &around }), None);
}

#[test]
fn every_code_has_its_page() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for code in CODES {
        let page = std::fs::read_to_string(root.join(code.page())).unwrap_or_else(|e| panic!("{}: {e}", code.page()));
        assert!(page.starts_with(&format!("# {}\n", code.0)), "{}", code.page());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was tried, a range has its likely figure inside it, and no figure is beyond reason.
    #[test]
    fn a_range_holds_what_is_likely(
        rows in 0_u64..10_000_000_000,
        sizes in prop::collection::vec((1_u64..100_000, 0_u64..5_000_000, 0_u64..100_000), 1..12),
        workers in 1_u32..8,
    ) {
        let limits = Limits { workers, ..limits("") };
        let look = [Look::Close, Look::Counted, Look::Plain];
        let at = [Where::Beginning, Where::Middle, Where::End];
        let trials: Vec<Trial> = sizes.iter().enumerate().map(|(n, (walked, micros, changed))| Trial {
            took: Duration::from_micros(*micros),
            changed: *changed,
            ..trial(at[n % 3], look[n / 3 % 3], *walked)
        }).collect();
        let (table, around) = (TableFacts { rows, ..table() }, around());
        if let Some(told) = forecast(&Given { limits: &limits, trials: &trials, table: &table, around: &around }) {
            prop_assert!(told.duration.least <= told.duration.likely && told.duration.likely <= told.duration.most);
            prop_assert!(told.wal.least <= told.wal.likely && told.wal.likely <= told.wal.most);
            prop_assert!(told.changed.least <= told.changed.likely && told.changed.likely <= told.changed.most);
            prop_assert!(told.table_growth.least <= told.table_growth.likely && told.table_growth.likely <= told.table_growth.most);
            prop_assert!(told.hot.is_none_or(|hot| (0.0..=1.0).contains(&hot)));
            prop_assert!(!told.to_text().is_empty());
        }
    }
}
