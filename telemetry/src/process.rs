//! What the operating system counts of this process.

use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::metrics::{Kind, Text};

/// Processor time that the process has used, of all its threads.
pub fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// Bytes of memory that the process has in use. 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Files and sockets that the process has open. 0 where the system does not tell.
pub fn open_files() -> usize {
    // The listing itself is one of them.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// Writes what every process has, under the names that Prometheus's own libraries use.
pub fn write(text: &mut Text, started: SystemTime) {
    let seconds = started
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    text.single(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Processor time used, of all threads.",
        cpu().as_secs_f64(),
    );
    text.single(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Memory in use.",
        resident_bytes() as f64,
    );
    text.single(
        "process_open_fds",
        Kind::Gauge,
        "Files and sockets that are open.",
        open_files() as f64,
    );
    if let Some(most) = getrlimit(Resource::Nofile).current {
        text.single(
            "process_max_fds",
            Kind::Gauge,
            "Files and sockets that may be open.",
            most as f64,
        );
    }
    text.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since 1970.",
        seconds.as_secs_f64(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_open_files_and_has_used_the_processor() {
        assert!(resident_bytes() > 100_000);
        assert!(open_files() >= 3);
        assert!(cpu() > Duration::ZERO);
    }
}
