//! Labels and topics: the one place that says which are legal. Managers, MoMs and clients check with it at their edge.

use std::fmt;

use crate::NO_TOPIC;

/// The most bytes that a label or a topic may have.
pub const MAX_NAME_LEN: usize = 255;

/// Why a label or topic is refused. The text names the field, the fault and what is legal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    field: &'static str,
    fault: String,
}

impl InvalidName {
    fn new(field: &'static str, fault: impl Into<String>) -> Self {
        Self {
            field,
            fault: fault.into(),
        }
    }

    /// `label` or `topic`.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the {} {}; legal are 1 to {MAX_NAME_LEN} of the characters a-z, A-Z, 0-9, '.', '_', '-' and ':'",
            self.field, self.fault
        )
    }
}

impl std::error::Error for InvalidName {}

/// The label of a queue in the form in which it is kept: in lower case.
pub fn label(given: impl Into<String>) -> Result<String, InvalidName> {
    let label = name("label", given.into())?;
    if label == NO_TOPIC {
        return Err(InvalidName::new(
            "label",
            format!("{NO_TOPIC:?} is reserved, it stands for \"no topic\""),
        ));
    }
    Ok(label)
}

/// A topic in the form in which it is kept: in lower case, or `None` for [`NO_TOPIC`].
pub fn topic(given: impl Into<String>) -> Result<Option<String>, InvalidName> {
    let topic = name("topic", given.into()).map_err(|mut error| {
        if error.fault == EMPTY {
            error.fault = format!("is empty, use {NO_TOPIC:?} for no topic");
        }
        error
    })?;
    Ok((topic != NO_TOPIC).then_some(topic))
}

const EMPTY: &str = "is empty";

/// Checks and folds in place: a name that is legal and in lower case already is returned as it is.
fn name(field: &'static str, mut given: String) -> Result<String, InvalidName> {
    if given.is_empty() {
        return Err(InvalidName::new(field, EMPTY));
    }
    if given.len() > MAX_NAME_LEN {
        return Err(InvalidName::new(
            field,
            format!("is {} bytes long", given.len()),
        ));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if !given.bytes().all(legal) {
        let fault = given
            .chars()
            .find(|c| !c.is_ascii() || !legal(*c as u8))
            .unwrap_or_default();
        return Err(InvalidName::new(
            field,
            format!("has the character {fault:?}"),
        ));
    }
    given.make_ascii_lowercase();
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_to_lower_case() {
        assert_eq!(label("News.EU-1:a_b").unwrap(), "news.eu-1:a_b");
        assert_eq!(topic("Sports").unwrap().as_deref(), Some("sports"));
        assert_eq!(topic("__NONE__").unwrap(), None);
    }

    #[test]
    fn what_is_not_legal_is_named() {
        for (given, fault) in [
            ("", "is empty"),
            ("a b", "' '"),
            ("caf\u{e9}", "'\u{e9}'"),
            ("a\u{0}", "'\\0'"),
            ("a/b", "'/'"),
            ("__none__", "reserved"),
            (&"x".repeat(256), "256 bytes"),
        ] {
            let error = label(given).unwrap_err().to_string();
            assert!(
                error.contains(fault) && error.contains("legal are"),
                "{given:?}: {error}"
            );
        }
        assert!(label("x".repeat(255)).is_ok());
        assert!(topic("").unwrap_err().to_string().contains("__none__"));
    }
}
