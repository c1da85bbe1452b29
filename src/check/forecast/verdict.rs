//! Whether the server can take it: findings of a forecast.

use super::{Forecast, Given, real, share};
use crate::check::finding::{Code, Finding, Severity};
use crate::run::{ByteSize, human};

/// The disk would be full.
pub const DISK_TOO_SMALL: Code = Code("disk-too-small");
/// A replication slot would be given up.
pub const SLOT_WOULD_BE_LOST: Code = Code("slot-would-be-lost");
/// The archive is behind, or fails.
pub const ARCHIVE_TOO_SLOW: Code = Code("archive-too-slow");
/// A standby is behind already.
pub const STANDBY_BEHIND: Code = Code("standby-behind");
/// Dead rows would gather.
pub const AUTOVACUUM_BEHIND: Code = Code("autovacuum-behind");
/// Triggers take much of the time.
pub const TRIGGER_HEAVY: Code = Code("trigger-heavy");
/// The smallest batch takes longer than a batch should.
pub const BATCH_OVER_TARGET: Code = Code("batch-over-target");
/// A batch failed in the rehearsal.
pub const REHEARSAL_FAILED: Code = Code("rehearsal-failed");
/// Something reaches out of the transaction.
pub const OUTSIDE_EFFECTS: Code = Code("outside-effects");

/// Every code of a rehearsal.
pub const CODES: [Code; 9] = [
    DISK_TOO_SMALL,
    SLOT_WOULD_BE_LOST,
    ARCHIVE_TOO_SLOW,
    STANDBY_BEHIND,
    AUTOVACUUM_BEHIND,
    TRIGGER_HEAVY,
    BATCH_OVER_TARGET,
    REHEARSAL_FAILED,
    OUTSIDE_EFFECTS,
];

/// WAL files that wait for the archive before it counts as behind.
const WAITING: u64 = 16;
/// WAL that a standby has not replayed before it counts as behind.
const BEHIND: u64 = 64 << 20;
/// Dead rows at once, as a share of the rows, that are too many.
const DEAD_SHARE: f64 = 0.2;
/// Of a statement's time, what triggers may take unremarked.
const TRIGGER_SHARE: f64 = 0.3;

/// What stands against a step by its forecast.
#[must_use]
pub fn findings(step: &str, table: &str, given: &Given<'_>, forecast: &Forecast) -> Vec<Finding> {
    let all = [
        disk(given, forecast),
        archive(given, forecast),
        autovacuum(table, given, forecast),
        trigger(forecast),
        target(table, given, forecast),
    ];
    let several = slots(given, forecast).into_iter().chain(standbys(given, forecast));
    all.into_iter().flatten().chain(several).map(|finding| Finding { step: Some(step.to_owned()), ..finding }).collect()
}

fn finding(code: Code, severity: Severity, subject: &str, what: String, why: &str, mend: &[&str]) -> Finding {
    Finding {
        code,
        severity,
        step: None,
        subject: subject.to_owned(),
        what,
        why: why.to_owned(),
        mend: mend.iter().map(|line| (*line).to_owned()).collect(),
    }
}

/// WAL that is not removed, of so much that is written: somebody has not read it.
fn kept(given: &Given<'_>, wal: u64) -> u64 {
    let around = given.around;
    let recycled = wal.min(around.max_wal_size);
    let by_slots = if around.slots.iter().any(|slot| !slot.is_active) {
        around.max_slot_wal_keep_size.map_or(wal, |most| wal.min(most))
    } else {
        0
    };
    let by_archive = if around.archive.is_some_and(|archive| archive.is_failing) { wal } else { 0 };
    recycled.max(by_slots).max(by_archive)
}

fn disk(given: &Given<'_>, forecast: &Forecast) -> Option<Finding> {
    let free = given.around.free_disk?;
    let indexes =
        |pick: fn(&super::Foreseen<u64>) -> u64| forecast.index_growth.iter().map(|(_, one)| pick(one)).sum::<u64>();
    let least = forecast.table_growth.least + indexes(|one| one.least) + kept(given, forecast.wal.least);
    let most = forecast.table_growth.most + indexes(|one| one.most) + kept(given, forecast.wal.most);
    if most <= free {
        return None;
    }
    let severity = if least > free { Severity::Error } else { Severity::Warning };
    Some(finding(
        DISK_TOO_SMALL,
        severity,
        "disk",
        format!("the run may take {} to {} of it, and {} are free", ByteSize(least), ByteSize(most), ByteSize(free)),
        "a server whose disk is full stops for everybody",
        &["limits.free_disk = { slow = 15, stop = 10 }  # in the plan: waits and pauses before it is full"],
    ))
}

fn slots(given: &Given<'_>, forecast: &Forecast) -> Vec<Finding> {
    let Some(most) = given.around.max_slot_wal_keep_size else { return Vec::new() };
    let lost = |slot: &&crate::check::rehearsal::Slot| {
        // One that is read from keeps up, as long as it is not behind by much already.
        let would_keep = if slot.is_active { slot.keeps } else { slot.keeps.saturating_add(forecast.wal.most) };
        would_keep > most
    };
    let slots = given.around.slots.iter().filter(lost);
    slots
        .map(|slot| {
            let certain = !slot.is_active && slot.keeps.saturating_add(forecast.wal.least) > most;
            finding(
                SLOT_WOULD_BE_LOST,
                if certain { Severity::Error } else { Severity::Warning },
                &format!("slot {}", slot.name),
                format!(
                    "it keeps {} of WAL now, the run writes {} to {}, and max_slot_wal_keep_size is {}",
                    ByteSize(slot.keeps),
                    ByteSize(forecast.wal.least),
                    ByteSize(forecast.wal.most),
                    ByteSize(most)
                ),
                "past that the server gives the slot up, and whoever reads from it must be built anew",
                &[
                    "SELECT pg_reload_conf()  -- after raising max_slot_wal_keep_size",
                    "limits.wal = { slow = \"1GiB\", stop = \"4GiB\" }  # in the plan",
                ],
            )
        })
        .collect()
}

fn archive(given: &Given<'_>, forecast: &Forecast) -> Option<Finding> {
    let archive = given.around.archive?;
    let waiting = archive.waiting.unwrap_or(0);
    if !archive.is_failing && waiting < WAITING {
        return None;
    }
    let files = share(real(forecast.wal.likely), real(archive.file));
    let pace = share(real(forecast.wal_per_second) * 60.0, real(archive.file));
    let state = if archive.is_failing {
        "its last try failed".to_owned()
    } else {
        format!("{} files wait for it already", human::count(waiting))
    };
    Some(finding(
        ARCHIVE_TOO_SLOW,
        Severity::Warning,
        "archive",
        format!("{state}, and the run adds about {files:.0} files, {pace:.0} a minute"),
        "files that wait fill the disk of the server",
        &["limits.archive = { slow = 64, stop = 512 }  # in the plan: waits until the archive has caught up"],
    ))
}

fn standbys(given: &Given<'_>, forecast: &Forecast) -> Vec<Finding> {
    let behind = given.around.standbys.iter().filter(|standby| standby.behind > BEHIND);
    behind
        .map(|standby| {
            finding(
                STANDBY_BEHIND,
                Severity::Warning,
                &format!("standby {}", standby.name),
                format!(
                    "it is {} behind now, and would have {} of WAL a second to replay",
                    ByteSize(standby.behind),
                    ByteSize(forecast.wal_per_second)
                ),
                "how fast it replays is not known; what is read from it grows older",
                &["limits.replay_lag = { slow = \"5s\", stop = \"60s\" }  # in the plan; it is the default"],
            )
        })
        .collect()
}

fn autovacuum(table: &str, given: &Given<'_>, forecast: &Forecast) -> Option<Finding> {
    let of_rows = share(real(forecast.dead_at_once), real(given.table.written_rows));
    if of_rows <= DEAD_SHARE || forecast.dead == 0 {
        return None;
    }
    let what = if given.table.is_looked_after {
        format!(
            "about {} dead rows would gather before autovacuum has been round, {:.0} % of the table",
            human::count(forecast.dead_at_once),
            of_rows * 100.0
        )
    } else {
        format!("autovacuum is off for it, and about {} dead rows would stay", human::count(forecast.dead_at_once))
    };
    Some(finding(
        AUTOVACUUM_BEHIND,
        Severity::Warning,
        table,
        what,
        "the table grows by what is not given back in time, and stays that large",
        &["limits.vacuum = \"run\"  # in the plan: howdah runs VACUUM between batches; \"wait\" waits for autovacuum"],
    ))
}

fn trigger(forecast: &Forecast) -> Option<Finding> {
    let share: f64 = forecast.triggers.iter().map(|trigger| trigger.share).sum();
    let most = forecast.triggers.iter().max_by(|a, b| a.share.total_cmp(&b.share))?;
    if share < TRIGGER_SHARE {
        return None;
    }
    Some(finding(
        TRIGGER_HEAVY,
        Severity::Warning,
        &format!("{} on {}", most.name, most.relation),
        format!("triggers take {:.0} % of a batch's time, this one {:.0} %", share * 100.0, most.share * 100.0),
        "the run takes longer by that, and the trigger does for each row whatever it does",
        &[],
    ))
}

fn target(table: &str, given: &Given<'_>, forecast: &Forecast) -> Option<Finding> {
    let limits = given.limits.batch;
    if forecast.batch_rows > limits.min || forecast.held <= limits.target {
        return None;
    }
    Some(finding(
        BATCH_OVER_TARGET,
        Severity::Warning,
        table,
        format!(
            "a batch of {}, the fewest that `limits.batch.min` allows, takes {}; the target is {}",
            human::rows(limits.min),
            human::duration(forecast.held),
            human::duration(limits.target)
        ),
        "rows stay locked for that long",
        &["limits.batch = { min = 10 }  # in the plan"],
    ))
}
