create view message as
select
    q.label as queue_label,
    b.first_seq + m.place - 1 as seq,
    m.id,
    m.topic,
    m.content,
    b.epoch,
    b.pushed_at,
    b.expires_at,
    b.queue_id
from message_batch b
join queue q on q.id = b.queue_id
cross join lateral unnest(b.ids, b.topics, b.contents) with ordinality as m (id, topic, content, place)
where b.expires_at > now();

comment on view message is 'The retained messages, one row each: for people with psql; nothing in the system reads it.';
