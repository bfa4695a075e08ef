-- Every push inserts here and waits for it, so the table has what the system needs and nothing that is proven
-- elsewhere. One index: batches expire in the order in which they were committed, near enough, so the primary key
-- serves the sweep as well. No check and no foreign key: what appends computes these numbers from the messages, and
-- selects the queue's row and locks it in the same statement, so each would prove again what is so by construction.
create table message_batch (
    queue_id   uuid        not null,
    first_seq  bigint      not null,
    count      integer     not null,
    size       integer     not null,
    epoch      bigint      not null,
    ids        uuid[]      not null,
    topics     text[],
    contents   bytea[]     not null,
    pushed_at  timestamptz not null default now(),
    expires_at timestamptz not null,
    constraint message_batch_pkey primary key (queue_id, first_seq)
);

-- Compressing what is pushed at full speed costs more than the space that it saves.
alter table message_batch alter column contents set storage external;
alter table message_batch alter column ids set storage external;

-- The other direction of the foreign key: batches go with their queue. A statement of a function sees what was
-- committed before it began, so also the batch of an append for which the deletion of the queue had to wait.
create function delete_batches_of_queue() returns trigger language plpgsql as $$
begin
    delete from message_batch where queue_id = old.id;
    return null;
end
$$;

create trigger queue_deletes_batches after delete on queue
    for each row execute function delete_batches_of_queue();

comment on table message_batch is
    'Messages of one queue that were committed together: one row a batch. Read them through the view message.';
comment on column message_batch.first_seq is
    'The sequence of the first message. Batches follow each other without gaps; the newest one of a queue is never deleted, so a new owner knows where to go on.';
comment on column message_batch.count is 'How many sequences the batch takes, also after it was emptied.';
comment on column message_batch.size is 'Bytes of all contents, so that a reader can bound a page before it fetches one.';
comment on column message_batch.epoch is 'The epoch of the queue under which the batch was committed; it never falls along first_seq.';
comment on column message_batch.ids is 'The messages'' ids. Empty if the batch expired but is the newest of its queue.';
comment on column message_batch.topics is 'The messages'' topics, null where there is none; null as a whole where no message has one.';
comment on column message_batch.contents is 'The messages'' contents.';
comment on column message_batch.expires_at is 'When the messages cease to be delivered, by the clock of the database.';
