//! Connections to a MoM: where it is, how HTTP/2 is set for it, and which pushers share one.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
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

/// Connections that the pushers of a client share: what many of them send at a moment goes out in one piece. By the MoM
/// and a place, since a pusher may use several.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<(Address, usize), Arc<Slot>>>);

/// The connection of one place, if somebody uses it. Whoever has the lock connects for all who come meanwhile.
type Slot = tokio::sync::Mutex<Weak<Connection>>;

/// A connection that is open, for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Connection {
    mom: MoM,
    is_broken: AtomicBool,
}

impl Connections {
    /// The connection to a MoM that is shared at a place, made if there is none that is well.
    pub(crate) async fn get(
        &self,
        address: &Address,
        place: usize,
        timeout: Duration,
    ) -> Result<Arc<Connection>, Reason> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // MoMs come and go; a slot in use is held here too.
            slots.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|slot| slot.strong_count() > 0)
            });
            let key = (address.clone(), place);
            slots.entry(key).or_default().clone()
        };
        let mut shared = slot.lock().await;
        if let Some(connection) = shared.upgrade()
            && !connection.is_broken.load(Ordering::Relaxed)
        {
            return Ok(connection);
        }
        let connection = Arc::new(Connection {
            mom: address.connect(timeout).await?,
            is_broken: AtomicBool::new(false),
        });
        *shared = Arc::downgrade(&connection);
        Ok(connection)
    }
}

impl Connection {
    /// A handle for one call or stream.
    pub(crate) fn mom(&self) -> MoM {
        self.mom.clone()
    }

    /// Nobody else is to use it: it does not answer, or has failed.
    pub(crate) fn give_up(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }
}

/// Where a MoM serves clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_shared_until_it_is_given_up_or_nobody_holds_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let connections = Connections::default();
        let get = |place| connections.get(&address, place, Duration::from_mins(1));
        let (one, same) = tokio::join!(get(0), get(0));
        let (one, same) = (one.unwrap(), same.unwrap());
        assert!(Arc::ptr_eq(&one, &same));
        let other = get(1).await.unwrap();
        assert!(!Arc::ptr_eq(&one, &other), "another place");
        one.give_up();
        let fresh = get(0).await.unwrap();
        assert!(!Arc::ptr_eq(&one, &fresh));
        drop((one, same, other));
        assert!(
            Arc::ptr_eq(&get(0).await.unwrap(), &fresh),
            "it is still held"
        );
        assert_eq!(
            connections.0.lock().unwrap().len(),
            1,
            "place 1 is forgotten"
        );
    }

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
