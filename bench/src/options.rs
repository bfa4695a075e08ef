//! The command line.

use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};

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
