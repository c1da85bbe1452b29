//! howdah's own process: resident memory.

use crate::run::ByteSize;
use crate::run::vitals::ProcessVitals;

/// Reads howdah's own memory.
#[derive(Debug, Default)]
pub(super) struct ProcessProbe {
    peak: u64,
}

impl ProcessProbe {
    /// One reading. The peak is the kernel's where it keeps one, else the most that was ever read.
    ///
    /// # Errors
    /// Why the system tells nothing, in one line.
    pub(super) fn sample(&mut self) -> Result<ProcessVitals, String> {
        let memory = own_memory()?;
        self.peak = self.peak.max(memory.rss).max(memory.peak.unwrap_or(0));
        Ok(ProcessVitals { rss: ByteSize(memory.rss), peak_rss: ByteSize(self.peak) })
    }
}

/// In bytes.
struct OwnMemory {
    rss: u64,
    peak: Option<u64>,
}

#[cfg(target_os = "linux")]
fn own_memory() -> Result<OwnMemory, String> {
    const KIB: u64 = 1024;
    let status = procfs::process::Process::myself().and_then(|own| own.status()).map_err(|error| error.to_string())?;
    let rss = status.vmrss.ok_or("/proc/self/status has no VmRSS")?;
    Ok(OwnMemory { rss: rss * KIB, peak: status.vmhwm.map(|peak| peak * KIB) })
}

#[cfg(not(target_os = "linux"))]
fn own_memory() -> Result<OwnMemory, String> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

    let pid = sysinfo::get_current_pid().map_err(|error| error.to_string())?;
    let mut system = System::new().map_err(|error| error.to_string())?;
    let only_memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, only_memory);
    let own = system.process(pid).ok_or("the system does not list this process")?;
    Ok(OwnMemory { rss: own.memory(), peak: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_its_peak_is_no_less() {
        let vitals = ProcessProbe::default().sample().unwrap();
        assert!(vitals.rss > ByteSize(1 << 20), "{vitals:?}");
        assert!(vitals.peak_rss >= vitals.rss);
    }
}
