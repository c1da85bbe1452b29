//! The machine: CPU, load, memory, uptime.

use std::time::Duration;

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, System};

use super::series::Series;
use crate::run::ByteSize;
use crate::run::vitals::HostVitals;

/// The second sample comes this soon after the first: CPU use is a difference over 200 ms or more.
pub(super) const WARM_UP: Duration = MINIMUM_CPU_UPDATE_INTERVAL.saturating_add(Duration::from_millis(50));
/// A limit that a cgroup gets later is noticed within this many samples.
const SAMPLES_BETWEEN_LOOKS_FOR_A_LIMIT: u32 = 60;

/// Reads the machine's figures.
#[derive(Default)]
pub(super) struct HostProbe {
    system: Option<System>,
    samples: u32,
    limited: bool,
    cpu: Series<f32>,
}

/// What a cgroup allows and counts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cgroup {
    total: u64,
    used: u64,
    /// File pages that the kernel would give back at once: counted as used, and yet free.
    inactive_file: u64,
}

impl HostProbe {
    /// One reading. The CPU figures are `None` in the first one.
    ///
    /// # Errors
    /// Why the system tells nothing, in one line.
    pub(super) fn sample(&mut self) -> Result<HostVitals, String> {
        let system = match &mut self.system {
            Some(system) => system,
            none => none.insert(System::new().map_err(|error| error.to_string())?),
        };
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let total = system.total_memory();
        if total == 0 {
            return Err("the system tells no memory size".to_owned());
        }
        let look = self.limited || self.samples.is_multiple_of(SAMPLES_BETWEEN_LOOKS_FOR_A_LIMIT);
        let cgroup = if look { cgroup(system) } else { None };
        self.limited = cgroup.is_some_and(|cgroup| cgroup.total < total);
        let (memory_used, memory_total) = memory(total, system.available_memory(), cgroup);

        let known = self.samples > 0 && !system.cpus().is_empty();
        let cpu_percent = known.then(|| percent(system.global_cpu_usage()));
        let core_percent =
            if known { system.cpus().iter().map(|cpu| percent(cpu.usage())).collect() } else { Vec::new() };
        if let Some(percent) = cpu_percent {
            self.cpu.push(percent);
        }
        self.samples = self.samples.saturating_add(1);

        let load = System::load_average().map_err(|error| error.to_string())?;
        let uptime = System::uptime().map_err(|error| error.to_string())?;
        Ok(HostVitals {
            cpu_percent,
            core_percent,
            load: [load.one, load.five, load.fifteen],
            memory_used: ByteSize(memory_used),
            memory_total: ByteSize(memory_total),
            uptime: Duration::from_secs(uptime),
            cpu_series: self.cpu.values().clone(),
        })
    }
}

fn percent(value: f32) -> f32 {
    if value.is_finite() { value.clamp(0.0, 100.0) } else { 0.0 }
}

/// Memory in use and memory there is: the cgroup's where it allows less than the machine has.
fn memory(total: u64, available: u64, cgroup: Option<Cgroup>) -> (u64, u64) {
    match cgroup {
        Some(cgroup) if cgroup.total < total => {
            let used = cgroup.used.saturating_sub(cgroup.inactive_file).min(cgroup.total);
            (used, cgroup.total)
        }
        Some(_) | None => (total.saturating_sub(available), total),
    }
}

fn cgroup(system: &System) -> Option<Cgroup> {
    let limits = system.cgroup_limits()?;
    let used = limits.total_memory.saturating_sub(limits.free_memory);
    Some(Cgroup { total: limits.total_memory, used, inactive_file: inactive_file() })
}

/// The cgroup's inactive file pages, in bytes; 0 where it does not tell. `docker stats` subtracts the same.
fn inactive_file() -> u64 {
    let v1 = ("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file");
    let v2 = ("/sys/fs/cgroup/memory.stat", "inactive_file");
    let read = |(path, key)| std::fs::read_to_string(path).ok().and_then(|table| value_of(&table, key));
    read(v1).or_else(|| read(v2)).unwrap_or(0)
}

fn value_of(table: &str, key: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_the_cgroups_only_where_it_allows_less_than_the_machine_has() {
        let cgroup = |total, used, inactive_file| Some(Cgroup { total, used, inactive_file });
        let table = [
            ("no cgroup", None, (60, 100)),
            ("a limit below", cgroup(50, 30, 0), (30, 50)),
            ("cache is free", cgroup(50, 48, 20), (28, 50)),
            ("a limit of all there is", cgroup(100, 30, 0), (60, 100)),
            ("no limit", cgroup(u64::MAX, 30, 0), (60, 100)),
            ("figures that contradict", cgroup(50, 70, 0), (50, 50)),
            ("and the other way", cgroup(50, 10, 20), (0, 50)),
        ];
        for (name, cgroup, expected) in table {
            assert_eq!(memory(100, 40, cgroup), expected, "{name}");
        }
    }

    #[test]
    fn a_table_of_the_kernel_is_read_by_whole_keys() {
        let table = "anon 1\ninactive_file_x 9\ninactive_file 4096\n";
        assert_eq!(value_of(table, "inactive_file"), Some(4096));
        assert_eq!(value_of(table, "total_inactive_file"), None);
    }

    #[test]
    fn cpu_use_needs_two_samples() {
        let mut probe = HostProbe::default();
        let first = probe.sample().unwrap();
        assert_eq!((first.cpu_percent, first.cpu_series.len()), (None, 0));
        assert!(first.memory_total > ByteSize(0) && first.memory_used <= first.memory_total);
        std::thread::sleep(WARM_UP);
        let second = probe.sample().unwrap();
        assert!(second.cpu_percent.is_some_and(|percent| (0.0..=100.0).contains(&percent)));
        assert_eq!(second.cpu_series.len(), 1);
        assert!(!second.core_percent.is_empty());
    }
}
