//! Which queues this MoM hosts: what the database says it owns, found out at the start, at a manager's command and,
//! since a command is only a hint, every second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use storage::{MomAddress, Ownership, Store};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Error;
use crate::queue::{Acknowledgement, Queue, Shared, lock};

/// How often the database is asked what this MoM owns. With [`OWNER_DEADLINE`] it bounds how long a
/// subscription of a queue that was moved away stays open without messages.
const PERIOD: Duration = Duration::from_secs(1);

/// How long those who are refused since a queue has moved wait to be told where it is.
const OWNER_DEADLINE: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Debug)]
pub struct Hosting {
    store: Store,
    address: MomAddress,
    shared: Arc<Shared>,
    queues: RwLock<HashMap<String, Arc<Queue>>>,
    /// Of each channel with subscriptions: what ends them, and how many there are.
    channels: Mutex<HashMap<Uuid, (CancellationToken, usize)>>,
}

impl Hosting {
    /// A MoM that is known by its external address and hosts nothing yet.
    pub fn new(store: Store, address: MomAddress, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            store,
            address,
            shared,
            queues: RwLock::default(),
            channels: Mutex::default(),
        })
    }

    /// Hosts again what this MoM owned when it ended. The epochs are raised first, so that an older process of the same
    /// address, should there be one, can commit no more.
    pub async fn restore(&self) -> storage::Result<()> {
        let Some(mom_id) = self.store.find_mom(&self.address).await? else {
            tracing::warn!(
                external_address = %self.address,
                "no manager has registered this MoM yet: it hosts nothing until one does; its list `moms` needs this address"
            );
            return Ok(());
        };
        for ownership in self.store.renew_ownerships(mom_id).await? {
            self.host(ownership, mom_id).await?;
        }
        Ok(())
    }

    /// Follows the database until `stop`. A database that is away changes nothing: nobody can take a queue over then.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_away = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let outcome = self.reconcile().await;
            match &outcome {
                Err(error) if !was_away => {
                    tracing::warn!(%error, "cannot ask the database what this MoM owns");
                }
                Ok(()) if was_away => tracing::info!("the database tells again what this MoM owns"),
                _ => {}
            }
            was_away = outcome.is_err();
        }
    }

    /// Makes what is hosted equal to what is owned, and ends the subscriptions of channels that were deleted.
    async fn reconcile(self: &Arc<Self>) -> storage::Result<()> {
        // Listed before the database is asked: what a command adds meanwhile is not mistaken for something lost.
        let hosted = self.hosted();
        let mom_id = self.store.find_mom(&self.address).await?;
        let owned = match mom_id {
            Some(mom_id) => self.store.ownerships(mom_id).await?,
            None => Vec::new(),
        };
        let owned: HashMap<Uuid, Ownership> = owned
            .into_iter()
            .map(|owned| (owned.queue_id, owned))
            .collect();
        for queue in hosted {
            if owned
                .get(&queue.id)
                .is_none_or(|owned| owned.epoch > queue.epoch)
            {
                self.lose(&queue, Vec::new());
            }
        }
        if let Some(mom_id) = mom_id {
            for ownership in owned.into_values() {
                self.host(ownership, mom_id).await?;
            }
        }

        let subscribed: Vec<Uuid> = lock(&self.channels).keys().copied().collect();
        if !subscribed.is_empty() {
            let existing = self.store.existing_channels(&subscribed).await?;
            for id in subscribed.into_iter().filter(|id| !existing.contains(id)) {
                self.end_subscriptions(id);
            }
        }
        Ok(())
    }

    /// Hosts a queue that this MoM owns; nothing happens if it is hosted at that epoch or a later one.
    async fn host(&self, ownership: Ownership, mom_id: Uuid) -> storage::Result<()> {
        if self
            .find(&ownership.label)
            .is_some_and(|queue| queue.epoch >= ownership.epoch && queue.id == ownership.queue_id)
        {
            return Ok(());
        }
        let next_seq = self.store.next_seq(ownership.queue_id).await?;
        let former = {
            let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
            match queues.get(&ownership.label) {
                // Somebody else did it meanwhile, and may have given sequences since.
                Some(queue) if queue.epoch >= ownership.epoch && queue.id == ownership.queue_id => {
                    return Ok(());
                }
                _ => {}
            }
            tracing::info!(
                queue = ownership.label,
                epoch = ownership.epoch,
                next_seq,
                "hosting"
            );
            let label = ownership.label.clone();
            queues.insert(
                label,
                Queue::new(ownership, mom_id, next_seq, self.shared.clone()),
            )
        };
        if let Some(former) = former {
            former.lose(None, former.close());
        }
        Ok(())
    }

    /// Ceases to host a queue, unless it is hosted at a later epoch already. Nothing is accepted from now on; those who
    /// wait, `refused` among them, are told in a moment where the queue is now, as far as the database can be asked.
    pub fn lose(self: &Arc<Self>, queue: &Arc<Queue>, mut refused: Vec<Acknowledgement>) {
        {
            let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
            if queues
                .get(&queue.label)
                .is_some_and(|current| Arc::ptr_eq(current, queue))
            {
                queues.remove(&queue.label);
                tracing::info!(
                    queue = queue.label,
                    epoch = queue.epoch,
                    "not hosting any more"
                );
            }
        }
        refused.extend(queue.close());
        let (hosting, queue) = (self.clone(), queue.clone());
        tokio::spawn(async move {
            let row = timeout(OWNER_DEADLINE, hosting.store.queue(&queue.label)).await;
            let owner = row.ok().and_then(Result::ok).and_then(|row| row.owner);
            let owner = owner.map(|(_, address)| address);
            queue.lose(owner.filter(|owner| *owner != hosting.address), refused);
        });
    }

    /// A hosted queue.
    pub fn find(&self, label: &str) -> Option<Arc<Queue>> {
        self.queues
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(label)
            .cloned()
    }

    /// All hosted queues, sorted by label.
    pub fn hosted(&self) -> Vec<Arc<Queue>> {
        let mut hosted: Vec<_> = self
            .queues
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        hosted.sort_unstable_by(|a, b| a.label.cmp(&b.label));
        hosted
    }

    /// A hosted queue, or why this MoM does not have it.
    pub async fn queue(&self, label: &str) -> Result<Arc<Queue>, Error> {
        if let Some(queue) = self.find(label) {
            return Ok(queue);
        }
        let queue = self.look_up(label).await?;
        let owner = queue
            .owner
            .map(|(_, address)| address)
            .filter(|address| *address != self.address);
        Err(Error::NotOwner {
            label: queue.label,
            owner,
        })
    }

    /// The external address, by which this MoM finds its row.
    pub fn address(&self) -> &MomAddress {
        &self.address
    }

    /// The row of this MoM.
    pub async fn mom_id(&self) -> Result<Uuid, Error> {
        self.store
            .find_mom(&self.address)
            .await?
            .ok_or_else(|| Error::NotRegistered(self.address.clone()))
    }

    async fn look_up(&self, label: &str) -> Result<storage::Queue, Error> {
        self.store.queue(label).await.map_err(|error| match error {
            storage::Error::NotFound => Error::QueueNotFound(label.to_owned()),
            other => other.into(),
        })
    }

    /// Creates a queue and hosts it.
    pub async fn create(&self, label: &str) -> Result<(), Error> {
        let mom_id = self.mom_id().await?;
        let ownership =
            self.store
                .create_queue(label, mom_id)
                .await
                .map_err(|error| match error {
                    storage::Error::AlreadyExists => Error::QueueExists(label.to_owned()),
                    other => other.into(),
                })?;
        Ok(self.host(ownership, mom_id).await?)
    }

    /// Hosts a queue that the database says this MoM owns at `epoch`.
    pub async fn host_at(&self, label: &str, epoch: i64) -> Result<(), Error> {
        let queue = self.look_up(label).await?;
        match queue.owner {
            Some((mom_id, address)) if address == self.address && queue.epoch == epoch => Ok(self
                .host(
                    Ownership {
                        queue_id: queue.id,
                        label: queue.label,
                        epoch,
                    },
                    mom_id,
                )
                .await?),
            owner => Err(Error::NotOwner {
                label: queue.label,
                owner: owner.map(|(_, address)| address),
            }),
        }
    }

    /// Takes a queue over, whoever owns it, and hosts it.
    pub async fn take_over(&self, label: &str) -> Result<(), Error> {
        let mom_id = self.mom_id().await?;
        let queue = self.look_up(label).await?;
        let Some(takeover) = self.store.take_over(queue.id, queue.epoch, mom_id).await? else {
            return Err(Error::NotOwner {
                label: queue.label,
                owner: None,
            });
        };
        let ownership = Ownership {
            queue_id: queue.id,
            label: queue.label,
            epoch: takeover.epoch,
        };
        Ok(self.host(ownership, mom_id).await?)
    }

    /// Deletes a queue that this MoM owns. A manager has deleted the row already; then only the hosting ends.
    pub async fn delete(self: &Arc<Self>, label: &str) -> Result<(), Error> {
        let hosted = self.find(label);
        let row = match self.look_up(label).await {
            Err(Error::QueueNotFound(_)) if hosted.is_some() => None,
            row => Some(row?),
        };
        if let Some(row) = row {
            match row.owner {
                Some((_, address)) if address == self.address => {
                    self.store.delete_queue(label).await?;
                }
                owner => {
                    return Err(Error::NotOwner {
                        label: row.label,
                        owner: owner.map(|(_, address)| address),
                    });
                }
            }
        }
        if let Some(queue) = hosted {
            self.lose(&queue, Vec::new());
        }
        Ok(())
    }

    /// Counts a subscription of a channel in; it is counted out when the returned value is dropped.
    pub fn subscribed(self: &Arc<Self>, channel: Uuid) -> Subscribed {
        let mut channels = lock(&self.channels);
        let (deleted, count) = channels.entry(channel).or_default();
        *count += 1;
        Subscribed {
            hosting: self.clone(),
            channel,
            deleted: deleted.clone(),
        }
    }

    /// Ends the subscriptions of a channel that was deleted.
    pub fn end_subscriptions(&self, channel: Uuid) {
        if let Some((deleted, _)) = lock(&self.channels).remove(&channel) {
            deleted.cancel();
        }
    }
}

/// A subscription of a channel, as long as it lasts.
#[derive(Debug)]
pub struct Subscribed {
    hosting: Arc<Hosting>,
    /// Its id.
    pub channel: Uuid,
    /// Cancelled when the channel is deleted.
    pub deleted: CancellationToken,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let mut channels = lock(&self.hosting.channels);
        if let Some((_, count)) = channels.get_mut(&self.channel) {
            *count -= 1;
            if *count == 0 {
                channels.remove(&self.channel);
            }
        }
    }
}
