//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use uuid::Uuid;

use crate::push::Header;
use crate::sub::From;

/// Drives rusty-mom from a terminal: queues, channels, messages, MoMs.
///
/// Which system: --manager, else the variable MOM_MANAGER, else --context or the current context (`mom context`), else
/// http://127.0.0.1:8082.
///
/// Exit codes: 0 done; 1 something unexpected; 2 the command line is wrong; 3 not reachable or not available now, try
/// again later; 4 no such queue, channel or MoM; 5 it is there already, or not in a state for this; 6 refused as not
/// legal; 7 whether it was done is not known.
#[derive(Debug, Parser)]
#[command(name = "mom", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Manager to ask, such as http://127.0.0.1:8082; several of one system with commas between
    #[arg(long, global = true, env = "MOM_MANAGER", value_delimiter = ',', value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) manager: Vec<String>,
    /// System to use, by the name that `mom context add` gave it
    #[arg(long, global = true, env = "MOM_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Print JSON: one document, or one line for each message or event
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything at a glance: rates, MoMs, queues
    Status,
    /// Queues: add, list, look into, purge, remove
    #[command(subcommand)]
    Queue(Queue),
    /// Channels: add, list, show, remove
    #[command(subcommand)]
    Channel(Channel),
    /// Push messages to a queue
    Push(Push),
    /// Receive messages of a queue or a channel
    Sub(Sub),
    /// List the MoMs
    Ls,
    /// Register a MoM
    Add {
        /// Its external host
        #[arg(value_hint = ValueHint::Hostname)]
        host: String,
        /// Its external port
        port: u16,
    },
    /// Forget a MoM that owns no queue
    Rm {
        /// Its id, or HOST:PORT
        mom: String,
    },
    /// Move the queues of a MoM away gently, and give it no more
    Drain {
        /// Its id, or HOST:PORT
        mom: String,
    },
    /// Let a MoM have queues again
    Undrain {
        /// Its id, or HOST:PORT
        mom: String,
    },
    /// Spread queues evenly over the MoMs that are up
    Rebalance,
    /// What happened: failovers, MoMs that came and went, queues created and deleted
    Events {
        /// How many, 1 to 1000
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Go on with what happens from now on
        #[arg(long, short)]
        follow: bool,
    },
    /// Watch rates, MoMs and queues live; q ends it
    Top,
    /// Measure pushes and deliveries on this system, in a queue of its own
    Bench(Bench),
    /// Check the configuration, every manager and every MoM, and say what to do
    Check,
    /// Explain an error code, or list all
    Errors {
        /// The code, such as not_owner
        code: Option<String>,
        /// Print the table of the documentation
        #[arg(long, conflicts_with = "code")]
        markdown: bool,
    },
    /// Systems by name
    #[command(subcommand)]
    Context(Context),
    /// Print completions for a shell, to be sourced
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// Create a queue
    Add {
        /// 1 to 255 of a-z, digits and `._-:`
        label: String,
    },
    /// List the queues and how full they are
    Ls,
    /// How a queue is, with its channels and subscriptions
    Info {
        /// The queue
        label: String,
    },
    /// Look at messages without consuming them
    Peek {
        /// The queue
        label: String,
        /// Start after this sequence
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
        after: i64,
        /// How many, 1 to 100
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// Only messages of this topic
        #[arg(long)]
        topic: Option<String>,
    },
    /// Delete a queue with its channels and messages
    Rm {
        /// The queue
        label: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Delete the messages of a queue
    Purge {
        /// The queue
        label: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// Create a channel on a queue
    Add {
        /// The queue
        queue: String,
        /// The topic that it sees, or a pattern such as 'news.*'; without one it sees every message
        #[arg(long)]
        topic: Option<String>,
    },
    /// List the channels of all queues, or of one
    Ls {
        /// The queue
        queue: Option<String>,
    },
    /// Where a channel is hosted
    Info {
        /// The channel
        id: Uuid,
    },
    /// Delete a channel and end its subscriptions
    Rm {
        /// The channel
        id: Uuid,
    },
}

/// Push messages to a queue and wait until all are committed.
///
/// The content is the argument, or a file, or each line of standard input. In an argument with --template, an n in braces
/// is the number of the message from 1 on, {uuid} a new UUID and {now} the time.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The queue
    pub(crate) queue: String,
    /// The content; with - or without it and without --file, each line of standard input is a message
    pub(crate) content: Option<String>,
    /// A file whose bytes are the content
    #[arg(long, conflicts_with = "content", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Topic of the messages
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// A header of the messages, such as a traceparent; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<Header>,
    /// Push the content so many times
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    // The help would make a line end of "{n}".
    /// Replace {uuid}, {now} and an n in braces, the number of the message, in the content
    #[arg(long, requires = "content")]
    pub(crate) template: bool,
    /// The id of the message: pushed again within two minutes it makes no second message
    #[arg(long, conflicts_with_all = ["count", "template"], requires = "content")]
    pub(crate) id: Option<Uuid>,
}

/// Receive messages, each printed as its content and a line end.
///
/// Of a queue it sees everything, or one topic, through a channel that is deleted at the end.
#[derive(Debug, Args)]
pub(crate) struct Sub {
    /// A queue's label or a channel's id
    pub(crate) source: String,
    /// Only messages of this topic, or pattern such as 'news.*'; of a queue
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Where to start: earliest, latest, after a sequence, or at a time such as 2026-01-31T12:00:00Z or -5m
    #[arg(
        long,
        default_value = "earliest",
        value_name = "earliest|latest|SEQ|TIME",
        allow_hyphen_values = true
    )]
    pub(crate) from: From,
    /// End after so many messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Run this with a shell for each message, its content on standard input; MOM_SEQ, MOM_ID and MOM_TOPIC tell what it
    /// is. Ends when it fails
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub(crate) exec: Option<String>,
    /// Print sequence and topic before each message
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// Measure pushes and deliveries in a queue of its own, which is deleted at the end.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// For how long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) secs: u64,
    /// Bytes of a message
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub(crate) size: u64,
    /// Pushes under way at once
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) in_flight: u64,
    /// Subscribers that receive everything
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) subscribers: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// Give a system a name; the first one becomes the current one
    Add {
        /// The name
        name: String,
        /// Its managers
        #[arg(required = true, value_delimiter = ',')]
        managers: Vec<String>,
    },
    /// List the names
    Ls,
    /// Make a system the current one
    Use {
        /// The name
        name: String,
    },
    /// Forget a name
    Rm {
        /// The name
        name: String,
    },
}
