//! Connections to a MoM: where it is, and how HTTP/2 is set for it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use protos::message_stream_client::MessageStreamClient;
use tonic::transport::{Channel, Endpoint};

use crate::error::Reason;

pub(crate) type MoM = MessageStreamClient<Channel>;

/// Pings go out after this long without traffic, and the connection is given up when none is answered in time. Only
/// so does a subscriber that waits for messages learn that its MoM is frozen or cut off.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a MoM may send ahead before it is read. HTTP/2's own default of 64 KiB stalls a fast stream of messages.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The largest message that is received. MoMs may be configured to take more than their default of 1 MiB.
const RECEIVE_LIMIT: usize = 16 * 1024 * 1024;

/// Where a MoM serves clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        // An IPv6 address comes bare from the manager.
        if host.contains(':') && !host.starts_with('[') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl FromStr for Address {
    type Err = ();

    /// The opposite of `Display`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        Ok(Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: port.parse().map_err(drop)?,
        })
    }
}

impl Address {
    /// Connects, once. tonic makes the connection again by itself when it breaks.
    pub(crate) async fn connect(&self, timeout: Duration) -> Result<MoM, Reason> {
        let failed = |error: tonic::transport::Error| {
            let mut detail = format!("no connection to the MoM at {self}: {error}");
            if let Some(cause) = std::error::Error::source(&error) {
                detail.push_str(": ");
                detail.push_str(&cause.to_string());
            }
            Reason::new("mom_unreachable", detail)
        };
        let channel = Endpoint::from_shared(format!("http://{self}"))
            .map_err(failed)?
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect()
            .await
            .map_err(failed)?;
        Ok(MessageStreamClient::new(channel).max_decoding_message_size(RECEIVE_LIMIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_bracketed_once() {
        for (host, expected) in [
            ("::1", "[::1]:1"),
            ("[::1]", "[::1]:1"),
            ("127.0.0.1", "127.0.0.1:1"),
        ] {
            let address = Address {
                host: host.to_owned(),
                port: 1,
            };
            assert_eq!(address.to_string(), expected);
            let read: Address = expected.parse().unwrap();
            assert_eq!(read.to_string(), expected);
        }
    }
}
