//! [`Lane`]: a [`Ledger`] between those who push, the stream that sends and the driver that hears the answers.
//!
//! A push takes the lock once to enter, and wakes the stream only if that has found nothing to send since. From here a
//! message goes to the MoM as part of what [`Outgoing`] yields; its outcome comes by [`Lane::answer`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::Stream;
use protos::{OpenPusherRequest, PushAnswer, PushBatch};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Reason};
use crate::ledger::{Ledger, Outcome, Outcomes, Push, Step};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Lane {
    inner: Mutex<Inner>,
    /// Wakes those that wait for something to be pushed, when `Inner::idle` says that some do.
    busy: Notify,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    /// Which link sends; the streams of earlier ones have ended.
    link: u64,
    /// The stream, if it has found nothing to send.
    outgoing: Option<Waker>,
    idle: bool,
    /// When the MoM answered last, or something was pushed after nothing had been under way.
    heard: Instant,
    /// Why nothing is pushed any more: the driver has ended.
    closed: Option<Error>,
}

/// The requests of one link: first what opens, then whatever waits, until there is another link.
#[derive(Debug)]
pub(crate) struct Outgoing {
    lane: Arc<Lane>,
    link: u64,
    opening: Option<PushBatch>,
    /// Whether it has given way since it found nothing to send.
    has_waited: bool,
}

/// A push that somebody waits for. It is given up when this is dropped.
struct Waiting<'a> {
    lane: &'a Lane,
    ticket: u64,
}

impl Lane {
    pub(crate) fn new(ledger: Ledger) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                ledger,
                link: 0,
                outgoing: None,
                idle: false,
                heard: Instant::now(),
                closed: None,
            }),
            busy: Notify::new(),
        })
    }

    /// Enters a push and waits for its outcome, for which there is so much time.
    pub(crate) async fn push(&self, push: Push<'_>, patience: Duration) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let waiting = self.enter(push, patience, reply)?;
        let outcome = outcome.await;
        std::mem::forget(waiting);
        outcome.unwrap_or_else(|_| Err(ended()))
    }

    fn enter(
        &self,
        push: Push<'_>,
        patience: Duration,
        reply: oneshot::Sender<Outcome>,
    ) -> Result<Waiting<'_>, Error> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(error) = &inner.closed {
            return Err(error.clone());
        }
        if inner.ledger.is_empty() {
            inner.heard = now;
        }
        let ticket = inner.ledger.push(push, now + patience, reply);
        let idle = std::mem::take(&mut inner.idle);
        let outgoing = if inner.ledger.may_send() {
            inner.outgoing.take()
        } else {
            None
        };
        drop(inner);
        if let Some(outgoing) = outgoing {
            outgoing.wake();
        }
        if idle {
            self.busy.notify_waiters();
        }
        Ok(Waiting { lane: self, ticket })
    }

    /// Begins a link to the queue of this label. It is [`opened`](Self::opened) by the MoM's first answer.
    pub(crate) fn begin(self: &Arc<Self>, queue: &str) -> Outgoing {
        let mut inner = self.lock();
        inner.link += 1;
        let (pusher, settled) = inner.ledger.begin();
        let open = OpenPusherRequest {
            queue_label: queue.to_owned(),
            pusher: pusher.into_bytes().to_vec().into(),
            settled,
        };
        Outgoing {
            lane: self.clone(),
            link: inner.link,
            opening: Some(PushBatch {
                open: Some(open),
                ..PushBatch::default()
            }),
            has_waited: true,
        }
    }

    pub(crate) fn opened(&self, answer: &PushAnswer) {
        self.change(|inner| {
            inner.heard = Instant::now();
            inner.ledger.opened(answer);
        });
    }

    /// As [`Ledger::lost`].
    pub(crate) fn lost(&self, reason: Reason, at_fault: Option<&Error>) {
        let mut outcomes = Outcomes::new();
        let mut inner = self.lock();
        inner.link += 1;
        inner.ledger.lost(reason, at_fault, &mut outcomes);
        let outgoing = inner.outgoing.take();
        drop(inner);
        hand_out(&mut outcomes);
        // It finds that its link is not the present one, and ends.
        if let Some(outgoing) = outgoing {
            outgoing.wake();
        }
    }

    /// As [`Ledger::answer`]. `outcomes` is empty before and after. Also tells whether a push was accepted.
    pub(crate) fn answer(
        &self,
        answer: PushAnswer,
        outcomes: &mut Outcomes,
    ) -> Result<(Step, bool), Reason> {
        let step = self.change(|inner| {
            inner.heard = Instant::now();
            inner.ledger.answer(answer, outcomes)
        });
        let accepted = outcomes.iter().any(|(_, outcome)| outcome.is_ok());
        hand_out(outcomes);
        step.map(|step| (step, accepted))
    }

    /// As [`Ledger::resume`].
    pub(crate) fn resume(&self) {
        self.change(|inner| inner.ledger.resume());
    }

    /// As [`Ledger::set_back`].
    pub(crate) fn set_back(&self, error: Error) {
        self.lock().ledger.set_back(error);
    }

    /// As [`Ledger::fail`].
    pub(crate) fn fail(&self, error: &Error) {
        let mut outcomes = Outcomes::new();
        self.lock().ledger.fail(error, &mut outcomes);
        hand_out(&mut outcomes);
    }

    /// Nothing is pushed any more, and what waits ends.
    pub(crate) fn close(&self) {
        let error = ended();
        self.lock().closed = Some(error.clone());
        self.fail(&error);
    }

    /// Ends pushes at their deadlines, for ever.
    pub(crate) async fn expire(&self) {
        let mut outcomes = Outcomes::new();
        loop {
            let busy = self.busy.notified();
            let next = {
                let mut inner = self.lock();
                let next = inner.ledger.expire(Instant::now(), &mut outcomes);
                inner.idle |= next.is_none();
                next
            };
            hand_out(&mut outcomes);
            match next {
                Some(next) => sleep_until(next).await,
                None => busy.await,
            }
        }
    }

    /// Waits until something waits to be pushed. False if it did already.
    pub(crate) async fn busy(&self) -> bool {
        let mut waited = false;
        loop {
            let busy = self.busy.notified();
            {
                let mut inner = self.lock();
                if !inner.ledger.is_empty() {
                    return waited;
                }
                inner.idle = true;
            }
            waited = true;
            busy.await;
        }
    }

    /// Waits until pushes have waited for so long without any answer. Gives the instant since when.
    pub(crate) async fn silence(&self, patience: Duration) -> Instant {
        loop {
            self.busy().await;
            let heard = self.lock().heard;
            if heard + patience <= Instant::now() {
                return heard;
            }
            sleep_until(heard + patience).await;
        }
    }

    /// Changes something after which there may be something to send.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        let outgoing = if inner.ledger.has_to_send() {
            inner.outgoing.take()
        } else {
            None
        };
        drop(inner);
        if let Some(outgoing) = outgoing {
            outgoing.wake();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Outgoing {
    type Item = PushBatch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PushBatch>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        let this = &mut *self;
        let mut inner = this.lane.lock();
        if inner.link != this.link {
            return Poll::Ready(None);
        }
        // The first push of a crowd woke this, and the others are about to come: whoever is ready to run runs first.
        if !this.has_waited && inner.ledger.has_to_send() {
            this.has_waited = true;
            drop(inner);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(batch) = inner.ledger.next_batch() {
            return Poll::Ready(Some(batch));
        }
        match &mut inner.outgoing {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        this.has_waited = false;
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.lane.lock().ledger.abandon(self.ticket);
    }
}

/// Not under the lock: whoever is woken may push again at once.
fn hand_out(outcomes: &mut Outcomes) {
    for (reply, outcome) in outcomes.drain(..) {
        // Nobody waits any more where the push was given up meanwhile.
        let _ = reply.send(outcome);
    }
}

fn ended() -> Error {
    let detail = "the runtime that the pusher was made in has ended";
    Error::Unavailable(Reason::new("pusher_ended", detail))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::ledger::Kind;

    const LONG: Duration = Duration::from_mins(1);

    fn push(content: &'static str) -> Push<'static> {
        Push {
            contents: content.into(),
            topic: None,
            headers: None,
            kind: Kind::Plain,
        }
    }

    /// A lane with an open link.
    fn open() -> (Arc<Lane>, Outgoing) {
        let lane = Lane::new(Ledger::new(100, Duration::ZERO));
        let mut outgoing = lane.begin("news");
        let opening = outgoing.next().now_or_never().flatten().unwrap();
        assert_eq!(opening.open.unwrap().queue_label, "news");
        lane.opened(&PushAnswer {
            window_messages: 100,
            window_bytes: 100,
            ..PushAnswer::default()
        });
        (lane, outgoing)
    }

    #[tokio::test]
    async fn a_push_that_nobody_waits_for_any_more_is_not_sent() {
        let (lane, mut outgoing) = open();
        let mut dropped = Box::pin(lane.push(push("dropped"), LONG));
        assert!(dropped.as_mut().now_or_never().is_none());
        let mut kept = Box::pin(lane.push(push("kept"), LONG));
        assert!(kept.as_mut().now_or_never().is_none());
        drop(dropped);
        let sent = outgoing.next().await.unwrap();
        assert_eq!((sent.number, sent.contents), (1, "kept".into()));
    }

    #[tokio::test]
    async fn the_stream_of_a_link_ends_with_it_and_what_it_sent_goes_again() {
        let (lane, mut outgoing) = open();
        let mut pushed = Box::pin(lane.push(push("x"), LONG));
        assert!(pushed.as_mut().now_or_never().is_none());
        assert_eq!(outgoing.next().await.unwrap().after_seq, None);
        lane.lost(Reason::new("lost", "the link broke"), None);
        assert_eq!(outgoing.next().await, None);

        let mut next = lane.begin("news");
        next.next().await.unwrap();
        lane.opened(&PushAnswer {
            window_messages: 1,
            window_bytes: 1,
            ..PushAnswer::default()
        });
        assert_eq!(next.next().await.unwrap().after_seq, Some(0));
    }

    #[tokio::test]
    async fn pushes_end_with_the_driver() {
        let (lane, _outgoing) = open();
        let before = lane.push(push("before"), LONG);
        let close = async { lane.close() };
        let (before, ()) = tokio::join!(before, close);
        assert_eq!(before.unwrap_err().code(), "pusher_ended");
        let after = lane.push(push("after"), LONG).await;
        assert_eq!(after.unwrap_err().code(), "pusher_ended");
    }

    #[tokio::test]
    async fn a_push_ends_at_its_deadline_also_after_a_time_without_any() {
        let (lane, _outgoing) = open();
        let pushes = async {
            for _ in 0..2 {
                let pushed = lane.push(push("x"), Duration::from_millis(1)).await;
                assert_eq!(pushed.unwrap_err().code(), "in_flight_limit");
                // Nothing is left whose deadline could be waited for.
                while !lane.lock().idle {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::select! {
            () = pushes => {}
            () = lane.expire() => {}
        }
    }
}
