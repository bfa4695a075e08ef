//! A manager from start to stop.

use std::sync::Arc;
use std::time::Duration;

use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::database::DatabaseError;
use crate::settings::Settings;
use crate::{Manager, control, figures, rest, start, sweep};

/// How long a stop may take before what is left is cut off.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Why a manager ended that nobody told to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// Address and port.
        address: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Rocket gave up.
    #[error("the REST surface failed: {0}")]
    Rest(String),
    /// The database refuses for a reason that waiting does not mend.
    #[error("the database cannot be used: {0}")]
    Database(#[source] DatabaseError),
    /// A task ended that never should.
    #[error("a task ended unexpectedly: {0}")]
    Task(String),
    /// The operating system does not deliver signals.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then stops in order: no more requests, no more turns of the control loop, no more
/// connections to the database.
pub async fn run(settings: &Settings) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    let manager = Arc::new(Manager::new(settings));
    let stop = CancellationToken::new();

    let rocket = rest::build(settings, Arc::clone(&manager))
        .attach(AdHoc::on_liftoff("announce", |rocket| {
            let config = rocket.config();
            info!("listening on http://{}:{}", config.address, config.port);
            Box::pin(async {})
        }))
        .ignite()
        .await
        .map_err(|error| rest_failure(settings, &error))?;
    let end_of_requests = rocket.shutdown();
    let mut serving = std::pin::pin!(rocket.launch());

    let mut tasks = background(&manager, settings, &stop);

    let mut served = None;
    let outcome = tokio::select! {
        _ = terminate.recv() => { info!("stopping on SIGTERM"); Ok(()) }
        _ = interrupt.recv() => { info!("stopping on SIGINT"); Ok(()) }
        ended = &mut serving => {
            served = Some(());
            Err(match ended {
                Ok(_) => Failure::Rest("it stopped by itself".into()),
                Err(error) => rest_failure(settings, &error),
            })
        }
        ended = tasks.join_next() => Err(match ended {
            Some(Ok(Err(failure))) => failure,
            Some(Err(panic)) => Failure::Task(panic.to_string()),
            Some(Ok(Ok(()))) | None => Failure::Task("it returned".into()),
        }),
    };

    let stopping = async {
        end_of_requests.notify();
        if served.is_none()
            && let Err(error) = serving.await
        {
            warn!("requests were cut off: {}", rest_failure(settings, &error));
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        manager.database.close().await;
    };
    if timeout(STOP_DEADLINE, stopping).await.is_err() {
        warn!("what was still under way after {STOP_DEADLINE:?} is cut off");
    }
    info!("stopped");
    outcome
}

/// What the manager does without being asked: first the start, for as long as the database is away, then it keeps the
/// lease, and whenever it has it, it runs the control loop and the sweep. Beside, it looks at the system while somebody
/// wants to know. Each is a task of its own, so that nothing holds the lease's renewal up.
fn background(
    manager: &Arc<Manager>,
    settings: &Settings,
    stop: &CancellationToken,
) -> JoinSet<Result<(), Failure>> {
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let (manager, moms, stop) = (Arc::clone(manager), settings.moms.clone(), stop.clone());
        async move {
            let start = start::bring_up(&manager, &moms);
            if let Some(brought_up) = stop.run_until_cancelled(start).await {
                brought_up.map_err(Failure::Database)?;
                manager.leading.keep(&manager.database, &stop).await;
            }
            Ok(())
        }
    });
    tasks.spawn({
        let (manager, period, stop) = (Arc::clone(manager), settings.manager_cycle, stop.clone());
        async move {
            let work = control::run(&manager, period);
            stop.run_until_cancelled(work).await;
            Ok(())
        }
    });
    tasks.spawn({
        let (manager, period, stop) = (Arc::clone(manager), settings.message_sweep, stop.clone());
        async move {
            let work = sweep::run(&manager, period);
            stop.run_until_cancelled(work).await;
            Ok(())
        }
    });
    tasks.spawn({
        let (manager, stop) = (Arc::clone(manager), stop.clone());
        async move {
            stop.run_until_cancelled(figures::run(&manager)).await;
            Ok(())
        }
    });
    tasks
}

/// Looking at the kind also keeps Rocket's error from panicking when it is dropped.
fn rest_failure(settings: &Settings, error: &rocket::Error) -> Failure {
    match error.kind() {
        ErrorKind::Bind(cause) | ErrorKind::Io(cause) => Failure::Bind {
            address: format!("{}:{}", settings.address, settings.port),
            cause: std::io::Error::new(cause.kind(), cause.to_string()),
        },
        kind => Failure::Rest(kind.to_string()),
    }
}
