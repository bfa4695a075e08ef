//! Free TCP ports on the loopback address.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpSocket;

use crate::Error;

/// Below this, ports belong to well-known services.
const LOWEST: u16 = 10_000;
/// The first port that Linux gives to outgoing connections, unless configured otherwise.
const USUAL_FIRST_EPHEMERAL: u16 = 32_768;
const TRIES: usize = 1_000;

/// A port of 127.0.0.1 on which nothing listens and which this process has not been given before.
///
/// It lies below the range from which the kernel takes the ports of outgoing connections. A port from that range (as
/// binding port 0 gives) could be taken by any connection of any program while the process that it was meant for is
/// being restarted. What remains is that another program picks the same number between this call and its use; whoever
/// starts a process on the port tries again with another one then.
pub fn free_port() -> Result<u16, Error> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

    let range = first_ephemeral().saturating_sub(LOWEST).max(1);
    for _ in 0..TRIES {
        // A fresh `RandomState` is as random as the standard library gets, and enough here.
        let port = LOWEST + (RandomState::new().hash_one(0) % u64::from(range)) as u16;
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if is_free(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            && given.get_or_insert_default().insert(port)
        {
            return Ok(port);
        }
    }
    Err(Error::Failed(format!(
        "no free port on 127.0.0.1 between {LOWEST} and {}",
        LOWEST + range
    )))
}

/// Whether nothing listens on `address` at this moment.
///
/// It binds and does not listen. A child that is just being started holds a copy of every socket until its program
/// runs, and only a copy that listens would be in the way of the one whom the port is meant for.
pub fn is_free(address: SocketAddr) -> bool {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    socket.is_ok_and(|socket| socket.set_reuseaddr(true).is_ok() && socket.bind(address).is_ok())
}

fn first_ephemeral() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|first| *first > LOWEST + 1_000)
        .unwrap_or(USUAL_FIRST_EPHEMERAL)
}
