//! The TCP fault proxy, in front of a plain echo server.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::{Direction, Proxy, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(200);

/// A server that sends back what it gets, until the set is dropped.
async fn echo() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    (address, tasks)
}

async fn ask(stream: &mut TcpStream, question: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(question).await?;
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn it_forwards_both_ways_and_passes_an_orderly_end_on() {
    let (target, _server) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    // More than all buffers on the way together hold, so that reading and writing must overlap.
    let sent: Vec<u8> = (0..32 * 1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let write = async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (read, ()) = tokio::join!(from.read_to_end(&mut received), write);
    read.unwrap();
    assert!(
        received == expected,
        "{} of {} bytes came back",
        received.len(),
        expected.len()
    );
}

#[tokio::test]
async fn cut_breaks_and_refuses_and_restore_takes_again() {
    let (target, _server) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, b"one").await.unwrap(), b"one");
    assert_eq!(proxy.connections().await, 1);

    proxy.cut().await;
    assert_eq!(proxy.connections().await, 0);
    assert!(ask(&mut stream, b"two").await.is_err());
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    proxy.restore().await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, b"three").await.unwrap(), b"three");
}

#[tokio::test]
async fn a_blackhole_holds_one_direction_and_lets_go_what_it_held() {
    for direction in [Direction::ToTarget, Direction::FromTarget, Direction::Both] {
        let (target, _server) = echo().await;
        let proxy = Proxy::start(target).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"one").await.unwrap(), b"one");

        proxy.blackhole(direction);
        stream.write_all(b"two").await.unwrap();
        let mut answer = [0; 3];
        let nothing = tokio::time::timeout(A_WHILE, stream.read_exact(&mut answer)).await;
        assert!(nothing.is_err(), "{direction:?}: {nothing:?}");
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();

        proxy.restore().await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two", "{direction:?}");
        assert_eq!(ask(&mut new, b"new").await.unwrap(), b"new");
    }
}

#[tokio::test]
async fn a_delay_is_at_least_what_was_asked_for_and_keeps_the_order() {
    let (target, _server) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let delay = Duration::from_millis(60);
    proxy.delay(delay);
    let before = Instant::now();
    assert_eq!(ask(&mut stream, b"one").await.unwrap(), b"one");
    // There and back: a lower bound, which no load on the machine can break.
    assert!(before.elapsed() >= 2 * delay);
    proxy.delay(Duration::ZERO);
    assert_eq!(ask(&mut stream, b"two").await.unwrap(), b"two");
}

#[tokio::test]
async fn sliced_bytes_come_in_small_pieces_and_in_order() {
    let (target, _server) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    proxy.slice(3);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let sent: Vec<u8> = (0..2_000_u32).map(|n| (n % 251) as u8).collect();
    stream.write_all(&sent).await.unwrap();
    let (mut received, mut reads) = (Vec::new(), 0);
    while received.len() < sent.len() {
        assert!(stream.read_buf(&mut received).await.unwrap() > 0);
        reads += 1;
    }
    assert_eq!(received, sent);
    // Pieces that arrived while nobody read come together, so how many reads there are is not certain; one it is not.
    assert!(reads > 1);
}

#[tokio::test]
async fn a_new_target_is_for_new_connections() {
    let (target, _server) = echo().await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(target).await.unwrap();
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut old, b"one").await.unwrap(), b"one");

    proxy.retarget(other.local_addr().unwrap());
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut accepted, _) = other.accept().await.unwrap();
    accepted.write_all(b"other").await.unwrap();
    let mut answer = [0; 5];
    new.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"other");
    assert_eq!(ask(&mut old, b"two").await.unwrap(), b"two");
}

#[tokio::test]
async fn a_target_that_refuses_ends_the_connection() {
    let (target, server) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    drop(server);
    wait_until("the target to refuse", SOON, async || {
        TcpStream::connect(target).await.is_err()
    })
    .await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(ask(&mut stream, b"one").await.is_err());
}

#[tokio::test]
async fn drop_closes_everything() {
    let (target, _server) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    let address = proxy.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut stream, b"one").await.unwrap(), b"one");
    drop(proxy);
    let mut rest = [0; 1];
    assert!(matches!(stream.read(&mut rest).await, Ok(0) | Err(_)));
    wait_until("its port to be closed", SOON, async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
}
