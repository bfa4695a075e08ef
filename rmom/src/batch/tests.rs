//! What clients decode of a batch.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

const FIRST: i64 = i64::MAX - 50;

/// A message as a test sees it: sequence, id, topic, content, headers.
type Seen = (i64, Uuid, Option<String>, Vec<u8>, Vec<protos::Header>);

fn messages() -> impl Strategy<Value = Vec<Seen>> {
    let topic = prop_oneof![
        Just(None),
        Just(Some("a".to_owned())),
        Just(Some("a.b".to_owned()))
    ];
    let header = |name: &str, value: &str| protos::Header {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let headers = prop::sample::select(vec![
        Vec::new(),
        vec![header("a", "")],
        vec![header("traceparent", "00-ab-cd-01")],
        vec![header("a", "1"), header("b", &"\u{e9}".repeat(200))],
    ]);
    let one = (
        topic,
        prop::collection::vec(any::<u8>(), 0..4),
        headers,
        any::<bool>(),
    );
    prop::collection::vec(one, 1..20).prop_map(|all| {
        let mut id = 1_u128 << 64;
        let numbered = (FIRST..).zip(all);
        let seen = numbered.map(|(seq, (topic, content, headers, goes_on))| {
            id += if goes_on { 1 } else { 1 << 32 };
            (seq, Uuid::from_u128(id), topic, content, headers)
        });
        seen.collect()
    })
}

fn batch(all: &[Seen]) -> Batch {
    let mut packed = Packed::default();
    for (_, id, topic, content, headers) in all {
        let run = Run {
            id: *id,
            count: 1,
            topic: topic.as_deref().map(Arc::from),
            is_keyed: false,
            headers: Headers::received(headers.clone()).unwrap().map(Arc::new),
        };
        packed.add(&run, &[], 0, content);
    }
    Batch::new(FIRST, packed)
}

fn encoded(encoded: &Encoded) -> Bytes {
    encoded.encode_to_vec().into()
}

fn decode(part: &Part) -> Vec<Seen> {
    let batch = protos::MessageBatch::decode(encoded(&part.encoded)).unwrap();
    assert!(ends::fit(&batch.ends, batch.contents.len()));
    if !batch.contents.is_empty() {
        assert_eq!(batch.encode_to_vec(), encoded(&part.encoded));
    }
    let mut seen = Vec::new();
    let mut seq = batch.first_seq;
    for run in batch.runs {
        seq += i64::from(run.gap);
        for number in 0..run.count {
            let id = Uuid::from_slice(&run.id).unwrap().as_u128() + u128::from(number);
            let topic = (!run.topic.is_empty()).then(|| run.topic.clone());
            let content = batch.contents[ends::range(&batch.ends, seen.len())].to_vec();
            seen.push((
                seq,
                Uuid::from_u128(id),
                topic,
                content,
                run.headers.clone(),
            ));
            seq += 1;
        }
    }
    assert_eq!(seen.len(), part.messages);
    assert_eq!(ends::count(&batch.ends), part.messages);
    assert_eq!(batch.contents.len(), part.bytes);
    seen
}

#[test]
fn what_is_kept_for_patterns_is_no_more_than_the_batch_itself() {
    let topics = ["a.b", "a.c", "b.c", "b.a"];
    let all: Vec<Seen> = (0..40)
        .map(|n| {
            let topic = Some(topics[n % 4].to_owned());
            (
                FIRST + n as i64,
                Uuid::from_u128((n as u128) << 40),
                topic,
                vec![0; 500],
                Vec::new(),
            )
        })
        .collect();
    let batch = batch(&all);
    let credit = Credit {
        messages: 100,
        bytes: 1 << 20,
    };
    let patterns = ["a.*", "*.c", "b.*", "*.b", "*.a", ">", "nothing.*"];
    for _ in 0..2 {
        for pattern in patterns {
            let part = batch.part(0, Some(&Arc::new(Topics::new(pattern))), credit);
            let expected = match pattern {
                ">" => 40,
                "nothing.*" => 0,
                "*.b" | "*.a" => 10,
                _ => 20,
            };
            assert_eq!(part.messages, expected, "{pattern}");
        }
    }
    let kept = lock(&batch.by_topics);
    assert_eq!(
        kept.parts.len(),
        2,
        "with a quarter of the third there is no room for it"
    );
    assert!(kept.bytes <= batch.size());
}

proptest! {
    #[test]
    fn a_client_decodes_what_matches_in_parts_of_any_size(
        all in messages(),
        topics in prop::sample::select(vec![None, Some("a"), Some("a.b"), Some("b"), Some("a.*"), Some(">")]),
        from in 0usize..20, messages in 1usize..8, bytes in 1usize..12, is_bounded in any::<bool>(),
    ) {
        let batch = batch(&all);
        let topics = topics.map(|text| Arc::new(Topics::new(text)));
        let credit = if is_bounded { Credit { messages, bytes } } else { Credit { messages: 100, bytes: 1000 } };
        let is_seen = |seen: &&Seen| topics.as_ref().is_none_or(|topics| topics.see(seen.2.as_deref()));
        let expected: Vec<Seen> = all.iter().skip(from).filter(is_seen).cloned().collect();
        let ranges = batch.seen(from, topics.as_deref()).into_iter().flatten();
        let seqs: Vec<i64> = ranges.map(|index| FIRST + index as i64).collect();
        prop_assert_eq!(seqs, expected.iter().map(|seen| seen.0).collect::<Vec<_>>());
        let (mut seen, mut next) = (Vec::new(), from);
        while next < batch.len() {
            let part = batch.part(next, topics.as_ref(), credit);
            prop_assert!(part.next > next, "it goes on");
            prop_assert!(part.messages <= credit.messages);
            let decoded = if part.messages > 0 { decode(&part) } else { Vec::new() };
            let last = decoded.last().map_or(0, |last| last.3.len());
            let fits = part.bytes <= credit.bytes || part.bytes - last < credit.bytes;
            prop_assert!(fits, "only the last message may exceed");
            seen.extend(decoded);
            next = part.next;
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn a_client_of_single_messages_decodes_the_same(all in messages()) {
        let batch = batch(&all);
        for (index, (seq, id, topic, content, headers)) in all.iter().enumerate() {
            let one = protos::Message::decode(encoded(&batch.message(index))).unwrap();
            prop_assert_eq!(one.seq, *seq);
            prop_assert_eq!(one.id, id.to_string());
            prop_assert_eq!(&one.topic, topic.as_deref().unwrap_or(NO_TOPIC));
            prop_assert_eq!(&one.content[..], &content[..]);
            prop_assert_eq!(&one.headers, headers);
        }
    }
}

#[test]
fn headers_of_a_run_are_counted_and_kept_once() {
    let headers = vec![protos::Header {
        name: "traceparent".to_owned(),
        value: "v".repeat(1000),
    }];
    let seen = |n: u128, headers: &[protos::Header]| {
        let seq = FIRST + n as i64;
        (
            seq,
            Uuid::from_u128(n),
            None,
            b"x".to_vec(),
            headers.to_vec(),
        )
    };
    let bare = batch(&[seen(0, &[]), seen(2, &[])]);
    let all = [seen(0, &[]), seen(2, &headers), seen(3, &headers)];
    let with = batch(&all);
    let more = with.size() - bare.size();
    assert!((1011..1050).contains(&more), "{more} bytes more");
    let rests = [0, 1, 2].map(|index| with.message(index).rest);
    assert!(rests[0].is_empty());
    assert_eq!(rests[1].as_ptr(), rests[2].as_ptr());
    assert!(bare.message(0).rest.is_empty());
}
