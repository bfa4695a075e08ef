from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubscriptionRequest(_message.Message):
    __slots__ = ("channel_id", "after_seq", "latest", "since_micros")
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    SINCE_MICROS_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    after_seq: int
    latest: bool
    since_micros: int
    def __init__(self, channel_id: _Optional[str] = ..., after_seq: _Optional[int] = ..., latest: _Optional[bool] = ..., since_micros: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "content", "topic", "seq", "headers")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: bytes
    topic: str
    seq: int
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    def __init__(self, id: _Optional[str] = ..., content: _Optional[bytes] = ..., topic: _Optional[str] = ..., seq: _Optional[int] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Push(_message.Message):
    __slots__ = ("content", "topic", "queue_label", "origin", "id", "headers")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    topic: str
    queue_label: str
    origin: Origin
    id: str
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    def __init__(self, content: _Optional[bytes] = ..., topic: _Optional[str] = ..., queue_label: _Optional[str] = ..., origin: _Optional[_Union[Origin, _Mapping]] = ..., id: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("pusher", "number", "settled", "term", "after_seq")
    PUSHER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    pusher: bytes
    number: int
    settled: int
    term: int
    after_seq: int
    def __init__(self, pusher: _Optional[bytes] = ..., number: _Optional[int] = ..., settled: _Optional[int] = ..., term: _Optional[int] = ..., after_seq: _Optional[int] = ...) -> None: ...

class PushOkResponse(_message.Message):
    __slots__ = ("id", "seq", "duplicate")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    seq: int
    duplicate: bool
    def __init__(self, id: _Optional[str] = ..., seq: _Optional[int] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("count", "topic", "id", "gap", "together", "headers")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    count: int
    topic: str
    id: bytes
    gap: int
    together: bool
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    def __init__(self, count: _Optional[int] = ..., topic: _Optional[str] = ..., id: _Optional[bytes] = ..., gap: _Optional[int] = ..., together: _Optional[bool] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ...) -> None: ...

class PushBatch(_message.Message):
    __slots__ = ("open", "settled", "after_seq", "number", "runs", "ends", "contents")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    open: OpenPusherRequest
    settled: int
    after_seq: int
    number: int
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    ends: bytes
    contents: bytes
    def __init__(self, open: _Optional[_Union[OpenPusherRequest, _Mapping]] = ..., settled: _Optional[int] = ..., after_seq: _Optional[int] = ..., number: _Optional[int] = ..., runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., ends: _Optional[bytes] = ..., contents: _Optional[bytes] = ...) -> None: ...

class PushAnswer(_message.Message):
    __slots__ = ("outcomes", "window_messages", "window_bytes", "seq")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    window_messages: int
    window_bytes: int
    seq: int
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., window_messages: _Optional[int] = ..., window_bytes: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("number", "count", "seq", "duplicate", "refusal")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    number: int
    count: int
    seq: int
    duplicate: bool
    refusal: Refusal
    def __init__(self, number: _Optional[int] = ..., count: _Optional[int] = ..., seq: _Optional[int] = ..., duplicate: _Optional[bool] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("status", "code", "detail")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    status: int
    code: str
    detail: str
    def __init__(self, status: _Optional[int] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class BatchSubscription(_message.Message):
    __slots__ = ("subscribe", "messages", "bytes")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    subscribe: SubscriptionRequest
    messages: int
    bytes: int
    def __init__(self, subscribe: _Optional[_Union[SubscriptionRequest, _Mapping]] = ..., messages: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class MessageBatch(_message.Message):
    __slots__ = ("first_seq", "runs", "ends", "contents")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    ends: bytes
    contents: bytes
    def __init__(self, first_seq: _Optional[int] = ..., runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., ends: _Optional[bytes] = ..., contents: _Optional[bytes] = ...) -> None: ...

class OpenPusherRequest(_message.Message):
    __slots__ = ("queue_label", "pusher", "settled")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    PUSHER_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    pusher: bytes
    settled: int
    def __init__(self, queue_label: _Optional[str] = ..., pusher: _Optional[bytes] = ..., settled: _Optional[int] = ...) -> None: ...

class OpenPusherResponse(_message.Message):
    __slots__ = ("term", "seq")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    term: int
    seq: int
    def __init__(self, term: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class CreateQueueRequest(_message.Message):
    __slots__ = ("queue_label", "epoch")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    epoch: int
    def __init__(self, queue_label: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class CreateQueueOkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteQueueRequest(_message.Message):
    __slots__ = ("queue_label", "epoch")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    epoch: int
    def __init__(self, queue_label: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class DeleteQueueOkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RebuildQueueRequest(_message.Message):
    __slots__ = ("queue_label", "epoch", "lease_epoch")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    epoch: int
    lease_epoch: int
    def __init__(self, queue_label: _Optional[str] = ..., epoch: _Optional[int] = ..., lease_epoch: _Optional[int] = ...) -> None: ...

class RebuildQueueOkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReleaseQueueRequest(_message.Message):
    __slots__ = ("queue_label", "epoch", "lease_epoch", "owner")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    epoch: int
    lease_epoch: int
    owner: str
    def __init__(self, queue_label: _Optional[str] = ..., epoch: _Optional[int] = ..., lease_epoch: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class ReleaseQueueOkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateChannelRequest(_message.Message):
    __slots__ = ("queue_label", "topic")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    topic: str
    def __init__(self, queue_label: _Optional[str] = ..., topic: _Optional[str] = ...) -> None: ...

class CreateChannelResponse(_message.Message):
    __slots__ = ("channel_id",)
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    def __init__(self, channel_id: _Optional[str] = ...) -> None: ...

class DeleteChannelRequest(_message.Message):
    __slots__ = ("channel_id",)
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    def __init__(self, channel_id: _Optional[str] = ...) -> None: ...

class DeleteChannelOkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("with_queues", "lease_epoch")
    WITH_QUEUES_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    with_queues: bool
    lease_epoch: int
    def __init__(self, with_queues: _Optional[bool] = ..., lease_epoch: _Optional[int] = ...) -> None: ...

class HeartbeatOkResponse(_message.Message):
    __slots__ = ("hosted", "host", "port", "database_silent_millis")
    HOSTED_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    DATABASE_SILENT_MILLIS_FIELD_NUMBER: _ClassVar[int]
    hosted: _containers.RepeatedCompositeFieldContainer[HostedQueue]
    host: str
    port: int
    database_silent_millis: int
    def __init__(self, hosted: _Optional[_Iterable[_Union[HostedQueue, _Mapping]]] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., database_silent_millis: _Optional[int] = ...) -> None: ...

class HostedQueue(_message.Message):
    __slots__ = ("queue_label", "epoch")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    epoch: int
    def __init__(self, queue_label: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class StatisticsRequest(_message.Message):
    __slots__ = ("queue_label",)
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    def __init__(self, queue_label: _Optional[str] = ...) -> None: ...

class StatisticsResponse(_message.Message):
    __slots__ = ("instance", "uptime_millis", "resident_bytes", "connections", "queues", "subscriptions")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MILLIS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    instance: str
    uptime_millis: int
    resident_bytes: int
    connections: int
    queues: _containers.RepeatedCompositeFieldContainer[QueueStatistics]
    subscriptions: _containers.RepeatedCompositeFieldContainer[SubscriptionStatistics]
    def __init__(self, instance: _Optional[str] = ..., uptime_millis: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., connections: _Optional[int] = ..., queues: _Optional[_Iterable[_Union[QueueStatistics, _Mapping]]] = ..., subscriptions: _Optional[_Iterable[_Union[SubscriptionStatistics, _Mapping]]] = ...) -> None: ...

class QueueStatistics(_message.Message):
    __slots__ = ("queue_label", "epoch", "last_seq", "pushed_messages", "pushed_bytes", "delivered_messages", "delivered_bytes", "caught_up_messages", "subscriptions", "largest_lag")
    QUEUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    PUSHED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    PUSHED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    LARGEST_LAG_FIELD_NUMBER: _ClassVar[int]
    queue_label: str
    epoch: int
    last_seq: int
    pushed_messages: int
    pushed_bytes: int
    delivered_messages: int
    delivered_bytes: int
    caught_up_messages: int
    subscriptions: int
    largest_lag: int
    def __init__(self, queue_label: _Optional[str] = ..., epoch: _Optional[int] = ..., last_seq: _Optional[int] = ..., pushed_messages: _Optional[int] = ..., pushed_bytes: _Optional[int] = ..., delivered_messages: _Optional[int] = ..., delivered_bytes: _Optional[int] = ..., caught_up_messages: _Optional[int] = ..., subscriptions: _Optional[int] = ..., largest_lag: _Optional[int] = ...) -> None: ...

class SubscriptionStatistics(_message.Message):
    __slots__ = ("channel_id", "topic", "peer", "seq", "lag")
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    topic: str
    peer: str
    seq: int
    lag: int
    def __init__(self, channel_id: _Optional[str] = ..., topic: _Optional[str] = ..., peer: _Optional[str] = ..., seq: _Optional[int] = ..., lag: _Optional[int] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, queues: _Optional[_Iterable[str]] = ...) -> None: ...

class ListChannelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListChannelsResponse(_message.Message):
    __slots__ = ("channels",)
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channels: _Optional[_Iterable[str]] = ...) -> None: ...
