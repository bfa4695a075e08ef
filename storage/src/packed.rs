//! Messages as they are stored, and as they are received: packed, so that nothing is done for each of them where
//! something can be done for many.

use std::collections::BTreeMap;
use std::sync::Arc;

use protos::headers::Headers;
use uuid::Uuid;

/// Messages that one pusher pushed one after the other, with one topic and the same headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The id of the first message. Each further one's is higher by one in its last 4 bytes.
    pub id: Uuid,
    /// How many messages there are.
    pub count: u32,
    /// Their topic, in lower case; `None` for no topic.
    pub topic: Option<Arc<str>>,
    /// Whether the pusher brought the id, so that it has to be known again for a while; then there is one message.
    pub is_keyed: bool,
    /// What each of them carries beside its content, if anything.
    pub headers: Option<Arc<Headers>>,
}

/// Consecutive messages of one queue: what every message has in one piece, and what many have in common once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Who pushed what, in the order of the messages.
    pub runs: Vec<Run>,
    /// Where each content ends in `contents`, in the form of [`protos::ends`].
    pub ends: Vec<u8>,
    /// The contents, one after the other.
    pub contents: Vec<u8>,
    /// Bytes of the names and values of the headers of each run.
    pub header_bytes: usize,
}

impl Packed {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        protos::ends::count(&self.ends)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of contents and headers.
    pub fn size(&self) -> usize {
        self.contents.len() + self.header_bytes
    }

    /// Adds messages: `contents` holds what they have, and `ends` says where each ends, counted from `start`. No ends
    /// stand for the single message of a run of one.
    pub fn add(&mut self, run: &Run, ends: &[u8], start: usize, contents: &[u8]) {
        let base = self.contents.len();
        self.contents.extend_from_slice(contents);
        if ends.is_empty() {
            protos::ends::push(&mut self.ends, self.contents.len());
        } else {
            self.ends.reserve(ends.len());
            for end in protos::ends::iter(ends) {
                protos::ends::push(&mut self.ends, base + end - start);
            }
        }
        match self.runs.last_mut() {
            Some(last) if last.goes_on_with(run) => last.count += run.count,
            _ => {
                self.header_bytes += run.header_bytes();
                self.runs.push(run.clone());
            }
        }
    }

    /// Makes room for so many messages with contents of so many bytes together.
    pub fn reserve(&mut self, messages: usize, bytes: usize) {
        self.ends.reserve(messages * protos::ends::SIZE);
        self.contents.reserve(bytes);
    }

    /// Adds all messages of another.
    pub fn append(&mut self, other: &Self) {
        let base = self.contents.len();
        self.contents.extend_from_slice(&other.contents);
        for end in protos::ends::iter(&other.ends) {
            protos::ends::push(&mut self.ends, base + end);
        }
        self.runs.extend_from_slice(&other.runs);
        self.header_bytes += other.header_bytes;
    }

    /// Forgets all messages and keeps the memory for others.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.ends.clear();
        self.contents.clear();
        self.header_bytes = 0;
    }

    /// Whether the parts belong together, so that everything else may rely on it. What was read from a table that
    /// others can write is checked, not believed.
    pub(crate) fn is_sound(&self) -> bool {
        let count: u64 = self.runs.iter().map(|run| u64::from(run.count)).sum();
        count == self.len() as u64
            && self.runs.iter().all(|run| run.count > 0)
            && protos::ends::fit(&self.ends, self.contents.len())
    }

    pub(crate) fn has_topic(&self) -> bool {
        self.runs.iter().any(|run| run.topic.is_some())
    }

    pub(crate) fn has_key(&self) -> bool {
        self.runs.iter().any(|run| run.is_keyed)
    }

    pub(crate) fn has_headers(&self) -> bool {
        self.header_bytes > 0
    }
}

impl Run {
    /// Bytes of the names and values of its headers.
    pub fn header_bytes(&self) -> usize {
        self.headers.as_ref().map_or(0, |headers| headers.bytes())
    }

    /// Its headers as the database keeps them.
    pub(crate) fn json(&self) -> Option<String> {
        let headers = self.headers.as_ref()?;
        let headers: BTreeMap<_, _> = headers.iter().collect();
        Some(serde_json::to_string(&headers).expect("texts are keys and values of JSON"))
    }

    fn goes_on_with(&self, next: &Run) -> bool {
        !self.is_keyed
            && !next.is_keyed
            && self.id.as_u128() + u128::from(self.count) == next.id.as_u128()
            && self.topic == next.topic
            && self.headers == next.headers
    }
}

/// The headers of a run, of what the database keeps. What was read from a table that others can write is checked, not
/// believed.
pub(crate) fn headers_from(json: &str) -> Result<Option<Arc<Headers>>, ()> {
    let headers: BTreeMap<String, String> = serde_json::from_str(json).map_err(|_| ())?;
    let headers = Headers::new(headers).map_err(|_| ())?;
    Ok(headers.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u128, count: u32, topic: Option<&str>) -> Run {
        Run {
            id: Uuid::from_u128(id),
            count,
            topic: topic.map(Arc::from),
            is_keyed: false,
            headers: None,
        }
    }

    fn ends(of: &[usize]) -> Vec<u8> {
        let mut ends = Vec::new();
        for end in of {
            protos::ends::push(&mut ends, *end);
        }
        ends
    }

    #[test]
    fn runs_that_follow_each_other_are_one() {
        let mut packed = Packed::default();
        packed.add(&run(100, 2, None), &ends(&[13, 15]), 10, b"onetw");
        packed.add(&run(102, 1, None), &[], 0, b"o3");
        assert_eq!(packed.runs, [run(100, 3, None)]);
        packed.add(&run(103, 1, Some("topic")), &[], 0, b"");
        packed.add(&run(200, 1, Some("topic")), &[], 0, b"5");
        assert_eq!(
            packed.runs,
            [
                run(100, 3, None),
                run(103, 1, Some("topic")),
                run(200, 1, Some("topic"))
            ]
        );
        assert_eq!(packed.contents, b"onetwo35");
        assert_eq!(packed.ends, ends(&[3, 5, 7, 7, 8]));
        assert!(packed.is_sound());
    }

    #[test]
    fn runs_with_different_headers_are_not_one() {
        let with = |id, headers: &[(&str, &str)]| Run {
            headers: Headers::new(headers.iter().copied()).unwrap().map(Arc::new),
            ..run(id, 1, None)
        };
        let all = [
            with(1, &[]),
            with(2, &[("a", "1")]),
            with(3, &[("a", "1")]),
            with(4, &[("a", "2")]),
            with(5, &[("a", "2"), ("b", "")]),
            with(6, &[]),
        ];
        let mut packed = Packed::default();
        for run in &all {
            packed.add(run, &[], 0, b"x");
        }
        let counts: Vec<_> = packed.runs.iter().map(|run| run.count).collect();
        assert_eq!(counts, [1, 2, 1, 1, 1]);
        assert_eq!((packed.header_bytes, packed.size()), (2 + 2 + 3, 13));
        assert!(packed.has_headers());
        let mut twice = packed.clone();
        twice.append(&packed);
        assert_eq!(twice.size(), 26);
        twice.clear();
        assert!(!twice.has_headers());
        for run in all {
            let kept = run.json().map(|json| headers_from(&json).unwrap().unwrap());
            assert_eq!(kept, run.headers);
        }
        for broken in ["[]", r#"{"a": 1}"#, r#"{"a b": ""}"#, "null"] {
            headers_from(broken).unwrap_err();
        }
        assert_eq!(headers_from("{}"), Ok(None));
    }

    #[test]
    fn parts_that_do_not_belong_together_are_noticed() {
        let mut sound = Packed::default();
        sound.add(&run(1, 2, None), &ends(&[1, 2]), 0, b"ab");
        let mut more = sound.clone();
        more.runs[0].count = 3;
        assert!(!more.is_sound());
        let mut longer = sound.clone();
        longer.contents.push(0);
        assert!(!longer.is_sound());
        let mut none = sound;
        none.runs.push(run(9, 0, None));
        assert!(!none.is_sound());
    }
}
