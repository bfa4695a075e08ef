//! Counters that the load adds to and a progress bar that looks at them, ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::task::AbortOnDropHandle;

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    acked: AtomicU64,
    delivered: AtomicU64,
}

impl Counters {
    pub(crate) fn add_acked(&self, count: u64) {
        self.acked.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_delivered(&self, count: u64) {
        self.delivered.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }
}

/// A bar that is shown until this is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    _ticker: AbortOnDropHandle<()>,
}

impl Progress {
    /// `total` counts acknowledgements and deliveries alike. None is shown beside JSON; indicatif itself shows none
    /// where nobody is looking.
    pub(crate) fn show(counters: &Arc<Counters>, total: u64, json: bool) -> Self {
        let bar = if json {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(total)
        };
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {msg}")
            .expect("the template is a constant and legal");
        bar.set_style(style);
        let ticker = tokio::spawn(tick(bar.clone(), counters.clone()));
        Self {
            bar,
            _ticker: AbortOnDropHandle::new(ticker),
        }
    }
}

/// A line that says what is going on, for runs that are not told in messages.
pub(crate) fn stage(json: bool) -> ProgressBar {
    let bar = if json {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner()
    };
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

async fn tick(bar: ProgressBar, counters: Arc<Counters>) {
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    loop {
        interval.tick().await;
        let (acked, delivered) = (counters.acked(), counters.delivered());
        bar.set_position(acked + delivered);
        bar.set_message(format!("acknowledged {acked} delivered {delivered}"));
    }
}
