-- The topic of a channel may be a pattern. MoMs and managers check what clients send; this keeps what is written by hand
-- from being a pattern that means nothing: a wildcard is a part of its own, and '>' is the last one.
alter table channel
    drop constraint channel_topic_check,
    add constraint channel_topic_check check (
        topic = lower(topic)
        and octet_length(topic) between 1 and 255
        and topic ~ '^(([^.*>]*|[*])[.])*([^.*>]*|[*]|>)$'
    );

comment on column channel.topic is
    'Only messages with this topic are seen; null: all messages of the queue. Of the parts of a pattern, separated by ".", "*" stands for one part of a topic, and ">", the last one, for one or more.';
