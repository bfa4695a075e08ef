//! Exit codes, as `mom --help` documents them.

use std::process::ExitCode;

use momclient::Error;
use protos::codes;

use crate::moms::NoSuchMom;

/// The code for a failure.
pub(crate) fn code(failure: &anyhow::Error) -> ExitCode {
    ExitCode::from(number(failure))
}

fn number(failure: &anyhow::Error) -> u8 {
    if failure.is::<NoSuchMom>() {
        return 4;
    }
    let Some(error) = failure
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>())
    else {
        return 1;
    };
    match error {
        Error::QueueNotFound(_) | Error::ChannelNotFound(_) => 4,
        Error::AlreadyExists(_) => 5,
        Error::InvalidArgument(_) => 6,
        Error::OutcomeUnknown(_) => 7,
        _ if error.code() == codes::MOM_NOT_FOUND => 4,
        _ if [codes::MOM_EXISTS, codes::MOM_NOT_EMPTY].contains(&error.code()) => 5,
        _ if error.is_transient() => 3,
        _ => 1,
    }
}
