//! The manager's calls to MoMs, each with a deadline, over one lazily made connection for each MoM.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use protos::message_stream_client::MessageStreamClient;
use protos::{
    CreateQueueRequest, DeleteChannelRequest, DeleteQueueRequest, HeartbeatRequest, Push,
    PushOkResponse, RebuildQueueRequest, ReleaseQueueRequest, StatisticsRequest,
    StatisticsResponse, codes,
};
use storage::MomAddress;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use crate::error::MomError;
use crate::link::Connector;
use crate::settings::Probe;

/// How often an idle connection is checked, and how long an answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));
/// How long a client waits for a MoM to learn what the database already says.
const HINT_DEADLINE: Duration = Duration::from_millis(250);
/// Bytes of a heartbeat's answer: room for a hundred thousand queues.
const MAX_ANSWER: usize = 64 << 20;

type Client = MessageStreamClient<Channel>;

/// The connections to MoMs.
#[derive(Debug)]
pub struct Moms {
    probe: Probe,
    clients: Mutex<HashMap<MomAddress, Client>>,
    /// When each MoM answered for the last time, with success or not.
    heard: Mutex<HashMap<MomAddress, DateTime<Utc>>>,
    /// Wakes the control loop when a connection breaks or a MoM does not answer.
    hint: Arc<Notify>,
}

/// What a MoM hosts at this moment: labels and epochs.
pub type Hosted = HashMap<String, i64>;

impl Moms {
    pub(crate) fn new(probe: Probe, hint: Arc<Notify>) -> Self {
        Self {
            probe,
            clients: Mutex::default(),
            heard: Mutex::default(),
            hint,
        }
    }

    /// Asks a MoM whether it is alive and what it hosts, again after a failure until the deadline of the probe.
    ///
    /// By the epoch of the lease it hears who leads. One that has not heard from the database for as long as
    /// `may_be_cut_off`, if that is given, counts as down: it can commit nothing.
    pub async fn probe(
        &self,
        mom: &MomAddress,
        lease_epoch: i64,
        may_be_cut_off: Option<Duration>,
    ) -> Result<Hosted, MomError> {
        let end = Instant::now() + self.probe.deadline;
        let mut retries = 0..self.probe.max_retries;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let heartbeat = HeartbeatRequest {
                with_queues: true,
                lease_epoch,
            };
            let answer = self.call(mom, left, heartbeat, |mut client, request| async move {
                client.get_heartbeat(request).await
            });
            match answer.await {
                Ok(answer) => {
                    // The one that answers does not host what this one owns, and never will.
                    if (answer.host.as_str(), answer.port) != (&mom.host, mom.port.into()) {
                        return Err(MomError::Mistaken {
                            address: mom.clone(),
                            answering: format!("{}:{}", answer.host, answer.port),
                        });
                    }
                    let silence = Duration::from_millis(answer.database_silent_millis);
                    if may_be_cut_off.is_some_and(|limit| silence >= limit) {
                        return Err(MomError::CutOff {
                            address: mom.clone(),
                            silence,
                        });
                    }
                    let hosted = answer.hosted.into_iter();
                    return Ok(hosted
                        .map(|queue| (queue.queue_label, queue.epoch))
                        .collect());
                }
                Err(error @ MomError::Outdated { .. }) => return Err(error),
                Err(error) if retries.next().is_none() => return Err(error),
                Err(error) if Instant::now() + self.probe.retry_delay >= end => return Err(error),
                Err(_) => sleep(self.probe.retry_delay).await,
            }
        }
    }

    /// Makes a MoM host a queue that was just created for it.
    pub async fn create_queue(
        &self,
        mom: &MomAddress,
        label: &str,
        epoch: i64,
    ) -> Result<(), MomError> {
        let request = CreateQueueRequest {
            queue_label: label.to_owned(),
            epoch,
        };
        let answer = self.call(
            mom,
            self.probe.deadline,
            request,
            |mut client, request| async move { client.create_queue(request).await },
        );
        answer
            .await
            .map(drop)
            .inspect_err(|_| self.hint.notify_one())
    }

    /// Makes a MoM host a queue that has become its own.
    pub async fn rebuild_queue(
        &self,
        mom: &MomAddress,
        label: &str,
        epoch: i64,
        lease_epoch: i64,
    ) -> Result<(), MomError> {
        let request = RebuildQueueRequest {
            queue_label: label.to_owned(),
            epoch,
            lease_epoch,
        };
        let answer = self.call(
            mom,
            self.probe.deadline,
            request,
            |mut client, request| async move { client.rebuild_queue(request).await },
        );
        answer.await.map(drop)
    }

    /// Tells a MoM that a queue has become `owner`'s, under this epoch. It would find out by itself, so a failure is of
    /// no interest.
    pub async fn release_queue(
        &self,
        mom: &MomAddress,
        label: &str,
        epoch: i64,
        owner: &MomAddress,
        lease_epoch: i64,
    ) {
        let request = ReleaseQueueRequest {
            queue_label: label.to_owned(),
            epoch,
            lease_epoch,
            owner: owner.to_string(),
        };
        let answer = self.call(
            mom,
            HINT_DEADLINE,
            request,
            |mut client, request| async move { client.release_queue(request).await },
        );
        let _ = answer.await;
    }

    /// Tells a MoM that a queue is deleted, which had this epoch. It would find out by itself, so a failure is of no
    /// interest.
    pub async fn queue_is_deleted(&self, mom: &MomAddress, label: &str, epoch: i64) {
        let request = DeleteQueueRequest {
            queue_label: label.to_owned(),
            epoch,
        };
        let answer = self.call(
            mom,
            HINT_DEADLINE,
            request,
            |mut client, request| async move { client.delete_queue(request).await },
        );
        let _ = answer.await;
    }

    /// Tells a MoM that a channel is deleted. It would find out by itself, so a failure is of no interest.
    pub async fn channel_is_deleted(&self, mom: &MomAddress, id: Uuid) {
        let request = DeleteChannelRequest {
            channel_id: id.to_string(),
        };
        let answer = self.call(
            mom,
            HINT_DEADLINE,
            request,
            |mut client, request| async move { client.delete_channel(request).await },
        );
        let _ = answer.await;
    }

    /// Commits one message at a MoM. The error is that of the MoM.
    pub(crate) async fn push(
        &self,
        mom: &MomAddress,
        deadline: Duration,
        push: Push,
    ) -> Result<PushOkResponse, Status> {
        let answer = self.attempt(mom, deadline, push, |mut client, request| async move {
            client.push_to_queue(request).await
        });
        answer.await
    }

    /// What a MoM does at the moment, and of the queue of this label, unless it is empty, each subscription. `None` if
    /// it does not tell.
    pub(crate) async fn statistics(
        &self,
        mom: &MomAddress,
        label: &str,
    ) -> Option<StatisticsResponse> {
        let request = StatisticsRequest {
            queue_label: label.to_owned(),
        };
        let answer = self.attempt(
            mom,
            self.probe.deadline,
            request,
            |mut client, request| async move { client.get_statistics(request).await },
        );
        answer.await.ok()
    }

    /// When this manager heard from a MoM for the last time.
    pub(crate) fn heard_at(&self, mom: &MomAddress) -> Option<DateTime<Utc>> {
        self.heard().get(mom).copied()
    }

    /// Forgets the connection to a MoM.
    pub(crate) fn forget(&self, mom: &MomAddress) {
        self.clients().remove(mom);
        self.heard().remove(mom);
    }

    /// Forgets the connections to all MoMs but these.
    pub(crate) fn retain(&self, moms: &HashSet<&MomAddress>) {
        self.clients().retain(|mom, _| moms.contains(mom));
        self.heard().retain(|mom, _| moms.contains(mom));
    }

    async fn call<Q, A, F>(
        &self,
        mom: &MomAddress,
        deadline: Duration,
        request: Q,
        send: impl FnOnce(Client, Request<Q>) -> F,
    ) -> Result<A, MomError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        match self.attempt(mom, deadline, request, send).await {
            Ok(answer) => Ok(answer),
            Err(status) if is_silence(&status) => Err(MomError::Silent {
                address: mom.clone(),
                cause: format!("{}: {}", status.code(), status.message()),
            }),
            Err(status) if has_code(&status, codes::STALE_MANAGER) => Err(MomError::Outdated {
                address: mom.clone(),
            }),
            Err(status) => Err(MomError::Refused {
                address: mom.clone(),
                status: format!("{}: {}", status.code(), status.message()),
            }),
        }
    }

    /// A call whose failure is told as the MoM, or the lack of an answer, has it.
    async fn attempt<Q, A, F>(
        &self,
        mom: &MomAddress,
        deadline: Duration,
        request: Q,
        send: impl FnOnce(Client, Request<Q>) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let client = self
            .client(mom)
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(request);
        // Tells the MoM as well when nobody waits any more.
        request.set_timeout(deadline);
        let Ok(answer) = timeout(deadline, send(client, request)).await else {
            // The other end of this connection may be gone for good: the next call makes a new one.
            self.clients().remove(mom);
            let silence = format!("no answer within {deadline:?}");
            return Err(Status::deadline_exceeded(silence));
        };
        if answer
            .as_ref()
            .err()
            .is_none_or(|status| !is_silence(status))
        {
            self.heard().insert(mom.clone(), Utc::now());
        }
        answer.map(Response::into_inner)
    }

    fn client(&self, mom: &MomAddress) -> Result<Client, tonic::transport::Error> {
        if let Some(client) = self.clients().get(mom) {
            return Ok(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{mom}"))?
            .connect_timeout(self.probe.deadline)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        let connector = Connector::new(mom.clone(), Arc::clone(&self.hint));
        let client = MessageStreamClient::new(endpoint.connect_with_connector_lazy(connector))
            .max_decoding_message_size(MAX_ANSWER);
        self.clients().insert(mom.clone(), client.clone());
        Ok(client)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<MomAddress, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<MomAddress, DateTime<Utc>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn has_code(status: &Status, code: &str) -> bool {
    let found = status.metadata().get(protos::CODE_METADATA);
    found.is_some_and(|found| found.as_bytes() == code.as_bytes())
}

/// Whether a status stands for the lack of an answer: tonic makes one up when the transport fails.
pub(crate) fn is_silence(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    )
}
