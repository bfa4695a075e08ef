create table queue (
    id         uuid        not null constraint queue_pkey primary key,
    label      text        not null constraint queue_label_check
                           check (label = lower(label) and octet_length(label) between 1 and 255),
    mom_id     uuid        constraint queue_mom_id_fkey references mom (id) on delete set null,
    epoch      bigint      not null default 1 constraint queue_epoch_check check (epoch > 0),
    created_at timestamptz not null default now(),
    constraint queue_label_key unique (label)
);

create index queue_mom_id_idx on queue (mom_id);

comment on table queue is 'Labelled logs of messages, each owned by one MoM at a time.';
comment on column queue.label is 'The name that clients know the queue by; unique, in lower case.';
comment on column queue.mom_id is 'The MoM that owns the queue: the only one that may append to it. Null: nobody yet.';
comment on column queue.epoch is
    'The term of the ownership. It rises at every move; an append proves owner and epoch, so an older owner can commit nothing.';
