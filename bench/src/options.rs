//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::scale::Growth;

/// Measures a rusty-mom system at the client library.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Url of the manager, such as http://127.0.0.1:8082, or of several with commas between. Without it a private cluster is started, of the rmom and
    /// rmom-manager beside this program.
    #[arg(long, global = true, env = "RMOM_BENCH_ADDR")]
    pub(crate) addr: Option<String>,

    /// Prints one line of JSON instead of a table, and no progress.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Pushes, and measures how fast and how soon pushes are acknowledged.
    Push(Shape),
    /// Pushes while subscribers receive, and checks that each receives everything that was acknowledged.
    Subscribe(Shape),
    /// Pushes first, then lets subscribers read everything from the start.
    CatchUp(Shape),
    /// Compares a lone push with a bare insert of the same bytes into a plain table of the same PostgreSQL.
    Lone(LoneShape),
    /// Kills the MoM that hosts the queue while messages flow, and measures what that costs. Always on a private
    /// cluster.
    Kill(Shape),
    /// Kills or freezes a MoM with many queues, again and again, and measures how long its queues are silent. Always on
    /// a private cluster.
    Failover(FailoverShape),
    /// Offers more than the system can take, and measures how it refuses and how soon it is itself again. Always on a
    /// private cluster.
    Overload(OverloadShape),
    /// Measures whether a subscriber that does not read and one that reads slowly are felt by anybody else. Always on a
    /// private cluster.
    Slow(SlowShape),
    /// Compares with other systems on this machine, and with PostgreSQL alone. Always on a private cluster, beside
    /// private servers of the others.
    Compare(CompareShape),
    /// Shows what rusty-mom does and costs as queues, idle subscriptions, messages and subscribers grow. Always on
    /// private clusters.
    Scale(ScaleShape),
    /// Pushes for longer than messages are retained, and shows speed and size of the table over time. Always on private
    /// clusters.
    Retention(RetentionShape),
}

impl Command {
    /// How many MoMs and managers a private cluster has.
    pub(crate) fn cluster(&self) -> (usize, usize) {
        match self {
            Self::Kill(_) => (2, 1),
            Self::Failover(shape) => (shape.moms.get(), shape.managers.get()),
            _ => (1, 1),
        }
    }

    /// Whether it must be one, since its processes are dealt with.
    pub(crate) fn needs_processes(&self) -> bool {
        matches!(
            self,
            Self::Kill(_)
                | Self::Failover(_)
                | Self::Overload(_)
                | Self::Slow(_)
                | Self::Compare(_)
                | Self::Scale(_)
                | Self::Retention(_)
        )
    }
}

/// How much is pushed, by how many, to how many.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// Bytes in a message.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,

    /// Connections that push, for each queue.
    #[arg(long, default_value = "2")]
    pub(crate) connections: NonZeroUsize,

    /// Pushes in flight on each connection.
    #[arg(long, default_value = "64")]
    pub(crate) in_flight: NonZeroUsize,

    /// Messages to push, over all queues.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) messages: u64,

    /// Subscribers to each queue, where the subcommand has any. Each has a channel and a connection of its own.
    #[arg(long, default_value = "1")]
    pub(crate) subscribers: NonZeroUsize,

    /// Topic of the messages and of the channels. Without one, neither has any.
    #[arg(long)]
    pub(crate) topic: Option<String>,

    /// Queues that the messages are spread over.
    #[arg(long, default_value = "1")]
    pub(crate) queues: NonZeroUsize,
}

/// What a lone push is compared by.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoneShape {
    /// Bytes in a message.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,

    /// Rounds, each of pushes and of inserts, one after the other.
    #[arg(long, default_value = "10")]
    pub(crate) rounds: NonZeroUsize,

    /// Pushes, and inserts, in each round.
    #[arg(long, default_value = "300")]
    pub(crate) messages: NonZeroUsize,

    /// Url of the PostgreSQL that the system stores in; needed with --addr.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
}

/// What happens to a MoM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: it keeps its connections and answers nothing.
    Freeze,
}

/// How many queues fail over, and how often.
#[derive(Args, Clone, Debug)]
pub(crate) struct FailoverShape {
    /// Queues, spread over the MoMs.
    #[arg(long, default_value = "100")]
    pub(crate) queues: NonZeroUsize,

    /// How often a MoM fails.
    #[arg(long, default_value = "10")]
    pub(crate) rounds: NonZeroUsize,

    /// What happens to it.
    #[arg(long, value_enum, default_value = "kill")]
    pub(crate) fault: Fault,

    /// MoMs, 2 at least.
    #[arg(long, default_value = "3")]
    pub(crate) moms: NonZeroUsize,

    /// Managers.
    #[arg(long, default_value = "2")]
    pub(crate) managers: NonZeroUsize,

    /// Queues of the MoM that fails which are pushed to all the time, every 5 ms each. The others are pushed to once
    /// the MoM has failed.
    #[arg(long, default_value = "8")]
    pub(crate) observed: NonZeroUsize,

    /// Bytes in a message.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,
}

/// By how much the system is overloaded, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct OverloadShape {
    /// Seconds of overload.
    #[arg(long, default_value = "30")]
    pub(crate) secs: NonZeroU64,

    /// How many times the capacity is offered.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) times: f64,

    /// Connections that overload.
    #[arg(long, default_value = "16")]
    pub(crate) connections: NonZeroUsize,

    /// Pushes without an answer on each of them at the most, which bounds the memory of this program. What would be due
    /// beyond that is not sent. All together they must be more than may wait in the MoM.
    #[arg(long, default_value = "1500")]
    pub(crate) in_flight: NonZeroUsize,

    /// Bytes in a message.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,
}

/// Who subscribes beside the two that are slow.
#[derive(Args, Clone, Debug)]
pub(crate) struct SlowShape {
    /// Subscribers that read what comes.
    #[arg(long, default_value = "10")]
    pub(crate) subscribers: NonZeroUsize,

    /// Seconds that are measured, without the slow ones and then with them.
    #[arg(long, default_value = "10")]
    pub(crate) secs: NonZeroU64,

    /// Bytes in a message, 24 at least.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,
}

/// Who is compared, in what, and how thoroughly.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareShape {
    /// Rounds in which each contender runs each workload once; 5, or 1 with --quick.
    #[arg(long)]
    pub(crate) rounds: Option<NonZeroUsize>,

    /// Seconds that a workload is measured for; 3, or half a second with --quick.
    #[arg(long)]
    pub(crate) secs: Option<f64>,

    /// Messages that the late subscriber catches up with; a million, or 50,000 with --quick.
    #[arg(long)]
    pub(crate) backlog: Option<NonZeroU64>,

    /// Only to see that it works: the figures mean little.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Contenders, with commas between; all that there are if left out. Known are rusty-mom, redis, nats,
    /// nats-synced, rabbitmq-quorum, rabbitmq-stream, pgmq and bare.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Parts of the titles of workloads, with commas between, such as "lone,subscribers"; all if left out.
    #[arg(long, value_delimiter = ',')]
    pub(crate) workloads: Vec<String>,

    /// Draws the medians into this file.
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,

    /// Writes the tables into this file as Markdown.
    #[arg(long)]
    pub(crate) markdown: Option<PathBuf>,
}

/// What grows.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScaleShape {
    /// What is to grow, with commas between; everything if left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) growth: Vec<Growth>,

    /// Seconds that each step is measured for.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) secs: f64,

    /// Draws the curves into this file.
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
}

/// For how long is pushed and retained.
#[derive(Args, Clone, Debug)]
pub(crate) struct RetentionShape {
    /// Seconds to push with messages expiring.
    #[arg(long, default_value = "60")]
    pub(crate) secs: NonZeroU64,

    /// Seconds to push without, which fills the disk by 100 MB a second or more; as long as with, if left out.
    #[arg(long)]
    pub(crate) unexpired_secs: Option<NonZeroU64>,

    /// Seconds for which messages are retained where they expire.
    #[arg(long, default_value = "10")]
    pub(crate) ttl: NonZeroU64,

    /// Rounds, in each of which is pushed once with messages expiring and once without, the other way round in the next;
    /// the curves are those of the first. With more than one, a further table shows what expiry costs once the run has
    /// lasted for twice the retention.
    #[arg(long, default_value = "1")]
    pub(crate) rounds: NonZeroUsize,

    /// Bytes in a message.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,

    /// Draws the curves into this file.
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
}

/// A number that is written down in the code.
pub(crate) fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("numbers that are written down are not zero")
}
