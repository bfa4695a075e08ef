//! The stable codes of errors: the same string in a gRPC error's [`CODE_METADATA`](crate::CODE_METADATA) and in the
//! manager's problem+json. Codes are for programs, the text beside them is for people and may change.

macro_rules! codes {
    ($($(#[doc = $line:literal])* $name:ident = $code:literal;)*) => {
        $($(#[doc = $line])* pub const $name: &str = $code;)*
        /// All codes.
        pub const ALL: &[&str] = &[$($code),*];
        /// All codes, each with the lines of its explanation.
        pub const EXPLAINED: &[(&str, &[&str])] = &[$(($code, &[$($line),*])),*];
    };
}

codes! {
    /// A label that is empty, too long or has characters that are not legal. INVALID_ARGUMENT / 400.
    INVALID_LABEL = "invalid_label";
    /// A topic that is empty, too long or has characters that are not legal. INVALID_ARGUMENT / 400.
    INVALID_TOPIC = "invalid_topic";
    /// A channel id that is not a UUID. INVALID_ARGUMENT / 400.
    INVALID_CHANNEL_ID = "invalid_channel_id";
    /// Any other argument out of its range. INVALID_ARGUMENT / 400.
    INVALID_ARGUMENT = "invalid_argument";
    /// A message larger than the MoM takes. INVALID_ARGUMENT / 400.
    MESSAGE_TOO_LARGE = "message_too_large";
    /// No queue of this label. NOT_FOUND / 404.
    QUEUE_NOT_FOUND = "queue_not_found";
    /// No channel of this id. NOT_FOUND / 404.
    CHANNEL_NOT_FOUND = "channel_not_found";
    /// No such message is retained. 404.
    MESSAGE_NOT_FOUND = "message_not_found";
    /// No such path. 404.
    ROUTE_NOT_FOUND = "route_not_found";
    /// A browser asks on behalf of a page that is not the manager's. 403.
    CROSS_ORIGIN = "cross_origin";
    /// The path is there, but not for this method. 405.
    METHOD_NOT_ALLOWED = "method_not_allowed";
    /// A body larger than the manager takes. 413.
    BODY_TOO_LARGE = "body_too_large";
    /// A request that cannot be understood. 400, 422.
    MALFORMED_REQUEST = "malformed_request";
    /// There is a queue of this label. ALREADY_EXISTS / 409.
    QUEUE_EXISTS = "queue_exists";
    /// The queue exists, but not at this MoM: look it up again. FAILED_PRECONDITION.
    NOT_OWNER = "not_owner";
    /// The command is about an ownership that has ended since. FAILED_PRECONDITION.
    STALE_EPOCH = "stale_epoch";
    /// The command comes from a manager whose lease has ended: another one leads. FAILED_PRECONDITION.
    STALE_MANAGER = "stale_manager";
    /// The MoM does not know the pusher, or not by that term: open it again, and push again. FAILED_PRECONDITION.
    PUSHER_NOT_OPEN = "pusher_not_open";
    /// There is a message of that id with another content or topic. INVALID_ARGUMENT.
    ID_CONFLICT = "id_conflict";
    /// This MoM is not registered at any manager. FAILED_PRECONDITION.
    NOT_REGISTERED = "not_registered";
    /// More waits to be committed than the MoM holds, or more listen than may: again later. RESOURCE_EXHAUSTED / 429.
    OVERLOADED = "overloaded";
    /// No MoM of this id. 404.
    MOM_NOT_FOUND = "mom_not_found";
    /// There is a MoM of this address. 409.
    MOM_EXISTS = "mom_exists";
    /// The MoM owns queues: drain it first. 409.
    MOM_NOT_EMPTY = "mom_not_empty";
    /// No MoM is up to take a queue, or the owner of the queue is not up: try again later. 503.
    NO_MOM_UP = "no_mom_up";
    /// PostgreSQL cannot be reached or cannot work: nothing was accepted, try again later. UNAVAILABLE / 503.
    DATABASE_UNAVAILABLE = "database_unavailable";
    /// The tables are older than the program: migrate, or wait until a manager has done so. 503.
    SCHEMA_OUTDATED = "schema_outdated";
    /// Whether the message was committed is not known. UNAVAILABLE / 503.
    OUTCOME_UNKNOWN = "outcome_unknown";
    /// The program is stopping: connect again later. UNAVAILABLE / 503.
    STOPPING = "stopping";
    /// A bug of rusty-mom; its log has the cause. INTERNAL / 500.
    INTERNAL = "internal";
}
