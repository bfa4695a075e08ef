//! Committed messages in the form in which subscribers receive them: encoded once, shared by all.

use std::ops::{Add, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use protos::headers::Headers;
use protos::{Encoded, NO_TOPIC, ends};
use storage::{Packed, Run};
use uuid::Uuid;

use crate::queue::lock;
use crate::topics::Topics;

/// Consecutive messages of one queue.
///
/// What is kept is a copy of what was pushed, not the pushes themselves: those point into receive buffers, and keeping
/// one message of a buffer keeps all of it. Each encoded form is made when the first subscriber wants it.
#[derive(Debug)]
pub struct Batch {
    first_seq: i64,
    runs: Vec<Run>,
    ends: Vec<u8>,
    contents: Bytes,
    header_bytes: usize,
    /// When the first push of it came; not known of what was read from the database.
    pushed_at: Option<Instant>,
    /// Whether somebody was handed some of it.
    is_delivered: AtomicBool,
    /// All messages.
    whole: OnceLock<Part>,
    /// The messages that a channel with a topic or a pattern sees.
    by_topics: Mutex<ByTopics>,
    /// Each message by itself.
    singly: OnceLock<Singly>,
}

/// What was encoded for some topics, and is kept for the next subscriber who wants the same.
#[derive(Debug, Default)]
struct ByTopics {
    parts: Vec<(Arc<Topics>, Part)>,
    /// Bytes of the parts.
    bytes: usize,
}

/// Some messages of a batch, encoded as a [`protos::MessageBatch`].
#[derive(Clone, Debug)]
pub struct Part {
    /// The messages.
    pub encoded: Encoded,
    /// How many there are.
    pub messages: usize,
    /// Bytes of their contents.
    pub bytes: usize,
    /// The index of the first message that was not looked at.
    pub next: usize,
}

/// How much a subscriber has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Messages.
    pub messages: usize,
    /// Bytes of contents; the last message may exceed them.
    pub bytes: usize,
}

impl Credit {
    /// Whether nothing may be sent.
    pub fn is_used_up(self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    /// Some was sent.
    pub fn use_up(&mut self, messages: usize, bytes: usize) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Add<(u32, u64)> for Credit {
    type Output = Self;

    /// A grant of messages and bytes.
    fn add(self, (messages, bytes): (u32, u64)) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            messages: self.messages.saturating_add(messages as usize),
            bytes: self.bytes.saturating_add(bytes),
        }
    }
}

/// Messages of one run with the indexes `from..to`.
struct Stretch<'a> {
    id: Uuid,
    topic: Option<&'a str>,
    headers: Option<&'a Headers>,
    from: usize,
    to: usize,
}

impl Batch {
    /// Messages of which the first has the sequence `first_seq`.
    pub fn new(first_seq: i64, messages: Packed) -> Self {
        Self {
            first_seq,
            runs: messages.runs,
            ends: messages.ends,
            contents: messages.contents.into(),
            header_bytes: messages.header_bytes,
            pushed_at: None,
            is_delivered: AtomicBool::new(false),
            whole: OnceLock::new(),
            by_topics: Mutex::default(),
            singly: OnceLock::new(),
        }
    }

    /// The same, with the time at which the first push of it came.
    #[must_use]
    pub fn pushed_at(self, pushed_at: Option<Instant>) -> Self {
        Self { pushed_at, ..self }
    }

    /// How long it took until somebody was handed some of it. Told once, to whoever asks first.
    pub fn time_to_delivery(&self) -> Option<Duration> {
        let pushed_at = self.pushed_at?;
        let is_first = !self.is_delivered.load(Ordering::Relaxed)
            && !self.is_delivered.swap(true, Ordering::Relaxed);
        is_first.then(|| pushed_at.elapsed())
    }

    /// The sequence of the first message.
    pub fn first_seq(&self) -> i64 {
        self.first_seq
    }

    /// The sequence of the last message.
    pub fn last_seq(&self) -> i64 {
        self.first_seq + self.len() as i64 - 1
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        ends::count(&self.ends)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes held, without the encoded forms; each of those takes about as much again.
    pub fn size(&self) -> usize {
        self.contents.len() + self.header_bytes + self.ends.len() + size_of_val(&self.runs[..])
    }

    /// The messages from the index `from` on that are seen, as far as the credit goes: with `None` all are.
    pub fn part(&self, from: usize, topics: Option<&Arc<Topics>>, credit: Credit) -> Part {
        if from == 0 && self.len() <= credit.messages && self.contents.len() <= credit.bytes {
            return self.whole(topics);
        }
        self.encode(from, topics.map(|topics| &**topics), credit)
    }

    fn whole(&self, topics: Option<&Arc<Topics>>) -> Part {
        const NO_LIMIT: Credit = Credit {
            messages: usize::MAX,
            bytes: usize::MAX,
        };
        // One that sees all of it shares it with those that see everything.
        let Some(topics) = topics.filter(|topics| !self.is_seen_whole(topics)) else {
            return self
                .whole
                .get_or_init(|| self.encode(0, None, NO_LIMIT))
                .clone();
        };
        let mut kept = lock(&self.by_topics);
        if let Some((_, part)) = kept.parts.iter().find(|(known, _)| known == topics) {
            return part.clone();
        }
        let part = self.encode(0, Some(topics), NO_LIMIT);
        // Those of different topics are never more than the batch; patterns overlap, and there may be any number of
        // them. What there is no room for is encoded for each subscriber, and nothing is not worth being kept.
        let bytes = part.encoded.head.len() + part.encoded.rest.len();
        if part.messages > 0 && (kept.parts.is_empty() || kept.bytes + bytes <= self.size()) {
            kept.bytes += bytes;
            kept.parts.push((topics.clone(), part.clone()));
        }
        part
    }

    fn is_seen_whole(&self, topics: &Topics) -> bool {
        self.runs.iter().all(|run| topics.see(run.topic.as_deref()))
    }

    /// The indexes from `from` on of the messages that are seen, as far as they are consecutive: with `None` all are.
    pub fn seen(&self, from: usize, topics: Option<&Topics>) -> Vec<Range<usize>> {
        let mut seen: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for run in &self.runs {
            let end = start + run.count as usize;
            if end > from && topics.is_none_or(|topics| topics.see(run.topic.as_deref())) {
                match seen.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => seen.push(start.max(from)..end),
                }
            }
            start = end;
        }
        seen
    }

    fn encode(&self, from: usize, topics: Option<&Topics>, mut credit: Credit) -> Part {
        let mut stretches = Vec::with_capacity(self.runs.len());
        let (mut start, mut next) = (0, from);
        let (mut messages, mut bytes) = (0, 0);
        for run in &self.runs {
            let end = start + run.count as usize;
            if end > from && topics.is_none_or(|topics| topics.see(run.topic.as_deref())) {
                if credit.messages == 0 || credit.bytes == 0 {
                    break;
                }
                let first = start.max(from);
                let last = self.reach(first, end, &mut credit);
                messages += last - first;
                bytes += self.bytes(first, last);
                stretches.push(Stretch {
                    id: Uuid::from_u128(run.id.as_u128() + (first - start) as u128),
                    topic: run.topic.as_deref(),
                    headers: run.headers.as_deref(),
                    from: first,
                    to: last,
                });
                next = last;
                if last < end {
                    break;
                }
            } else if end > from {
                next = end;
            }
            start = end;
        }
        let encoded = self.encode_stretches(&stretches, messages, bytes);
        Part {
            encoded,
            messages,
            bytes,
            next,
        }
    }

    /// How far the credit goes in the messages `first..end`; uses it up by that.
    fn reach(&self, first: usize, end: usize, credit: &mut Credit) -> usize {
        let mut last = end.min(first.saturating_add(credit.messages));
        if self.bytes(first, last) > credit.bytes {
            let start = self.bytes(0, first);
            let beyond = |index: &usize| self.bytes(0, index + 1) - start >= credit.bytes;
            last = (first..last).find(beyond).map_or(last, |index| index + 1);
        }
        credit.messages -= last - first;
        credit.bytes = credit.bytes.saturating_sub(self.bytes(first, last));
        last
    }

    /// Bytes of the contents with the indexes `from..to`.
    pub fn bytes(&self, from: usize, to: usize) -> usize {
        let before = |index: usize| {
            index
                .checked_sub(1)
                .map_or(0, |last| ends::end(&self.ends, last))
        };
        before(to) - before(from)
    }

    fn encode_stretches(
        &self,
        stretches: &[Stretch<'_>],
        messages: usize,
        bytes: usize,
    ) -> Encoded {
        let Some(first) = stretches.first() else {
            return Encoded::default();
        };
        let mut head = BytesMut::with_capacity(
            64 + 64 * stretches.len() + messages * ends::SIZE + self.header_bytes,
        );
        encode_key(FIRST_SEQ, WireType::Varint, &mut head);
        encode_varint((self.first_seq + first.from as i64) as u64, &mut head);
        let mut before = first.from;
        for stretch in stretches {
            put_run(&mut head, stretch, stretch.from - before);
            before = stretch.to;
        }
        encode_key(ENDS, WireType::LengthDelimited, &mut head);
        encode_varint((messages * ends::SIZE) as u64, &mut head);
        let is_whole = messages == self.len();
        if is_whole {
            head.put_slice(&self.ends);
        }
        let is_contiguous = before - first.from == messages;
        let contents = if is_contiguous {
            let start = self.bytes(0, first.from);
            if !is_whole {
                for index in first.from..before {
                    ends::push(&mut head, ends::end(&self.ends, index) - start);
                }
            }
            self.contents.slice(start..start + bytes)
        } else {
            let mut contents = BytesMut::with_capacity(bytes);
            for stretch in stretches {
                let start = self.bytes(0, stretch.from);
                let base = contents.len();
                for index in stretch.from..stretch.to {
                    ends::push(&mut head, base + ends::end(&self.ends, index) - start);
                }
                contents
                    .put_slice(&self.contents[start..start + self.bytes(stretch.from, stretch.to)]);
            }
            contents.freeze()
        };
        encode_key(CONTENTS, WireType::LengthDelimited, &mut head);
        encode_varint(bytes as u64, &mut head);
        Encoded {
            head: head.freeze(),
            rest: contents,
        }
    }

    /// The message at `index` by itself, as a [`protos::Message`].
    pub fn message(&self, index: usize) -> Encoded {
        self.singly
            .get_or_init(|| Singly::encode(self))
            .message(index)
    }
}

/// Each message of a batch encoded as a [`protos::Message`].
#[derive(Debug)]
struct Singly {
    encoded: Bytes,
    /// Where each ends.
    ends: Vec<u32>,
    /// The headers of each run and the index behind its last message; nothing where no message has any. They are the end
    /// of each of its messages, and one copy does for all.
    headers: Vec<(usize, Bytes)>,
}

impl Singly {
    fn encode(batch: &Batch) -> Self {
        let topics = |run: &Run| run.topic.as_deref().unwrap_or(NO_TOPIC).len();
        let overhead: usize = batch
            .runs
            .iter()
            .map(|run| run.count as usize * (OVERHEAD + topics(run)))
            .sum();
        let mut buffer = BytesMut::with_capacity(batch.contents.len() + overhead);
        let mut single_ends = Vec::with_capacity(batch.len());
        let mut headers = Vec::new();
        for run in &batch.runs {
            let topic = run.topic.as_deref().unwrap_or(NO_TOPIC).as_bytes();
            for number in 0..run.count {
                let index = single_ends.len();
                let id = Uuid::from_u128(run.id.as_u128() + u128::from(number));
                let mut text = [0; UUID_LEN];
                let id = id.hyphenated().encode_lower(&mut text);
                put_bytes(&mut buffer, ID, id.as_bytes());
                let content = &batch.contents[ends::range(&batch.ends, index)];
                if !content.is_empty() {
                    put_bytes(&mut buffer, CONTENT, content);
                }
                put_bytes(&mut buffer, TOPIC, topic);
                encode_key(SEQ, WireType::Varint, &mut buffer);
                encode_varint((batch.first_seq + index as i64) as u64, &mut buffer);
                single_ends.push(buffer.len() as u32);
            }
            if batch.header_bytes > 0 {
                headers.push((single_ends.len(), Self::encode_headers(run)));
            }
        }
        Self {
            encoded: buffer.freeze(),
            ends: single_ends,
            headers,
        }
    }

    fn encode_headers(run: &Run) -> Bytes {
        let mut buffer = BytesMut::new();
        if let Some(headers) = &run.headers {
            buffer.reserve(headers.encoded_len());
            headers.encode(HEADERS, &mut buffer);
        }
        buffer.freeze()
    }

    fn message(&self, index: usize) -> Encoded {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let run = self.headers.partition_point(|(end, _)| *end <= index);
        let headers = self.headers.get(run).map(|(_, headers)| headers.clone());
        Encoded {
            head: self
                .encoded
                .slice(start as usize..self.ends[index] as usize),
            rest: headers.unwrap_or_default(),
        }
    }
}

/// Fields of [`protos::Message`].
const ID: u32 = 1;
const CONTENT: u32 = 2;
const TOPIC: u32 = 3;
const SEQ: u32 = 4;
const HEADERS: u32 = 5;

/// Fields of [`protos::MessageBatch`].
const FIRST_SEQ: u32 = 1;
const RUNS: u32 = 2;
const ENDS: u32 = 3;
const CONTENTS: u32 = 4;

const UUID_LEN: usize = uuid::fmt::Hyphenated::LENGTH;

/// The most bytes that the keys, the lengths, the id and the sequence of a message take.
const OVERHEAD: usize = 2 + UUID_LEN + 6 + 3 + 1 + 10;

fn put_bytes(buffer: &mut BytesMut, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

/// A [`protos::Run`] after a gap, written down without the detour of building one.
fn put_run(buffer: &mut BytesMut, stretch: &Stretch<'_>, gap: usize) {
    // Fields of protos::Run.
    const COUNT: u32 = 1;
    const TOPIC: u32 = 2;
    const ID: u32 = 3;
    const GAP: u32 = 4;
    const HEADERS: u32 = 6;
    let number = |value: usize| 1 + encoded_len_varint(value as u64);
    let count = stretch.to - stretch.from;
    let mut len = number(count) + 2 + 16;
    if let Some(topic) = stretch.topic {
        len += number(topic.len()) + topic.len();
    }
    if gap > 0 {
        len += number(gap);
    }
    if let Some(headers) = stretch.headers {
        len += headers.encoded_len();
    }
    encode_key(RUNS, WireType::LengthDelimited, buffer);
    encode_varint(len as u64, buffer);
    encode_key(COUNT, WireType::Varint, buffer);
    encode_varint(count as u64, buffer);
    if let Some(topic) = stretch.topic {
        put_bytes(buffer, TOPIC, topic.as_bytes());
    }
    put_bytes(buffer, ID, stretch.id.as_bytes());
    if gap > 0 {
        encode_key(GAP, WireType::Varint, buffer);
        encode_varint(gap as u64, buffer);
    }
    if let Some(headers) = stretch.headers {
        headers.encode(HEADERS, buffer);
    }
}

#[cfg(test)]
mod tests;
