//! The one error of this crate.

use std::fmt;
use std::io;

/// Why something could not be started, reached or ended.
///
/// `Debug` prints the same text as `Display`, since a test's `unwrap` is where most of these are read.
#[derive(thiserror::Error)]
pub enum Error {
    /// A program that is needed is not on this machine.
    #[error("{0}")]
    Missing(String),

    /// The operating system refused; the text says what was tried.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),

    /// A process gave up because another program holds its port. Starting again on another port helps.
    #[error("{0}")]
    PortTaken(String),

    /// Anything else: what was expected, what happened instead, and where the log is.
    #[error("{0}")]
    Failed(String),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// For `map_err`: names what was tried when the operating system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io(what, error)
    }
}
