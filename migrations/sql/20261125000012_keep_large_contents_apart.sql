-- To delete a row costs more than to write it where its contents fill pages: each page goes to the log once more, and
-- vacuum has to read them all. So what does not fit well into the row of its batch is kept apart, in tables that take
-- turns: contents go to one of them for an eighth of the time that they are retained, and a table in which all has
-- expired is emptied at once, by a truncation that costs the same for any number of messages. The row of the batch stays
-- where it was, with everything that is proven by it.
create table message_content (
    slot       smallint    not null,
    queue_id   uuid        not null,
    first_seq  bigint      not null,
    expires_at timestamptz not null,
    ends       bytea       not null,
    contents   bytea       not null,
    constraint message_content_pkey primary key (slot, queue_id, first_seq)
) partition by list (slot);

alter table message_content
    alter column ends set storage external,
    alter column contents set storage external;

create index message_content_expires_idx on message_content (slot, expires_at);

-- Nothing in them is changed or deleted, so there is nothing to vacuum before they are emptied.
do $$
begin
    for slot in 0..15 loop
        execute format(
            'create table message_content_%s partition of message_content for values in (%s)
            with (toast_tuple_target = 8160, autovacuum_enabled = off, toast.autovacuum_enabled = off)',
            slot, slot
        );
    end loop;
end
$$;

alter table message_batch add column slot smallint;

-- The slot for what is retained for so long from now on. Twice as many eighths have a slot of their own as there are
-- unexpired ones, so a slot is empty before its next turn. If it is not, or the clock jumps, some contents are only kept
-- longer than they had to be.
create function content_slot(retained_secs double precision) returns smallint stable strict parallel safe language sql
return (floor(extract(epoch from now())::double precision / greatest(retained_secs / 8, 2))::bigint % 16)::smallint;

-- Empties a slot if everything in it has expired; whether it had. It waits for those who use the slot, but not for long,
-- since everybody else waits for it meanwhile.
create function empty_content(slot smallint) returns boolean language plpgsql set lock_timeout = '50ms' as $$
declare
    is_expired boolean;
begin
    execute format('lock table message_content_%s in access exclusive mode', slot);
    -- What was committed before the lock was had is seen.
    execute format('select not exists (select from message_content_%s where expires_at > clock_timestamp())', slot)
        into is_expired;
    if is_expired then
        execute format('truncate message_content_%s', slot);
    end if;
    return is_expired;
end
$$;

create or replace view message as
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
left join message_content c on c.slot = b.slot and c.queue_id = b.queue_id and c.first_seq = b.first_seq
cross join lateral unpack_batch(
    b.ids, b.counts, b.topics, b.keyed, coalesce(c.ends, b.ends), coalesce(c.contents, b.contents)
) m
where b.expires_at > now() and (b.slot is null or c.slot is not null);

comment on table message_content is
    'The contents of batches that are too large for the row of the batch. A row without its batch is of no meaning: the batch was deleted before its time.';
comment on column message_content.slot is
    'Which of the tables it is in; the row of the batch has the same.';
comment on column message_content.expires_at is 'As in message_batch.';
comment on column message_content.ends is 'As in message_batch, where it is empty then.';
comment on column message_content.contents is 'As in message_batch, where it is empty then.';
comment on column message_batch.slot is
    'Where in message_content ends and contents are; null if they are here. If there are none, the batch has expired and they were the first to go.';
comment on function content_slot is 'The slot of message_content for what is retained for so many seconds from now on.';
comment on function empty_content is 'Truncates a slot of message_content in which everything has expired.';
