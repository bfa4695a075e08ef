//! The gRPC contract of rusty-mom: `messages.proto`, compiled without `protoc`.
//!
//! Messages and the client stub are generated as usual. The server stub streams [`Encoded`] instead of
//! [`Message`] and [`MessageBatch`], so that messages are encoded once, not once for each subscription, and receives
//! each [`PushBatch`] as [`Received`], so that a small one cannot stand for much memory.

pub mod codes;
pub mod ends;
pub mod names;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
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
    /// All fields; of a batch, up to where its contents begin.
    pub head: Bytes,
    /// A batch's contents, which are the end of it.
    pub contents: Bytes,
}

impl prost::Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.head);
        buf.put_slice(&self.contents);
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
        self.head.len() + self.contents.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A [`PushBatch`] of which no more runs are decoded than are legal, and one: a run takes two bytes of a message, and
/// forty times as much in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received(pub PushBatch);

/// The field `runs` of a [`PushBatch`].
const RUNS: u32 = 5;

impl prost::Message for Received {
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
        if tag == RUNS && self.0.runs.len() > MAX_PUSH_MESSAGES {
            return skip_field(wire_type, tag, buf, ctx);
        }
        self.0.merge_field(tag, wire_type, buf, ctx)
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
            let Received(decoded) = Received::decode(batch.encode_to_vec().as_slice()).unwrap();
            assert_eq!(decoded.runs.len(), received);
            assert_eq!((decoded.number, &decoded.contents), (7, &batch.contents));
        }
    }
}
