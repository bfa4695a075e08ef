//! A TCP proxy that breaks connections on demand, to be put between any two parts of a system.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Error, free_port, try_wait_until};

/// What one read takes at most, and ...
const CHUNK: usize = 16 * 1024;
/// ... how many reads one direction of a connection may hold back before it stops reading: 4 MiB in all.
const CHUNKS_HELD: usize = 256;
/// How long the address may stay taken.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From those who connect to the proxy towards its target.
    ToTarget,
    /// From the target back.
    FromTarget,
    /// Both.
    Both,
}

/// What befalls bytes on their way, for all connections alike.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    to_target_held: bool,
    from_target_held: bool,
    delay: Duration,
    /// The most bytes of one piece; 0 leaves bytes together as they come.
    slice: usize,
}

/// The part of a proxy that lives between [`Proxy::restore`] and [`Proxy::cut`].
#[derive(Debug)]
struct Line {
    accepting: JoinHandle<()>,
    connections: TaskTracker,
    cut: CancellationToken,
}

/// A proxy on 127.0.0.1. Dropping it closes all connections.
///
/// Its tasks run on the runtime in which it was started and end with that at the latest.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    weather: watch::Sender<Weather>,
    line: tokio::sync::Mutex<Option<Line>>,
    ended: CancellationToken,
}

impl Proxy {
    /// A proxy on a free port that forwards to `target`. The target need not listen yet: a connection to the proxy is
    /// closed at once while the target refuses.
    pub async fn start(target: SocketAddr) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let proxy = Self {
            address,
            target: watch::Sender::new(target),
            weather: watch::Sender::new(Weather::default()),
            line: tokio::sync::Mutex::new(None),
            ended: CancellationToken::new(),
        };
        proxy.restore().await?;
        Ok(proxy)
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Proxy::address`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections are open.
    pub async fn connections(&self) -> usize {
        self.line
            .lock()
            .await
            .as_ref()
            .map_or(0, |line| line.connections.len())
    }

    /// Closes every connection and refuses new ones, as if the target had died. Returns when that is so.
    pub async fn cut(&self) {
        let mut line = self.line.lock().await;
        if let Some(line) = line.take() {
            line.cut.cancel();
            // Once the listener is gone, no connection can be added.
            let _ = line.accepting.await;
            line.connections.close();
            line.connections.wait().await;
        }
    }

    /// Takes connections again after [`Proxy::cut`], lets bytes pass again after [`Proxy::blackhole`], without delay and
    /// unsliced.
    pub async fn restore(&self) -> Result<(), Error> {
        self.weather.send_replace(Weather::default());
        let mut line = self.line.lock().await;
        if line.is_some() {
            return Ok(());
        }
        // A child that is just being started holds a copy of the former listener until its program runs.
        let what = format!("the proxy to listen on {}", self.address);
        let listener = try_wait_until(&what, LISTENS_WITHIN, async || listen(self.address)).await?;
        let cut = self.ended.child_token();
        let connections = TaskTracker::new();
        let accepting = tokio::spawn(accept(
            listener,
            self.target.subscribe(),
            self.weather.subscribe(),
            connections.clone(),
            cut.clone(),
        ));
        *line = Some(Line {
            accepting,
            connections,
            cut,
        });
        Ok(())
    }

    /// Forwards nothing more in `direction` and keeps all connections open, as a network that drops every packet
    /// does. New connections are taken. What was held back goes on after [`Proxy::restore`].
    pub fn blackhole(&self, direction: Direction) {
        self.weather.send_modify(|weather| {
            weather.to_target_held = matches!(direction, Direction::ToTarget | Direction::Both);
            weather.from_target_held = matches!(direction, Direction::FromTarget | Direction::Both);
        });
    }

    /// Makes every byte take `delay` longer, in each direction, without a limit on how many are on their way but that
    /// of the buffers.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Makes bytes pass in pieces of 1 to `most`, in each direction, as a network of small packets does: who reads gets
    /// frames and messages in parts. 0 leaves them together again.
    pub fn slice(&self, most: usize) {
        self.weather.send_modify(|weather| weather.slice = most);
    }

    /// Forwards new connections to another target: one address before a server and the one that takes its place. Those
    /// that are open stay with the former target.
    pub fn retarget(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Binds with SO_REUSEADDR, since connections of before the cut may linger in TIME_WAIT.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    weather: watch::Receiver<Weather>,
    connections: TaskTracker,
    cut: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = cut.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // An error here is that of one connection, which was reset before it was taken.
        let Ok((client, _)) = accepted else { continue };
        let (target, weather, cut) = (*target.borrow(), weather.clone(), cut.clone());
        connections.spawn(async move {
            let _ = cut
                .run_until_cancelled(forward(client, target, weather))
                .await;
        });
    }
}

async fn forward(client: TcpStream, target: SocketAddr, weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // The proxy must not add the delays of Nagle's algorithm to what it is asked to add.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = pump(from_client, to_server, weather.clone(), |weather| {
        weather.to_target_held
    });
    let back = pump(from_server, to_client, weather, |weather| {
        weather.from_target_held
    });
    // A broken direction breaks both; an orderly end of one leaves the other open.
    let _ = tokio::try_join!(there, back);
}

/// Carries one direction: reads into a bounded queue, each chunk with the time at which it is due, and writes when it
/// is due and nothing is held.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    held: fn(&Weather) -> bool,
) -> io::Result<()> {
    let (queue, mut waiting) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_HELD);
    let delays = weather.clone();
    let read = async move {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            let length = from.read_buf(&mut chunk).await?;
            let due = Instant::now() + delays.borrow().delay;
            // An empty chunk stands for the end, which is delayed and held like everything else.
            if queue.send((due, chunk.freeze())).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = waiting.recv().await {
            tokio::time::sleep_until(due).await;
            if weather.wait_for(|weather| !held(weather)).await.is_err() {
                break;
            }
            if chunk.is_empty() {
                break;
            }
            let slice = weather.borrow().slice;
            write_sliced(&mut to, chunk, slice).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

/// Writes `chunk` in pieces of 1 to `most` bytes, or as a whole if `most` is 0.
async fn write_sliced(to: &mut OwnedWriteHalf, mut chunk: Bytes, most: usize) -> io::Result<()> {
    if most == 0 {
        return to.write_all(&chunk).await;
    }
    while !chunk.is_empty() {
        // Differs from piece to piece, which is all that is asked of it.
        let length = 1 + RandomState::new().hash_one(chunk.len()) as usize % most;
        let piece = chunk.split_to(length.min(chunk.len()));
        to.write_all(&piece).await?;
        // Lets the reader run in between; otherwise it would find the pieces together again.
        tokio::task::yield_now().await;
    }
    Ok(())
}
