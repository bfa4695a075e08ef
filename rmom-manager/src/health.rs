//! Asks a manager on this machine whether it listens; for supervisors that run a command.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::settings::Settings;

const DEADLINE: Duration = Duration::from_secs(3);

/// Why a manager is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// It cannot be reached.
    #[error("no manager listens on {0}: {1}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// It took too long.
    #[error("no answer came from {0} within {DEADLINE:?}")]
    Silent(SocketAddr),
    /// Something else listens there.
    #[error("{0} answered GET /status with {1:?} in place of 200")]
    Answered(SocketAddr, String),
}

/// Sends `GET /status` to the address and port of the settings.
pub async fn check(settings: &Settings) -> Result<(), Unhealthy> {
    let ip = match settings.address {
        // Listening on all addresses includes this one.
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, settings.port);
    let answer = timeout(DEADLINE, ask(address))
        .await
        .map_err(|_| Unhealthy::Silent(address))?
        .map_err(|error| Unhealthy::Unreachable(address, error))?;
    let status_line = answer.lines().next().unwrap_or_default();
    if status_line.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(Unhealthy::Answered(address, status_line.to_owned()))
    }
}

async fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
