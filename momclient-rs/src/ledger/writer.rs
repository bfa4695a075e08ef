//! [`Writer`]: makes one `PushBatch` of the pushes that leave together.

use bytes::{BufMut, Bytes, BytesMut};
use protos::{PushBatch, Run, ends};

use super::{Kind, Pending, Volume};

/// See the [module](self).
pub(super) struct Writer<'a> {
    /// How much there will be in all.
    volume: Volume,
    runs: Vec<Run>,
    contents: BytesMut,
    ends: BytesMut,
    first_number: Option<u32>,
    next_number: u32,
    after: Option<i64>,
    /// Whose topic and headers the latest run has, if one more message may join it.
    joinable: Option<&'a Pending>,
    /// The contents and ends, where it is all of one push: they need not be copied.
    whole: Option<(Bytes, Bytes)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(volume: Volume) -> Self {
        Self {
            volume,
            runs: Vec::with_capacity(1),
            contents: BytesMut::new(),
            ends: BytesMut::new(),
            first_number: None,
            next_number: 0,
            after: None,
            joinable: None,
            whole: None,
        }
    }

    pub(super) fn write(&mut self, pending: &'a Pending) {
        let gap = if self.first_number.is_some() {
            pending.number - self.next_number
        } else {
            self.first_number = Some(pending.number);
            0
        };
        self.next_number = pending.number + pending.count;
        if pending.repeat {
            let after = self
                .after
                .map_or(pending.after, |after| after.min(pending.after));
            self.after = Some(after);
        }
        self.add_to_runs(pending, gap);
        if pending.count as usize == self.volume.messages {
            let ends = match &pending.kind {
                Kind::Together(ends) => Bytes::copy_from_slice(ends),
                Kind::Plain | Kind::Keyed(_) => Bytes::new(),
            };
            self.whole = Some((pending.contents.clone(), ends));
            return;
        }
        if self.contents.capacity() == 0 {
            self.contents.reserve(self.volume.bytes);
            self.ends.reserve(self.volume.messages * ends::SIZE);
        }
        let start = self.contents.len();
        self.contents.put_slice(&pending.contents);
        if let Kind::Together(ends) = &pending.kind {
            for end in ends::iter(ends) {
                ends::push(&mut self.ends, start + end);
            }
        } else {
            ends::push(&mut self.ends, self.contents.len());
        }
    }

    fn add_to_runs(&mut self, pending: &'a Pending, gap: u32) {
        let plain = matches!(pending.kind, Kind::Plain);
        if plain
            && gap == 0
            && let Some(latest) = self.joinable
            && latest.topic == pending.topic
            && latest.headers == pending.headers
            && let Some(run) = self.runs.last_mut()
        {
            run.count += 1;
            return;
        }
        self.joinable = plain.then_some(pending);
        self.runs.push(Run {
            count: pending.count,
            topic: pending.topic.as_deref().unwrap_or_default().to_owned(),
            id: match &pending.kind {
                Kind::Keyed(id) => Bytes::copy_from_slice(id.as_bytes()),
                Kind::Plain | Kind::Together(_) => Bytes::new(),
            },
            gap,
            together: matches!(pending.kind, Kind::Together(_)),
            headers: pending.headers.as_deref().map_or_else(Vec::new, Vec::from),
        });
    }

    pub(super) fn finish(self, settled: u32) -> PushBatch {
        let copied = || (self.contents.freeze(), self.ends.freeze());
        let (contents, ends) = self.whole.unwrap_or_else(copied);
        PushBatch {
            open: None,
            settled,
            after_seq: self.after,
            number: self.first_number.unwrap_or_default(),
            runs: self.runs,
            ends,
            contents,
        }
    }
}
