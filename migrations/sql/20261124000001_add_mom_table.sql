create table mom (
    id            uuid        not null constraint mom_pkey primary key,
    host          text        not null,
    port          integer     not null constraint mom_port_check check (port between 1 and 65535),
    is_up         boolean     not null default false,
    since         timestamptz not null default now(),
    registered_at timestamptz not null default now(),
    constraint mom_host_port_key unique (host, port)
);

comment on table mom is 'The MoM servers that managers know.';
comment on column mom.host is 'The external host: what clients and managers connect to, and by which a MoM finds its own row.';
comment on column mom.port is 'The external port. Two MoMs on one host with different ports are legal.';
comment on column mom.is_up is 'Whether the last probe was answered. Only MoMs that are up are given queues.';
comment on column mom.since is 'Since when is_up has been what it is.';
