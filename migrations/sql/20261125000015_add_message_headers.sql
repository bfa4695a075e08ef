-- Messages may carry headers. Where none of a batch does, the column is null as a whole and takes no space.
alter table message_batch add column headers jsonb[];

-- As for the other arrays of a batch.
alter table message_batch alter column headers set storage external;

drop view message;
drop function unpack_batch(uuid[], integer[], text[], boolean[], bytea, bytea);

-- The messages of a batch, one row each. The last argument may be left out by those who need no headers.
create function unpack_batch(
    ids uuid[], counts integer[], topics text[], keyed boolean[], ends bytea, contents bytea,
    headers jsonb[] default null
)
returns table (place bigint, id uuid, topic text, is_keyed boolean, content bytea, header jsonb)
immutable parallel safe language sql
begin atomic
    select
        m.place,
        -- The first id of the run, with its last 4 bytes counted on.
        (left(m.first_id::text, 28)
            || lpad(to_hex(('x' || right(m.first_id::text, 8))::bit(32)::bigint + m.number), 8, '0'))::uuid,
        m.topic,
        coalesce(m.is_keyed, false),
        substring(contents from content_end(ends, m.place - 1) + 1
            for content_end(ends, m.place) - content_end(ends, m.place - 1)),
        m.header
    from (
        select
            row_number() over (order by run.ordinality, number) as place,
            run.first_id, run.topic, run.is_keyed, run.header, number
        from unnest(ids, counts, topics, keyed, headers) with ordinality
            as run (first_id, count, topic, is_keyed, header, ordinality)
        cross join lateral generate_series(0, run.count - 1) as number
    ) m;
end;

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
    b.queue_id,
    m.header as headers
from message_batch b
join queue q on q.id = b.queue_id
left join message_content c on c.slot = b.slot and c.queue_id = b.queue_id and c.first_seq = b.first_seq
cross join lateral unpack_batch(
    b.ids, b.counts, b.topics, b.keyed, coalesce(c.ends, b.ends), coalesce(c.contents, b.contents), b.headers
) m
where b.expires_at > now() and (b.slot is null or c.slot is not null);

comment on view message is 'The retained messages, one row each: for people with psql; nothing in the system reads it.';
comment on function unpack_batch is 'The messages of one row of message_batch.';
comment on column message_batch.headers is
    'The headers of each run, an object of texts, null where it has none; null as a whole where no message has any.';
comment on column message_batch.size is
    'Bytes of all contents, and of the names and values of the headers of each run, so that a reader can bound a page before it fetches one.';
comment on column message_batch.ids is
    'The id of the first message of each run: messages that one pusher pushed one after the other, with one topic and the same headers. Each further id of a run is higher by one in its last 4 bytes. Empty if the batch expired but is the newest of its queue.';
