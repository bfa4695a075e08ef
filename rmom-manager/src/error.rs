//! What a request can come to, apart from success: free of HTTP, which is added in [`rest`](crate::rest) at last.

use std::time::Duration;

use protos::names::InvalidName;
use storage::MomAddress;
use uuid::Uuid;

use crate::database::DatabaseError;

/// Why a request is refused. The text is for the client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A label or topic is not legal.
    #[error("{0}")]
    InvalidName(#[from] InvalidName),
    /// A channel id is not a UUID.
    #[error(
        "the channel id {0:?} is not a UUID; legal is what PUT /queues/<label>/channels/<topic> answers as \"id\""
    )]
    InvalidChannelId(String),
    /// There is no such queue.
    #[error("there is no queue {0:?}; GET /queues lists those there are")]
    QueueNotFound(String),
    /// There is no such channel.
    #[error("there is no channel {0}; GET /channels lists those there are")]
    ChannelNotFound(Uuid),
    /// There is no such MoM.
    #[error("there is no MoM {0}; GET /moms lists those there are")]
    MomNotFound(Uuid),
    /// There is a MoM of that address already.
    #[error("there is a MoM at {0} already; GET /moms lists those there are")]
    MomExists(MomAddress),
    /// A MoM still owns queues.
    #[error(
        "the MoM {0} owns queues; drain it first with POST /moms/{0}/drain, and remove it when GET /moms/{0} says that \
         it has none"
    )]
    MomNotEmpty(Uuid),
    /// Something in a path or a body is out of its range.
    #[error("{field} is not legal; legal is {legal}")]
    InvalidArgument {
        /// What the client calls it.
        field: &'static str,
        /// What it may be.
        legal: &'static str,
    },
    /// A queue does not retain such a message.
    #[error(
        "the queue {0:?} retains no message of sequence {1}; GET /queues/{0}/messages lists those it does"
    )]
    MessageNotFound(String, i64),
    /// A MoM does not take a message of this size.
    #[error("the message is too large: {0}")]
    MessageTooLarge(String),
    /// A MoM cannot take a message now.
    #[error("more waits to be committed than the queue {0:?} holds; push again later")]
    Overloaded(String),
    /// A MoM refused what only a bug explains. The cause is for the log.
    #[error("the manager has a fault; its log has the cause")]
    Refused,
    /// There are as many listeners as there may be.
    #[error("there are {0} listeners, which is as many as there may be; try again later")]
    TooManyListeners(usize),
    /// No answer came to a push, however often it was repeated.
    #[error(
        "whether the message {0} was committed is not known: its MoM did not answer; GET /queues/{1}/messages tells"
    )]
    OutcomeUnknown(Uuid, String),
    /// Nothing is known of the system at the moment.
    #[error("{}", unavailable_text(*is_outage))]
    NoFigures {
        /// Whether trying again later may help.
        is_outage: bool,
    },
    /// The tables are older than this program.
    #[error("the schema of the database is not up to date yet; run \"rmom-manager migrate\"")]
    SchemaOutdated,
    /// A body is not what the path needs.
    #[error("the body cannot be understood: {0}")]
    MalformedBody(String),
    /// A body is too large to be read.
    #[error("the body is larger than 1 MiB")]
    BodyTooLarge,
    /// There is a queue of that label already.
    #[error(
        "there is a queue {0:?} already; labels are unique and upper case counts as lower case"
    )]
    QueueExists(String),
    /// No MoM takes a queue.
    #[error("no MoM is up to take a queue; try again when one is, GET /moms lists them")]
    NoMomUp,
    /// A queue has no owner.
    #[error(
        "no MoM serves the queue {0:?} at the moment; try again when one is up, GET /moms lists them"
    )]
    NoOwner(String),
    /// The database did not answer, or answered what only a bug explains. The cause is for the log.
    #[error("{}", unavailable_text(.0.is_outage()))]
    Database(#[from] DatabaseError),
}

fn unavailable_text(is_outage: bool) -> &'static str {
    if is_outage {
        "the database is not available; try again later"
    } else {
        "the manager has a fault; its log has the cause"
    }
}

/// Why a MoM did not do what it was asked to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MomError {
    /// It could not be reached or did not answer in time: whether it did it is not known.
    #[error("the MoM {address} did not answer: {cause}")]
    Silent {
        /// The MoM.
        address: MomAddress,
        /// What the transport says.
        cause: String,
    },
    /// Another MoM answers at its address.
    #[error(
        "at {address} a MoM answers that is configured as {answering}; its external_host and external_port must be \
         what the manager's list has"
    )]
    Mistaken {
        /// The MoM.
        address: MomAddress,
        /// The external address of the one that answers.
        answering: String,
    },
    /// It is alive and cannot reach the database, which others can.
    #[error("the MoM {address} has not heard from the database for {silence:?}")]
    CutOff {
        /// The MoM.
        address: MomAddress,
        /// For how long.
        silence: Duration,
    },
    /// It has heard of a manager that leads under a later lease.
    #[error("the MoM {address} knows that another manager leads")]
    Outdated {
        /// The MoM.
        address: MomAddress,
    },
    /// It answered that it does not.
    #[error("the MoM {address} refused: {status}")]
    Refused {
        /// The MoM.
        address: MomAddress,
        /// Code and text.
        status: String,
    },
}
