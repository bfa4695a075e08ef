//! Labels and topics: the one place that says which are legal. Managers, MoMs and clients check with it at their edge.
//!
//! A message has a topic; a channel has a topic or a pattern of topics. A pattern has [`ANY_PART`] or [`ANY_REST`] among
//! its parts, which are separated by [`SEPARATOR`].

use std::fmt;

use crate::NO_TOPIC;

/// The most bytes that a label or a topic may have.
pub const MAX_NAME_LEN: usize = 255;

/// What separates the parts of a topic, which matter to patterns alone.
pub const SEPARATOR: char = '.';

/// The part of a pattern that stands for exactly one part of a topic.
pub const ANY_PART: &str = "*";

/// The last part of a pattern, if it stands for one or more parts of a topic.
pub const ANY_REST: &str = ">";

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

/// The topic of a message in the form in which it is kept: in lower case, or `None` for [`NO_TOPIC`].
pub fn topic(given: impl Into<String>) -> Result<Option<String>, InvalidName> {
    topic_or_none(name("topic", given.into()))
}

/// The topic or the pattern of a channel in the form in which it is kept: in lower case, or `None` for [`NO_TOPIC`].
pub fn channel_topic(given: impl Into<String>) -> Result<Option<String>, InvalidName> {
    let given = given.into();
    if !given.contains(WILDCARDS) {
        return topic_or_none(name("topic", given));
    }
    // What is legal in the place of a wildcard tells about all else: its characters and its length.
    name("topic", given.replace(WILDCARDS, "-"))?;
    let last = given.split(SEPARATOR).count() - 1;
    for (place, part) in given.split(SEPARATOR).enumerate() {
        if part.contains(WILDCARDS) && part != ANY_PART && part != ANY_REST {
            let fault =
                format!("has the part {part:?}, and a wildcard has to be a part of its own");
            return Err(InvalidName::new("topic", fault));
        }
        if part == ANY_REST && place < last {
            let fault =
                format!("has {ANY_REST:?} before its last part, where only {ANY_PART:?} may be");
            return Err(InvalidName::new("topic", fault));
        }
    }
    Ok(Some(given.to_ascii_lowercase()))
}

const WILDCARDS: [char; 2] = ['*', '>'];

const EMPTY: &str = "is empty";

fn topic_or_none(topic: Result<String, InvalidName>) -> Result<Option<String>, InvalidName> {
    let topic = topic.map_err(|mut error| {
        if error.fault == EMPTY {
            error.fault = format!("is empty, use {NO_TOPIC:?} for no topic");
        }
        error
    })?;
    Ok((topic != NO_TOPIC).then_some(topic))
}

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
        let fault = if field == "topic" && WILDCARDS.contains(&fault) {
            format!("has the wildcard {fault:?}, which only that of a channel may have")
        } else {
            format!("has the character {fault:?}")
        };
        return Err(InvalidName::new(field, fault));
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

    #[test]
    fn the_topic_of_a_channel_may_be_a_pattern_and_that_of_a_message_may_not() {
        for (given, kept) in [
            ("News.*", "news.*"),
            ("news.>", "news.>"),
            (">", ">"),
            ("*", "*"),
            ("*.EU.*.>", "*.eu.*.>"),
            ("a..b.", "a..b."),
        ] {
            assert_eq!(channel_topic(given).unwrap().as_deref(), Some(kept));
        }
        assert_eq!(channel_topic("__NONE__").unwrap(), None);
        for given in ["news.*", "news.>", "a*"] {
            let error = topic(given).unwrap_err().to_string();
            assert!(error.contains("wildcard"), "{given:?}: {error}");
        }
        assert!(label("news.*").is_err());
    }

    #[test]
    fn a_wildcard_in_the_wrong_place_is_named() {
        let long = format!("*.{}", "x".repeat(254));
        for (given, fault) in [
            ("news*", "\"news*\""),
            ("a.b>", "\"b>\""),
            ("a.**", "\"**\""),
            (">.a", "before its last part"),
            (">.>", "before its last part"),
            ("a b.*", "' '"),
            (&long, "256 bytes"),
            ("", "__none__"),
        ] {
            let error = channel_topic(given).unwrap_err();
            assert_eq!(error.field(), "topic");
            let error = error.to_string();
            assert!(error.contains(fault), "{given:?}: {error}");
        }
    }
}
