//! [`Router`]: where a queue is, looked up once for all lanes of a pusher.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::client::MoMClient;
use crate::error::{Error, Reason};
use crate::link::Address;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Router {
    client: MoMClient,
    queue: String,
    route: Mutex<Route>,
    /// Held by the one lane that looks the queue up for all.
    look_up: Semaphore,
}

/// The outcome of the latest look-up. Its generation tells a lane whether somebody has looked since it failed.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) generation: u64,
    pub(crate) address: Result<Address, Error>,
    /// The last address known, which serves while no manager answers.
    last: Option<Address>,
}

impl Router {
    pub(crate) fn new(client: MoMClient, queue: String) -> Self {
        let detail = "the queue has not been looked up yet";
        let none_yet = Error::Unavailable(Reason::new("mom_unreachable", detail));
        Self {
            client,
            queue,
            route: Mutex::new(Route {
                generation: 0,
                address: Err(none_yet),
                last: None,
            }),
            look_up: Semaphore::new(1),
        }
    }

    pub(crate) fn client(&self) -> &MoMClient {
        &self.client
    }

    /// The label of the queue, as it was given.
    pub(crate) fn queue(&self) -> &str {
        &self.queue
    }

    /// The route after the generation that disappointed: looked up now, unless another lane has done it meanwhile.
    ///
    /// The outcome counts for all, also when it is an error. The manager is not asked where the MoM has said who owns
    /// the queue now.
    pub(crate) async fn renew(&self, seen: u64, moved_to: Option<Address>) -> Route {
        let _turn = self
            .look_up
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let Route {
            generation, last, ..
        } = match self.route() {
            current if current.generation != seen => return current.clone(),
            current => current.clone(),
        };
        let found = match moved_to {
            Some(address) => Ok(address),
            None => self.client.address_of_queue(&self.queue).await,
        };
        let address = match (found, &last) {
            // The data path needs no manager: while none answers, the MoM known last is the best guess, and a MoM
            // that has lost the queue refuses.
            (Err(Error::ManagerUnreachable(_)), Some(last)) => Ok(last.clone()),
            (found, _) => found,
        };
        if let Err(error) = &address {
            tracing::debug!(queue = self.queue, %error, "the queue cannot be looked up");
        }
        let mut current = self.route();
        *current = Route {
            generation: generation + 1,
            last: address.as_ref().ok().cloned().or(last),
            address,
        };
        current.clone()
    }

    /// The queue was found elsewhere than looked up: by the word of MoMs.
    pub(crate) fn found(&self, address: &Address) {
        self.route().last = Some(address.clone());
    }

    fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
