create table lease (
    name       text        not null constraint lease_pkey primary key,
    holder     uuid        not null,
    epoch      bigint      not null constraint lease_epoch_check check (epoch > 0),
    expires_at timestamptz not null
);

comment on table lease is 'Rights that one process at a time has. There is one, "manager": to decide which MoM owns which queue.';
comment on column lease.holder is 'The process that has it, or had it last; a new id at each start.';
comment on column lease.epoch is
    'The term of the holding. It rises whenever the holder changes, and every decision proves holder and epoch.';
comment on column lease.expires_at is 'Until when it is held, by clock_timestamp() of the database.';
