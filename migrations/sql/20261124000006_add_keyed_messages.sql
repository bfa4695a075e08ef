-- Ids that pushers bring are known again for a while, also by the next owner of the queue, which looks for them here.
-- The index holds only the batches that have any, so that nobody else's push pays for it.
alter table message_batch add column keyed boolean[];

create index message_batch_keyed_idx on message_batch (queue_id, first_seq) where keyed is not null;

comment on column message_batch.keyed is
    'Which of the messages'' ids were brought by their pusher; null as a whole where none was.';
