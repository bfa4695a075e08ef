//! [`Topics`]: which topics a channel sees. A [`batch`](crate::batch) asks it of each run, never of a single message.

use protos::names::{ANY_PART, ANY_REST, SEPARATOR};

/// A topic, or a pattern of topics, as [`protos::names::channel_topic`] allows it.
///
/// Two that are written alike see the same, which is what batches share their encoded forms by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    text: Box<str>,
    /// Whether there is anything in it that does not stand for itself.
    is_pattern: bool,
}

impl Topics {
    /// Of what a channel was created with.
    pub fn new(text: &str) -> Self {
        let is_pattern = text
            .split(SEPARATOR)
            .any(|part| part == ANY_PART || part == ANY_REST);
        Self {
            text: text.into(),
            is_pattern,
        }
    }

    /// Whether messages with this topic are seen; those without any have no parts, so no pattern stands for them.
    pub fn see(&self, topic: Option<&str>) -> bool {
        match topic {
            None => false,
            Some(topic) if self.is_pattern => self.stand_for(topic),
            Some(topic) => *self.text == *topic,
        }
    }

    fn stand_for(&self, topic: &str) -> bool {
        let mut parts = topic.split(SEPARATOR);
        for wanted in self.text.split(SEPARATOR) {
            let Some(part) = parts.next() else {
                return false;
            };
            // It is the last one, and stands for this part and all further ones.
            if wanted == ANY_REST {
                return true;
            }
            if wanted != ANY_PART && wanted != part {
                return false;
            }
        }
        parts.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protos::names::channel_topic;

    use super::*;

    #[test]
    fn a_star_stands_for_one_part_and_an_arrow_for_the_rest() {
        for (pattern, topic, sees) in [
            ("news", "news", true),
            ("news", "news.eu", false),
            ("news.*", "news.eu", true),
            ("news.*", "news.", true),
            ("news.*", "news", false),
            ("news.*", "news.eu.fr", false),
            ("news.>", "news.eu.fr", true),
            ("news.>", "news", false),
            ("*.eu", "news.eu", true),
            ("*.eu", "news.us", false),
            ("*", "news", true),
            ("*", "news.eu", false),
            (">", "news.eu", true),
        ] {
            assert_eq!(
                Topics::new(pattern).see(Some(topic)),
                sees,
                "{pattern} {topic}"
            );
        }
        assert!(!Topics::new(">").see(None));
        assert!(!Topics::new("news").see(None));
    }

    /// As the words say it, with all the parts laid out.
    fn naive(pattern: &[String], topic: &[String]) -> bool {
        match (pattern, topic) {
            ([], []) => true,
            ([last], [_, ..]) if last == ">" => true,
            ([wanted, pattern @ ..], [part, topic @ ..]) => {
                (wanted == "*" || wanted == part) && naive(pattern, topic)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_sees_what_a_naive_matcher_sees(
            mut pattern in prop::collection::vec("[ab*]|", 1..5),
            ends_with_rest in any::<bool>(),
            topic in prop::collection::vec("[ab]|", 1..6),
        ) {
            if ends_with_rest {
                pattern.push(">".to_owned());
            }
            let (text, topic_text) = (pattern.join("."), topic.join("."));
            prop_assume!(!text.is_empty() && !topic_text.is_empty());
            let text = channel_topic(text).unwrap().unwrap();
            prop_assert_eq!(Topics::new(&text).see(Some(&topic_text)), naive(&pattern, &topic));
        }
    }
}
