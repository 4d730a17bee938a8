//! Arbitrary bytes for every message.

use std::collections::BTreeSet;

use currant_proto::v1 as pb;
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_types::FileDescriptorSet;

use super::fuzz::{REQUESTS, requests};

/// Of the fields that the contract's messages have.
const NUMBER_MAX: u32 = 20;

/// A field of a message: often one of the contract's type, sometimes not.
fn field(inner: impl Strategy<Value = Vec<u8>> + 'static) -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..300_u64, any::<u64>(), (0..63_u32).prop_map(|bit| 1 << bit)];
    let text = "[a-z*.]{0,30}|\\PC{0,40}".prop_map(String::into_bytes);
    let delimited = prop_oneof![text, vec(any::<u8>(), 0..40), inner];
    let content = prop_oneof![
        3 => number.prop_map(|value| (WireType::Varint, {
            let mut bytes = Vec::new();
            encode_varint(value, &mut bytes);
            bytes
        })),
        1 => any::<[u8; 8]>().prop_map(|bytes| (WireType::SixtyFourBit, bytes.to_vec())),
        4 => delimited.prop_map(|inner| (WireType::LengthDelimited, {
            let mut bytes = Vec::new();
            encode_varint(inner.len() as u64, &mut bytes);
            bytes.extend(inner);
            bytes
        })),
    ];
    (1..=NUMBER_MAX, content).prop_map(|(number, (kind, content))| {
        let mut bytes = Vec::new();
        encode_key(number, kind, &mut bytes);
        bytes.extend(content);
        bytes
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let fields = |inner: BoxedStrategy<Vec<u8>>| vec(field(inner), 0..6).prop_map(|it| it.concat());
    let leaf = fields(Just(Vec::new()).boxed()).boxed();
    leaf.prop_recursive(3, 64, 6, move |inner| fields(inner).boxed())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_can_be_read_is_refused_or_converted(bytes in message()) {
        requests(&bytes);
    }
}

#[test]
fn the_message_of_every_call_is_among_them() {
    let files = FileDescriptorSet::decode(currant_proto::DESCRIPTORS).expect("descriptors");
    let methods = files.file.iter().flat_map(|file| &file.service).flat_map(|it| &it.method);
    let taken: BTreeSet<String> = methods.map(|method| method.input_type().to_owned()).collect();
    let listed = REQUESTS.map(|(name, _)| format!(".currant.v1.{name}"));
    let ours = |name: &&String| name.starts_with(".currant.");
    assert_eq!(BTreeSet::from(listed), taken.iter().filter(ours).cloned().collect());
}

#[test]
fn arbitrary_messages_are_often_read_and_sometimes_taken() {
    let mut runner = TestRunner::deterministic();
    let (mut jobs, mut attempts) = (0, 0);
    for _ in 0..2000 {
        let bytes = message().new_tree(&mut runner).expect("a message").current();
        let job = pb::NewJob::decode(&bytes[..]);
        jobs += usize::from(job.is_ok_and(|job| job.encoded_len() > 0));
        let beat = pb::HeartbeatRequest::decode(&bytes[..]);
        attempts += beat.map_or(0, |beat| beat.held.len());
    }
    assert!(jobs > 100 && attempts > 10, "{jobs} jobs, {attempts} attempts");
}
