//! What can go wrong, by what a caller does about it, and how the answers of MoMs and managers become that.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt;

use protos::codes;
use tonic::{Code, ConnectError, Status};

use crate::link::Address;

/// Why a call failed.
///
/// There is a variant for each thing that a caller may do differently. The stable code of the MoM or the manager that
/// refused, finer than the variant, is [`Error::code`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no queue of that label. Create it, or correct the label.
    #[error("queue not found: {0}")]
    QueueNotFound(Reason),
    /// There is no channel of that id. It was deleted, maybe with its queue.
    #[error("channel not found: {0}")]
    ChannelNotFound(Reason),
    /// There is one of that name already.
    #[error("already exists: {0}")]
    AlreadyExists(Reason),
    /// The request can never succeed as it is: a label, topic, id, size or setting is not legal.
    #[error("invalid argument: {0}")]
    InvalidArgument(Reason),
    /// Refused for want of room until the deadline: nothing was accepted. Push slower, or try again later.
    #[error("overloaded: {0}")]
    Overloaded(Reason),
    /// Nobody could serve the call until the deadline, and nothing was accepted. Try again later.
    #[error("unavailable: {0}")]
    Unavailable(Reason),
    /// The call was sent and no answer came: it has been done or not. For a push, the message may be in the queue.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(Reason),
    /// None of the managers answered. Pushers and subscribers that are connected do not need one.
    #[error("no manager answered: {0}")]
    ManagerUnreachable(Reason),
    /// An internal error at the other side, or an answer that this library does not understand.
    #[error("unexpected answer: {0}")]
    Unexpected(Reason),
}

impl Error {
    /// The stable, machine-readable code: that of the MoM or manager which refused, or one of this library's own
    /// (`outcome_unknown`, `manager_unreachable`, `mom_unreachable`, `invalid_setting` and so on).
    pub fn code(&self) -> &str {
        &self.reason().code
    }

    /// What happened, in words for a person.
    pub fn detail(&self) -> &str {
        &self.reason().detail
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Overloaded(_)
            | Self::Unavailable(_)
            | Self::OutcomeUnknown(_)
            | Self::ManagerUnreachable(_) => true,
            Self::QueueNotFound(_)
            | Self::ChannelNotFound(_)
            | Self::AlreadyExists(_)
            | Self::InvalidArgument(_)
            | Self::Unexpected(_) => false,
        }
    }

    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::QueueNotFound(reason)
            | Self::ChannelNotFound(reason)
            | Self::AlreadyExists(reason)
            | Self::InvalidArgument(reason)
            | Self::Overloaded(reason)
            | Self::Unavailable(reason)
            | Self::OutcomeUnknown(reason)
            | Self::ManagerUnreachable(reason)
            | Self::Unexpected(reason) => reason,
        }
    }
}

/// The code and the words of an [`Error`].
#[derive(Clone, Debug)]
pub struct Reason {
    code: Cow<'static, str>,
    detail: String,
}

impl Reason {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            detail: detail.into(),
        }
    }

    /// The stable, machine-readable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What happened, in words for a person.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

/// What the failure of one gRPC attempt means for the next one.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No attempt will do better.
    Final(Error),
    /// Refused for want of room; the same MoM may accept it in a moment.
    Full(Reason),
    /// Not done, and not to be done there now: the MoM is gone or does not host the queue.
    Elsewhere(Reason),
    /// Not done: the queue has moved, and this is where.
    Moved(Reason, Address),
    /// Sent, and done or not.
    Unknown(Reason),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let reason = Reason::new(code_of(&status), status.message());
        // Only a status that this process made of a broken connection has a source; the MoM's own has none.
        if status.source().is_some() {
            return if never_sent(&status) {
                Self::Elsewhere(reason)
            } else {
                Self::Unknown(reason)
            };
        }
        if let Some(owner) = owner_of(&status) {
            return Self::Moved(reason, owner);
        }
        let spoken = status.metadata().contains_key(protos::CODE_METADATA);
        if status.code() == Code::Unavailable && not_accepted(reason.code()) {
            return Self::Elsewhere(reason);
        }
        Self::by_code(status.code(), reason, spoken)
    }
}

impl From<protos::Refusal> for Failure {
    fn from(refusal: protos::Refusal) -> Self {
        let code = Code::from_i32(refusal.status);
        let reason = Reason::new(refusal.code, refusal.detail);
        // Here it is the MoM that speaks, and it says so where it does not know.
        if code == Code::Unavailable && reason.code() != codes::OUTCOME_UNKNOWN {
            return Self::Elsewhere(reason);
        }
        Self::by_code(code, reason, true)
    }
}

impl Failure {
    /// `spoken` by the MoM, not by what lies between.
    fn by_code(code: Code, reason: Reason, spoken: bool) -> Self {
        match code {
            // Whether it is really gone only a manager knows: a MoM says this too of what has moved away.
            Code::NotFound | Code::FailedPrecondition => Self::Elsewhere(reason),
            Code::ResourceExhausted => Self::Full(reason),
            Code::InvalidArgument | Code::OutOfRange => Self::Final(Error::InvalidArgument(reason)),
            Code::AlreadyExists => Self::Final(Error::AlreadyExists(reason)),
            Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
                Self::Final(Error::Unexpected(reason))
            }
            // The MoM says by it that it refused; what lies between, nothing.
            Code::Internal if spoken => Self::Final(Error::Unexpected(reason)),
            Code::Unavailable
            | Code::Internal
            | Code::Unknown
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::DataLoss
            | Code::Ok => Self::Unknown(reason),
        }
    }
}

/// The manager's `application/problem+json`, as far as it matters here.
#[derive(Default, serde::Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

impl Problem {
    /// The error that an HTTP status other than 2xx stands for. `asked` is the request in words.
    pub(crate) fn into_error(self, status: u16, asked: &str) -> Error {
        let code = if self.code.is_empty() {
            Cow::from(format!("http_{status}"))
        } else {
            Cow::from(self.code)
        };
        let detail = if self.detail.is_empty() {
            format!("{asked} was answered with {status}")
        } else {
            self.detail
        };
        let reason = Reason { code, detail };
        match (status, reason.code()) {
            (404, codes::CHANNEL_NOT_FOUND) => Error::ChannelNotFound(reason),
            (404, codes::QUEUE_NOT_FOUND) => Error::QueueNotFound(reason),
            (409, codes::QUEUE_EXISTS) => Error::AlreadyExists(reason),
            (400 | 413 | 422, _) => Error::InvalidArgument(reason),
            (429, _) => Error::Overloaded(reason),
            (409 | 502..=504, _) => Error::Unavailable(reason),
            _ => Error::Unexpected(reason),
        }
    }
}

/// Whom a MoM names that has lost a queue.
fn owner_of(status: &Status) -> Option<Address> {
    let owner = status.metadata().get(protos::OWNER_METADATA)?;
    owner.to_str().ok()?.parse().ok()
}

/// Whether a MoM that says UNAVAILABLE knows that it accepted nothing.
fn not_accepted(code: &str) -> bool {
    matches!(code, codes::DATABASE_UNAVAILABLE | codes::STOPPING)
}

fn code_of(status: &Status) -> Cow<'static, str> {
    match status
        .metadata()
        .get(protos::CODE_METADATA)
        .and_then(|code| code.to_str().ok())
    {
        Some(code) => Cow::Owned(code.to_owned()),
        None => Cow::Borrowed(match status.code() {
            Code::Ok => "ok",
            Code::Cancelled => "cancelled",
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data_loss",
            Code::Unauthenticated => "unauthenticated",
        }),
    }
}

/// Whether no connection could be made, so that nothing left this process.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    fn spoken(code: Code, stable: &'static str) -> Failure {
        let mut metadata = MetadataMap::new();
        metadata.insert(protos::CODE_METADATA, stable.parse().unwrap());
        Failure::from(Status::with_metadata(code, "words", metadata))
    }

    #[test]
    fn unavailable_is_an_unknown_outcome_unless_the_mom_knows_better() {
        for (code, accepted_nothing) in [
            (codes::OUTCOME_UNKNOWN, false),
            (codes::DATABASE_UNAVAILABLE, true),
            (codes::STOPPING, true),
        ] {
            match spoken(Code::Unavailable, code) {
                Failure::Elsewhere(reason) if accepted_nothing => assert_eq!(reason.code(), code),
                Failure::Unknown(reason) if !accepted_nothing => assert_eq!(reason.code(), code),
                other => panic!("{code}: {other:?}"),
            }
        }
        let silent = Failure::from(Status::unavailable("a proxy speaks"));
        assert!(matches!(silent, Failure::Unknown(_)), "{silent:?}");
    }

    #[test]
    fn a_broken_connection_is_never_called_a_refusal() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for mut status in [
            Status::resource_exhausted(""),
            Status::invalid_argument(""),
            Status::internal(""),
        ] {
            status.set_source(std::sync::Arc::new(std::io::Error::from(reset.kind())));
            let failure = Failure::from(status);
            assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
        }
    }

    #[test]
    fn what_was_never_sent_is_not_unknown() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let mut status = Status::unavailable("");
        status.set_source(std::sync::Arc::new(ConnectError(refused.into())));
        let failure = Failure::from(status);
        assert!(matches!(failure, Failure::Elsewhere(_)), "{failure:?}");
    }

    #[test]
    fn a_problem_keeps_its_code() {
        let problem = |code: &str| Problem {
            code: code.to_owned(),
            detail: "words".to_owned(),
        };
        let error = problem(codes::CHANNEL_NOT_FOUND).into_error(404, "GET");
        assert!(matches!(error, Error::ChannelNotFound(_)), "{error:?}");
        assert_eq!(
            (error.code(), error.detail()),
            (codes::CHANNEL_NOT_FOUND, "words")
        );
        let error = problem(codes::NO_MOM_UP).into_error(503, "POST");
        assert!(
            error.is_transient() && matches!(error, Error::Unavailable(_)),
            "{error:?}"
        );
        let error = Problem::default().into_error(404, "GET http://x/queues/a");
        assert!(matches!(error, Error::Unexpected(_)), "{error:?}");
    }
}
