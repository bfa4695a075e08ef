//! Why a MoM refuses, and how that reads on the wire.

use std::collections::HashMap;
use std::time::Duration;

use protos::headers::InvalidHeader;
use protos::names::InvalidName;
use protos::{Refusal, codes};
use storage::MomAddress;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

/// Whose codes those in the details of an error are.
const DOMAIN: &str = "rusty-mom";

/// After which time it is worth to try again what cannot be accepted now.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Why a MoM refuses a request or ends a subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A label or topic is not legal.
    #[error("{0}")]
    InvalidName(#[from] InvalidName),
    /// A header is not legal, or there are too many.
    #[error("{0}")]
    InvalidHeader(#[from] InvalidHeader),
    /// A channel id is not a UUID.
    #[error("the channel id {0:?} is not a UUID")]
    InvalidChannelId(String),
    /// A number is out of its range.
    #[error("{field} is {given}; legal is {legal}")]
    OutOfRange {
        /// The field of the request.
        field: &'static str,
        /// What came.
        given: i64,
        /// What is legal.
        legal: &'static str,
    },
    /// A message is too large.
    #[error("the message has {len} bytes; legal are at most {max}")]
    MessageTooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// There is no such queue anywhere.
    #[error("there is no queue {0:?}")]
    QueueNotFound(String),
    /// There is no such channel anywhere.
    #[error("there is no channel {0}")]
    ChannelNotFound(Uuid),
    /// There is a queue of that label already.
    #[error("there is a queue {0:?} already")]
    QueueExists(String),
    /// The queue is not this MoM's.
    #[error("this MoM does not own the queue {label:?}{}; look it up again at the manager",
        owner.as_ref().map(|owner| format!(", {owner} does")).unwrap_or_default())]
    NotOwner {
        /// The queue.
        label: String,
        /// Who owns it, where that is known.
        owner: Option<String>,
    },
    /// A command concerns an ownership that has ended since.
    #[error("the queue {label:?} is at epoch {epoch} now")]
    StaleEpoch {
        /// The queue.
        label: String,
        /// The present epoch.
        epoch: i64,
    },
    /// A command comes from a manager that does not lead any more.
    #[error("a manager with the lease epoch {0} leads now")]
    StaleManager(i64),
    /// A push comes from a pusher that is not known, or not by this term.
    #[error("this MoM does not know the pusher by that term; open it again")]
    PusherNotOpen,
    /// A brought id stands for another message already.
    #[error("there is a message {0} with another content or topic already")]
    IdConflict(Uuid),
    /// A field of a request is not what it has to be.
    #[error("{field} {fault}")]
    Malformed {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it and what is legal.
        fault: &'static str,
    },
    /// No manager has registered this MoM, so it can own nothing.
    #[error(
        "no manager has registered this MoM under its external address {0}; add it to the manager's list `moms`"
    )]
    NotRegistered(MomAddress),
    /// More waits than may wait.
    #[error("{0}; try again later")]
    Overloaded(&'static str),
    /// The database is away and nothing was accepted.
    #[error("the database is not available and nothing was accepted; try again later")]
    DatabaseUnavailable,
    /// The database refused the messages for a reason of theirs or of its own.
    #[error("the database refused to store the message; the log of the MoM has the reason")]
    DatabaseRefused,
    /// The database went away in the middle of a commit.
    #[error("the database went away while it committed: whether it did is not known yet")]
    OutcomeUnknown,
    /// The MoM is about to end.
    #[error("this MoM is stopping; look the queue up again at the manager")]
    Stopping,
}

impl Error {
    /// The stable code and the gRPC status of each error: the only place that knows.
    fn codes(&self) -> (&'static str, Code) {
        match self {
            Self::InvalidName(error) if error.field() == "topic" => {
                (codes::INVALID_TOPIC, Code::InvalidArgument)
            }
            Self::InvalidName(_) => (codes::INVALID_LABEL, Code::InvalidArgument),
            Self::InvalidChannelId(_) => (codes::INVALID_CHANNEL_ID, Code::InvalidArgument),
            Self::OutOfRange { .. } | Self::Malformed { .. } | Self::InvalidHeader(_) => {
                (codes::INVALID_ARGUMENT, Code::InvalidArgument)
            }
            Self::MessageTooLarge { .. } => (codes::MESSAGE_TOO_LARGE, Code::InvalidArgument),
            Self::QueueNotFound(_) => (codes::QUEUE_NOT_FOUND, Code::NotFound),
            Self::ChannelNotFound(_) => (codes::CHANNEL_NOT_FOUND, Code::NotFound),
            Self::QueueExists(_) => (codes::QUEUE_EXISTS, Code::AlreadyExists),
            Self::NotOwner { .. } => (codes::NOT_OWNER, Code::FailedPrecondition),
            Self::StaleEpoch { .. } => (codes::STALE_EPOCH, Code::FailedPrecondition),
            Self::StaleManager(_) => (codes::STALE_MANAGER, Code::FailedPrecondition),
            Self::PusherNotOpen => (codes::PUSHER_NOT_OPEN, Code::FailedPrecondition),
            Self::IdConflict(_) => (codes::ID_CONFLICT, Code::InvalidArgument),
            Self::NotRegistered(_) => (codes::NOT_REGISTERED, Code::FailedPrecondition),
            Self::Overloaded(_) => (codes::OVERLOADED, Code::ResourceExhausted),
            Self::DatabaseUnavailable => (codes::DATABASE_UNAVAILABLE, Code::Unavailable),
            Self::DatabaseRefused => (codes::INTERNAL, Code::Internal),
            Self::OutcomeUnknown => (codes::OUTCOME_UNKNOWN, Code::Unavailable),
            Self::Stopping => (codes::STOPPING, Code::Unavailable),
        }
    }
}

impl Error {
    /// Whether the same push may be accepted later.
    pub fn is_transient(&self) -> bool {
        let (_, status) = self.codes();
        matches!(status, Code::ResourceExhausted | Code::Unavailable)
    }

    /// The same for clients that know the error model of Google's APIs: they need not know our metadata.
    fn details(&self, code: &str) -> ErrorDetails {
        let owner = match self {
            Self::NotOwner { owner, .. } => owner.clone(),
            _ => None,
        };
        let about: HashMap<String, String> = owner
            .map(|owner| ("owner".to_owned(), owner))
            .into_iter()
            .collect();
        let mut details = ErrorDetails::with_error_info(code, DOMAIN, about);
        if self.is_transient() {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        match self {
            Self::OutOfRange { field, legal, .. } => {
                details.add_bad_request_violation(*field, format!("legal is {legal}"));
            }
            Self::Malformed { field, fault } => {
                details.add_bad_request_violation(*field, *fault);
            }
            _ => {}
        }
        details
    }

    /// Whether it concerns not a push but all that this MoM could do for the pusher.
    pub fn ends_streams(&self) -> bool {
        matches!(
            self,
            Self::NotOwner { .. } | Self::QueueNotFound(_) | Self::PusherNotOpen | Self::Stopping
        )
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (code, status) = error.codes();
        Self {
            status: status.into(),
            code: code.to_owned(),
            detail: error.to_string(),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, status) = error.codes();
        let mut metadata = MetadataMap::new();
        metadata.insert(protos::CODE_METADATA, AsciiMetadataValue::from_static(code));
        if let Error::NotOwner {
            owner: Some(owner), ..
        } = &error
            && let Ok(owner) = owner.parse()
        {
            metadata.insert(protos::OWNER_METADATA, owner);
        }
        let details = error.details(code);
        Self::with_error_details_and_metadata(status, error.to_string(), details, metadata)
    }
}

/// For work other than appending: the database did nothing, or what it did is found again when the call is repeated.
/// The cause is logged here, once, and never sent.
impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Unavailable(_)
            | storage::Error::Locked(_)
            | storage::Error::NotDurable(_) => {
                tracing::warn!(%error, "a request failed");
                Self::DatabaseUnavailable
            }
            // The callers that can meet these two give them a meaning first.
            storage::Error::AlreadyExists
            | storage::Error::NotFound
            | storage::Error::Refused(_) => {
                tracing::error!(%error, "a request failed");
                Self::DatabaseRefused
            }
        }
    }
}
