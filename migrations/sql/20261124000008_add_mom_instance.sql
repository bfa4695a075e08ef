alter table mom add column instance uuid;

comment on column mom.instance is
    'The process that serves under this address: the one that started last. An older one, which may only have been frozen or cut off, finds another here and ends.';
