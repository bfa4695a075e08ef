//! What the tests of this folder share.

use std::time::Duration;

use momclient::{Message, MoMClient, Subscriber};
use testkit::Cluster;

/// Longer than anything here takes on a busy machine: a test that meets it has found a fault.
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) fn client_of(cluster: &Cluster) -> MoMClient {
    MoMClient::builder([cluster.manager(0).url()])
        .deadline(LONG)
        .build()
        .unwrap()
}

/// Takes messages up to and with a sequence.
pub(crate) async fn receive_until(subscriber: &mut Subscriber, last: i64) -> Vec<Message> {
    let mut messages = Vec::new();
    while subscriber.last_seq() < last {
        let next = tokio::time::timeout(LONG, subscriber.next()).await;
        let next = next
            .unwrap_or_else(|_| panic!("nothing came after {} of {last}", subscriber.last_seq()));
        messages.push(
            next.expect("the subscription ended")
                .expect("the subscription failed"),
        );
    }
    messages
}
