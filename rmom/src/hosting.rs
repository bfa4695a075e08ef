//! Which queues this MoM hosts: what the database says it owns, found out at the start, at a manager's command and,
//! since a command is only a hint, every second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use storage::{MomAddress, Ownership, Registration, Store};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Error;
use crate::push::Answer;
use crate::queue::{Queue, lock};
use crate::shared::Shared;
use crate::statistics::Counts;

/// How often the database is asked what this MoM owns. With [`OWNER_DEADLINE`] it bounds how long a
/// subscription of a queue that was moved away stays open without messages.
const PERIOD: Duration = Duration::from_secs(1);

/// How long one look at what this MoM owns may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(3);

/// How long those who are refused since a queue has moved wait to be told where it is.
const OWNER_DEADLINE: Duration = Duration::from_millis(500);

/// Queues that were lost at once and are recorded as such, at the most.
const MAX_FENCED: usize = 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Hosting {
    store: Store,
    address: MomAddress,
    /// This process, told apart from others that ran or run under the same address.
    instance: Uuid,
    /// The lease epoch of the manager that leads: as the database had it at the last look, or a higher one that this
    /// MoM has heard of since.
    lease_epoch: AtomicI64,
    /// When the database last answered.
    database_heard: Mutex<Instant>,
    shared: Arc<Shared>,
    queues: RwLock<HashMap<String, Arc<Queue>>>,
    /// Queues that turned out to be others', of which the next look tells those who read the events.
    fenced: Mutex<Vec<Arc<Queue>>>,
    /// What was done for queues that are not hosted any more. Written only while `queues` is locked for that, so that
    /// each count is in one of the two.
    gone: Mutex<Counts>,
    /// When the process started.
    started: Instant,
    /// Of each channel with subscriptions: what ends them, and how many there are.
    channels: Mutex<HashMap<Uuid, (CancellationToken, usize)>>,
}

impl Hosting {
    /// A MoM that is known by its external address and hosts nothing yet.
    pub fn new(store: Store, address: MomAddress, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            store,
            address,
            instance: Uuid::now_v7(),
            lease_epoch: AtomicI64::new(0),
            database_heard: Mutex::new(Instant::now()),
            shared,
            queues: RwLock::default(),
            fenced: Mutex::default(),
            gone: Mutex::default(),
            started: Instant::now(),
            channels: Mutex::default(),
        })
    }

    /// Hosts again what this MoM owned when it ended. The epochs are raised first, so that an older process of the same
    /// address, should there be one, can commit no more.
    pub async fn restore(&self) -> storage::Result<()> {
        let Some(mom_id) = self
            .store
            .claim_address(&self.address, self.instance)
            .await?
        else {
            tracing::warn!(
                external_address = %self.address,
                "no manager has registered this MoM yet: it hosts nothing until one does; its list `moms` needs this address"
            );
            return Ok(());
        };
        for ownership in self.store.renew_ownerships(mom_id).await? {
            self.host(ownership, mom_id).await?;
        }
        *lock(&self.database_heard) = Instant::now();
        Ok(())
    }

    /// Follows the database until `stop`, or until another process serves under this address. A database that is away
    /// changes nothing here: if others can reach it they take the queues over, and this MoM can commit nothing.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_away = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let outcome = timeout(LOOK_DEADLINE, self.reconcile()).await;
            let is_away = match outcome {
                Ok(Ok(true)) => false,
                Ok(Ok(false)) => {
                    tracing::error!(
                        external_address = %self.address,
                        "another process serves under this MoM's external address since; this one ends"
                    );
                    return;
                }
                Ok(Err(error)) => {
                    if !was_away {
                        tracing::warn!(%error, "cannot ask the database what this MoM owns");
                    }
                    true
                }
                Err(_) => {
                    if !was_away {
                        tracing::warn!("the database does not tell what this MoM owns");
                    }
                    true
                }
            };
            if !is_away {
                *lock(&self.database_heard) = Instant::now();
                if was_away {
                    tracing::info!("the database tells again what this MoM owns");
                }
            }
            was_away = is_away;
        }
    }

    /// For how long the database has not answered this MoM, which asks it every second.
    pub fn database_silence(&self) -> Duration {
        lock(&self.database_heard).elapsed()
    }

    /// Refuses the command of a manager that does not lead any more; 0 stands for no manager.
    pub fn obey(&self, lease_epoch: i64) -> Result<(), Error> {
        if lease_epoch == 0 {
            return Ok(());
        }
        let highest = self.lease_epoch.fetch_max(lease_epoch, Ordering::Relaxed);
        if highest > lease_epoch {
            Err(Error::StaleManager(highest))
        } else {
            Ok(())
        }
    }

    /// Makes what is hosted equal to what is owned, and ends the subscriptions of channels that were deleted. False if
    /// another process serves under this address; then nothing is hosted any more.
    async fn reconcile(self: &Arc<Self>) -> storage::Result<bool> {
        // Listed before the database is asked: what a command adds meanwhile is not mistaken for something lost.
        let hosted = self.hosted();
        // What was only heard is believed for a second: it may have been made up, or the database restored.
        let lease_epoch = self.store.lease_epoch().await?;
        self.lease_epoch.store(lease_epoch, Ordering::Relaxed);
        let mom_id = match self.store.registration(&self.address).await? {
            // It was registered after this process had started.
            Some(Registration { instance: None, .. }) => {
                self.store
                    .claim_free_address(&self.address, self.instance)
                    .await?
            }
            Some(Registration { instance, .. }) if instance != Some(self.instance) => {
                for queue in hosted {
                    self.lose(&queue, None, Vec::new());
                }
                return Ok(false);
            }
            registration => registration.map(|registration| registration.mom_id),
        };
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
                self.is_fenced(&queue);
                self.lose(&queue, None, Vec::new());
            }
        }
        if let Some(mom_id) = mom_id {
            for ownership in owned.into_values() {
                self.host(ownership, mom_id).await?;
            }
        }

        self.record_fenced().await;
        let subscribed: Vec<Uuid> = lock(&self.channels).keys().copied().collect();
        if !subscribed.is_empty() {
            let existing = self.store.existing_channels(&subscribed).await?;
            for id in subscribed.into_iter().filter(|id| !existing.contains(id)) {
                self.end_subscriptions(id);
            }
        }
        Ok(true)
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
        self.host_from(ownership, mom_id, next_seq);
        Ok(())
    }

    /// As [`host`](Self::host), with the sequence that the next message gets.
    fn host_from(&self, ownership: Ownership, mom_id: Uuid, next_seq: i64) {
        let former = {
            let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
            match queues.get(&ownership.label) {
                // Somebody else did it meanwhile, and may have given sequences since.
                Some(queue) if queue.epoch >= ownership.epoch && queue.id == ownership.queue_id => {
                    return;
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
            let counters = queues.get(&label).map(|former| former.counters.clone());
            queues.insert(
                label,
                Queue::new(
                    ownership,
                    mom_id,
                    next_seq,
                    counters.unwrap_or_default(),
                    self.shared.clone(),
                ),
            )
        };
        if let Some(former) = former {
            former.lose(None, former.close());
        }
    }

    /// A queue turned out to be another MoM's, unless this one was told of it before.
    pub fn is_fenced(&self, queue: &Arc<Queue>) {
        let hosted = self.find(&queue.label);
        let mut fenced = lock(&self.fenced);
        if fenced.len() < MAX_FENCED && hosted.is_some_and(|hosted| Arc::ptr_eq(&hosted, queue)) {
            fenced.push(queue.clone());
        }
    }

    /// For people: if it fails, nothing else is affected.
    async fn record_fenced(&self) {
        let fenced = std::mem::take(&mut *lock(&self.fenced));
        let Some(mom_id) = fenced.first().map(|queue| queue.mom_id) else {
            return;
        };
        let (ids, epochs): (Vec<_>, Vec<_>) =
            fenced.iter().map(|queue| (queue.id, queue.epoch)).unzip();
        if let Err(error) = self.store.record_fenced(mom_id, &ids, &epochs).await {
            tracing::debug!("cannot record that queues were lost: {error}");
        }
    }

    /// Ceases to host a queue, unless it is hosted at a later epoch already. Nothing is accepted from now on; those who
    /// wait, `refused` among them, are told where the queue is now: with `owner` at once, without in a moment and as
    /// far as the database can be asked.
    pub fn lose(
        self: &Arc<Self>,
        queue: &Arc<Queue>,
        owner: Option<String>,
        mut refused: Vec<Answer>,
    ) {
        {
            let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
            if queues
                .get(&queue.label)
                .is_some_and(|current| Arc::ptr_eq(current, queue))
            {
                queues.remove(&queue.label);
                *lock(&self.gone) += queue.counters.read();
                tracing::info!(
                    queue = queue.label,
                    epoch = queue.epoch,
                    "not hosting any more"
                );
            }
        }
        refused.extend(queue.close());
        if owner.is_some() {
            queue.lose(owner, refused);
            return;
        }
        let (hosting, queue) = (self.clone(), queue.clone());
        tokio::spawn(async move {
            let row = timeout(OWNER_DEADLINE, hosting.store.queue(&queue.label)).await;
            let owner = row.ok().and_then(Result::ok).and_then(|row| row.owner);
            let elsewhere = owner.filter(|(_, address)| *address != hosting.address);
            queue.lose(elsewhere.map(|(_, address)| address.to_string()), refused);
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

    /// What was done for all queues, those that are not here any more among them, since the process started.
    pub fn counts(&self) -> Counts {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts = *lock(&self.gone);
        for queue in queues.values() {
            counts += queue.counters.read();
        }
        counts
    }

    /// How long the process has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// This process.
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// A hosted queue, or why this MoM does not have it. One that it owns and does not host yet it hosts now.
    pub async fn queue(&self, label: &str) -> Result<Arc<Queue>, Error> {
        if let Some(queue) = self.find(label) {
            return Ok(queue);
        }
        self.host_at(label, 0).await?;
        self.find(label).ok_or_else(|| Error::NotOwner {
            label: label.to_owned(),
            owner: None,
        })
    }

    /// The external address, by which this MoM finds its row.
    pub fn address(&self) -> &MomAddress {
        &self.address
    }

    /// The row of this MoM.
    pub async fn mom_id(&self) -> Result<Uuid, Error> {
        let registration = self.store.registration(&self.address).await?;
        registration
            .map(|registration| registration.mom_id)
            .ok_or_else(|| Error::NotRegistered(self.address.clone()))
    }

    async fn look_up(&self, label: &str) -> Result<storage::Queue, Error> {
        let row = self.store.queue(label).await;
        row.map_err(|error| missing_queue(error, label))
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

    /// Hosts a queue that the database says this MoM owns: at `epoch`, or, with 0, at whichever.
    pub async fn host_at(&self, label: &str, epoch: i64) -> Result<(), Error> {
        let claimed = self.store.claimed_queue(label).await;
        let claimed = claimed.map_err(|error| missing_queue(error, label))?;
        let label = label.to_owned();
        match claimed.owner {
            Some((owner, address)) if address == self.address => {
                if epoch != 0 && epoch != claimed.epoch {
                    let epoch = claimed.epoch;
                    return Err(Error::StaleEpoch { label, epoch });
                }
                let is_ours = match owner.instance {
                    Some(instance) => instance == self.instance,
                    // It was registered after this process had started.
                    None => self
                        .store
                        .claim_free_address(&self.address, self.instance)
                        .await?
                        .is_some(),
                };
                if !is_ours {
                    return Err(Error::NotOwner { label, owner: None });
                }
                let ownership = Ownership {
                    queue_id: claimed.queue_id,
                    label,
                    epoch: claimed.epoch,
                };
                self.host_from(ownership, owner.mom_id, claimed.next_seq);
                Ok(())
            }
            owner => Err(Error::NotOwner {
                label,
                owner: owner.map(|(_, address)| address.to_string()),
            }),
        }
    }

    /// Lets go of a queue that belongs to `owner` since `epoch`, if it is hosted at an older one.
    pub fn release(self: &Arc<Self>, label: &str, epoch: i64, owner: String) {
        if let Some(queue) = self.find(label)
            && queue.epoch < epoch
        {
            let owner = Some(owner).filter(|owner| !owner.is_empty());
            self.lose(&queue, owner, Vec::new());
        }
    }

    /// Ceases to host a queue that a manager has deleted when it was at `epoch`. There may be another of the same label
    /// since.
    pub async fn forget_deleted(self: &Arc<Self>, label: &str, epoch: i64) -> Result<(), Error> {
        let Some(hosted) = self.find(label).filter(|queue| queue.epoch <= epoch) else {
            return Ok(());
        };
        match self.look_up(label).await {
            Ok(row) if row.id == hosted.id => {}
            Ok(_) | Err(Error::QueueNotFound(_)) => self.lose(&hosted, None, Vec::new()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes a queue over, whoever owns it, and hosts it.
    pub async fn take_over(&self, label: &str) -> Result<(), Error> {
        let mom_id = self.mom_id().await?;
        let queue = self.look_up(label).await?;
        let Some(takeover) = self.store.seize(queue.id, queue.epoch, mom_id).await? else {
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

    /// Deletes a queue that this MoM owns. If somebody has deleted the row already, only the hosting ends.
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
                        owner: owner.map(|(_, address)| address.to_string()),
                    });
                }
            }
        }
        if let Some(queue) = hosted {
            self.lose(&queue, None, Vec::new());
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

fn missing_queue(error: storage::Error, label: &str) -> Error {
    match error {
        storage::Error::NotFound => Error::QueueNotFound(label.to_owned()),
        other => other.into(),
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
