//! The gRPC contract of rusty-mom: `messages.proto`, compiled without `protoc`.
//!
//! Messages and the client stub are generated as usual. The server stub streams [`Encoded`] instead of
//! [`Message`] and [`MessageBatch`], so that messages are encoded once, not once for each subscription, and receives
//! each [`Push`] and [`PushBatch`] as [`Received`], so that a small one cannot stand for much memory.

pub mod codes;
pub mod ends;
pub mod headers;
pub mod names;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, skip_field};

/// What prost and tonic generate documents itself in `messages.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    tonic::include_proto!("messages");
}

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated_server {
    include!(concat!(env!("OUT_DIR"), "/server/messages.rs"));
}

pub use generated::*;
pub use generated_server::message_stream_server;

/// `messages.proto` as a `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/messages.bin"));

/// The word that stands for "no topic" in the protocol.
pub const NO_TOPIC: &str = "__none__";

/// The metadata entry of a gRPC error that carries its stable code, as `code` does in the manager's problem+json.
pub const CODE_METADATA: &str = "rmom-code";

/// The metadata entry beside [`codes::NOT_OWNER`] that names the MoM that owns the queue, as `host:port`; an IPv6
/// address in brackets. It is missing where the owner is not known, or there is none.
pub const OWNER_METADATA: &str = "rmom-owner";

/// The metadata entry of the answer to a subscription with the sequence after which it starts.
pub const START_METADATA: &str = "rmom-start-seq";

/// The most messages of a [`PushBatch`].
pub const MAX_PUSH_MESSAGES: usize = 1024;

/// The most bytes of contents of a [`PushBatch`] that has more than one message.
pub const MAX_PUSH_BYTES: usize = 1 << 20;

/// A [`Message`] or [`MessageBatch`] in its encoded form. Cloning it copies no bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// All fields up to where the rest begins.
    pub head: Bytes,
    /// What is the end of it and kept apart, since others share it: a batch's contents, a message's headers.
    pub rest: Bytes,
}

impl prost::Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.head);
        buf.put_slice(&self.rest);
    }

    /// A server never decodes what it only sends, so this refuses.
    fn merge_field(
        &mut self,
        _tag: u32,
        _wire_type: WireType,
        _buf: &mut impl Buf,
        _ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        Err(DecodeError::new_unexpected_type_url(
            "a message to decode",
            "Encoded",
        ))
    }

    fn encoded_len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A [`Push`] or [`PushBatch`] of which no more runs and headers are decoded than are legal, and one: each takes two
/// bytes of a message, and many times as much in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received<M>(pub M);

/// What the server stub takes for a [`Push`].
pub type ReceivedPush = Received<Push>;

/// What the server stub takes for a [`PushBatch`].
pub type ReceivedBatch = Received<PushBatch>;

/// A message with repeated fields that have a limit.
pub trait Limited: prost::Message + Default {
    /// Whether it has as many of this field as one that is refused.
    fn is_full(&self, tag: u32) -> bool;

    /// Merges a field that it is not full of, as [`prost::Message::merge_field`] does.
    fn merge_next(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.merge_field(tag, wire_type, buf, ctx)
    }
}

impl Limited for PushBatch {
    fn is_full(&self, tag: u32) -> bool {
        tag == RUNS && self.runs.len() > MAX_PUSH_MESSAGES
    }

    fn merge_next(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != RUNS {
            return self.merge_field(tag, wire_type, buf, ctx);
        }
        let mut run = Received::<Run>::default();
        prost::encoding::message::merge(wire_type, &mut run, buf, ctx)?;
        self.runs.push(run.0);
        Ok(())
    }
}

impl Limited for Run {
    fn is_full(&self, tag: u32) -> bool {
        tag == HEADERS && self.headers.len() > headers::MAX_HEADERS
    }
}

impl Limited for Push {
    fn is_full(&self, tag: u32) -> bool {
        tag == HEADERS && self.headers.len() > headers::MAX_HEADERS
    }
}

/// The field of a [`PushBatch`].
const RUNS: u32 = 5;

/// The field of a [`Run`], and of a [`Push`].
const HEADERS: u32 = 6;

impl<M: Limited> prost::Message for Received<M> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.0.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if self.0.is_full(tag) {
            return skip_field(wire_type, tag, buf, ctx);
        }
        self.0.merge_next(tag, wire_type, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn of_a_batch_with_too_many_runs_only_as_many_are_decoded_as_tell_that() {
        let run = Run {
            count: 1,
            ..Run::default()
        };
        for (sent, received) in [(MAX_PUSH_MESSAGES, 1024), (500_000, 1025)] {
            let batch = PushBatch {
                number: 7,
                runs: vec![run.clone(); sent],
                contents: Bytes::from_static(b"after the runs"),
                ..PushBatch::default()
            };
            let Received(decoded) =
                ReceivedBatch::decode(batch.encode_to_vec().as_slice()).unwrap();
            assert_eq!(decoded.runs.len(), received);
            assert_eq!((decoded.number, &decoded.contents), (7, &batch.contents));
        }
    }

    #[test]
    fn of_a_message_with_too_many_headers_only_as_many_are_decoded_as_tell_that() {
        for (sent, received) in [(headers::MAX_HEADERS, 16), (100_000, 17)] {
            let run = Run {
                count: 1,
                headers: vec![Header::default(); sent],
                gap: 7,
                ..Run::default()
            };
            let batch = PushBatch {
                runs: vec![run; 2],
                ..PushBatch::default()
            };
            let Received(decoded) =
                ReceivedBatch::decode(batch.encode_to_vec().as_slice()).unwrap();
            let decoded = decoded.runs.iter();
            let decoded: Vec<_> = decoded.map(|run| (run.gap, run.headers.len())).collect();
            assert_eq!(decoded, [(7, received); 2]);
            let push = Push {
                headers: vec![Header::default(); sent],
                id: "before the headers".to_owned(),
                ..Push::default()
            };
            let Received(decoded) = ReceivedPush::decode(push.encode_to_vec().as_slice()).unwrap();
            assert_eq!((decoded.headers.len(), decoded.id), (received, push.id));
        }
    }
}
