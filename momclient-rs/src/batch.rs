//! [`Batch`]: messages as they were received, many in one buffer, which are looked at where they are.
//!
//! A `MessageBatch` comes from the stream and is checked once; after that, finding a message is reading where its
//! content ends.

use std::iter::FusedIterator;
use std::slice;

use bytes::Bytes;
use protos::{Header, MessageBatch, Run, ends};
use uuid::Uuid;

use crate::error::{Error, Reason};
use crate::headers::Headers;

/// A message as it was committed.
///
/// `content` is a view into the buffer that it was received in, which may hold its neighbours too: whoever keeps a
/// small message for long keeps that whole buffer, up to a few megabytes. `Bytes::copy_from_slice(&message.content)`
/// lets go of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Unique for ever.
    pub id: Uuid,
    /// Place in the queue. Give the last one that was dealt with to
    /// [`MoMClient::subscribe_after`](crate::MoMClient::subscribe_after) to go on there.
    pub seq: i64,
    /// The topic that the message was pushed with.
    pub topic: Option<String>,
    /// What was pushed.
    pub content: Bytes,
    headers: Vec<Header>,
}

/// A message of a [`Batch`], in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageRef<'a> {
    /// Unique for ever.
    pub id: Uuid,
    /// Place in the queue.
    pub seq: i64,
    /// The topic that the message was pushed with.
    pub topic: Option<&'a str>,
    /// What was pushed.
    pub content: &'a [u8],
    headers: &'a [Header],
}

/// Messages in the order of their sequence, at least one: what [`Subscriber::next_batch`](crate::Subscriber::next_batch)
/// gives. There may be gaps in the sequences, as the topic of the channel has it.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    received: MessageBatch,
    /// The place of the first message that is left.
    place: Place,
    /// How many are left.
    len: usize,
    last_seq: i64,
}

/// The messages of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    runs: slice::Iter<'a, Run>,
    /// Those of the present run that are left.
    of_run: u32,
    topic: Option<&'a str>,
    headers: &'a [Header],
    /// Of the next message, as is the sequence.
    id: u128,
    seq: i64,
    ends: &'a [[u8; ends::SIZE]],
    contents: &'a [u8],
    /// Where the next content starts.
    start: usize,
}

/// Of a message in its batch.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    run: usize,
    /// How many messages of the run are before it.
    of_run: u32,
    /// How many of the batch.
    index: usize,
    seq: i64,
}

impl Message {
    /// What the message carries beside its content, such as a `traceparent`.
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(&self.headers)
    }
}

impl<'a> MessageRef<'a> {
    /// What the message carries beside its content, such as a `traceparent`.
    pub fn headers(&self) -> Headers<'a> {
        Headers::new(self.headers)
    }
}

impl Batch {
    /// Checks what was received, so that nothing can be amiss later.
    pub(crate) fn new(received: MessageBatch) -> Result<Self, Error> {
        let wrong = |detail: String| {
            let detail = format!("a batch of messages cannot be understood: {detail}");
            Err(Error::Unexpected(Reason::new("unexpected_answer", detail)))
        };
        let count = ends::count(&received.ends);
        if !ends::fit(&received.ends, received.contents.len()) {
            return wrong(format!(
                "{} bytes of ends do not divide {} bytes of contents",
                received.ends.len(),
                received.contents.len()
            ));
        }
        let mut counted = 0_u64;
        // The sequence of the message that comes next.
        let mut seq = Some(received.first_seq);
        for run in &received.runs {
            if run.count == 0 || run.id.len() != 16 {
                return wrong(format!(
                    "a run has {} messages and an id of {} bytes",
                    run.count,
                    run.id.len()
                ));
            }
            counted += u64::from(run.count);
            seq = seq.and_then(|seq| seq.checked_add(i64::from(run.gap) + i64::from(run.count)));
        }
        let (true, Some(next_seq)) = (received.first_seq > 0 || count == 0, seq) else {
            return wrong(format!("it begins with sequence {}", received.first_seq));
        };
        if counted != count as u64 {
            return wrong(format!("{counted} messages have {count} ends"));
        }
        let first_gap = received.runs.first().map_or(0, |run| run.gap);
        let place = Place {
            seq: received.first_seq + i64::from(first_gap),
            ..Place::default()
        };
        Ok(Self {
            received,
            place,
            len: count,
            last_seq: next_seq - 1,
        })
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none, which never is what a subscriber gives.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sequence of the first message.
    pub fn first_seq(&self) -> i64 {
        self.place.seq
    }

    /// The sequence of the last message. Give it to [`MoMClient::subscribe_after`](crate::MoMClient::subscribe_after) to
    /// go on behind the batch.
    pub fn last_seq(&self) -> i64 {
        self.last_seq
    }

    /// The messages, without allocating anything for them.
    pub fn iter(&self) -> Messages<'_> {
        let Place {
            run,
            of_run,
            index,
            seq,
        } = self.place;
        let (ends, _) = self.received.ends.as_chunks();
        let mut messages = Messages {
            runs: self.received.runs.get(run..).unwrap_or_default().iter(),
            of_run: 0,
            topic: None,
            headers: &[],
            id: 0,
            seq,
            ends: ends.get(index..).unwrap_or_default(),
            contents: &self.received.contents,
            start: index
                .checked_sub(1)
                .map_or(0, |before| ends::end(&self.received.ends, before)),
        };
        if let Some(run) = messages.runs.next() {
            messages.enter(run, of_run);
        }
        messages
    }

    /// The first message, which is left out from then on.
    pub(crate) fn take(&mut self) -> Option<Message> {
        let MessageRef {
            id,
            seq,
            topic,
            headers,
            ..
        } = self.iter().next()?;
        let message = Message {
            id,
            seq,
            topic: topic.map(str::to_owned),
            content: self
                .received
                .contents
                .slice(ends::range(&self.received.ends, self.place.index)),
            headers: headers.to_vec(),
        };
        self.skip();
        Some(message)
    }

    /// Leaves out what comes up to and with this sequence.
    pub(crate) fn skip_to(&mut self, seq: i64) {
        while self.len > 0 && self.place.seq <= seq {
            self.skip();
        }
    }

    /// How many messages, and bytes of contents, it was when it was received.
    pub(crate) fn received(&self) -> (u32, u64) {
        let count = ends::count(&self.received.ends);
        (count as u32, self.received.contents.len() as u64)
    }

    /// Leaves out the first message, if there is one.
    fn skip(&mut self) {
        let Place {
            run,
            of_run,
            index,
            seq,
        } = &mut self.place;
        self.len -= 1;
        *index += 1;
        *of_run += 1;
        *seq += 1;
        if *of_run == self.received.runs[*run].count {
            *of_run = 0;
            *run += 1;
            *seq += self.received.runs.get(*run).map_or(0, |run| run.gap.into());
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = MessageRef<'a>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

impl<'a> Messages<'a> {
    /// Goes on with a run, of which so many messages were before.
    fn enter(&mut self, run: &'a Run, before: u32) {
        let first: [u8; 16] = run.id[..].try_into().expect("ids have been checked");
        self.id = u128::from_be_bytes(first).wrapping_add(before.into());
        self.of_run = run.count - before;
        let topic = run.topic.as_str();
        self.topic = (!topic.is_empty() && topic != protos::NO_TOPIC).then_some(topic);
        self.headers = &run.headers;
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = MessageRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<MessageRef<'a>> {
        let (end, ends) = self.ends.split_first()?;
        if self.of_run == 0 {
            let run = self.runs.next()?;
            self.seq += i64::from(run.gap);
            self.enter(run, 0);
        }
        let end = u32::from_le_bytes(*end) as usize;
        let message = MessageRef {
            id: Uuid::from_u128(self.id),
            seq: self.seq,
            topic: self.topic,
            content: &self.contents[self.start..end],
            headers: self.headers,
        };
        self.ends = ends;
        self.start = end;
        self.of_run -= 1;
        self.id = self.id.wrapping_add(1);
        self.seq += 1;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.ends.len(), Some(self.ends.len()))
    }
}

impl ExactSizeIterator for Messages<'_> {}

impl FusedIterator for Messages<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the messages with a topic, which says what it is.
    fn headers(topic: &str) -> Vec<Header> {
        let named = [topic].into_iter().filter(|topic| !topic.is_empty());
        let headers = named.map(|topic| Header {
            name: "of".to_owned(),
            value: topic.to_owned(),
        });
        headers.collect()
    }

    /// A batch with a run for each of these: messages, gap, topic. Contents are their sequences.
    fn received(first_seq: i64, runs: &[(u32, u32, &str)]) -> MessageBatch {
        let (mut all, mut contents, mut seq) = (Vec::new(), Vec::new(), first_seq);
        let runs = runs.iter().map(|(count, gap, topic)| {
            seq += i64::from(*gap);
            let id = u128::from(u32::MAX) * 1000 + seq as u128;
            for _ in 0..*count {
                contents.extend_from_slice(seq.to_string().as_bytes());
                ends::push(&mut all, contents.len());
                seq += 1;
            }
            Run {
                count: *count,
                gap: *gap,
                topic: (*topic).to_owned(),
                id: Bytes::copy_from_slice(&id.to_be_bytes()),
                together: false,
                headers: headers(topic),
            }
        });
        let runs = runs.collect();
        MessageBatch {
            first_seq,
            runs,
            ends: all.into(),
            contents: contents.into(),
        }
    }

    fn seqs(batch: &Batch) -> Vec<i64> {
        let messages = batch.iter().map(|message| {
            assert_eq!(message.content, message.seq.to_string().as_bytes());
            assert_eq!(
                message.id.as_u128(),
                u128::from(u32::MAX) * 1000 + message.seq as u128
            );
            message.seq
        });
        messages.collect()
    }

    #[test]
    fn messages_have_what_their_runs_say() {
        let runs = [(2, 1, "a"), (1, 0, ""), (2, 3, "b")];
        let batch = Batch::new(received(5, &runs)).unwrap();
        assert_eq!(seqs(&batch), [6, 7, 8, 12, 13]);
        let topics: Vec<_> = batch.iter().map(|message| message.topic).collect();
        assert_eq!(topics, [Some("a"), Some("a"), None, Some("b"), Some("b")]);
        let headers = batch.iter().map(|message| message.headers());
        let of: Vec<_> = headers.clone().map(|headers| headers.get("of")).collect();
        assert_eq!(of, topics);
        let pairs: Vec<_> = headers.flatten().collect();
        assert_eq!(pairs, [("of", "a"), ("of", "a"), ("of", "b"), ("of", "b")]);
        assert_eq!(
            (batch.len(), batch.first_seq(), batch.last_seq()),
            (5, 6, 13)
        );
    }

    #[test]
    fn what_was_taken_or_skipped_is_left_out() {
        let runs = [(2, 1, "a"), (1, 0, protos::NO_TOPIC), (2, 3, "b")];
        for skipped in 0..15 {
            let mut batch = Batch::new(received(5, &runs)).unwrap();
            batch.skip_to(skipped);
            let mut expected: Vec<_> = [6, 7, 8, 12, 13]
                .into_iter()
                .filter(|seq| *seq > skipped)
                .collect();
            while !expected.is_empty() {
                assert_eq!(seqs(&batch), expected);
                assert_eq!(
                    (batch.len(), batch.first_seq()),
                    (expected.len(), expected[0])
                );
                let (first, taken) = (batch.iter().next().unwrap(), batch.clone().take().unwrap());
                assert_eq!((first.id, first.seq), (taken.id, taken.seq));
                assert_eq!(
                    (first.topic, first.content),
                    (taken.topic.as_deref(), &taken.content[..])
                );
                assert_eq!(first.headers(), taken.headers());
                batch.take();
                expected.remove(0);
            }
            assert!(batch.is_empty() && batch.take().is_none() && batch.iter().next().is_none());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good = || received(5, &[(2, 1, "a"), (1, 0, "")]);
        Batch::new(good()).unwrap();
        let breakages: [fn(&mut MessageBatch); 9] = [
            |batch| batch.first_seq = 0,
            |batch| batch.first_seq = i64::MAX - 2,
            |batch| batch.runs[0].count = 0,
            |batch| batch.runs[0].count = u32::MAX,
            |batch| batch.runs[1].id = Bytes::from_static(b"short"),
            |batch| batch.runs.clear(),
            |batch| batch.ends = batch.ends.slice(..batch.ends.len() - 1),
            |batch| batch.ends = batch.ends.slice(..batch.ends.len() - 4),
            |batch| batch.contents = batch.contents.slice(1..),
        ];
        for (index, break_it) in breakages.iter().enumerate() {
            let mut batch = good();
            break_it(&mut batch);
            let error = Batch::new(batch).expect_err(&format!("breakage {index}"));
            assert!(matches!(error, Error::Unexpected(_)), "{error}");
        }
        // The highest id there may be is no reason to fail.
        let mut last = good();
        last.runs[0].id = Bytes::from_static(&[0xff; 16]);
        assert_eq!(Batch::new(last).unwrap().iter().count(), 3);
    }
}
