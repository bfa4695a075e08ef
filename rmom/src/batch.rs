//! Committed messages in the form in which subscribers receive them: encoded once, shared by all.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use protos::{Encoded, NO_TOPIC};
use storage::{NewMessage, StoredBatch};
use uuid::Uuid;

/// Consecutive messages of one queue, each encoded as a [`protos::Message`].
///
/// It holds a copy of what was pushed, not the pushes themselves: those point into receive buffers, and keeping one
/// message of a buffer keeps all of it.
#[derive(Debug)]
pub struct Batch {
    first_seq: i64,
    encoded: Bytes,
    spans: Vec<Span>,
}

/// Where a message and its topic end and begin in the encoded bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
    end: u32,
    topic_start: u32,
    topic_end: u32,
}

impl Batch {
    /// Encodes messages that were just committed, the first of them as `first_seq`.
    pub fn encode(first_seq: i64, messages: &[NewMessage]) -> Self {
        let size = messages
            .iter()
            .map(|m| encoded_size(m.content.len(), m.topic.as_deref()))
            .sum();
        let mut encoder = Encoder::new(first_seq, messages.len(), size);
        for message in messages {
            encoder.add(
                message.id,
                message.topic.as_deref().unwrap_or(NO_TOPIC).as_bytes(),
                &message.content,
            );
        }
        encoder.finish()
    }

    /// Encodes messages that were read back.
    pub fn from_stored(stored: &StoredBatch) -> Self {
        let content = |index| stored.contents.get(index).unwrap_or_default();
        let topic = |index| {
            stored
                .topics
                .as_ref()
                .and_then(|topics| topics.get(index))
                .unwrap_or(NO_TOPIC.as_bytes())
        };
        let count = stored.ids.len();
        let size = (0..count)
            .map(|index| encoded_len(content(index).len(), topic(index).len()))
            .sum();
        let mut encoder = Encoder::new(stored.first_seq, count, size);
        for (index, id) in stored.ids.iter().enumerate() {
            encoder.add(*id, topic(index), content(index));
        }
        encoder.finish()
    }

    /// The sequence of the first message.
    pub fn first_seq(&self) -> i64 {
        self.first_seq
    }

    /// The sequence of the last message.
    pub fn last_seq(&self) -> i64 {
        self.first_seq + self.spans.len() as i64 - 1
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.encoded.len() + size_of_val(&self.spans[..])
    }

    /// The message at `index`, if it matches: with `None` every message does.
    pub fn message(&self, index: usize, topic: Option<&str>) -> Option<Encoded> {
        let span = self.spans[index];
        if topic.is_some_and(|topic| {
            self.encoded[span.topic_start as usize..span.topic_end as usize] != *topic.as_bytes()
        }) {
            return None;
        }
        let start = if index == 0 {
            0
        } else {
            self.spans[index - 1].end
        };
        Some(Encoded(
            self.encoded.slice(start as usize..span.end as usize),
        ))
    }
}

/// Fields of [`protos::Message`].
const ID: u32 = 1;
const CONTENT: u32 = 2;
const TOPIC: u32 = 3;
const SEQ: u32 = 4;

const UUID_LEN: usize = uuid::fmt::Hyphenated::LENGTH;

/// The most bytes that keys, lengths, id and sequence take.
const OVERHEAD: usize = 2 + UUID_LEN + 1 + 1 + 1 + 10;

fn encoded_size(content: usize, topic: Option<&str>) -> usize {
    encoded_len(content, topic.unwrap_or(NO_TOPIC).len())
}

fn encoded_len(content: usize, topic: usize) -> usize {
    OVERHEAD
        + encoded_len_varint(content as u64)
        + content
        + encoded_len_varint(topic as u64)
        + topic
}

struct Encoder {
    first_seq: i64,
    buffer: BytesMut,
    spans: Vec<Span>,
}

impl Encoder {
    fn new(first_seq: i64, count: usize, size: usize) -> Self {
        Self {
            first_seq,
            buffer: BytesMut::with_capacity(size),
            spans: Vec::with_capacity(count),
        }
    }

    fn add(&mut self, id: Uuid, topic: &[u8], content: &[u8]) {
        let seq = self.first_seq + self.spans.len() as i64;
        let buffer = &mut self.buffer;
        let mut text = [0; UUID_LEN];
        put_bytes(
            buffer,
            ID,
            id.hyphenated().encode_lower(&mut text).as_bytes(),
        );
        if !content.is_empty() {
            put_bytes(buffer, CONTENT, content);
        }
        put_bytes(buffer, TOPIC, topic);
        let topic_end = buffer.len();
        encode_key(SEQ, WireType::Varint, buffer);
        encode_varint(seq as u64, buffer);
        self.spans.push(Span {
            end: buffer.len() as u32,
            topic_start: (topic_end - topic.len()) as u32,
            topic_end: topic_end as u32,
        });
    }

    fn finish(self) -> Batch {
        Batch {
            first_seq: self.first_seq,
            encoded: self.buffer.freeze(),
            spans: self.spans,
        }
    }
}

fn put_bytes(buffer: &mut BytesMut, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_client_decodes_what_was_pushed() {
        let messages: Vec<NewMessage> = [
            (None, &b""[..]),
            (Some("sports"), b"goal"),
            (Some("x"), &[0xff; 300]),
        ]
        .into_iter()
        .map(|(topic, content)| NewMessage {
            id: Uuid::now_v7(),
            is_keyed: false,
            topic: topic.map(String::from),
            content: Bytes::from_static(content),
        })
        .collect();
        let batch = Batch::encode(i64::MAX - 5, &messages);
        assert_eq!((batch.len(), batch.last_seq()), (3, i64::MAX - 3));
        for (index, message) in messages.iter().enumerate() {
            let encoded = batch.message(index, None).unwrap();
            let decoded = protos::Message::decode(encoded.0).unwrap();
            assert_eq!(decoded.id, message.id.to_string());
            assert_eq!(decoded.content, message.content);
            assert_eq!(decoded.topic, message.topic.as_deref().unwrap_or(NO_TOPIC));
            assert_eq!(decoded.seq, i64::MAX - 5 + index as i64);
        }
    }

    #[test]
    fn a_topic_selects_exactly_its_messages() {
        let topics = [Some("a"), Some("ab"), None, Some("a")];
        let messages = topics.map(|topic| NewMessage {
            id: Uuid::now_v7(),
            is_keyed: false,
            topic: topic.map(String::from),
            content: Bytes::from_static(b"a"),
        });
        let batch = Batch::encode(1, &messages);
        let matching = |topic| {
            (0..4)
                .filter(|index| batch.message(*index, topic).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(matching(Some("a")), [0, 3]);
        assert_eq!(matching(Some("ab")), [1]);
        assert!(matching(Some("b")).is_empty());
        assert_eq!(matching(None), [0, 1, 2, 3]);
    }
}
