//! Any view of anything, in any size, is drawn.

use std::sync::Arc;

use proptest::prelude::*;

use super::views_tests::{every_ui, selecting, terminal, theme};
use crate::console::samples;
use crate::console::ui::Overlay;
use crate::run::vitals::Reading;
use crate::run::{Details, JobState, QueueNews, QueueReading, Snapshot};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_view_of_anything_in_any_size_is_drawn(
        (width, height) in (1_u16..=200, 1_u16..=60),
        (which, world) in (0_usize..12, 0_usize..8),
        (selected, column, down) in (0_usize..80, proptest::option::of(0_usize..15), any::<bool>()),
        (filter, level) in (prop_oneof![Just(String::new()), "[a-z0-9]{1,2}", "\\PC{1,8}"], 0_u8..4),
        (scroll, ascii) in (proptest::option::of(0_usize..60), any::<bool>()),
        (state, seed) in (0_usize..20, any::<u64>()),
    ) {
        let mut snapshot = match world {
            0 => samples::full(),
            1 => samples::hostile_full(),
            2 => samples::driver_gone(),
            3 => samples::unreachable(),
            4 => samples::attached(),
            5 => samples::queue::no_run(),
            _ => samples::all().swap_remove(state).1,
        };
        shake(&mut snapshot, seed);
        let mut details = match world % 3 {
            0 => samples::details(),
            1 => samples::hostile_details(),
            _ => Details::default(),
        };
        details.queue = queue_of(details.queue, seed);
        let views = every_ui();
        let mut ui = selecting(&snapshot, &details, views[which % views.len()].1.clone(), selected);
        if let Some(list) = ui.list() {
            let list = ui.lists.get_mut(list);
            list.sort = column.map(|column| (column, down));
            (list.filter, list.level) = (filter, level);
        }
        if let Some(scroll) = scroll {
            ui.overlay = Overlay::Detail { scroll };
        }
        terminal(&snapshot, &details, &ui, &theme(if ascii { "C" } else { "C.UTF-8" }), (width, height));
    }
}

/// A queue with other lengths, numbers and texts, in any condition, by `seed`.
fn queue_of(news: QueueNews, seed: u64) -> QueueNews {
    let Some(mut view) = news.reading.view().cloned() else { return news };
    let roll = |place: u32, below: u64| usize::try_from(seed.rotate_right(place) % below.max(1)).unwrap_or(0);
    view.jobs = view.jobs.iter().cycle().take(roll(3, 60)).cloned().collect();
    for (index, job) in view.jobs.iter_mut().enumerate() {
        job.state = JobState::ALL[(index + roll(7, 6)) % JobState::ALL.len()];
        job.id = format!("{}{index}", "x".repeat(roll(11, 40)));
        job.done = (roll(13, 3) > 0).then_some(f64::from_bits(seed.rotate_left(17)));
        job.says = (roll(19, 4) > 0).then(|| "表 long ".repeat(roll(23, 30)));
    }
    view.workers.truncate(roll(29, 4));
    view.counts.failed = seed;
    view.is_paused = roll(31, 2) == 0;
    let reading = match roll(37, 4) {
        0 => QueueReading::Pending,
        1 => QueueReading::Read(Arc::new(view)).failed("why ".repeat(roll(41, 90)), samples::full().now),
        _ => QueueReading::Read(Arc::new(view)),
    };
    QueueNews { reading, ..news }
}

/// Other numbers and lengths in what a view shows, by `seed`.
fn shake(snapshot: &mut Snapshot, seed: u64) {
    let mut state = seed;
    let mut roll = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below.max(1)
    };
    let len = |roll: u64, of: usize| usize::try_from(roll).unwrap_or(0).min(of);
    let work = Arc::make_mut(&mut snapshot.work);
    work.map.truncate(len(roll(300), 256));
    work.segments.truncate(len(roll(130), 128));
    work.slowest.truncate(len(roll(14), 12));
    work.more = u32::try_from(roll(u64::from(u32::MAX))).unwrap_or(0);
    if let Some(latency) = &mut work.latency {
        latency.histogram.truncate(len(roll(20), 16));
    }
    if roll(4) == 0 {
        work.latency = None;
    }
    let vitals = Arc::make_mut(&mut snapshot.vitals);
    if let Reading::Value(database) = &mut vitals.database {
        database.tables.truncate(len(roll(50), 50));
        for table in &mut database.tables {
            (table.live, table.dead) = (roll(1 << 50), roll(1 << 40));
            table.dead_series = (0..roll(50)).map(|_| 0).collect();
        }
    }
    vitals.alerts.truncate(len(roll(4), 3));
    snapshot.events.truncate(len(roll(12), 12));
    snapshot.commands.truncate(len(roll(5), 5));
    let history = Arc::make_mut(&mut snapshot.history);
    history.all.truncate(len(roll(140), 130));
    history.tens.truncate(len(roll(140), 130));
    history.seconds.truncate(len(roll(140), 130));
}
