create table event (
    id      bigint      not null generated always as identity constraint event_pkey primary key,
    at      timestamptz not null default clock_timestamp(),
    kind    text        not null,
    subject text        not null,
    text    text        not null
);

-- As programs write it: an IPv6 address in brackets.
create function mom_address(host text, port integer) returns text immutable parallel safe language sql
return case when host like '%:%' then '[' || host || ']' else host end || ':' || port;

comment on table event is
    'What was decided, by whom or about what, for people: each row is written by the statement that decided it. The newest ones are kept; nothing in the system depends on them.';
comment on column event.id is
    'Rises with time, near enough: of decisions made at the same instant the later id may be committed first.';
comment on column event.kind is 'What happened, for programs: queue_moved, mom_down and so on.';
comment on column event.subject is 'What it happened to: the label of a queue, the address of a MoM.';
comment on column event.text is 'The same for people, with all that is known.';
comment on function mom_address is 'host and port of a MoM as one text.';
