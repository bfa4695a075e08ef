alter table mom add column draining boolean not null default false;

comment on column mom.draining is
    'An operator wants its queues to be elsewhere. It is given none, but those of MoMs that are down if no other is up.';

-- A MoM that owns queues is not removed: they would have no owner, though theirs may be up and serving them.
alter table queue
    drop constraint queue_mom_id_fkey,
    add constraint queue_mom_id_fkey foreign key (mom_id) references mom (id) on delete restrict;
