//! What a process of the system holds in memory, as the kernel tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

/// Looks at a process ten times a second until it is dropped.
pub(crate) struct Memory {
    pid: u32,
    most: Arc<AtomicU64>,
    _watcher: AbortOnDropHandle<()>,
}

impl Memory {
    /// Starts to look.
    pub(crate) fn watch(pid: u32) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let watcher = tokio::spawn(watch(pid, most.clone()));
        Self {
            pid,
            most,
            _watcher: AbortOnDropHandle::new(watcher),
        }
    }

    /// What is resident now, in KiB.
    pub(crate) fn now_kib(&self) -> Result<u64> {
        status_kib(self.pid, "VmRSS:").context("the process has no VmRSS; has it ended?")
    }

    /// The most that was resident in any look since the last call, in KiB.
    pub(crate) fn take_most_kib(&self) -> u64 {
        self.most.swap(0, Ordering::Relaxed)
    }

    /// The most that was ever resident, in KiB.
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        status_kib(self.pid, "VmHWM:").context("the process has no VmHWM; has it ended?")
    }
}

async fn watch(pid: u32, most: Arc<AtomicU64>) {
    let mut look = interval(Duration::from_millis(100));
    while let Some(now) = status_kib(pid, "VmRSS:") {
        most.fetch_max(now, Ordering::Relaxed);
        look.tick().await;
    }
}

fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// KiB as MiB, for people.
pub(crate) fn mib(kib: u64) -> f64 {
    (kib as f64 / 102.4).round() / 10.0
}
