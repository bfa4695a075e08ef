-- A batch is stored as it comes and goes: the contents one after the other in one value, and of the ids and topics only
-- where they change. An array element for each message would cost the server more time than all else about it.

create function put_end(n integer) returns bytea immutable strict parallel safe language sql
return substring(int4send(n), 4, 1) || substring(int4send(n), 3, 1) || substring(int4send(n), 2, 1)
    || substring(int4send(n), 1, 1);

create function pack_ends(contents bytea[]) returns bytea immutable strict parallel safe language sql
return (
    select coalesce(string_agg(put_end(ends.n::integer), '' order by place), '')
    from (
        select place, sum(octet_length(content)) over (order by place) as n
        from unnest(contents) with ordinality as c (content, place)
    ) ends
);

create function pack_contents(contents bytea[]) returns bytea immutable strict parallel safe language sql
return (
    select coalesce(string_agg(content, '' order by place), '')
    from unnest(contents) with ordinality as c (content, place)
);

drop view message;

alter table message_batch
    add column counts integer[],
    add column ends bytea;

update message_batch
set counts = array_fill(1, array[cardinality(ids)]), ends = pack_ends(contents);

alter table message_batch
    alter column contents type bytea using pack_contents(contents),
    alter column counts set not null,
    alter column ends set not null;

-- As for ids: what is compressed here costs more than it saves. A changed type has forgotten it.
alter table message_batch
    alter column contents set storage external,
    alter column counts set storage external,
    alter column ends set storage external;

-- What fits into a page stays in its row: apart it would be several rows with an index of their own.
alter table message_batch set (toast_tuple_target = 8160);

drop function pack_contents(bytea[]);
drop function pack_ends(bytea[]);
drop function put_end(integer);

-- Where the content at `place` ends, from 0 for the one before the first.
create function content_end(ends bytea, place bigint) returns integer immutable strict parallel safe language sql
return case place
    when 0 then 0
    else get_byte(ends, (place * 4 - 4)::integer) + get_byte(ends, (place * 4 - 3)::integer) * 256
        + get_byte(ends, (place * 4 - 2)::integer) * 65536 + get_byte(ends, (place * 4 - 1)::integer) * 16777216
end;

-- The messages of a batch, one row each.
create function unpack_batch(
    ids uuid[], counts integer[], topics text[], keyed boolean[], ends bytea, contents bytea
)
returns table (place bigint, id uuid, topic text, is_keyed boolean, content bytea)
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
            for content_end(ends, m.place) - content_end(ends, m.place - 1))
    from (
        select
            row_number() over (order by run.ordinality, number) as place,
            run.first_id, run.topic, run.is_keyed, number
        from unnest(ids, counts, topics, keyed) with ordinality as run (first_id, count, topic, is_keyed, ordinality)
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
    b.queue_id
from message_batch b
join queue q on q.id = b.queue_id
cross join lateral unpack_batch(b.ids, b.counts, b.topics, b.keyed, b.ends, b.contents) m
where b.expires_at > now();

comment on view message is 'The retained messages, one row each: for people with psql; nothing in the system reads it.';
comment on function content_end is 'Reads message_batch.ends.';
comment on function unpack_batch is 'The messages of one row of message_batch.';
comment on column message_batch.ids is
    'The id of the first message of each run: messages that one pusher pushed one after the other, with one topic. Each further id of a run is higher by one in its last 4 bytes. Empty if the batch expired but is the newest of its queue.';
comment on column message_batch.counts is 'How many messages each run has.';
comment on column message_batch.topics is
    'The topic of each run, null where it has none; null as a whole where no message has one.';
comment on column message_batch.keyed is
    'Which of the runs are of one message whose id was brought by its pusher; null as a whole where none is.';
comment on column message_batch.ends is
    'Where each message''s content ends in contents: a little-endian number of 4 bytes for each.';
comment on column message_batch.contents is 'The messages'' contents, one after the other.';
