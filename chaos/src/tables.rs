//! What the database of a run knows: prepared at its beginning, told at its end.
//!
//! Asked with psql, as a person would: the instrument shares no SQL with what it examines.

use testkit::{Cluster, Error};

use crate::history::{Event, History};
use crate::workload::{Subscriber, label};

/// Notes every change of owner or epoch in a table of its own, whose rows carry the time of their commit as those of
/// batches do.
const WATCH: &str = "
    create table chaos_takeover (
        queue_id uuid not null, old_mom uuid, new_mom uuid, old_epoch bigint not null, new_epoch bigint not null
    );
    create function chaos_note_takeover() returns trigger language plpgsql as $$
    begin
        insert into chaos_takeover values (new.id, old.mom_id, new.mom_id, old.epoch, new.epoch);
        return null;
    end
    $$;
    create trigger chaos_takeover after update of mom_id, epoch on queue
        for each row execute function chaos_note_takeover()";

/// The settings that PostgreSQL needs for [`tell`]: without them nobody knows when a row was committed.
pub const SETTINGS: [(&str, &str); 1] = [("track_commit_timestamp", "on")];

/// Has every takeover noted from now on.
pub async fn watch(cluster: &Cluster) -> Result<(), Error> {
    cluster.psql(WATCH).await.map(drop)
}

/// How far each subscriber has to come: the last message of its queue and topic.
pub async fn ends(cluster: &Cluster, subscribers: &[Subscriber]) -> Result<Vec<i64>, Error> {
    let mut ends = Vec::new();
    for subscriber in subscribers {
        let topic = subscriber
            .topic
            .map(|topic| format!("and topic = '{topic}'"))
            .unwrap_or_default();
        let sql = format!(
            "select coalesce(max(seq), 0) from message where queue_label = '{}' {topic}",
            label(subscriber.queue)
        );
        ends.push(number(&cluster.psql(&sql).await?)?);
    }
    Ok(ends)
}

/// Appends everything to the history.
pub async fn tell(cluster: &Cluster, history: &History, queues: usize) -> Result<(), Error> {
    for queue in 0..queues {
        let label = label(queue);
        let sql = format!(
            "select seq, id, topic, left(encode(sha256(content), 'hex'), 16) from message where queue_label = '{label}'"
        );
        for line in cluster.psql(&sql).await?.lines() {
            let [seq, id, topic, digest] = columns(line)?;
            let event = Event::Row {
                queue,
                seq: number(seq)?,
                id: id.parse().map_err(|_| illegible(line))?,
                topic: (!topic.is_empty()).then(|| topic.to_owned()),
                digest: digest.parse().map_err(|_| illegible(line))?,
            };
            history.record(event).await;
        }
        let sql = format!(
            "select first_seq, count, b.epoch, (extract(epoch from pg_xact_commit_timestamp(b.xmin)) * 1000000)::bigint
            from message_batch b join queue q on q.id = b.queue_id where q.label = '{label}' order by first_seq"
        );
        for line in cluster.psql(&sql).await?.lines() {
            let [first_seq, count, epoch, committed] = columns(line)?;
            let event = Event::Batch {
                queue,
                first_seq: number(first_seq)?,
                count: number(count)?,
                epoch: number(epoch)?,
                committed: number(committed)?,
            };
            history.record(event).await;
        }
        let sql = format!(
            "select (old_mom is distinct from new_mom)::int, old_epoch, new_epoch,
                (extract(epoch from pg_xact_commit_timestamp(t.xmin)) * 1000000)::bigint
            from chaos_takeover t join queue q on q.id = t.queue_id where q.label = '{label}'"
        );
        for line in cluster.psql(&sql).await?.lines() {
            let [moved, old_epoch, new_epoch, committed] = columns(line)?;
            let event = Event::Takeover {
                queue,
                moved: moved == "1",
                old_epoch: number(old_epoch)?,
                new_epoch: number(new_epoch)?,
                committed: number(committed)?,
            };
            history.record(event).await;
        }
    }
    history.record(Event::Told).await;
    Ok(())
}

fn columns<const N: usize>(line: &str) -> Result<[&str; N], Error> {
    let columns: Vec<&str> = line.split('|').collect();
    columns.try_into().map_err(|_| illegible(line))
}

fn number(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| illegible(text))
}

fn illegible(line: &str) -> Error {
    Error::Failed(format!("psql printed {line:?}, which was not expected"))
}
