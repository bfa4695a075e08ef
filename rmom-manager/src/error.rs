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
    #[error("{}", database_text(.0))]
    Database(#[from] DatabaseError),
}

fn database_text(error: &DatabaseError) -> &'static str {
    if error.is_outage() {
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
