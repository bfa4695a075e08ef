create table operator_request (
    id       uuid        not null constraint operator_request_pkey primary key,
    kind     text        not null constraint operator_request_kind_check check (kind in ('rebalance')),
    asked_at timestamptz not null default now()
);

comment on table operator_request is
    'What operators have asked for and the leading manager has not done yet. Any manager accepts a request, and it outlives every one of them.';
comment on column operator_request.kind is 'rebalance: even out the number of queues over the MoMs.';
