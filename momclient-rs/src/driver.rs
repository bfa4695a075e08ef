//! [`Driver`]: keeps one lane of a pusher connected to the MoM that hosts the queue.
//!
//! It opens a stream of pushes, hands out the answers, and when the stream is lost, or the MoM is silent and the queue
//! has moved, looks for the next place. Without anything to push it waits where it is.

use std::sync::Arc;
use std::time::Duration;

use protos::{PushAnswer, codes};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::Streaming;

use crate::backoff::Backoff;
use crate::error::{Error, Failure, Reason};
use crate::lane::Lane;
use crate::ledger::{Outcomes, Step};
use crate::link::Address;
use crate::route::Router;

/// Pushes without any answer for this long ask the manager whether their queue has moved, and if not, keep waiting and
/// ask again after the shorter time. This is how pushes leave a frozen MoM, which breaks no connection.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(250));

/// Pushes without any answer for this long are tried again over a new connection: the present one may be cut off.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How many MoMs in a row may say that a queue is at the next one, before a manager is asked.
const MOST_HOPS: usize = 3;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Driver {
    lane: Arc<Lane>,
    router: Arc<Router>,
    /// The generation of the latest route that this lane has seen.
    seen: u64,
    /// Where the queue is now, as the MoM said that had it before.
    moved_to: Option<Address>,
    backoff: Backoff,
    /// Whether a push was accepted since the latest attempt to connect.
    fresh: bool,
}

/// A stream of pushes that is open.
#[derive(Debug)]
pub(crate) struct Link {
    address: Address,
    answers: Streaming<PushAnswer>,
}

/// How a link ended.
enum End {
    /// What has no answer is uncertain.
    Lost(Failure),
    /// Everything has its outcome, but another link has to be found. At once or after a pause.
    Left { at_once: bool },
}

/// Closes the lane when the driver ends, for whatever reason: nobody would answer its pushes.
struct Closing(Arc<Lane>);

impl Driver {
    pub(crate) fn new(lane: Arc<Lane>, router: Arc<Router>) -> Self {
        Self {
            lane,
            router,
            seen: 0,
            moved_to: None,
            backoff: Backoff::default(),
            fresh: false,
        }
    }

    /// Connects for the first time, again and again until the deadline.
    pub(crate) async fn connect_until(&mut self, deadline: Instant) -> Result<Link, Error> {
        let detail = "the queue was not found until the deadline";
        let mut last = Error::Unavailable(Reason::new("mom_unreachable", detail));
        loop {
            match timeout_at(deadline, self.connect()).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) if error.is_transient() => last = error,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(last),
            }
            if !self.backoff.pause(Some(deadline)).await {
                return Err(last);
            }
        }
    }

    /// Drives the lane, starting with a link that is open, until it is dropped.
    pub(crate) async fn run(mut self, link: Link) {
        let lane = self.lane.clone();
        let _closing = Closing(lane.clone());
        tokio::join!(lane.expire(), self.follow(link));
    }

    async fn follow(&mut self, mut link: Link) {
        loop {
            match self.serve(&mut link).await {
                End::Left { at_once } => {
                    self.fresh |= at_once;
                    let detail = format!("the MoM at {} refuses for now", link.address);
                    self.lane.lost(Reason::new("mom_unreachable", detail), None);
                }
                End::Lost(failure) => self.lose(failure, &link.address),
            }
            drop(link);
            link = self.reconnect().await;
        }
    }

    /// Hands out answers until the link is no good any more.
    async fn serve(&mut self, link: &mut Link) -> End {
        let Self {
            lane,
            router,
            seen,
            backoff,
            fresh,
            ..
        } = self;
        let read = async {
            let mut outcomes = Outcomes::new();
            loop {
                let answer = match link.answers.message().await {
                    Ok(Some(answer)) => answer,
                    Ok(None) => return End::Lost(Failure::Elsewhere(ended())),
                    Err(status) => return End::Lost(Failure::from(status)),
                };
                let (step, accepted) = match lane.answer(answer, &mut outcomes) {
                    Ok(answered) => answered,
                    Err(reason) => return End::Lost(Failure::Unknown(reason)),
                };
                if accepted {
                    backoff.reset();
                    *fresh = true;
                }
                match step {
                    Step::GoOn => {}
                    Step::Pause => {
                        backoff.pause(None).await;
                        lane.resume();
                    }
                    Step::Leave => return End::Left { at_once: false },
                    Step::Renumber => return End::Left { at_once: true },
                }
            }
        };
        tokio::select! {
            biased;
            end = read => end,
            reason = watch(lane, router, seen, &link.address) => End::Lost(Failure::Unknown(reason)),
        }
    }

    fn lose(&mut self, failure: Failure, address: &Address) {
        let (reason, at_fault) = match failure {
            Failure::Final(error) => (error.reason().clone(), Some(error)),
            Failure::Moved(reason, owner) => {
                self.moved_to = Some(owner);
                (reason, None)
            }
            Failure::Full(reason) | Failure::Elsewhere(reason) | Failure::Unknown(reason) => {
                (reason, None)
            }
        };
        let detail = format!("the stream to the MoM at {address} ended: {reason}");
        tracing::debug!(
            queue = self.router.queue(),
            detail,
            "pushes go on elsewhere"
        );
        let reason = Reason::new(codes::OUTCOME_UNKNOWN, detail);
        self.lane.lost(reason, at_fault.as_ref());
    }

    /// The next link, as soon as there is something to push.
    async fn reconnect(&mut self) -> Link {
        loop {
            // The first attempt after a link that was of use follows at once, since the queue has probably moved; each
            // later one after a pause. What is pushed after a while in which nothing was has nothing to do with either.
            let waited = self.lane.busy().await;
            let at_once = std::mem::take(&mut self.fresh);
            if !waited && !at_once {
                self.backoff.pause(None).await;
            }
            match self.connect().await {
                Ok(link) => return link,
                Err(error) if error.is_transient() => self.lane.set_back(error),
                Err(error) => self.lane.fail(&error),
            }
        }
    }

    /// Looks the queue up, connects to its MoM and makes the pusher known there, once. Follows the word of a MoM that is
    /// not the owner any more.
    async fn connect(&mut self) -> Result<Link, Error> {
        let route = self.router.renew(self.seen, self.moved_to.take()).await;
        self.seen = route.generation;
        let mut address = route.address?;
        for hop in 0.. {
            let error = match self.open(&address).await {
                Ok(link) => {
                    if hop > 0 {
                        self.router.found(&address);
                    }
                    return Ok(link);
                }
                Err(Failure::Moved(_, owner)) if hop < MOST_HOPS => {
                    address = owner;
                    continue;
                }
                Err(Failure::Final(error)) => error,
                Err(Failure::Full(reason)) => Error::Overloaded(reason),
                Err(
                    Failure::Moved(reason, _)
                    | Failure::Elsewhere(reason)
                    | Failure::Unknown(reason),
                ) => Error::Unavailable(reason),
            };
            tracing::debug!(queue = self.router.queue(), %address, %error, "no stream can be opened");
            return Err(error);
        }
        unreachable!("the loop has an end of its own")
    }

    async fn open(&self, address: &Address) -> Result<Link, Failure> {
        let limit = self.router.client().connect_timeout();
        let mut mom = address.connect(limit).await.map_err(Failure::Elsewhere)?;
        let outgoing = self.lane.begin(self.router.queue());
        let opening = async {
            let mut answers = mom.stream_pushes(outgoing).await?.into_inner();
            let opened = answers.message().await?;
            Ok::<_, tonic::Status>((answers, opened))
        };
        let Ok(opened) = timeout(limit, opening).await else {
            let detail = format!("the MoM at {address} did not answer");
            return Err(Failure::Elsewhere(Reason::new("mom_unreachable", detail)));
        };
        let (answers, opened) = opened?;
        self.lane
            .opened(&opened.ok_or_else(|| Failure::Elsewhere(ended()))?);
        Ok(Link {
            address: address.clone(),
            answers,
        })
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Ends with a reason to leave a link that does not answer.
async fn watch(lane: &Lane, router: &Router, seen: &mut u64, address: &Address) -> Reason {
    loop {
        let give_up = lane.silence(PATIENCE.0).await + ATTEMPT;
        if give_up <= Instant::now() {
            let detail = format!("the MoM at {address} did not answer in time");
            return Reason::new(codes::OUTCOME_UNKNOWN, detail);
        }
        if let Ok(route) = timeout_at(give_up, router.renew(*seen, None)).await {
            *seen = route.generation;
            if route.address.is_ok_and(|now| now != *address) {
                let detail =
                    format!("the MoM at {address} did not answer, and the queue has moved");
                return Reason::new(codes::OUTCOME_UNKNOWN, detail);
            }
        }
        sleep_until(give_up.min(Instant::now() + PATIENCE.1)).await;
    }
}

fn ended() -> Reason {
    Reason::new(
        "mom_unreachable",
        "the MoM ended the stream without a reason",
    )
}
