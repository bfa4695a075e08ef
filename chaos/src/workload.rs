//! The clients of a run: who pushes and who subscribes, and how long.
//!
//! Everybody has one seed and so does the same at each run, as far as the answers are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use momclient::MoMClient;
use protos::message_stream_client::MessageStreamClient;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};

use crate::history::History;
use crate::random::Random;
use crate::{pushers, subscribers};

/// The topics that messages and channels may have.
pub const TOPICS: [&str; 2] = ["red", "green"];

/// Bytes that a MoM may send ahead to those without a library; the contents of some messages are larger.
const WINDOW: u32 = 48 << 10;

/// A client of one MoM.
pub type Stub = MessageStreamClient<Channel>;

/// How many clients of each kind a queue has.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many queues.
    pub queues: usize,
    /// Pushers of the library: many pushes in flight, bursts, some with topics.
    pub library: usize,
    /// Pushers that speak gRPC themselves, one push after the other, and try nothing again.
    pub bare: usize,
    /// The same with ids of their own, who try again until they know, and sometimes when they know.
    pub keyed: usize,
    /// How long those wait for an answer.
    pub patience: Duration,
    /// Whether there are late subscribers.
    pub late: bool,
}

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everybody pushes and subscribes.
    Pushing,
    /// Nobody begins a new push any more, and nobody reads slowly.
    Draining,
    /// Everybody ends.
    Over,
}

/// What every client needs.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) client: MoMClient,
    pub(crate) history: History,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) tokens: Arc<AtomicU64>,
    /// Of each queue, the highest sequence that anybody has received.
    pub(crate) heads: Arc<[AtomicI64]>,
    pub(crate) patience: Duration,
}

/// A pusher, as seen from outside.
#[derive(Debug)]
pub struct Pusher {
    /// What it is.
    pub name: String,
    acks: Arc<AtomicU64>,
}

/// A subscriber, as seen from outside.
#[derive(Debug)]
pub struct Subscriber {
    /// What it is.
    pub name: String,
    /// The queue of its channel.
    pub queue: usize,
    /// The topic of its channel.
    pub topic: Option<&'static str>,
    seq: Arc<AtomicI64>,
}

/// The running clients.
#[derive(Debug)]
pub struct Workload {
    /// All pushers.
    pub pushers: Vec<Pusher>,
    /// All subscribers.
    pub subscribers: Vec<Subscriber>,
    phase: watch::Sender<Phase>,
    pushing: JoinSet<()>,
    subscribing: JoinSet<()>,
}

/// The label of a queue.
pub fn label(queue: usize) -> String {
    format!("chaos-{queue}")
}

impl Shape {
    /// Everybody.
    pub fn full(queues: usize) -> Self {
        Self {
            queues,
            library: 1,
            bare: 1,
            keyed: 1,
            patience: Duration::from_secs(5),
            late: true,
        }
    }
}

impl Pusher {
    /// How many pushes were acknowledged.
    pub fn acks(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }
}

impl Subscriber {
    /// The last sequence that was delivered.
    pub fn seq(&self) -> i64 {
        self.seq.load(Ordering::Relaxed)
    }
}

impl Workload {
    /// Creates queues and channels and starts everybody. `duration` is how long the pushing is to last.
    pub async fn start(
        client: MoMClient,
        history: History,
        shape: &Shape,
        seed: u64,
        duration: Duration,
    ) -> Result<Self, momclient::Error> {
        let (phase, watched) = watch::channel(Phase::Pushing);
        let context = Context {
            client,
            history,
            phase: watched,
            tokens: Arc::default(),
            heads: (0..shape.queues).map(|_| AtomicI64::new(0)).collect(),
            patience: shape.patience,
        };
        let mut workload = Self {
            pushers: Vec::new(),
            subscribers: Vec::new(),
            phase,
            pushing: JoinSet::new(),
            subscribing: JoinSet::new(),
        };
        let mut random = Random::new(seed);
        for queue in 0..shape.queues {
            context.client.create_queue(&label(queue)).await?;
        }
        for queue in 0..shape.queues {
            workload
                .subscribe(&context, queue, shape, &mut random, duration)
                .await?;
            workload.push(&context, queue, shape, &mut random);
        }
        Ok(workload)
    }

    async fn subscribe(
        &mut self,
        context: &Context,
        queue: usize,
        shape: &Shape,
        random: &mut Random,
        duration: Duration,
    ) -> Result<(), momclient::Error> {
        let label = label(queue);
        let all = context.client.create_channel(&label, None).await?.id;
        let topic = random.one_of(&TOPICS);
        let some = context.client.create_channel(&label, Some(topic)).await?.id;
        // Of the two kinds of slow and of late ones each has every other queue.
        let (odd, even) = (queue % 2 == 1, queue.is_multiple_of(2));
        let at_once = Duration::ZERO;
        let late = random.millis(0, duration.as_millis() as usize);
        let wanted = [
            (true, "library", false, None, at_once),
            (true, "library", false, Some(topic), at_once),
            (true, "bare", false, None, at_once),
            (odd, "library", true, None, at_once),
            (even, "bare", true, None, at_once),
            (shape.late && odd, "bare", false, None, late),
            (shape.late && even, "library", false, Some(topic), late),
        ];
        for (_, kind, slow, topic, late) in wanted.into_iter().filter(|wanted| wanted.0) {
            // Who comes late starts with what there is, or somewhere in it.
            let after = if late.is_zero() || even {
                0
            } else {
                random.below(500) as i64
            };
            let seq = Arc::new(AtomicI64::new(after));
            let name = [
                (slow, "slow "),
                (!late.is_zero(), "late "),
                (topic.is_some(), "topical "),
            ];
            let name: String = name.iter().filter(|(is, _)| *is).map(|(_, n)| *n).collect();
            let name = format!("{name}{kind} subscriber of {label}");
            let subscriber = subscribers::Subscriber {
                context: context.clone(),
                number: self.subscribers.len() as u32,
                name: name.clone(),
                queue,
                channel: topic.map_or(all, |_| some),
                topic,
                slow,
                late,
                random: Random::new(random.bits()),
                seq: seq.clone(),
            };
            if kind == "bare" {
                self.subscribing.spawn(subscriber.run_bare());
            } else {
                self.subscribing.spawn(subscriber.run_library());
            }
            self.subscribers.push(Subscriber {
                name,
                queue,
                topic,
                seq,
            });
        }
        Ok(())
    }

    fn push(&mut self, context: &Context, queue: usize, shape: &Shape, random: &mut Random) {
        let kinds = [
            ("library", shape.library),
            ("bare", shape.bare),
            ("keyed", shape.keyed),
        ];
        for (kind, count) in kinds {
            for _ in 0..count {
                let acks = Arc::new(AtomicU64::new(0));
                let pusher = pushers::Pusher {
                    context: context.clone(),
                    number: self.pushers.len() as u32,
                    queue,
                    random: Random::new(random.bits()),
                    acks: acks.clone(),
                };
                match kind {
                    "library" => self.pushing.spawn(pusher.run_library()),
                    "bare" => self.pushing.spawn(pusher.run_bare()),
                    _ => self.pushing.spawn(pusher.run_keyed()),
                };
                let name = format!("{kind} pusher to {}", label(queue));
                self.pushers.push(Pusher { name, acks });
            }
        }
    }

    /// Has everybody enter a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Waits until all pushers have ended.
    pub async fn pushers_ended(&mut self) {
        while let Some(ended) = self.pushing.join_next().await {
            ended.expect("pushers do not panic");
        }
    }

    /// Waits until all subscribers have ended.
    pub async fn subscribers_ended(&mut self) {
        while let Some(ended) = self.subscribing.join_next().await {
            ended.expect("subscribers do not panic");
        }
    }
}

impl Context {
    pub(crate) fn is(&self, phase: Phase) -> bool {
        *self.phase.borrow() == phase
    }

    /// Waits for a phase or a later one.
    pub(crate) async fn until(&self, phase: Phase) {
        // Without a sender the run has ended.
        let _ = self.phase.clone().wait_for(|now| *now >= phase).await;
    }

    /// A pause of the load, cut short when the load is over.
    pub(crate) async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.until(Phase::Draining) => {}
        }
    }

    /// A content that nobody else pushes. Most are small, some have a few kilobytes, a few 64 KiB.
    pub(crate) fn content(&self, random: &mut Random) -> Bytes {
        let size = match random.below(100) {
            0 => 64 << 10,
            1..=19 => 1024 + random.below(3072),
            _ => 32 + random.below(224),
        };
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let mut content = format!("{token}:").into_bytes();
        content.resize(size, b'.');
        content.into()
    }
}

/// Connects to a MoM as a client does that brings no library: it notices a silent peer within six seconds.
pub(crate) async fn connect(host: &str, port: u16) -> Result<Stub, tonic::transport::Error> {
    let alive = Duration::from_secs(3);
    let channel = Endpoint::from_shared(format!("http://{host}:{port}"))?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        // Little, so that who does not read holds the MoM up soon.
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(alive)
        .keep_alive_timeout(alive)
        .keep_alive_while_idle(true)
        .connect()
        .await?;
    Ok(MessageStreamClient::new(channel))
}
