//! What happens to the parts while the demo runs: a MoM may be killed, the others may not.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use testkit::{Mom, Process};

use crate::demo::Demo;
use crate::steps::Steps;

/// How long a killed MoM stays away, so that one can watch its queues move.
const AWAY: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(100);
/// How often in a row a MoM may fail to come back.
const MOST_FAILURES: u32 = 3;

#[derive(Clone, Copy)]
enum Presence {
    Up { pid: Option<u32> },
    Away { until: Instant },
    Coming,
}

/// Reports the end of MoMs and starts them again. Returns an error when anything else ends.
pub(crate) async fn watch(demo: &Demo, steps: &Steps) -> anyhow::Result<()> {
    let mut moms: Vec<_> = demo
        .moms
        .iter()
        .map(|mom| (mom, Presence::Up { pid: mom.pid() }, 0))
        .collect();
    loop {
        for process in others(demo) {
            process.ensure_running()?;
        }
        for (mom, presence, failures) in &mut moms {
            *presence = look(mom, *presence, failures, steps).await?;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn others(demo: &Demo) -> impl Iterator<Item = &Process> {
    let postgres = demo.postgres.iter().map(|postgres| postgres.process());
    let manager = demo.manager.iter().map(|manager| &**manager);
    postgres.chain(manager).chain(&demo.servers)
}

async fn look(
    mom: &Mom,
    presence: Presence,
    failures: &mut u32,
    steps: &Steps,
) -> anyhow::Result<Presence> {
    let name = mom.name();
    match presence {
        Presence::Up { .. } if mom.is_running() => Ok(presence),
        Presence::Up { pid } => {
            let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            steps.event(&format!(
                "{name}{pid} {}; it comes back in {} s",
                ended(mom),
                AWAY.as_secs()
            ));
            Ok(Presence::Away {
                until: Instant::now() + AWAY,
            })
        }
        Presence::Away { until } if Instant::now() < until => Ok(presence),
        Presence::Away { .. } => {
            mom.spawn()?;
            Ok(Presence::Coming)
        }
        Presence::Coming if !mom.is_running() => {
            *failures += 1;
            if *failures >= MOST_FAILURES {
                mom.ensure_running()
                    .with_context(|| format!("{name} failed {failures} times to come back"))?;
                bail!("{name} comes and goes");
            }
            steps.event(&format!(
                "{name} {}; another try in {} s",
                ended(mom),
                AWAY.as_secs()
            ));
            Ok(Presence::Away {
                until: Instant::now() + AWAY,
            })
        }
        Presence::Coming if mom.heartbeat().await.is_err() => Ok(presence),
        Presence::Coming => {
            *failures = 0;
            let pid = mom.pid();
            let shown = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            steps.event(&format!("{name} is back{shown}"));
            Ok(Presence::Up { pid })
        }
    }
}

/// How a MoM ended; with the end of its log unless somebody wanted it.
fn ended(mom: &Mom) -> String {
    match mom.exit_status() {
        Some(status) if status.signal() == Some(9) => "was killed".to_owned(),
        Some(status) if status.success() => "was ended".to_owned(),
        Some(status) => {
            format!(
                "ended by itself ({status}); the end of {}:\n{}\n  It",
                mom.log_path().display(),
                mom.log_tail()
            )
        }
        None => "does not run".to_owned(),
    }
}
