//! Creating and deleting queues and channels, and saying where they are.
//!
//! A queue exists when its row does. MoMs are told of a change so that it takes effect at once; where that fails, they
//! and the control loop find out from the database.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use storage::{Channel, Mom, MomAddress, Queue};
use tracing::{info, warn};
use uuid::Uuid;

use crate::Manager;
use crate::database::DatabaseError;
use crate::error::Error;

/// A queue and the MoM that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedQueue {
    /// Its label.
    pub label: String,
    /// Where to push.
    pub mom: MomAddress,
}

/// A channel and the MoM that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedChannel {
    /// What clients subscribe with.
    pub id: Uuid,
    /// Only messages with this topic are seen; `None`: all.
    pub topic: Option<String>,
    /// Where to subscribe.
    pub mom: MomAddress,
}

impl Manager {
    /// Creates a queue on the MoM that is up and has the fewest queues, or on the next one if that does not take it.
    pub async fn create_queue(&self, label: &str) -> Result<PlacedQueue, Error> {
        let store = self.database.store();
        let moms = self.database.answer(store.moms()).await?;
        let mut up: Vec<Mom> = moms
            .into_iter()
            .filter(|mom| mom.is_up && !mom.draining)
            .collect();
        loop {
            let placement = self.placing.choose(&mut up).ok_or(Error::NoMomUp)?;
            let mom = &placement.mom;
            let queue = match self
                .database
                .answer(store.create_queue(label, mom.id))
                .await
            {
                Ok(queue) => queue,
                Err(DatabaseError::Answered(storage::Error::AlreadyExists)) => {
                    return Err(Error::QueueExists(label.to_owned()));
                }
                // The MoM was removed meanwhile.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let hosted = self
                .moms
                .create_queue(&mom.address, label, queue.epoch)
                .await;
            let Err(refusal) = hosted else {
                info!(label, mom = %mom.address, epoch = queue.epoch, "created a queue");
                return Ok(PlacedQueue {
                    label: label.to_owned(),
                    mom: mom.address.clone(),
                });
            };
            warn!("{refusal}; looking for another MoM to take the queue {label:?}");
            // Not moved, which is for the leading manager to decide, but taken back, and created anew elsewhere. If
            // this fails, the queue exists, and the control loop sees to it.
            let taken_back = store.delete_queue_at(queue.queue_id, queue.epoch);
            if !self.database.answer(taken_back).await? {
                // The MoM did take it, and somebody uses it already; or the control loop was faster.
                return self.place(label).await;
            }
        }
    }

    /// Where a queue is.
    pub async fn place(&self, label: &str) -> Result<PlacedQueue, Error> {
        let queue = self.queue(label).await?;
        match queue.owner {
            Some((_, mom)) => Ok(PlacedQueue {
                label: queue.label,
                mom,
            }),
            None => Err(Error::NoOwner(queue.label)),
        }
    }

    /// Deletes a queue with its channels and messages.
    pub async fn delete_queue(&self, label: &str) -> Result<(), Error> {
        // As long as it has messages, which go with it.
        let queue = self
            .database
            .run(self.database.store().delete_queue(label))
            .await
            .map_err(|error| missing_queue(error, label))?;
        info!(label, "deleted a queue");
        if let Some((_, mom)) = queue.owner {
            self.moms.queue_is_deleted(&mom, label, queue.epoch).await;
        }
        Ok(())
    }

    /// Creates a channel on a queue; a new one at each call.
    pub async fn create_channel(
        &self,
        label: &str,
        topic: Option<&str>,
    ) -> Result<PlacedChannel, Error> {
        // A channel that the client is not told of would stay for ever, so a queue without an owner is refused first.
        self.place(label).await?;
        let created = self.database.store().create_channel(label, topic);
        let channel = self.database.answer(created).await;
        placed(channel.map_err(|error| missing_queue(error, label))?)
    }

    /// Where a channel is.
    pub async fn channel(&self, id: Uuid) -> Result<PlacedChannel, Error> {
        placed(self.find_channel(id).await?)
    }

    /// Deletes a channel.
    pub async fn delete_channel(&self, id: Uuid) -> Result<(), Error> {
        let channel = self.find_channel(id).await?;
        self.database
            .answer(self.database.store().delete_channel(id))
            .await
            .map_err(|error| missing_channel(error, id))?;
        if let Some((_, mom)) = channel.owner {
            self.moms.channel_is_deleted(&mom, id).await;
        }
        Ok(())
    }

    /// The distinct topics of a queue's channels.
    pub async fn topics(&self, label: &str) -> Result<Vec<String>, Error> {
        self.database
            .answer(self.database.store().topics(label))
            .await
            .map_err(|error| missing_queue(error, label))
    }

    pub(crate) async fn queue(&self, label: &str) -> Result<Queue, Error> {
        self.database
            .answer(self.database.store().queue(label))
            .await
            .map_err(|error| missing_queue(error, label))
    }

    async fn find_channel(&self, id: Uuid) -> Result<Channel, Error> {
        self.database
            .answer(self.database.store().channel(id))
            .await
            .map_err(|error| missing_channel(error, id))
    }
}

fn placed(channel: Channel) -> Result<PlacedChannel, Error> {
    match channel.owner {
        Some((_, mom)) => Ok(PlacedChannel {
            id: channel.id,
            topic: channel.topic,
            mom,
        }),
        None => Err(Error::NoOwner(channel.queue_label)),
    }
}

pub(crate) fn missing_queue(error: DatabaseError, label: &str) -> Error {
    if error.is_not_found() {
        Error::QueueNotFound(label.to_owned())
    } else {
        error.into()
    }
}

fn missing_channel(error: DatabaseError, id: Uuid) -> Error {
    if error.is_not_found() {
        Error::ChannelNotFound(id)
    } else {
        error.into()
    }
}

/// Creations under way in this process, by MoM. Without them, requests that arrive together would all see the same
/// MoM as the one with the fewest queues.
#[derive(Debug, Default)]
pub(crate) struct Placing(Mutex<HashMap<Uuid, i64>>);

/// A MoM that was chosen; it counts as having one queue more until this is dropped.
pub(crate) struct Placement<'a> {
    placing: &'a Placing,
    pub(crate) mom: Mom,
}

impl Placing {
    /// Sorts `up` by load, in the order of registration where it is the same, and takes the first out.
    fn choose(&self, up: &mut Vec<Mom>) -> Option<Placement<'_>> {
        let mut under_way = self.under_way();
        up.sort_by_key(|mom| mom.queues + under_way.get(&mom.id).copied().unwrap_or(0));
        if up.is_empty() {
            return None;
        }
        let mom = up.remove(0);
        *under_way.entry(mom.id).or_default() += 1;
        Some(Placement { placing: self, mom })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Uuid, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Placement<'_> {
    fn drop(&mut self) {
        let mut under_way = self.placing.under_way();
        if let Some(count) = under_way.get_mut(&self.mom.id) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.mom.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moms(queues: &[i64]) -> Vec<Mom> {
        let mom = |(port, queues): (usize, &i64)| Mom {
            id: Uuid::from_u128(port as u128 + 1),
            address: MomAddress {
                host: "127.0.0.1".into(),
                port: port as u16 + 1,
            },
            is_up: true,
            draining: false,
            since: chrono::DateTime::UNIX_EPOCH,
            queues: *queues,
        };
        queues.iter().enumerate().map(mom).collect()
    }

    #[test]
    fn the_mom_with_the_fewest_queues_is_chosen_and_ties_go_by_registration() {
        let placing = Placing::default();
        let mut up = moms(&[3, 1, 1]);
        assert_eq!(placing.choose(&mut up).unwrap().mom.address.port, 2);
        let rest: Vec<u16> = up.iter().map(|mom| mom.address.port).collect();
        assert_eq!(rest, [3, 1]);
        assert!(placing.choose(&mut Vec::new()).is_none());
    }

    #[test]
    fn choices_made_together_are_spread_and_forgotten_afterwards() {
        let placing = Placing::default();
        let choices: Vec<Placement<'_>> = (0..6)
            .map(|_| placing.choose(&mut moms(&[0, 0, 0])).unwrap())
            .collect();
        let ports: Vec<u16> = choices
            .iter()
            .map(|choice| choice.mom.address.port)
            .collect();
        assert_eq!(ports, [1, 2, 3, 1, 2, 3]);
        drop(choices);
        assert!(placing.under_way().is_empty());
    }
}
