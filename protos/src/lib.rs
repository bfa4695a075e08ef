//! The gRPC contract of rusty-mom: `messages.proto`, compiled without `protoc`.
//!
//! Messages and the client stub are generated as usual. The server stub streams [`Encoded`] instead of
//! [`Message`] and [`MessageBatch`], so that messages are encoded once, not once for each subscription.

pub mod codes;
pub mod ends;
pub mod names;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType};

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

/// The word that stands for "no topic" in the protocol.
pub const NO_TOPIC: &str = "__none__";

/// The metadata entry of a gRPC error that carries its stable code, as `code` does in the manager's problem+json.
pub const CODE_METADATA: &str = "rmom-code";

/// The metadata entry beside [`codes::NOT_OWNER`] that names the MoM that owns the queue, as `host:port`; an IPv6
/// address in brackets. It is missing where the owner is not known, or there is none.
pub const OWNER_METADATA: &str = "rmom-owner";

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
