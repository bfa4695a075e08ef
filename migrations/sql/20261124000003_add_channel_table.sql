create table channel (
    id         uuid        not null constraint channel_pkey primary key,
    queue_id   uuid        not null constraint channel_queue_id_fkey references queue (id) on delete cascade,
    topic      text        constraint channel_topic_check
                           check (topic = lower(topic) and octet_length(topic) between 1 and 255),
    created_at timestamptz not null default now()
);

create index channel_queue_id_topic_idx on channel (queue_id, topic);

comment on table channel is 'Read ends of queues. A channel belongs to its queue, not to a MoM, so it survives every move.';
comment on column channel.topic is 'Only messages with this topic are seen; null: all messages of the queue.';
